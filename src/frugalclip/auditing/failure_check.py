"""A forecast of failing classes beside the accuracies that a model reached."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from frugalclip.auditing.failure_model import FailureModel
from frugalclip.auditing.suspicious_pairs import separation


@dataclass(frozen=True)
class Scores:
    """Numbers of classes of which a low one announces failure."""

    expected: np.ndarray  # (classes,) the forecast, shares
    log_count: np.ndarray  # (classes,)
    text_only: np.ndarray  # (classes,) 1 - similarity to the most similar name


def failing(accuracies: np.ndarray) -> np.ndarray:
    """(classes,) bool, the lowest third; classes as bad as the best of them belong to it.

    Args:
        accuracies: (classes,).
    """
    return accuracies <= np.quantile(accuracies, 1 / 3)


def auroc(score: np.ndarray, is_failing: np.ndarray) -> float | None:
    """How often a failing class has the lower score; None where all fail or none does.

    Args:
        score: (classes,).
        is_failing: (classes,) bool.
    """
    if is_failing.all() or not is_failing.any():
        return None
    return separation(score[is_failing], score[~is_failing])


@dataclass(frozen=True)
class Measured:
    """Accuracies of classes after training."""

    accuracies: np.ndarray  # (classes,) shares
    images: np.ndarray  # (classes,) int64 test images


def check(scores: Scores, measured: Measured, model: FailureModel) -> dict[str, Any]:
    """How well the forecast told what fails, beside the count and the names alone.

    Args:
        scores: before training.
        measured: after training.
        model: the table of the forecast.

    Returns:
        `auroc` of the forecast, of the `log_count` and of `text_only`; `coverage` and `width` of the
        intervals for as many images as were measured; `bias`, expected less measured; and `rows`.
    """
    y, images = measured.accuracies, measured.images
    is_failing = failing(y)
    spans = np.array(
        [model.interval(p, n) for p, n in zip(scores.expected.tolist(), images.tolist(), strict=True)]
    )
    inside = (y >= spans[:, 0] - 1e-9) & (y <= spans[:, 1] + 1e-9)
    return {
        "classes": len(y),
        "auroc": {
            "forecast": auroc(scores.expected, is_failing),
            "log_count": auroc(scores.log_count, is_failing),
            "text_only": auroc(scores.text_only, is_failing),
        },
        "coverage": float(inside.mean()),
        "width": float((spans[:, 1] - spans[:, 0]).mean()),
        "bias": float((scores.expected - y).mean()),
        "rows": [
            {"low": low, "high": high, "inside": bool(hit), "fails": bool(fails)}
            for (low, high), hit, fails in zip(spans.tolist(), inside, is_failing, strict=True)
        ],
    }
