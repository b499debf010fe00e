"""Scores of pairs whose image and caption may not belong together; higher is more suspicious.

`cosine_suspicion` is the baseline: 1 - cosine of image and caption. `lemon_suspicion` adds what the
neighbours of the image have for captions, and what the neighbours of the caption have for images.

No pair may be scored by a model that was trained on it. Where a MODEL was trained on other pairs, its
features are scored as they are. Features of two encoders that know nothing of each other are related by heads
in closed form, each fitted without the pairs that it scores: `cross_fitted_cosines`, and `left_out`.

Source: LEMoN (Zhang et al., ICML 2025, arXiv 2407.18941), `run_lemon.py` with cosine distances and the
settings that the paper fixes where no labelled pairs choose them. Ours leaves a row out of its own neighbours
by its place; theirs drops the nearest one, which may be a copy.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np

from frugalclip.core.random import uniform

FOLDS = 5  # that heads are fitted without, one at a time
_ROWS = 1024  # compared at once with all others


@final
@dataclass(frozen=True)
class LemonSettings:
    """Settings of LEMoN; the defaults are the paper's for data without labelled pairs."""

    neighbours: int = 30  # k
    image_weight: float = 5.0  # beta, of the captions of neighbouring images
    text_weight: float = 5.0  # gamma, of the images of neighbouring captions
    distance_decay: float = 0.1  # tau 1, by the distance of a neighbour
    pair_decay: float = 5.0  # tau 2, by the distance within the neighbour's own pair


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """(rows, dim) float32 rows of length one; a row of zeros stays."""
    rows = np.asarray(vectors, dtype=np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def cosine_suspicion(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """(rows,) float64 1 - cosine of image and caption, of one model's features.

    Args:
        images: (rows, dim).
        texts: (rows, dim), one vector for the captions of a row.
    """
    return 1 - np.einsum("ij,ij->i", unit_rows(images), unit_rows(texts)).astype(np.float64)


def lemon_suspicion(
    images: np.ndarray,
    texts: np.ndarray,
    *,
    distances: np.ndarray | None = None,
    settings: LemonSettings | None = None,
) -> np.ndarray:
    """LEMoN's score of each pair among all others.

    Args:
        images: (rows, dim) features.
        texts: (rows, width) features, one vector for the captions of a row; `width` is `dim` unless
            `distances` are given.
        distances: (rows,) of image and caption; None: `cosine_suspicion`.
        settings: None: the paper's.

    Returns:
        (rows,) float64.
    """
    settings = settings or LemonSettings()
    pairs = cosine_suspicion(images, texts) if distances is None else np.asarray(distances, dtype=np.float64)
    images, texts = unit_rows(images), unit_rows(texts)
    by_image = _neighbour_term(images, texts, pairs, settings)
    by_text = _neighbour_term(texts, images, pairs, settings)
    return pairs + settings.image_weight * by_image + settings.text_weight * by_text


def _neighbour_term(
    near: np.ndarray, other: np.ndarray, pairs: np.ndarray, settings: LemonSettings
) -> np.ndarray:
    """(rows,) weighted mean distance of a row's `other` side to that of its neighbours by the `near` side."""
    result = np.zeros(len(near))
    for rows, places, cosines in _neighbours(near, settings.neighbours):
        apart = 1 - np.einsum("ij,ikj->ik", other[rows], other[places])  # (block, k)
        decay = settings.distance_decay * (1 - cosines) + settings.pair_decay * pairs[places]
        result[rows] = (apart * np.exp(-decay)).mean(axis=1)
    return result


def _neighbours(vectors: np.ndarray, count: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Blocks of rows, the (block, k) places of their nearest others, and (block, k) cosines to them."""
    count = min(count, len(vectors) - 1)
    for start in range(0, len(vectors) if count > 0 else 0, _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(vectors)))
        cosines = vectors[rows] @ vectors.T
        cosines[np.arange(len(rows)), rows] = -np.inf  # not its own neighbour
        places = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        yield rows, places, np.take_along_axis(cosines, places, axis=1)


def folds_of(codes: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """(rows,) int64 held-out fold of each row, drawn from the seed and a code of its id.

    Args:
        codes: (rows,) uint64, such as `Manifest.codes("id")`.
        count: of folds.
        seed: of the draw.
    """
    return (uniform(seed, "noise/folds", codes, 1)[:, 0] * count).astype(np.int64)


def cross_fitted_cosines(
    images: np.ndarray, texts: np.ndarray, folds: np.ndarray, *, penalty: float = 0.1
) -> np.ndarray:
    """How well image and caption predict each other, by heads that were fitted without them.

    Two ridge regressions, from image to caption and back, are fitted to all folds but one and score that one.
    The result is the mean of both cosines.

    Args:
        images: (rows, dim) features of one encoder.
        texts: (rows, width) features of another.
        folds: (rows,) int64, see `folds_of`.
        penalty: of the regressions, times the mean variance of a feature.

    Returns:
        (rows,) float64; NaN where nothing is left to fit a head to.
    """
    images, texts = unit_rows(images), unit_rows(texts)
    result = np.full(len(images), np.nan)
    for fold in np.unique(folds):
        held, fitted = folds == fold, folds != fold
        if fitted.sum() < 2:
            continue
        means = images[fitted].mean(axis=0), texts[fitted].mean(axis=0)
        x, y = images - means[0], texts - means[1]
        there = x[held] @ _ridge(x[fitted], y[fitted], penalty)
        back = y[held] @ _ridge(y[fitted], x[fitted], penalty)
        result[held] = 1 - (cosine_suspicion(there, y[held]) + cosine_suspicion(back, x[held])) / 2
    return result


def _ridge(inputs: np.ndarray, targets: np.ndarray, penalty: float) -> np.ndarray:
    """(dim, width) weights of a ridge regression without a constant."""
    gram = (inputs.T @ inputs).astype(np.float64)
    gram[np.diag_indices_from(gram)] += max(penalty * float(np.trace(gram)) / len(gram), 1e-12)
    return np.linalg.solve(gram, (inputs.T @ targets).astype(np.float64)).astype(np.float32)
