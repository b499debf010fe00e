"""The identity head: the features of a backbone are the embedding, as FLAME uses those of its texts."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from frugalclip.core.errors import RecipeError
from frugalclip.core.numerics import evenly_spaced
from frugalclip.towers.base import FitData, FitInput, Head, HeadConfig, Side

MOST_IMAGES = 10_000  # whose mean is as good as that of all


class IdentityConfig(HeadConfig):
    """Settings of a head that changes nothing but the mean."""

    kind: Literal["identity"]
    centre: bool = Field(
        False,
        description="subtract the mean over the training data: states of a small language model share one "
        "direction",
    )

    def build(self, *, width: int, dim: int) -> "IdentityHead":
        """The head.

        Raises:
            RecipeError: if the backbone is not as wide as the joint embedding.
        """
        if width != dim:
            raise RecipeError(
                f"a head of kind identity makes embeddings of {width} numbers, and model.dim is {dim}; "
                f"set model.dim={width}."
            )
        return IdentityHead(width, centre=self.centre)


class IdentityHead(Head):
    """The features of a backbone, less the mean over the training data where that is set."""

    mean: Tensor | None

    def __init__(self, width: int, *, centre: bool) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width) if centre else None)

    def fit_inputs(self, side: Side) -> frozenset[FitInput]:
        """Features of the tower's own side, where their mean is subtracted."""
        own: FitInput = "text_features" if side == "text" else "image_features"
        return frozenset({own}) if self.mean is not None else frozenset()

    def fit(self, data: FitData, *, side: Side) -> str:
        """Fit the mean to the training images, or to the training texts, each counted once."""
        if side == "text":
            texts = data.texts()
            self.fit_to(data.text_features(texts).to(data.device))
            return f"the mean of {len(texts):,} texts"
        rows = evenly_spaced(data.rows, MOST_IMAGES)
        self.fit_to(data.image_features(rows).to(data.device))
        return f"the mean of {len(rows):,} images"

    @torch.no_grad()
    def fit_to(self, vectors: Tensor) -> None:
        """Take the mean of features, (rows, width), or (rows, facets or patches, width)."""
        if self.mean is not None:
            self.mean.copy_(vectors.double().flatten(0, -2).mean(dim=0))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same."""
        return x if self.mean is None else x - self.mean
