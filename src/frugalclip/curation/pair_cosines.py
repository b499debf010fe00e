"""Cosines of the pairs of a data set: of a model's vectors on disk, or of heads that never saw the pair."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from frugalclip.auditing.noise import FOLDS, cross_fitted_cosines, folds_of
from frugalclip.auditing.pair_features import tower_features
from frugalclip.curation.base import StageRows
from frugalclip.data.images import decode
from frugalclip.features.store import Store
from frugalclip.features.vectors import MakeViews
from frugalclip.models import Model

_ROWS = 4096  # read at once
MIRRORED = 1  # the view of `mirrored_views` that is mirrored


def mirrored_views(model: Model) -> MakeViews:
    """Makes two views of an image: as the model sees it, and mirrored, in which writing cannot be read."""

    def views(data: bytes, _: str) -> Tensor:
        pixels = model.preprocess(decode(data))
        return torch.cat([pixels, pixels.flip(-1)])

    return views


def has_frozen_towers(model: Model) -> bool:
    """Whether training changed neither tower, so that features before the projections saw no pair."""
    towers = model.network.pretrained_towers()
    return len(towers) == 2 and all(tower.config.is_frozen for tower in towers.values())


def head_cosines(model: Model, rows: StageRows) -> np.ndarray:
    """(rows,) float64 cosine by heads in closed form, each fitted without the held-out fold that it scores.

    The heads relate the towers' outputs before the projections (see `auditing.noise`); NaN without an image
    or a caption.
    """
    features = tower_features(model, rows.manifest)
    folds = folds_of(rows.codes[features.rows], FOLDS, seed=rows.seed)
    result = np.full(len(rows), np.nan)
    result[features.rows] = cross_fitted_cosines(features.images, features.texts, folds)
    return result


def cosines(
    store: Store, ids: Sequence[str], *, captions: Literal["best", "mean"], view: int = 0
) -> np.ndarray:
    """(rows,) float64 cosine of each row's image with its captions; NaN without an image or a caption.

    Args:
        store: of images and texts.
        ids: of the rows.
        captions: which of a row with several counts.
        view: which of a row's image vectors.
    """
    result = np.full(len(ids), np.nan)
    if "text" not in store.head.summary:
        return result
    every = store.rows_of(ids)
    for start in range(0, len(every), _ROWS):
        rows = every[start : start + _ROWS]
        images = store.vectors("image", rows, view=view, fill=0.0).double().numpy()  # (rows, dim)
        texts = store.vectors("text", rows)
        counts = np.diff(texts.offsets)
        owner = np.repeat(np.arange(len(rows)), counts)
        values = (images[owner] * texts.values.double().numpy()).sum(axis=1)
        has_both = (counts > 0) & (store.counts("image")[rows] > 0)
        if captions == "mean":
            pooled = np.bincount(owner, values, minlength=len(rows)) / np.maximum(counts, 1)
        else:
            pooled = np.full(len(rows), -np.inf)
            np.maximum.at(pooled, owner, values)
        result[start : start + _ROWS] = np.where(has_both, pooled, np.nan)
    return result
