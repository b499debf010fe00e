"""Caption words: a fitted image head that describes an image by words of captions of similar images.

A lexical vector has tens of thousands of numbers, and few pairs train few of them: after an hour of
contrastive training most words of an image are noise. The words of a caption are good from the start, since
they come from a language model. So an image gets a mixture of the words of training captions. Kernel ridge
regression (Saunders et al. 1998) gives the weight of each caption, and only the main words of a caption are
kept: otherwise the words that all captions share would win. Only the similarity of images is learned; words
stay those of the language model.
"""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from frugalclip.core.errors import RecipeError
from frugalclip.core.numerics import evenly_spaced
from frugalclip.functional import unit
from frugalclip.towers.base import FitData, FitInput, Head, HeadConfig, Side
from frugalclip.towers.heads.whitening import LEAST_DEVIATION

_MIXED = 2**24  # caption words that are summed at a time


class CaptionWordsConfig(HeadConfig):
    """Settings of an image head; the text head is of kind lexical."""

    sides: ClassVar[frozenset[Side]] = frozenset({"image"})
    kind: Literal["caption_words"]
    anchors: int = Field(
        6000, ge=1, description="training images of the fit, at most; of more, evenly spaced ones"
    )
    sharpness: float = Field(
        8.0, gt=0, description="g of exp(-g |a - b|^2) between standardised unit vectors of images"
    )
    ridge: float = Field(0.1, gt=0, description="ridge of the regression from images to captions")
    words: int = Field(32, ge=1, description="main words that are kept of a caption")

    def forward_gflops(self, *, width: int, dim: int) -> float:
        """Forward arithmetic for one vector, with as many captions as anchors, in 10^9 operations."""
        return 2 * self.anchors * (width + self.anchors + self.words) * 1e-9

    def build(self, *, width: int, dim: int) -> "CaptionWords":
        """The head for `dim` words."""
        return CaptionWords(self, width=width, dim=dim)


class CaptionWords(Head):
    """Fitted image head without trained parameters."""

    mean: Tensor
    deviation: Tensor
    anchors: Tensor
    amounts: Tensor
    words: Tensor
    values: Tensor

    def __init__(self, config: CaptionWordsConfig, *, width: int, dim: int) -> None:
        super().__init__()
        self.config, self.dim = config, dim
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.register_buffer("anchors", torch.zeros(0, width))
        self.register_buffer("amounts", torch.zeros(0, 0))  # (anchors, captions)
        self.register_buffer("words", torch.zeros(0, 0, dtype=torch.int64))  # (captions, words)
        self.register_buffer("values", torch.zeros(0, 0))  # (captions, words)

    def fit_inputs(self, side: Side) -> frozenset[FitInput]:
        """Image features, and the words of their captions."""
        return frozenset({"image_features", "text_features", "text_embeddings"})

    def fit(self, data: FitData, *, side: Side) -> str:
        """Fit to evenly spaced training images and the words of their captions."""
        text = data.head("text")
        if text is None or text.codebook_source is None:
            raise RecipeError(
                "head.kind caption_words gives images the words of captions; set "
                "model.text.head.kind=lexical over "
                "a frozen text backbone."
            )
        rows, texts, chances = data.pairs()
        images = evenly_spaced(np.unique(rows), self.config.anchors)
        is_chosen = np.isin(rows, images)
        numbers, text_of = np.unique(texts[is_chosen], return_inverse=True)
        shares = torch.zeros(len(images), len(numbers), dtype=torch.float64)
        place = (torch.from_numpy(np.searchsorted(images, rows[is_chosen])), torch.from_numpy(text_of))
        shares.index_put_(place, torch.from_numpy(chances[is_chosen]), accumulate=True)
        words = data.text_embeddings(numbers)
        self.fit_to(data.image_features(images), words, shares / shares.sum(dim=1, keepdim=True))
        return f"{len(images):,} pictures and the words of {len(numbers):,} texts"

    @torch.no_grad()
    def fit_to(self, vectors: Tensor, texts: Tensor, shares: Tensor) -> None:
        """Fit to images.

        Args:
            vectors: (images, width) features of the backbone.
            texts: (captions, dim) lexical vectors of distinct captions, none negative.
            shares: (images, captions) how often an image is drawn with a caption; rows add up to 1.
        """
        c, device, kind = self.config, self.mean.device, self.mean.dtype
        x = vectors.double()
        self.mean.copy_(x.mean(dim=0))
        self.deviation.copy_(x.std(dim=0) + LEAST_DEVIATION)
        anchors = unit((x - self.mean.double()) / self.deviation.double())
        near = _kernel(anchors, anchors, c.sharpness) + c.ridge * torch.eye(len(anchors), dtype=x.dtype)
        values, words = texts.topk(min(c.words, texts.shape[1]), dim=1)
        self.anchors, self.words = anchors.to(device, kind), words.to(device)
        self.values = unit(values.double()).to(device, kind)
        self.amounts = torch.linalg.solve(near, shares.double()).to(device, kind).contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to (..., dim), none negative."""
        images = unit((x.to(self.mean.dtype) - self.mean) / self.deviation)
        amounts = (_kernel(images, self.anchors, self.config.sharpness) @ self.amounts).reshape(
            -1, len(self.words)
        )  # (rows, captions)
        flat, parts = self.words.flatten(), []
        for some in amounts.split(max(1, _MIXED // max(1, self.words.numel()))):
            told = (some.T[:, None] * self.values[:, :, None]).flatten(
                0, 1
            )  # (captions * words, rows): rows side by side, which is the fastest order to sum
            parts.append(told.new_zeros(self.dim, len(some)).index_add_(0, flat, told).clamp_min_(0).T)
        return torch.cat(parts).view(*x.shape[:-1], self.dim)

    def of_patches(self, tokens: Tensor) -> Tensor:
        """(batch, patches, width) to (batch, patches, dim): each patch encoded like an image."""
        return self(tokens)

    def _load_from_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state_dict: dict[str, Any], prefix: str, *rest: Any
    ) -> None:
        """Take the saved numbers of anchors and captions."""
        for name in ("anchors", "amounts", "words", "values"):
            if (saved := state_dict.get(prefix + name)) is not None:
                setattr(self, name, getattr(self, name).new_zeros(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _kernel(a: Tensor, b: Tensor, sharpness: float) -> Tensor:
    """exp(-g |a - b|^2) of unit vectors: (..., width), (anchors, width) to (..., anchors)."""
    return torch.exp(2 * sharpness * (a @ b.T - 1))
