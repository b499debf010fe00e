"""Whitening: a fitted image head that standardises, projects and partly whitens features.

The last channel is kept free. A kernel ridge head of the text tower may fill it with a constant (`novelty`).
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from frugalclip.core.numerics import evenly_spaced
from frugalclip.functional import unit
from frugalclip.towers.base import FitData, FitInput, Head, HeadConfig, Side

MOST_IMAGES = 50_000  # evenly spaced ones give the same directions as all, and are held in memory at once
LEAST_DEVIATION = 1e-3  # added to deviations, so that constant channels are not blown up


class WhiteningConfig(HeadConfig):
    """Settings of an image head: standardise, project, partly whiten, normalise, centre."""

    sides: ClassVar[frozenset[Side]] = frozenset({"image"})
    kind: Literal["whitening"]
    power: float = Field(
        0.5, ge=0, le=1, description="0 leaves the directions their variance, 1 makes all variances equal"
    )

    def forward_gflops(self, *, width: int, dim: int) -> float:
        """Forward arithmetic for one vector, in 10^9 operations."""
        return 2 * width * dim * 1e-9

    def build(self, *, width: int, dim: int) -> "Whitening":
        """The head of these sizes."""
        return Whitening(self, width=width, dim=dim)


class Whitening(Head):
    """Fitted image head without trained parameters."""

    mean: Tensor
    projection: Tensor
    centre: Tensor
    level: Tensor  # () constant of the last channel, beside a unit vector; 0: none

    def __init__(self, config: WhiteningConfig, *, width: int, dim: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("projection", torch.zeros(width, dim))
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("level", torch.zeros(()))

    def fit_inputs(self, side: Side) -> frozenset[FitInput]:
        """Image features."""
        return frozenset({"image_features"})

    def fit(self, data: FitData, *, side: Side) -> str:
        """Fit to all views of evenly spaced training images."""
        rows = evenly_spaced(data.rows, MOST_IMAGES)
        self.fit_to(data.image_views(rows))
        return f"{len(rows):,} pictures"

    def set_level(self, level: float) -> None:
        """Fill the last channel with a constant."""
        self.level.fill_(level)

    @torch.no_grad()
    def fit_to(self, vectors: Tensor) -> None:
        """Fit to features of images, (images, width); dimensions beyond the number of images become zero."""
        x = vectors.double()
        mean, deviation = x.mean(dim=0), x.std(dim=0) + LEAST_DEVIATION
        x = (x - mean) / deviation
        spread, directions = torch.linalg.eigh(x.T @ x / len(x))  # ascending
        spread, directions = spread.flip(0).clamp_min(0), directions.flip(1)
        number = min(self.projection.shape[1] - 1, int((spread > spread[0] * 1e-9).sum()))
        scale = (spread[:number] / spread[0]).sqrt() ** -self.config.power
        self.mean.copy_(mean)
        self.projection.zero_()
        self.projection[:, :number] = directions[:, :number] / deviation[:, None] * scale
        self.centre.zero_()
        self.level.zero_()
        self.centre.copy_(self(vectors.to(self.mean.device, self.mean.dtype)).mean(dim=0))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to (..., dim)."""
        z = unit((x.to(self.mean.dtype) - self.mean) @ self.projection) - self.centre
        return beside_level(z, self.level)


def beside_level(z: Tensor, level: Tensor) -> Tensor:
    """Vectors as they are, or above a level of 0 of length one with the level in the last channel.

    Args:
        z: (..., dim), the last channel 0.
        level: ().
    """
    levelled = torch.cat([unit(z)[..., :-1], level.expand(*z.shape[:-1], 1)], dim=-1)
    return torch.where(level > 0, levelled, z)  # no branch: an exported graph has none
