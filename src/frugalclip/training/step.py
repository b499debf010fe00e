"""One step: encode the union of needs once, score the features with every objective, add up.

Objectives see features only. What is encoded, in which precision and on how many processes, is decided here
and nowhere else.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Literal, cast

import torch
from torch import Tensor, nn

from frugalclip.compression.base import GateSource
from frugalclip.core.errors import RecipeError, known_names
from frugalclip.core.random import generator, stream_seed
from frugalclip.core.types import (
    Batch,
    Dims,
    Features,
    Gates,
    Needs,
    SampledGates,
    Selection,
    Tokens,
    TowerOutput,
)
from frugalclip.loading.texts import TextViewConfig, check_sources
from frugalclip.loading.views import ViewConfig
from frugalclip.objectives.base import Objective, ObjectiveConfig, find_objective
from frugalclip.teachers import Teacher, teacher_of
from frugalclip.towers.dual import DualEncoder
from frugalclip.training.own_objectives import build_objective, call, prepare, score

Precision = Literal["fp32", "bf16", "fp16"]
AUTOCAST: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class StepResult:
    """What one step gives."""

    loss: Tensor  # () weighted sum, mean over this process's rows
    logs: dict[str, Tensor]  # `<objective>/<log>` -> (), detached
    features: Features  # for monitors and `after_step`


def build_objectives(
    configs: Mapping[str, ObjectiveConfig], dims: Dims, *, seed: int
) -> dict[str, Objective]:
    """Objectives by name, without those of weight 0.

    Each draws its initial weights from its own stream, so adding or removing one leaves the others unchanged.
    """
    built: dict[str, Objective] = {}
    for name, config in configs.items():
        if config.weight == 0:
            continue
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, f"init/objectives/{name}"))
            built[name] = build_objective(name, find_objective(config.kind or name), config, dims)
    _check_derived(built)
    return built


def _check_derived(objectives: Mapping[str, Objective]) -> None:
    """Every derived view is made by one objective, for as long as it is read, and not within an episode.

    Raises:
        RecipeError: naming the objective that reads or makes it.
    """
    makers: dict[str, str] = {}
    for name, objective in objectives.items():
        for view in sorted(objective.makes()):
            if view in makers:
                raise RecipeError(
                    f"objectives.{makers[view]} and objectives.{name} both make {view}; give one of them "
                    "another view, or leave it out."
                )
            makers[view] = name
    for name, objective in objectives.items():
        needs, (start, end) = objective.needs(), objective.config.during
        for view in sorted(one for one in needs.images | needs.texts if "@" in one):
            maker = makers.get(view)
            if maker is None:
                known = (
                    f"this recipe makes {', '.join(sorted(makers))}"
                    if makers
                    else f"add the one that makes it, or read {source_view(view)}"
                )
                raise RecipeError(f"objectives.{name} reads {view}, which no objective makes; {known}.")
            lasts = objectives[maker].config.during
            if lasts[0] > start or lasts[1] < end:
                raise RecipeError(
                    f"objectives.{name} reads {view} in [{start:g}, {end:g}] of the stage, and "
                    f"objectives.{maker} makes it in [{lasts[0]:g}, {lasts[1]:g}]; set "
                    f"objectives.{name}.during=[{lasts[0]:g},{lasts[1]:g}]."
                )
            if needs.episode:
                raise RecipeError(
                    f"objectives.{name} reads whole episodes, where nothing is kept or masked, and cannot "
                    f"read {view}; let it read {source_view(view)}."
                )


def never_clustered(objectives: Mapping[str, Objective], *, episode: int, steps: int) -> list[str]:
    """Notes on objectives that read episodes, if no episode begins while they count.

    Args:
        objectives: of the stage.
        episode: steps of an episode, 0 for none.
        steps: of the stage.
    """
    begins = [step / steps for step in range(0, steps, episode)] if episode else []
    return [
        f"objectives.{name} clusters where an episode begins, and none of {episode:,} steps begins in "
        f"[{objective.config.during[0]:g}, {objective.config.during[1]:g}] of the stage, so it has no "
        f"effect; set fewer episode.samples, or objectives.{name}.during=[0,1]"
        for name, objective in objectives.items()
        if type(objective).begin_episode is not Objective.begin_episode
        and not any(map(objective.config.counts_at, begins))
    ]


def check_active(objectives: Mapping[str, Objective], *, steps: int) -> None:
    """Refuse a stage with a step in which no objective has a loss.

    Args:
        objectives: of the stage.
        steps: of the stage.

    Raises:
        RecipeError: naming the first such step.
    """
    spans = sorted(one.config.during for one in objectives.values() if one.has_loss)
    covered = 0.0
    for start, end in [*spans, (1.0, 1.0)]:
        step = math.ceil(covered * steps - 1e-9)  # the first one that is not covered
        if step < steps and step / steps < start:
            listed = ", ".join(
                f"objectives.{name} in [{one.config.during[0]:g}, {one.config.during[1]:g}]"
                for name, one in objectives.items()
                if one.has_loss
            )
            raise RecipeError(
                f"no objective has a loss in step {step + 1:,} of {steps:,}, and there is nothing to train: "
                f"{listed or 'none of them ever has one'}; let 'during' of one reach from {covered:g} to "
                f"{start:g}."
            )
        covered = max(covered, end)


def union_of_needs(objectives: Iterable[Objective]) -> Needs:
    """Everything that at least one objective reads."""
    return reduce(lambda a, b: a | b, (o.needs() for o in objectives), Needs())


def source_view(name: str) -> str:
    """The view that a derived view comes from: `main@kept` -> `main`."""
    return name.partition("@")[0]


def read_views(
    needs: Needs, *, images: Mapping[str, ViewConfig], texts: Mapping[str, TextViewConfig]
) -> tuple[set[str], set[str]]:
    """The views of the recipe that an objective or a teacher reads, and those that these are made of.

    A crop may contain others, and a text may be another one with changed words.

    Raises:
        RecipeError: if the recipe does not have one, with the nearest known name.
    """
    by_teachers = {name.partition(":")[2] for name in needs.teachers}
    wanted_texts = {source_view(name) for name in needs.texts} | (by_teachers & set(texts))
    wanted = {source_view(name) for name in needs.images} | (by_teachers - wanted_texts)
    wanted |= {inner for name in wanted if name in images for inner in images[name].contains}
    wanted_texts |= {source for name in wanted_texts if name in texts and (source := texts[name].of)}
    for kind, needed, given in (("views", wanted, list(images)), ("texts", wanted_texts, list(texts))):
        for name in sorted(needed - set(given)):
            raise RecipeError(
                f"{kind}.{name} is read by an objective but not in the recipe; {known_names(name, given)} "
                f"Add it under '{kind}:'."
            )
    check_sources(texts, wanted_texts, error=RecipeError)
    return wanted, wanted_texts


@dataclass(frozen=True)
class Prepared:
    """What is computed for a batch before the student encodes it."""

    targets: dict[str, Features]  # teacher -> its features
    selections: dict[str, Selection]  # derived view -> what it keeps or masks
    gates: SampledGates | None = None  # of the student's towers, for every view of the batch

    @property
    def image_gates(self) -> Gates | None:
        """Of the image tower, if it has any."""
        return None if self.gates is None else self.gates.image

    @property
    def text_gates(self) -> Gates | None:
        """Of the text tower, if it has any."""
        return None if self.gates is None else self.gates.text


class Step(nn.Module):
    """The computation of one batch as one module, so that data-parallel wrappers see a single forward."""

    def __init__(
        self,
        network: DualEncoder,
        objectives: Mapping[str, Objective],
        *,
        teachers: Mapping[str, Teacher] | None = None,
        gates: GateSource | None = None,
        precision: Precision = "fp32",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network = network
        self.objectives = nn.ModuleDict(dict(objectives))
        self.teachers = nn.ModuleDict(dict(teachers or {}))
        self.gates = gates
        self.precision: Precision = precision
        self.seed = seed
        self._activate(list(self.objectives))
        self.move_to(0.0)

    def move_to(self, progress: float, *, number: int = 0) -> None:
        """Set where the run is, which decides what counts from here on.

        Args:
            progress: share of the stage that lies behind.
            number: of the step in the run, which decides what gates draw.
        """
        self.progress, self.number = progress, number
        active = [name for name, objective in self._all() if objective.config.counts_at(progress)]
        if active != self.active:
            self._activate(active)

    def _activate(self, names: list[str]) -> None:
        self.active = names
        self.needs = union_of_needs(self._objective(name) for name in names)
        self._active_teachers = {teacher_of(name) for name in self.needs.teachers}

    def ascending_parameters(self) -> list[nn.Parameter]:
        """Parameters of objectives that the optimiser moves uphill."""
        return [p for _, objective in self._all() for p in objective.ascending_parameters()]

    def forward(self, batch: Batch) -> StepResult:
        """Encode and score.

        Args:
            batch: the views that the needs name, on the device of the network.

        Returns:
            The weighted loss, what the objectives logged, and the features.
        """
        return self.score(self.encode(batch, self.prepare(batch)))

    def prepare(self, batch: Batch) -> Prepared:
        """Encode a batch with the teachers, select what derived views keep or mask, and sample the gates."""
        targets = self.teach(batch)
        selections: dict[str, Selection] = {}
        for name in self.active:
            selections.update(prepare(name, self._objective(name), batch, targets))
        return Prepared(targets, selections, self._sampled_gates())

    def _sampled_gates(self) -> SampledGates | None:
        if self.gates is None:
            return None
        return self.gates.sample(generator=generator(self.seed, f"gates/{self.number}"))

    @torch.no_grad()
    def teach(self, batch: Batch) -> dict[str, Features]:
        """Features of a batch by every teacher that an active objective reads."""
        with self._autocast(batch.rows.device):
            return {
                name: cast("Teacher", teacher).encode(batch)
                for name, teacher in self.teachers.items()
                if name in self._active_teachers
            }

    def score(self, features: Features) -> StepResult:
        """Score the features with every objective, and add up."""
        total = torch.zeros((), device=features.scale.device)
        logs: dict[str, Tensor] = {}
        for name in self.active:
            objective = self._objective(name)
            output = score(name, objective, features)
            loss = output.loss if output.loss.dtype == torch.float64 else output.loss.float()
            total = total + objective.config.weight * loss
            logs[f"{name}/loss"] = output.loss.detach()
            logs.update({f"{name}/{key}": value.detach() for key, value in output.logs.items()})
        return StepResult(total, logs, features)

    def encode(self, batch: Batch, prepared: Prepared) -> Features:
        """Run the towers over the union of needs, each (view, selection) once."""
        images = {name: self.encode_image(batch, prepared, name) for name in sorted(self.needs.images)}
        texts = {name: self.encode_text(batch, prepared, name) for name in sorted(self.needs.texts)}
        return self.features(batch, prepared, images=images, texts=texts)

    def features(
        self,
        batch: Batch,
        prepared: Prepared,
        *,
        images: dict[str, TowerOutput],
        texts: dict[str, TowerOutput],
    ) -> Features:
        """The features that objectives score, from encoded views."""
        return Features(
            images=images,
            texts=texts,
            scale=self.network.scale(),
            targets=prepared.targets,
            fields=batch.fields,
            selections=prepared.selections,
            progress=self.progress,
            gates=prepared.gates if self.needs.gates else None,
        )

    def encode_image(
        self, batch: Batch, prepared: Prepared, name: str, *, rows: Tensor | None = None
    ) -> TowerOutput:
        """One image view of a batch, or of its `rows` (kept,) int64, in the step's precision."""
        keep = prepared.selections[name].keep if "@" in name else None
        images = batch.images[source_view(name)]
        with self._autocast(images.device):
            return self.network.image(
                images if rows is None else images[rows],
                keep=keep if keep is None or rows is None else keep[rows],
                with_tokens=name in self.needs.tokens,
                with_attention=name in self.needs.attention,
                gates=prepared.image_gates,
            )

    def encode_text(
        self, batch: Batch, prepared: Prepared, name: str, *, rows: Tensor | None = None
    ) -> TowerOutput:
        """One text view of a batch, or of its `rows` (kept,) int64, in the step's precision."""
        texts = batch.texts[source_view(name)]
        ids = prepared.selections[name].ids if "@" in name else None
        if ids is not None:
            assert isinstance(texts, Tokens), "DualEncoder.check refuses to mask words of cached features"
            texts = Tokens(ids, texts.lengths)
        with self._autocast(texts.device):
            return self.network.text(
                texts if rows is None else texts[rows],
                with_tokens=name in self.needs.tokens,
                gates=prepared.text_gates,
            )

    @torch.no_grad()
    def episode(self, batches: Iterable[Batch], needs: Needs) -> Iterator[Features]:
        """Features of an episode before it is trained on: evaluation mode, views without selections."""
        self.eval()
        for batch in batches:
            prepared = Prepared(self.teach(batch), {})
            images = {
                name: self.encode_image(batch, prepared, name)
                for name in sorted(needs.images)
                if "@" not in name
            }
            texts = {
                name: self.encode_text(batch, prepared, name)
                for name in sorted(needs.texts)
                if "@" not in name
            }
            yield self.features(batch, prepared, images=images, texts=texts)

    def begin_episode(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Give every active objective the episode ahead; it is encoded only for those that iterate over it.

        Args:
            batches: gives the batches of the episode, from its first one on.
        """
        for name in self.active:
            objective = self._objective(name)
            call(name, objective, "begin_episode", self.episode(batches(), objective.needs()))
        self.train()

    def _autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(
            device.type, dtype=AUTOCAST.get(self.precision), enabled=self.precision != "fp32"
        )

    def after_step(self, features: Features) -> None:
        """Clamp the scale and the gates, then let objectives and teachers update their state."""
        self.network.clamp_scale()
        if self.gates is not None:
            self.gates.clamp()
        for name in self.active:
            call(name, self._objective(name), "after_step", features)
        for teacher in self.teachers.values():
            cast("Teacher", teacher).after_step(self.network, progress=self.progress)

    def teacher_fingerprints(self) -> dict[str, str]:
        """What the teachers that do not change are known by."""
        teachers = cast("dict[str, Teacher]", dict(self.teachers.items()))
        found = {name: teacher.fingerprint for name, teacher in teachers.items()}
        return {name: value for name, value in found.items() if value is not None}

    def named_objectives(self) -> dict[str, Objective]:
        """Objectives by name, active or not."""
        return dict(self._all())

    def _all(self) -> list[tuple[str, Objective]]:
        return cast("list[tuple[str, Objective]]", list(self.objectives.items()))

    def _objective(self, name: str) -> Objective:
        return cast("Objective", self.objectives[name])


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The same batch on a device."""
    if device.type == "cpu":
        return batch

    groups = {
        key: {name: x.to(device, non_blocking=True) for name, x in getattr(batch, key).items()}
        for key in ("images", "texts", "boxes", "mirrored", "fields")
    }
    turns = None if batch.turns is None else batch.turns.to(device, non_blocking=True)
    rows = batch.rows.to(device, non_blocking=True)
    return Batch(rows=rows, turns=turns, drawn=batch.drawn, **groups)
