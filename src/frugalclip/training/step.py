"""One step: encode the union of needs once, let every objective score the features, add up.

Objectives see features only, so what is encoded, in which precision and on how many processes is decided here and nowhere else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor, nn

from frugalclip.core.errors import RecipeError, known_names
from frugalclip.core.random import stream_seed
from frugalclip.core.types import Batch, Dims, Encoded, Needs, Selection, Tokens, Views
from frugalclip.objectives.base import Objective, ObjectiveConfig, find_objective
from frugalclip.towers.dual import DualEncoder

Precision = Literal["fp32", "bf16", "fp16"]
MaybeTensor = TypeVar("MaybeTensor", Tensor, Tensor | None)
AUTOCAST: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class StepResult:
    """What one step gives."""

    loss: Tensor  # () weighted sum, mean over this process's rows
    logs: dict[str, Tensor]  # `<objective>/<log>` -> (), detached
    views: Views  # the features, for monitors and `after_step`


def build_objectives(configs: Mapping[str, ObjectiveConfig], dims: Dims, *, seed: int) -> dict[str, Objective]:
    """Objectives by name, without those of weight 0.

    Each draws its initial weights from a stream of its own, so adding or removing one leaves the others exactly as they were.
    """
    built: dict[str, Objective] = {}
    for name, config in configs.items():
        if config.weight == 0:
            continue
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, f"init/objectives/{name}"))
            built[name] = find_objective(config.kind or name)(config, dims)
    return built


def union_of_needs(objectives: Iterable[Objective]) -> Needs:
    """Everything that some objective reads."""
    return reduce(lambda a, b: a | b, (o.needs() for o in objectives), Needs())


def source_view(name: str) -> str:
    """The view that a derived view comes from: `main@kept` -> `main`."""
    return name.partition("@")[0]


def check_views(needs: Needs, *, images: Iterable[str], texts: Iterable[str]) -> None:
    """Refuse needs that the recipe's views cannot meet.

    Raises:
        RecipeError: naming the view, with the nearest known one.
    """
    for kind, needed, given in (("views", needs.images, list(images)), ("texts", needs.texts, list(texts))):
        for name in sorted(needed):
            if source_view(name) not in given:
                raise RecipeError(
                    f"{kind}.{source_view(name)} is read by an objective but not in the recipe; {known_names(source_view(name), given)} "
                    f"Add it under '{kind}:'."
                )


class Step(nn.Module):
    """The whole training computation of one batch as one module, so that data-parallel wrappers see a single forward."""

    def __init__(self, network: DualEncoder, objectives: Mapping[str, Objective], *, precision: Precision = "fp32") -> None:
        super().__init__()
        self.network = network
        self.objectives = nn.ModuleDict(dict(objectives))
        self.precision: Precision = precision
        self.needs = union_of_needs(objectives.values())

    def forward(self, batch: Batch) -> StepResult:
        """Encode and score.

        Args:
            batch: the views that the needs name, on the device of the network.

        Returns:
            The weighted loss, what the objectives logged, and the features.
        """
        selections = self.selections(batch)
        return self.score(self.encode(batch, selections))

    def score(self, views: Views) -> StepResult:
        """Let every objective look at the features, and add up."""
        total = torch.zeros((), device=views.scale.device)
        logs: dict[str, Tensor] = {}
        for name, objective in self._named():
            outcome = objective(views)
            total = total + objective.config.weight * (outcome.loss if outcome.loss.dtype == torch.float64 else outcome.loss.float())
            logs[f"{name}/loss"] = outcome.loss.detach()
            logs.update({f"{name}/{key}": value.detach() for key, value in outcome.logs.items()})
        return StepResult(total, logs, views)

    def encode(self, batch: Batch, selections: Mapping[str, Selection]) -> Views:
        """Run the towers over the union of needs, each (view, selection) once."""
        images = {name: self.encode_image(batch, selections, name) for name in sorted(self.needs.images)}
        texts = {name: self.encode_text(batch, selections, name) for name in sorted(self.needs.texts)}
        return self.views(batch, selections, images=images, texts=texts)

    def views(self, batch: Batch, selections: Mapping[str, Selection], *, images: dict[str, Encoded], texts: dict[str, Encoded]) -> Views:
        """What objectives look at, from encoded views."""
        return Views(images=images, texts=texts, scale=self.network.scale(), fields=batch.fields, selections=dict(selections))

    def encode_image(self, batch: Batch, selections: Mapping[str, Selection], name: str, *, rows: Tensor | None = None) -> Encoded:
        """One image view of a batch, or of its `rows` (kept,) int64, in the step's precision."""
        keep = selections[name].keep if "@" in name else None
        pixels = batch.images[source_view(name)]
        with self._autocast(pixels.device):
            return self.network.image(_rows_of(pixels, rows), keep=_rows_of(keep, rows), with_tokens=name in self.needs.tokens)

    def encode_text(self, batch: Batch, selections: Mapping[str, Selection], name: str, *, rows: Tensor | None = None) -> Encoded:
        """One text view of a batch, or of its `rows` (kept,) int64, in the step's precision."""
        texts = batch.texts[source_view(name)]
        ids = selections[name].ids if "@" in name else None
        texts = Tokens(ids=_rows_of(texts.ids if ids is None else ids, rows), lengths=_rows_of(texts.lengths, rows))
        with self._autocast(texts.ids.device):
            return self.network.text(texts, with_tokens=name in self.needs.tokens)

    def _autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, dtype=AUTOCAST.get(self.precision), enabled=self.precision != "fp32")

    def after_step(self, views: Views) -> None:
        """Clamp the scale, then let objectives update what gradients do not train."""
        self.network.clamp_scale()
        for _, objective in self._named():
            objective.after_step(views)

    def _named(self) -> list[tuple[str, Objective]]:
        return cast("list[tuple[str, Objective]]", list(self.objectives.items()))

    def selections(self, batch: Batch) -> dict[str, Selection]:
        """What the objectives keep or mask for the derived views of a batch."""
        selections: dict[str, Selection] = {}
        for _, objective in self._named():
            selections.update(objective.prepare(batch, {}))
        derived = {name for name in self.needs.images | self.needs.texts if "@" in name}
        if missing := sorted(derived - selections.keys()):
            raise RecipeError(f"{missing[0]} is read, but no objective makes it; add the objective whose 'prepare' gives {missing[0]}.")
        return selections


def _rows_of(tensor: MaybeTensor, rows: Tensor | None) -> MaybeTensor:
    return tensor if tensor is None or rows is None else tensor[rows]  # pyright: ignore[reportReturnType]


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The same batch on a device; text lengths stay on the CPU when it computes there, which saves a wait elsewhere."""
    if device.type == "cpu":
        return batch

    def move(x: Any) -> Any:
        return Tokens(move(x.ids), move(x.lengths)) if isinstance(x, Tokens) else x.to(device, non_blocking=True)

    groups = {key: {name: move(x) for name, x in getattr(batch, key).items()} for key in ("images", "texts", "boxes", "fields")}
    return Batch(rows=move(batch.rows), **groups)
