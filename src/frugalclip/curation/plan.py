"""Plans: which stages a data set goes through, in which order, by YAML.

    description: leave out what repeats
    seed: 0
    stages:
      - stage: rules
        min_side: 32
      - stage: exact_images

A ready plan is a file of the package, named without its ending. Paths in a plan start from the plan's folder.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, final

from pydantic import Field

from frugalclip.core.config import Settings, validated
from frugalclip.core.errors import RecipeError, known_names
from frugalclip.core.paths import user_path
from frugalclip.core.plugins import is_ours, located
from frugalclip.core.yaml_text import read_yaml
from frugalclip.curation.base import PACKAGE, PlannedStage, find_stage

READY = resources.files("frugalclip.curation").joinpath("plans")


class _PlanText(Settings):
    """The content of a plan's file."""

    description: str = Field("", description="what the plan is for")
    seed: int = Field(0, ge=0, description="of everything that is drawn at random")
    stages: list[dict[str, Any]] = Field(min_length=1, description="in order; each names its stage")


@final
@dataclass(frozen=True)
class CurationPlan:
    """Stages in order."""

    name: str
    description: str
    seed: int
    stages: tuple[PlannedStage, ...]

    @property
    def needs_images(self) -> bool:
        """Whether any stage reads images."""
        return any(planned.stage.needs().images for planned in self.stages)

    def content(self) -> dict[str, Any]:
        """What decides the result, as JSON values."""
        return {
            "seed": self.seed,
            "stages": [
                {"name": planned.name, **planned.settings, **planned.stage.describe()}
                for planned in self.stages
            ],
        }


def ready_plans() -> dict[str, str]:
    """Name -> description of the plans in the package."""
    names = sorted(Path(entry.name).stem for entry in READY.iterdir() if entry.name.endswith(".yaml"))
    return {name: str(read_yaml(_ready(name)).get("description", "")) for name in names}


def read_plan(plan: str | Path) -> CurationPlan:
    """A plan by its name or from its file.

    Raises:
        RecipeError: if there is no such plan, or a stage or setting is unknown.
    """
    path = user_path(plan)
    is_name = path.suffix not in (".yaml", ".yml")
    if is_name:
        path = _ready(str(plan))
    if not path.is_file():
        what = f"{known_names(str(plan), ready_plans())} For one of your own give a YAML file."
        raise RecipeError(f"there is no plan '{plan}'; {what}")
    text = validated(_PlanText, read_yaml(path), where="")
    stages = [
        _planned(settings, folder=path.parent.resolve(), where=f"stages.{number}")
        for number, settings in enumerate(text.stages)
    ]
    named = _distinct(stages)
    _check_scores(named)
    return CurationPlan(path.stem, text.description, text.seed, named)


def _ready(name: str) -> Path:
    return Path(str(READY.joinpath(f"{name}.yaml")))


def _planned(settings: Mapping[str, Any], *, folder: Path, where: str) -> PlannedStage:
    if not isinstance(settings.get("stage"), str):
        raise RecipeError(f"{where} names no stage; write stage: NAME, such as stage: exact_images.")
    kind = located(settings["stage"], folder, package=PACKAGE)
    found = find_stage(kind)
    config = validated(found.Config, settings, where=where)
    name = config.name or (settings["stage"] if is_ours(found) else Path(settings["stage"]).stem)
    return PlannedStage(name, found(config, folder), config.model_dump(mode="json"))


def _distinct(stages: list[PlannedStage]) -> tuple[PlannedStage, ...]:
    """The stages with names that occur once: the second `rules` is `rules-2`."""
    seen: Counter[str] = Counter()
    result = []
    for planned in stages:
        seen[planned.name] += 1
        number = seen[planned.name]
        name = planned.name if number == 1 else f"{planned.name}-{number}"
        result.append(PlannedStage(name, planned.stage, planned.settings))
    return tuple(result)


def _check_scores(stages: tuple[PlannedStage, ...]) -> None:
    """Refuse a stage that reads a score which no earlier stage gives."""
    given: set[str] = set()
    for planned in stages:
        if missing := sorted(planned.stage.needs().scores - given):
            known = known_names(missing[0], given)
            raise RecipeError(
                f"{planned.name} reads the score '{missing[0]}', which no earlier stage gives; {known}"
            )
        given |= set(planned.stage.gives)
