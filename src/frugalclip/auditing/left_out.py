"""How well image and caption of each pair predict each other, by heads that were fitted to all other pairs.

Two ridge regressions, from image to caption and back, leave every pair out in turn. That takes one fit: the
residual of a pair left out is its residual over 1 - its leverage (Allen, "The relationship between variable
selection and data augmentation and a method for prediction", Technometrics 1974).

Some captions are near to everything, and some images are. So the cosine of a pair counts in standard
deviations from those of its image with other captions and of its caption with other images.
"""

from dataclasses import dataclass
from math import erfc, sqrt

import numpy as np

from frugalclip.auditing.noise import unit_rows

_OTHERS = 2000  # pairs, at most, whose captions and images a pair is compared with


@dataclass(frozen=True)
class LeftOut:
    """Scores of pairs by heads that have not seen them; NaN where nothing is left to fit a head to."""

    cosines: np.ndarray  # (rows,) mean of both directions
    shares: np.ndarray  # (rows,) of pairs with other captions, or other images, that are more alike; 0 to 1


class LeftOutHeads:
    """Heads over features of two encoders that know nothing of each other.

    Args:
        images: (rows, dim) features of one encoder.
        texts: (rows, width) features of the other.
        penalty: of the regressions, times the mean variance of a feature.
        doubted: share of the pairs that heads are not fitted to: those that heads fitted to all others
            predict worst. Wrong pairs then bend the heads less.
    """

    def __init__(
        self, images: np.ndarray, texts: np.ndarray, *, penalty: float = 1.0, doubted: float = 0.0
    ) -> None:
        images, texts = unit_rows(images), unit_rows(texts)
        trusted = np.ones(len(images), dtype=bool)
        self._left, self._right = _both_sides(images, texts, trusted, penalty)
        if doubted > 0 and len(images) > 1:
            first = np.einsum("ij,ij->i", self._left, self._right)
            trusted = first >= np.quantile(first, doubted)
            self._left, self._right = _both_sides(images, texts, trusted, penalty)
        self._is_fitted = trusted.sum() > 1

    def scores(self, paired_with: np.ndarray | None = None) -> LeftOut:
        """Scores of the pairs.

        Args:
            paired_with: (rows,) int64 row whose caption each image is scored with; None: its own.
        """
        left, right = self._left, self._right
        rows = len(left)
        if not self._is_fitted:
            nothing = np.full(rows, np.nan)
            return LeftOut(nothing, nothing.copy())
        captions = np.arange(rows) if paired_with is None else paired_with
        cosines = np.einsum("ij,ij->i", left, right[captions])
        others = np.unique(np.linspace(0, rows - 1, _OTHERS).astype(np.int64))
        of_image = _standing(cosines, left, right[others])
        of_caption = _standing(cosines, right[captions], left[others])
        shares = np.array([erfc(one / sqrt(2)) / 2 for one in ((of_image + of_caption) / 2).tolist()])
        return LeftOut(cosines.astype(np.float64), shares)


def _both_sides(
    images: np.ndarray, texts: np.ndarray, trusted: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """(rows, width + dim) each; the product of a left and a right one is the mean of two cosines.

    The left one is an image: the caption that it predicts, and itself. The right one is a caption: itself,
    and the image that it predicts.
    """
    there, x = _predictions(images, texts, trusted, penalty)
    back, y = _predictions(texts, images, trusted, penalty)
    half = np.float32(sqrt(0.5))
    return half * np.concatenate([there, x], axis=1), half * np.concatenate([y, back], axis=1)


def _predictions(
    inputs: np.ndarray, targets: np.ndarray, trusted: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Unit predictions of targets, (rows, width), each without its own row, and the (rows, dim) unit inputs.

    Both are without their means over trusted rows. Rows that are not trusted are in no fit.
    """
    number = max(int(trusted.sum()), 1)
    x = inputs - inputs[trusted].mean(axis=0) if trusted.any() else inputs
    y = targets - targets[trusted].mean(axis=0) if trusted.any() else targets
    gram = (x[trusted].T @ x[trusted]).astype(np.float64)
    gram[np.diag_indices_from(gram)] += max(penalty * float(np.trace(gram)) / len(gram), 1e-12)
    weights = np.linalg.solve(gram, (x[trusted].T @ y[trusted]).astype(np.float64)).astype(np.float32)
    root = np.linalg.inv(np.linalg.cholesky(gram)).astype(np.float32)
    found = x @ weights
    leverage = np.square(x[trusted] @ root.T).sum(axis=1, dtype=np.float64) + 1 / number
    residual = (y[trusted] - found[trusted]) / np.maximum(1 - leverage, 1e-6)[:, None]
    found[trusted] = y[trusted] - residual
    return unit_rows(found), unit_rows(x)


def _standing(cosines: np.ndarray, vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(rows,) by how many standard deviations a cosine is above those of a vector with others."""
    mean = vectors @ others.mean(axis=0)
    centred = others - others.mean(axis=0)
    spread = np.empty(len(vectors))
    for start in range(0, len(vectors), _OTHERS):
        block = vectors[start : start + _OTHERS] @ centred.T  # (block, others)
        spread[start : start + _OTHERS] = np.sqrt(np.square(block).mean(axis=1))
    return (cosines - mean) / np.maximum(spread, 1e-9)
