"""Whitening in two steps: a fitted image head over features of several kinds that stand side by side.

Each part is standardised, partly whitened and brought to length one, so that a wide part does not outweigh a
narrow one. Parts are weighed by cross-validation (see `part_weights`). Then directions in which images of one
caption differ are shrunk: drawing styles, light, pose.
This is within-class covariance normalisation (Hatch, Kajarekar & Stolcke, Interspeech 2006) with equal
captions as classes; the covariance is shrunk towards a sphere the more, the fewer captions recur. Where none
does, only the first step is left.
"""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from torch import Tensor

from frugalclip.core.errors import RecipeError
from frugalclip.core.numerics import evenly_spaced
from frugalclip.functional import unit
from frugalclip.towers.base import FitData, FitInput, Head, HeadConfig, Side
from frugalclip.towers.heads.part_weights import chosen_weights
from frugalclip.towers.heads.whitening import LEAST_DEVIATION, beside_level

MOST_IMAGES = 20_000  # evenly spaced ones; a few copies of their features are held in float64


class WhitenedPartsConfig(HeadConfig):
    """Settings of an image head over several kinds of features."""

    sides: ClassVar[frozenset[Side]] = frozenset({"image"})
    kind: Literal["whitened_parts"]
    parts: tuple[PositiveInt, ...] = Field(min_length=1, description="width of each kind of features")
    weights: tuple[NonNegativeFloat | None, ...] = Field(
        (),
        description="length of each part after the first step; null: chosen by cross-validation over "
        "captions; none: all are chosen",
    )
    power: float = Field(
        0.25, ge=0, le=1, description="first step: 0 leaves the directions their variance, 1 makes all equal"
    )
    directions: PositiveInt = Field(400, description="of each part, at most")
    sphere: float = Field(
        3.0,
        gt=0,
        description="second step: variance added to that within captions, in units of its mean; the larger, "
        "the less is shrunk",
    )

    @model_validator(mode="after")
    def _agrees(self) -> "WhitenedPartsConfig":
        if self.weights and len(self.weights) != len(self.parts):
            raise ValueError(
                f"weights has {len(self.weights)} numbers, and parts has {len(self.parts)}; "
                "give one number for each part"
            )
        return self

    def sizes(self) -> list[int]:
        """Directions of each part, at most."""
        return [min(part, self.directions) for part in self.parts]

    def forward_gflops(self, *, width: int, dim: int) -> float:
        """Forward arithmetic for one vector, in 10^9 operations."""
        sizes = self.sizes()
        first = sum(part * size for part, size in zip(self.parts, sizes, strict=True))
        return 2 * (first + sum(sizes) * dim) * 1e-9

    def build(self, *, width: int, dim: int) -> "WhitenedParts":
        """The head of these sizes.

        Raises:
            RecipeError: if the parts do not add up to the width of the features.
        """
        if sum(self.parts) != width:
            raise RecipeError(
                f"head.parts add up to {sum(self.parts)}, and the features have a width of {width}; "
                "give the width of each kind of features."
            )
        return WhitenedParts(self, dim=dim)


class WhitenedParts(Head):
    """Fitted image head without trained parameters."""

    mean: Tensor  # (width,)
    first: Tensor  # (sum over parts of width * directions,) projections of the parts, end to end
    lengths: Tensor  # (parts,) weights
    middle: Tensor  # (directions,) mean after the first step
    second: Tensor  # (directions, dim)
    centre: Tensor  # (dim,)
    level: Tensor  # () constant of the last channel, beside a unit vector; 0: none

    def __init__(self, config: WhitenedPartsConfig, *, dim: int) -> None:
        super().__init__()
        self.config = config
        sizes = config.sizes()
        numbers = sum(part * size for part, size in zip(config.parts, sizes, strict=True))
        shapes = {"mean": (sum(config.parts),), "first": (numbers,), "middle": (sum(sizes),)}
        shapes["lengths"] = (len(sizes),)
        shapes |= {"second": (sum(sizes), dim), "centre": (dim,), "level": ()}
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))

    def fit_inputs(self, side: Side) -> frozenset[FitInput]:
        """Image features, and text features where weights of parts are chosen."""
        return frozenset({"image_features", "text_features"} if self._chosen() else {"image_features"})

    def fit(self, data: FitData, *, side: Side) -> str:
        """Fit to evenly spaced training images, those with the same most frequent text as one class."""
        rows = evenly_spaced(data.rows, MOST_IMAGES)
        numbers, caption = np.unique(main_texts(data, rows), return_inverse=True)
        # a text tower that is trained as a whole has no features of its own: then all weights are 1
        texts = data.text_features(numbers) if self._chosen() and data.head("text") else None
        self.fit_to(data.image_features(rows), torch.from_numpy(caption), texts)
        return f"{len(rows):,} pictures"

    def set_level(self, level: float) -> None:
        """Fill the last channel with a constant."""
        self.level.fill_(level)

    @torch.no_grad()
    def fit_to(self, vectors: Tensor, caption: Tensor, texts: Tensor | None = None) -> None:
        """Fit to features of images.

        Args:
            vectors: (images, width).
            caption: (images,) int64, equal for images of one caption; its place in `texts`.
            texts: (captions, text width) or (captions, facets, text width) features, from which weights are
                chosen; None: they are 1.
        """
        x, caption = vectors.double().cpu(), caption.cpu()
        mean = x.mean(dim=0)
        parts, projections = [], []
        for part, size in zip((x - mean).split(self.config.parts, dim=1), self.config.sizes(), strict=True):
            projections.append(_part_whitening(part, size=size, power=self.config.power))
            parts.append(unit(part @ projections[-1]))
        lengths = self._weighed(parts, caption, None if texts is None else texts.cpu())
        placed = torch.cat([length * part for length, part in zip(lengths, parts, strict=True)], dim=1)
        middle = placed.mean(dim=0)
        placed -= middle
        shrunk = _within_whitening(placed, caption, sphere=self.config.sphere)
        spread, directions = torch.linalg.eigh(shrunk.T @ (placed.T @ placed / len(placed)) @ shrunk)
        kept = min(self.second.shape[1] - 1, int((spread > spread[-1] * 1e-9).sum()))
        second = torch.zeros_like(self.second, dtype=x.dtype, device=x.device)
        second[:, :kept] = shrunk @ directions.flip(1)[:, :kept]
        self.mean.copy_(mean)
        self.first.copy_(torch.cat([projection.flatten() for projection in projections]))
        self.lengths.copy_(lengths)
        self.middle.copy_(middle)
        self.second.copy_(second)
        self.centre.copy_(unit(placed @ second).mean(dim=0))
        self.level.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to (..., dim)."""
        return beside_level(unit(self._placed(x) @ self.second) - self.centre, self.level)

    def _chosen(self) -> bool:
        """Whether a weight is chosen by cross-validation."""
        return not self.config.weights or None in self.config.weights

    def _weighed(self, parts: Sequence[Tensor], caption: Tensor, texts: Tensor | None) -> Tensor:
        """(parts,) float64 weights; chosen ones are 1 without texts."""
        given = self.config.weights or (None,) * len(parts)
        fixed = torch.tensor([math.nan if weight is None else weight for weight in given]).double()
        if texts is None:
            return fixed.nan_to_num(1.0)
        centred = [part - part.mean(dim=0) for part in parts]
        return chosen_weights(centred, caption, unit(texts.flatten(1)), fixed=fixed)

    def _placed(self, x: Tensor) -> Tensor:
        """After the first step: (..., width) to (..., directions)."""
        c, sizes = self.config, self.config.sizes()
        numbers = [part * size for part, size in zip(c.parts, sizes, strict=True)]
        parts = (x.to(self.mean.dtype) - self.mean).split(c.parts, dim=-1)
        projections = self.first.split(numbers)
        placed = [
            length * unit(part @ projection.view(-1, size))
            for part, projection, size, length in zip(parts, projections, sizes, self.lengths, strict=True)
        ]
        return torch.cat(placed, dim=-1) - self.middle


def main_texts(data: FitData, rows: np.ndarray) -> np.ndarray:
    """(rows,) number of the text that each image is drawn with most often; the first of equal ones."""
    paired, texts, chances = data.pairs()
    order = np.lexsort((texts, -chances, paired))
    first = np.unique(paired[order], return_index=True)
    return texts[order][first[1]][np.searchsorted(first[0], rows)]


def _part_whitening(x: Tensor, *, size: int, power: float) -> Tensor:
    """Projection of a centred part: (images, width) to (width, size); directions without variance are 0."""
    deviation = x.std(dim=0) + LEAST_DEVIATION
    scaled = x / deviation
    spread, directions = torch.linalg.eigh(scaled.T @ scaled / len(x))  # ascending
    spread, directions = spread.flip(0).clamp_min(0), directions.flip(1)
    number = min(size, int((spread > spread[0] * 1e-9).sum()))
    projection = torch.zeros(x.shape[1], size, dtype=x.dtype)
    scale = (spread[:number] / spread[0]).sqrt() ** -power
    projection[:, :number] = directions[:, :number] / deviation[:, None] * scale
    return projection


def _within_whitening(x: Tensor, texts: Tensor, *, sphere: float) -> Tensor:
    """(directions, directions) that shrinks what differs within a caption.

    The covariance has as many degrees of freedom as there are images beyond the first of each caption. It is
    brought to a mean variance of one and mixed with the identity, half and half where there are as many
    degrees as directions.
    """
    _, caption = texts.unique(return_inverse=True)
    counts = torch.bincount(caption).to(x)
    sums = torch.zeros(len(counts), x.shape[1], dtype=x.dtype).index_add_(0, caption, x)
    residuals = x - (sums / counts[:, None])[caption]
    degrees = len(x) - len(counts)
    identity = torch.eye(x.shape[1], dtype=x.dtype)
    covariance = residuals.T @ residuals
    mean = covariance.diagonal().mean()
    if degrees == 0 or mean <= 0:
        return identity
    trust = degrees / (degrees + x.shape[1])
    spread, directions = torch.linalg.eigh(trust * covariance / mean + (1 - trust + sphere) * identity)
    return directions * spread.rsqrt()
