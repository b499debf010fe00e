"""Ridge regression: a fitted text head, linear in what it reads, that maps texts to their images.

It is kernel ridge regression (see `kernel_ridge`) with a linear kernel, so that the fit needs no anchors: the
head is one matrix. For features with as many channels as a vocabulary has tokens, such as TF-IDF.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from frugalclip.towers.base import FitData, FitInput, Head, HeadConfig, Side
from frugalclip.towers.heads.kernel_ridge import texts_to_fit


class RidgeConfig(HeadConfig):
    """Settings of a text head: a linear map, fitted in closed form."""

    kind: Literal["ridge"] = "ridge"
    ridge: float = Field(1.0, gt=0, description="squared weights count this much beside the squared errors")

    most_texts: int = Field(
        20_000, ge=1, description="texts to fit to, at most: those that are drawn most often"
    )

    def forward_gflops(self, *, width: int, dim: int) -> float:
        """Forward arithmetic for one vector, in 10^9 operations."""
        return 2 * width * dim * 1e-9

    def build(self, *, width: int, dim: int) -> "Ridge":
        """The head of these sizes."""
        return Ridge(self, width=width, dim=dim)


class Ridge(Head):
    """Text head without trained parameters."""

    weight: Tensor  # (width, dim)

    def __init__(self, config: RidgeConfig, *, width: int, dim: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("weight", torch.zeros(width, dim))

    def fit_inputs(self, side: Side) -> frozenset[FitInput]:
        """Text features, and the embeddings of their images."""
        return frozenset({"text_features", "image_features", "image_embeddings"})

    def fit(self, data: FitData, *, side: Side) -> str:
        """Fit to every text of the training data, weighted by how often it is drawn."""
        c = self.config
        vectors, targets, weights = texts_to_fit(data, kind=c.kind, most=c.most_texts)
        self.fit_to(vectors, targets, weights)
        return f"{len(vectors):,} texts"

    @torch.no_grad()
    def fit_to(self, vectors: Tensor, targets: Tensor, weights: Tensor) -> None:
        """Fit to the mean image embedding of each text, in whichever of the two equal forms is smaller.

        Args:
            vectors: (texts, width) features of distinct texts.
            targets: (texts, dim) mean embedding of the images that a text is drawn with.
            weights: (texts,) how often a text is drawn, above 0.
        """
        x, y, w = vectors.double(), targets.double(), weights.double()
        if len(x) <= x.shape[1]:
            solved = x.T @ torch.linalg.solve(x @ x.T + torch.diag(self.config.ridge / w), y)
        else:
            squares = x.T @ (w[:, None] * x) + self.config.ridge * torch.eye(x.shape[1], dtype=x.dtype)
            solved = torch.linalg.solve(squares, x.T @ (w[:, None] * y))
        self.weight.copy_(solved)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to (..., dim)."""
        return x.to(self.weight.dtype) @ self.weight
