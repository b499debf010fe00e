"""Fit heads in closed form before the first step, to stored features of frozen backbones."""

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.errors import RecipeError
from frugalclip.core.types import CachedFeatures
from frugalclip.loading.loader import Loader
from frugalclip.towers.base import FitData, FitInput, Head, Side
from frugalclip.towers.dual import DualEncoder

EMBEDDINGS: frozenset[FitInput] = frozenset({"image_embeddings", "text_embeddings"})


def fit_heads(network: DualEncoder, loader: Loader) -> list[str]:
    """Fit the heads of a network that declare inputs of a fit, in place.

    A head that is fitted to the embeddings of the other tower comes after it.

    Args:
        network: its heads are fitted.
        loader: knows the stores, and how often each text is drawn with each image.

    Returns:
        Sentences that say what was fitted.

    Raises:
        RecipeError: if the stores lack what a head is fitted to.
    """
    heads = network.heads()
    sides: tuple[Side, ...] = ("text", "image")  # image heads may start from what text heads are fitted to
    data = LoaderFitData(network, loader)
    notes = []
    for is_late in (False, True):
        for side in sides:
            head = heads.get(side)
            inputs = head.fit_inputs(side) if head else frozenset()
            if head and inputs and bool(inputs & EMBEDDINGS) == is_late:
                data.check(inputs, side=side)
                notes.append(f"the {side} head is fitted to {head.fit(data, side=side)}")
    return notes


class LoaderFitData(FitData):
    """The stored features of a loader, and the embeddings of a network."""

    def __init__(self, network: DualEncoder, loader: Loader) -> None:
        self.network, self.loader = network, loader
        self.device = network.log_scale.device
        self.rows = loader.rows

    def texts(self) -> np.ndarray:
        """(texts,) numbers of every distinct text."""
        return np.unique(self.loader.texts.chances(self.loader.spec.caption_view)[1])

    def check(self, inputs: frozenset[FitInput], *, side: Side) -> None:
        """Refuse a fit whose inputs are not stored.

        Raises:
            RecipeError: with the setting that helps.
        """
        if "image_features" in inputs and self.loader.stored is None:
            raise RecipeError(
                f"model.{side}.head is fitted in closed form and needs stored features of a frozen image backbone; set store.images=true."
            )
        if "text_features" in inputs and not self.loader.texts.is_stored:
            raise RecipeError(
                f"model.{side}.head is fitted in closed form and needs features of a frozen text backbone; "
                f"leave model.text.tune and model.text.lora out."
            )

    def head(self, side: Side) -> Head | None:
        """The head over a tower's backbone, or None."""
        return self.network.heads().get(side)

    def pairs(self, *, weighted: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(pairs,) rows, (pairs,) texts and (pairs,) chances of usable rows."""
        rows, texts, chances = self.loader.texts.chances(self.loader.spec.caption_view)
        is_usable = np.isin(rows, self.loader.rows)
        rows, texts, chances = rows[is_usable], texts[is_usable], chances[is_usable]
        weights = self.loader.data.weights
        if weighted and weights is not None:
            chances = chances * weights[rows] / weights[self.loader.rows].mean()
        return rows, texts, chances

    def image_views(self, rows: np.ndarray) -> Tensor:
        """(views, width) stored features of all views of (rows,), end to end."""
        assert self.loader.stored is not None, "see `check`"
        return self.loader.stored.views(rows)

    def image_features(self, rows: np.ndarray) -> Tensor:
        """(rows, width) or (rows, patches, width) stored features of (rows,), each the mean over its views."""
        assert self.loader.stored is not None, "see `check`"
        return self.loader.stored.mean(rows)

    def text_features(self, texts: np.ndarray) -> Tensor:
        """(texts, width) or (texts, facets, width) stored features of (texts,)."""
        return self.loader.texts.output(texts)

    @torch.no_grad()
    def image_embeddings(self, rows: np.ndarray) -> Tensor:
        """(rows, dim) float64 embeddings of the mean features of (rows,)."""
        was_training = self.network.training
        self.network.eval()
        parts = np.array_split(rows, max(1, len(rows) // 1024))
        embedded = [
            self.network.image(CachedFeatures(self.image_features(part).to(self.device))).embedding
            for part in parts
        ]
        self.network.train(was_training)
        return torch.cat([part.cpu().double() for part in embedded])

    @torch.no_grad()
    def text_embeddings(self, texts: np.ndarray) -> Tensor:
        """(texts, dim) embeddings of (texts,)."""
        was_training = self.network.training
        self.network.eval()
        parts = self.text_features(texts).split(256)
        embedded = [self.network.text(CachedFeatures(part.to(self.device))).embedding.cpu() for part in parts]
        self.network.train(was_training)
        return torch.cat(embedded)
