"""Recipes: what a run is, as one typed, mergeable, replayable record.

A recipe is a YAML file found by name in `frugalclip/recipes` or by path. It may extend one other; mappings
merge by name, null removes. `key=value` overrides merge last. The resolved recipe, written into the run,
replays it.
"""

import itertools
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from frugalclip.backbones.attach import check_options
from frugalclip.compression.base import ChangeConfig, GateConfig
from frugalclip.core.annotations import near_setting
from frugalclip.core.config import Settings, merge, shown, validated
from frugalclip.core.errors import RecipeError, known_names
from frugalclip.core.overrides import Schema, parse_overrides
from frugalclip.core.paths import user_path
from frugalclip.core.preprocess import Preprocess
from frugalclip.core.yaml_text import dump_yaml, read_yaml
from frugalclip.data.tokens import TokenizerConfig
from frugalclip.features.backbone_stores import StoreConfig
from frugalclip.loading.texts import TextViewConfig
from frugalclip.loading.views import ViewConfig
from frugalclip.objectives.base import ObjectiveConfig, known_objectives
from frugalclip.teachers import TeacherConfig
from frugalclip.towers.dual import ModelConfig
from frugalclip.training.optim import OptimizerConfig, ScheduleConfig
from frugalclip.training.recipe_content import SHORTHANDS, expanded, own_settings, typed_parts, with_own_files
from frugalclip.training.sections import (
    CheckpointConfig,
    DataConfig,
    DataSection,
    EpisodeConfig,
    EvaluationConfig,
    GuardConfig,
    GuardSection,
    StageConfig,
)
from frugalclip.training.shorthands import missing_settings, written_out
from frugalclip.training.sinks.base import sink_names


class Recipe(Settings):
    """Everything a run depends on besides its data."""

    name: str = Field("", description="name of the file, filled in")
    description: str = Field("", description="one sentence")
    source: str = Field("", description="paper, section and code the settings come from")
    shorthands: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="short names on the command line, each for one setting or several"
    )
    run_here: bool = Field(
        True, description="false marks published settings that were planned but not run by this project"
    )
    data: DataSection = Field(default_factory=DataConfig)
    init_from: str | None = Field(
        None,
        description="a MODEL to start from: its towers, tokenizer and preprocessing replace `model` and "
        "`tokenizer`",
    )
    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    preprocess: Preprocess = Field(
        description="how images are resized, cropped and normalised; its size is the resolution of the image "
        "tower"
    )
    views: dict[str, ViewConfig] = Field(default_factory=lambda: {"main": ViewConfig.model_validate("clip")})
    texts: dict[str, TextViewConfig] = Field(default_factory=lambda: {"caption": TextViewConfig()})
    objectives: dict[str, SerializeAsAny[ObjectiveConfig]] = Field(default_factory=dict)
    store: StoreConfig = Field(
        default_factory=StoreConfig,
        description="features of frozen backbones, kept for every run on the same data",
    )
    teachers: dict[str, TeacherConfig] = Field(
        default_factory=dict, description="encoders that give targets; ema is known without being listed"
    )
    episode: EpisodeConfig | None = Field(None, description="for objectives that cluster, such as prototypes")
    batch: int = Field(256, ge=2, description="samples of one step over all processes")
    micro_batch: int | None = Field(
        None,
        ge=1,
        description="rows that a tower of one process encodes at a time; gradients stay those of the whole "
        "batch. null: all",
    )
    epochs: float | None = Field(
        None, gt=0, description="length of the run; give one of epochs, samples, steps"
    )
    samples: int | None = Field(None, gt=0, description="length of the run in samples seen")
    steps: int | None = Field(None, gt=0, description="length of the run in steps")
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig)
    change: SerializeAsAny[ChangeConfig] | None = Field(
        None,
        description="how the network changes before the first step, such as inheriting from a larger one: a "
        "file of compression/, or your own",
    )
    gates: SerializeAsAny[GateConfig] | None = Field(
        None, description="gates on the towers, sampled at each step: a file of compression/, or your own"
    )
    stages: tuple[StageConfig, ...] = Field(
        (),
        description="stages of the run in order, each with what differs; empty: one stage, the recipe itself",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where the processor computes it, else fp32"
    )
    device: str = Field("auto", description="auto: a GPU if there is one")
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="threads of a CPU; null: torch's own number. Small steps are faster with 1",
    )
    seed: int = Field(0, ge=0, description="every random stream derives from it")
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    guard: GuardSection = Field(
        default_factory=GuardConfig,
        description="data that a model which is trained further must not forget; the model of the run then "
        "lies between start and end",
    )
    checkpoints: CheckpointConfig = Field(default_factory=CheckpointConfig)
    log: tuple[str, ...] = Field(
        (), description="where rows go besides metrics.jsonl: tensorboard, trackio, wandb (extra 'log')"
    )

    @field_validator("log")
    @classmethod
    def _known_sinks(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in sink_names():
                raise ValueError(f"'{name}' is no place to log to; {known_names(name, sink_names())}")
        return tuple(dict.fromkeys(names))

    @model_validator(mode="after")
    def _has_one_length(self) -> Self:
        given = [name for name in ("epochs", "samples", "steps") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"the length of the run is given {len(given)} times ({', '.join(given) or 'not at all'}); "
                "set one of epochs, samples, steps"
            )
        if self.preprocess.size != self.model.image.resolution:
            raise ValueError(
                f"preprocess.size {self.preprocess.size} is not model.image.resolution "
                f"{self.model.image.resolution}; "
                "leave preprocess.size out"
            )
        if not self.model.text.encodes_texts:
            raise ValueError(
                "model.text.kind none is for models that read no texts, and a recipe trains two towers; set "
                "transformer, bag or pretrained"
            )
        if not self.stages and not any(o.weight > 0 for o in self.objectives.values()):
            raise ValueError(
                "no objective has a weight; add one under 'objectives:', such as contrastive. Known: "
                f"{', '.join(known_objectives())}"
            )
        if self.guard.path is not None and self.init_from is None:
            raise ValueError(
                "guard is for models that are trained further, and init_from is not given; leave guard out, "
                "or name the model to start from"
            )
        changes = [self.change, *(stage.change for stage in self.stages)]
        if self.guard.path is not None and any(one is not None and one.kind != "lora" for one in changes):
            raise ValueError(
                "guard chooses weights between start and end, and a change makes another network; leave one "
                "out"
            )
        self._check_lengths()
        return self

    @model_validator(mode="after")
    def _has_one_first_change(self) -> Self:
        if self.change is not None and self.stages and self.stages[0].change is not None:
            raise ValueError(
                "change and stages[0].change are both given, and are the same thing; leave one out"
            )
        return self

    @property
    def is_resized(self) -> bool:
        """Whether the network gets another size in some stage."""
        stages = [self, *self.stages]
        return any(one.change is not None or one.gates is not None for one in stages)

    def change_before(self, number: int) -> ChangeConfig | None:
        """How the network changes before a stage, counted from 0."""
        own = self.stages[number].change if self.stages else None
        return own or (self.change if number == 0 else None)

    def missing(self) -> list[str]:
        """Settings that have no default and were not given, by their short names."""
        return missing_settings(self.model_dump(mode="json", by_alias=True), self.shorthands)

    def _check_lengths(self) -> None:
        shares = [stage.share for stage in self.stages]
        open_ends = sum(stage.share is None and stage.steps is None for stage in self.stages)
        total = sum(share or 0.0 for share in shares)
        if open_ends > 1:
            raise ValueError(f"{open_ends} stages have no length; give all but one a share or steps")
        if self.stages and not open_ends and None not in shares and abs(total - 1) > 1e-6:
            raise ValueError(f"the shares of the stages add up to {total:g}; make it 1, or leave one out")
        if total > 1 + 1e-6:
            raise ValueError(f"the shares of the stages add up to {total:g}; make it 1 at most")

    def stage(self, number: int) -> "Recipe":
        """The recipe of one stage: this one with the stage's settings merged in, and no stages of its own.

        Args:
            number: of the stage, from 0.
        """
        if not self.stages:
            return self
        own = self.stages[number].model_dump(mode="json")
        changes = {key: own[key] for key in ("objectives", "views", "optimizer", "schedule")}
        if own["gates"] is not None:
            changes["gates"] = own["gates"]
        content = self.model_dump(mode="json", by_alias=True, exclude={"stages", "change"})
        return validate_recipe(merge(content, changes), where=f"stages[{number}]")

    def stage_name(self, number: int) -> str:
        """What messages call a stage."""
        return (self.stages[number].name if self.stages else "") or f"stage {number + 1}"

    def stage_spans(self, steps: int) -> list[range]:
        """The steps of each stage in a run of so many.

        Raises:
            RecipeError: if a stage is left without a step, or the stages do not fill the run.
        """
        if not self.stages:
            return [range(steps)]
        lengths = [
            one.steps if one.share is None else one.share * steps for one in self.stages
        ]  # None takes what is left
        rest = steps - sum(length or 0 for length in lengths)
        ends = itertools.accumulate(rest if length is None else length for length in lengths)
        edges = [0, *(round(end) for end in ends)]
        spans = [range(first, last) for first, last in itertools.pairwise(edges)]
        if edges[-1] != steps or not all(len(span) > 0 for span in spans):
            found = ", ".join(str(last - first) for first, last in itertools.pairwise(edges))
            raise RecipeError(
                f"the stages have {found} steps, and the run has {steps:,}; every stage needs one at least, "
                "and together they fill the run: change 'stages', or the length of the run."
            )
        return spans

    def run_dims(self, *, mask: int, samples: int = 0) -> dict[str, int]:
        """What `Dims` holds besides the sizes of the network.

        Args:
            mask: id of the tokenizer's mask token.
            samples: of the training data; 0 where it is not known.
        """
        episode = self.episode.steps(self.batch) * self.batch if self.episode else 0
        return {"seed": self.seed, "mask": mask, "episode": episode, "samples": samples}

    def total_steps(self, rows: int | None) -> int | None:
        """Steps of the run, or None where the length is in epochs and the data is not known."""
        if self.steps is not None:
            return self.steps
        if self.samples is not None:
            return max(1, round(self.samples / self.batch))
        assert self.epochs is not None
        return None if rows is None else max(1, round(self.epochs * (rows // self.batch)))

    def to_yaml(self) -> str:
        """The resolved recipe; reading it back gives an equal one."""
        return dump_yaml(self.model_dump(mode="json", by_alias=True))


SCHEMA = Schema(Recipe, SHORTHANDS, own_settings)


def known_recipes() -> list[str]:
    """Names of the recipes inside the package."""
    folder = resources.files("frugalclip") / "recipes"
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))


def _is_shipped(path: Path) -> bool:
    """Whether a recipe file belongs to the package."""
    return path.resolve().parent == Path(str(resources.files("frugalclip") / "recipes")).resolve()


def _locate(name: str) -> Path:
    if name in known_recipes():
        return Path(str(resources.files("frugalclip") / "recipes" / f"{name}.yaml"))
    path = user_path(name)
    if path.is_file():
        return path
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise RecipeError(
            f"there is no recipe file {name}; expected a path to a YAML file or a name. Known: "
            f"{', '.join(known_recipes())}."
        )
    raise RecipeError(
        f"'{name}' is not a recipe; {known_names(name, known_recipes(), limit=40)} Or give the path of a "
        "YAML file."
    )


def read_recipe(name: str) -> dict[str, Any]:
    """The mappings of a recipe, merged with those of the recipe that it extends.

    Raises:
        RecipeError: as `recipe_layers`.
    """
    merged: dict[str, Any] = {}
    for _, content in reversed(recipe_layers(name)):
        merged = merge(merged, content)
    return merged


def recipe_layers(name: str) -> list[tuple[str, dict[str, Any]]]:
    """The files that make up a recipe, each with its name: its own file first, then what it extends.

    One level of `extends` is allowed. A recipe of the package counts as one level, however it is written.

    Raises:
        RecipeError: if a file is not found, is not YAML, or extends a user's file that extends again.
    """
    path = _locate(name)
    content = with_own_files(expanded(read_yaml(path)), path.resolve().parent)
    base_name = content.pop("extends", None)
    content.setdefault("name", path.stem)
    if base_name is None:
        return [(path.stem, content)]
    if isinstance(base_name, Mapping | list):
        raise RecipeError(f"{path} extends {shown(base_name)}; expected the name of one recipe, or a path.")
    beside = path.parent / f"{base_name}.yaml"
    is_other = (
        beside.is_file() and beside.resolve() != path.resolve()
    )  # clip.yaml of one's own may extend the package's clip
    place = beside if is_other else _locate(str(base_name))
    again = read_yaml(place).get("extends")
    if again is not None and (not _is_shipped(place) or _is_shipped(path)):
        raise RecipeError(
            f"{path} extends {base_name}, which extends {again} itself; one level is allowed, so extend "
            f"{again}."
        )
    return [(path.stem, content), *recipe_layers(str(place))]


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read, merge, override and validate a recipe.

    Args:
        name: a name in the package, or a path.
        overrides: `key=value` pairs.

    Raises:
        RecipeError: one sentence naming the first fault and the nearest known name.
    """
    content = read_recipe(name)
    words = written_out(overrides, content.get("shorthands"))
    over = expanded(parse_overrides(words, schema=SCHEMA, content=content))
    over = with_own_files(over, Path.cwd(), known=content.get("objectives") or ())
    if any(
        over.get(length) is not None for length in ("epochs", "samples", "steps")
    ):  # a new length replaces the old one, whatever its unit
        content = {k: v for k, v in content.items() if k not in ("epochs", "samples", "steps")}
    return validate_recipe(merge(content, over))


def validate_recipe(content: dict[str, Any], *, where: str = "") -> Recipe:
    """Validate merged mappings; objectives, gates and changes by the settings of their own files.

    Args:
        content: mappings with all overrides merged in.
        where: what to begin messages with, for a stage of a recipe.
    """
    try:
        recipe = _validated(content)
    except RecipeError as error:
        raise (RecipeError(f"{where}: {error}") if where else error) from None
    for number in range(len(recipe.stages)):
        recipe.stage(number)
    return recipe


def _validated(content: dict[str, Any]) -> Recipe:
    short = content.get("shorthands")
    known = {*Recipe.model_fields, *(short if isinstance(short, Mapping) else ())}
    if unknown := [key for key in content if key not in known]:
        near = near_setting(unknown[0], Recipe, {*known, "extends"})
        found = known_names(unknown[0], known, limit=30, near=near)
        raise RecipeError(f"{shown(unknown[0])[1:-1]} is not a setting; {found}")
    recipe = validated(Recipe, {**content, **typed_parts(content)}, where="")
    for side, config in recipe.model.pretrained_towers().items():
        check_options(config, side=side)
    return recipe
