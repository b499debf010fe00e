"""Fit heads in closed form before the first step, to features that are not trained any more."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.finite import refuse_weights
from frugalclip.core.preprocess import Preprocess
from frugalclip.core.types import CachedFeatures, Tokens
from frugalclip.data.manifest import Manifest
from frugalclip.loading.images import prepared_images
from frugalclip.loading.loader import Loader
from frugalclip.towers.base import FitData, FitInput, Head, KnownClasses, Side
from frugalclip.towers.dual import DualEncoder

FIT_ADVICE = "look for NaN and infinity in the backbone's features, or run it in float32"
EMBEDDINGS: frozenset[FitInput] = frozenset({"image_embeddings", "text_embeddings"})


def fit_heads(
    network: DualEncoder, loader: Loader, *, training: Manifest, preprocess: Preprocess
) -> list[str]:
    """Fit the heads of a network that declare inputs of a fit, in place.

    A head that is fitted to the embeddings of the other tower comes after it.

    Args:
        network: its heads are fitted.
        loader: knows the stores, and how often each text is drawn with each image.
        training: the data of the loader.
        preprocess: how images are prepared whose features are not stored.

    Returns:
        Sentences that say what was fitted.

    Raises:
        RecipeError: if a head lacks what it is fitted to.
        ModelError: if the features are not finite, which makes the fit useless.
    """
    heads = network.heads()
    sides: tuple[Side, ...] = ("text", "image")  # image heads may start from what text heads are fitted to
    data = LoaderFitData(network, loader, training=training, preprocess=preprocess)
    notes = []
    if any(head.fit_inputs(side) for side, head in heads.items()):
        network.image.fit_features(data)
        network.text.fit_features(data)
    for is_late in (False, True):
        for side in sides:
            head = heads.get(side)
            inputs = head.fit_inputs(side) if head else frozenset()
            if head and inputs and bool(inputs & EMBEDDINGS) == is_late:
                notes.append(f"the {side} head is fitted to {head.fit(data, side=side)}")
                refuse_weights(head.state_dict(), where=f"the fitted {side} head", advice=FIT_ADVICE)
    return notes


class LoaderFitData(FitData):
    """Features from the stores of a loader or else from the towers, and the embeddings of a network."""

    def __init__(
        self, network: DualEncoder, loader: Loader, *, training: Manifest, preprocess: Preprocess
    ) -> None:
        self.network, self.loader = network, loader
        self.training, self.preprocess = training, preprocess
        self._encoded: Tensor | None = None  # (usable rows, width) features that no store holds
        self.device = network.log_scale.device
        self.rows = loader.rows

    def texts(self) -> np.ndarray:
        """(texts,) numbers of every distinct text."""
        return np.unique(self.loader.texts.chances(self.loader.spec.caption_view)[1])

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

    def pixels(self, rows: np.ndarray) -> Iterator[Tensor]:
        """Batches of (rows, 3, height, width) pixels, normalised, as evaluation prepares images."""
        batches = prepared_images(self.training.take(rows), self.preprocess, batch=256, faults=[])
        return (pixels for _, pixels in batches)

    def image_views(self, rows: np.ndarray) -> Tensor:
        """(views, width) features of all stored views of (rows,), end to end; one view without a store."""
        return self._encode_images(rows) if self.loader.stored is None else self.loader.stored.views(rows)

    def image_features(self, rows: np.ndarray) -> Tensor:
        """(rows, width) or (rows, patches, width) features of (rows,), each a mean over stored views."""
        return self._encode_images(rows) if self.loader.stored is None else self.loader.stored.mean(rows)

    def text_tokens(self, texts: np.ndarray) -> Tokens:
        """(texts, length) token ids of (texts,)."""
        return self.loader.texts.tokens(texts)

    @torch.no_grad()
    def text_features(self, texts: np.ndarray) -> Tensor:
        """(texts, width) or (texts, facets, width) features of (texts,)."""
        if self.loader.texts.is_stored:
            return self.loader.texts.stored_features(texts)
        parts = np.array_split(texts, max(1, len(texts) // 1024))
        encoded = [self.network.text.features(self.text_tokens(part).to(self.device)) for part in parts]
        return torch.cat([part.cpu() for part in encoded])

    def known_classes(self) -> KnownClasses | None:
        """What the frozen image backbone was trained to tell apart; None where that is not known."""
        tower = self.network.pretrained_towers().get("image")
        return tower.attached.classes if tower is not None and tower.config.is_frozen else None

    @torch.no_grad()
    def features_of(self, texts: Sequence[str]) -> Tensor:
        """Features of texts that need not be in the data, such as names of classes: (texts, width)."""
        tokenizer = self.loader.texts.tokenizer
        parts = [texts[start : start + 64] for start in range(0, len(texts), 64)]
        tokens = [tokenizer.encode(list(part)).to(self.device) for part in parts]
        return torch.cat([self.network.text.features(one).cpu() for one in tokens])

    @torch.no_grad()
    def _encode_images(self, rows: np.ndarray) -> Tensor:
        """(rows, width) features of (rows,), as evaluation prepares images; all are encoded once and kept."""
        if self._encoded is None:
            was_training = self.network.training
            self.network.eval()
            self._encoded = torch.cat(
                [self.network.image.features(batch.to(self.device)).cpu() for batch in self.pixels(self.rows)]
            )
            self.network.train(was_training)
        return self._encoded[torch.from_numpy(np.searchsorted(self.rows, rows))]

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
