"""The base class of objectives: they declare what they need and score features.

An objective has no access to towers or images. It is one file named like its key in the recipe, with a
`Config`, a pure loss and a thin final class. A user's own file is found in the same way, beside the recipe
(`kind: ./my_file.py`) or as a module (`kind: my_package.my_file`): its one `Objective` subclass.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import BeforeValidator, Field, field_validator, model_validator
from torch import Tensor, nn

from frugalclip.core.config import Settings
from frugalclip.core.distributed import gather, own_rows, world_size
from frugalclip.core.plugins import PluginKind, find_class, known_kinds
from frugalclip.core.random import uniform
from frugalclip.core.types import Batch, Dims, Features, Needs, Selection
from frugalclip.functional import (
    Contrast,
    SamePolicy,
    info_nce_loss,
    needs_tiles,
    same_rows,
    tiled_info_nce_loss,
)

__all__ = [
    "Batch",
    "Dims",
    "Features",
    "Fields",
    "Needs",
    "Objective",
    "ObjectiveConfig",
    "ObjectiveOutput",
    "Selection",
    "TwoViewsConfig",
    "contrast",
    "contrast_logs",
    "field_codes",
    "find_objective",
    "known_objectives",
    "row_draws",
]


# One field or several; a plain word in a recipe is a list of one.
Fields = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else () if value is None else value),
]


@dataclass(frozen=True)
class ObjectiveOutput:
    """Output of an objective: the loss, and values for the log."""

    loss: Tensor  # ()
    logs: dict[str, Tensor] = field(default_factory=dict)  # name -> (), detached


class ObjectiveConfig(Settings):
    """Base class of settings of objectives: the keys of `objectives.<name>` in a recipe."""

    weight: float = Field(1.0, ge=0, description="multiplies the loss; 0 leaves the objective out")
    during: tuple[float, float] = Field(
        (0, 1), description="share of the run in which the objective is active; [0.5, 1] is the second half"
    )
    kind: str | None = Field(
        None,
        description="file of the objective when the key is not its name; ./FILE.py or a dotted name for your "
        "own",
    )

    @field_validator("during")
    @classmethod
    def _is_part(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] < value[1] <= 1:
            raise ValueError("expected [start, end] between 0 and 1, such as [0.5, 1]")
        return value

    def counts_at(self, progress: float) -> bool:
        """Whether the objective is active after this share of the run."""
        return self.during[0] <= progress < self.during[1]


class TwoViewsConfig(ObjectiveConfig):
    """Settings of objectives that compare two views of an image."""

    first: str
    second: str

    @model_validator(mode="after")
    def _are_two(self) -> Self:
        if self.first == self.second:
            raise ValueError(
                f"first and second are both '{self.first}', and a view cannot be compared with itself; name "
                "two views of the image"
            )
        return self


class Objective(nn.Module, ABC):
    """Base class of objectives; every subclass is final."""

    Config: ClassVar[type[ObjectiveConfig]]
    has_loss: ClassVar[bool] = True  # False where it only makes views that others read
    trains_embeddings: ClassVar[bool] = True  # False where it reads token outputs alone

    def __init__(self, config: Any, dims: Dims) -> None:
        super().__init__()
        self.config = config
        self.dims = dims

    @abstractmethod
    def needs(self) -> Needs:
        """The views, token outputs, teachers and fields that `forward` reads.

        Depends on the configuration.
        """

    @abstractmethod
    def forward(self, views: Features) -> ObjectiveOutput:
        """Score the features of one step."""

    def begin_episode(self, features: Iterable[Features]) -> None:
        """See the features of a whole episode before training on it."""

    def prepare(self, batch: Batch, targets: Mapping[str, Features]) -> dict[str, Selection]:
        """Make the derived views that this objective owns, from the batch and the teachers' view of it."""
        return {}

    def kept_patches(self) -> dict[str, int]:
        """How many patches the derived image views keep that `prepare` makes, for counting the cost."""
        return {}

    def makes(self) -> frozenset[str]:
        """Names of the derived views that `prepare` gives, such as `main@kept`."""
        return frozenset(self.kept_patches())

    def ascending_parameters(self) -> list[nn.Parameter]:
        """Own parameters that the optimiser moves uphill, such as Lagrange multipliers of a constraint."""
        return []

    def after_step(self, views: Features) -> None:
        """Update state that is not trained by gradient: queues, moving averages, clamps of multipliers."""


def contrast(
    images: Tensor,
    texts: Tensor,
    scale: Tensor,
    *,
    codes: Tensor | None = None,
    policy: SamePolicy = "drop",
    smoothing: float = 0.0,
) -> Contrast:
    """Both directions of InfoNCE between the rows of this process and those of all; tiled if they are many.

    Args:
        images: (batch, dim) unit vectors.
        texts: (batch, dim) unit vectors.
        scale: () multiplies cosines.
        codes: (batch, fields) int64; rows that agree in one of them are further positives.
        policy: what becomes of further positives.
        smoothing: of the targets; not together with `codes`.

    Returns:
        The directions added, whether each image ranks its caption first, and the share of further positives.
    """
    own = own_rows(len(images), device=images.device)
    if needs_tiles(len(images), len(images) * world_size()):
        alone = (
            world_size() == 1
        )  # then rows and candidates are the same, and one pass serves both directions
        return tiled_info_nce_loss(
            images,
            texts,
            scale,
            image_candidates=None if alone else gather(images),
            text_candidates=None if alone else gather(texts),
            own=own,
            codes=codes,
            candidate_codes=None if codes is None else gather(codes),
            policy=policy,
            smoothing=smoothing,
        )
    image_candidates, text_candidates = gather(images), gather(texts)  # (candidates, dim)
    same = None if codes is None else same_rows(codes, gather(codes), own)
    directions = info_nce_loss(
        images,
        texts,
        scale,
        image_candidates=image_candidates,
        text_candidates=text_candidates,
        own=own,
        same=same,
        policy=policy,
        smoothing=smoothing,
    )
    with torch.no_grad():
        hits = (images @ text_candidates.T).max(dim=1).indices == own
    return Contrast(
        directions[0] + directions[1], hits, torch.zeros(()) if same is None else same.float().mean()
    )


def contrast_logs(contrasts: Sequence[Contrast], *, batch: int, with_same: bool) -> dict[str, Tensor]:
    """Logs of contrastive objectives: chance loss in nats, share of hits, share of further positives."""
    logs = {
        "chance": torch.tensor(float(batch * world_size())).log(),
        "accuracy": torch.stack([c.hits.float().mean() for c in contrasts]).mean(),
    }
    return logs | ({"same_share": contrasts[0].same} if with_same else {})


def field_codes(views: Features, names: Sequence[str]) -> Tensor | None:
    """(batch, fields) int64 codes of some fields, or None without fields."""
    return torch.stack([views.fields[name] for name in names], dim=1) if names else None


def row_draws(batch: Batch, draws: int, *, seed: int, stream: str) -> Tensor:
    """Uniform numbers that depend only on a row and on how often it was drawn.

    Args:
        batch: whose rows.
        draws: numbers for each row.
        seed: of the run.
        stream: the purpose.

    Returns:
        (batch, draws) float64 in [0, 1), where the batch is.
    """
    turns = torch.zeros_like(batch.rows) if batch.turns is None else batch.turns
    counters = torch.stack([batch.rows, turns], dim=1).cpu().numpy()
    return torch.from_numpy(uniform(seed, stream, counters, draws)).to(batch.rows.device)


OBJECTIVES = PluginKind(Objective, ObjectiveConfig, "frugalclip.objectives", "objectives", "an objective")


def known_objectives() -> list[str]:
    """Names of the objectives that come with the package."""
    return known_kinds(OBJECTIVES.package)


def find_objective(kind: str) -> type[Objective]:
    """The objective class in the file `kind`.

    Args:
        kind: a name in `frugalclip/objectives`; for the user's own a path that ends in .py, or a dotted name.

    Raises:
        RecipeError: if there is no such file, or it does not hold exactly one objective.
    """
    return find_class(kind, OBJECTIVES)
