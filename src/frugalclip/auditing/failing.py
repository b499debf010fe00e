"""Which classes will probably fail, why, and how many more pairs would mend them.

A class fails if it is in the lowest third of the accuracies, or below a target of the user's. The reasons
are rules over what was measured, each with the number it rests on. The pairs that are missing follow from
the growth of the log odds with the count (`failure_fit`): e times as many pairs add `growth`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp, log
from typing import Any

import numpy as np

from frugalclip.auditing.class_features import ClassFeatures
from frugalclip.auditing.failure_model import FailureModel, predictors

_RARE = 0.5  # of the median count
_CONFUSED = 0.25  # of a class's rows, named one other class
_UNMENTIONED = 0.5
_ONE_STYLE = 1.2  # effective number of styles of a class
_STYLES = 1.5  # of all rows, so that a class can have too few
_MOST_PAIRS = 100_000  # beyond, more pairs are no remedy


@dataclass(frozen=True)
class Forecast:
    """What is expected of each class."""

    accuracy: np.ndarray  # (classes,) shares
    low: np.ndarray  # (classes,) ends of the interval
    high: np.ndarray  # (classes,)
    limit: float  # share below which a class fails
    risk: np.ndarray  # (classes,) chance of being below it


def forecast(
    features: ClassFeatures, model: FailureModel, *, images: int, target: float | None = None
) -> Forecast:
    """Expected accuracies with intervals.

    Args:
        features: of the classes.
        model: the fitted table.
        images: test images of a class on which accuracies will be measured.
        target: share below which a class fails; default the expected accuracy that a third does not reach.
    """
    accuracy = model.accuracy(predictors(features))
    spans = np.array([model.interval(value, images) for value in accuracy.tolist()])
    limit = float(np.quantile(accuracy, 1 / 3)) if target is None else target
    below = ceil(limit * images - 1e-9) - 1  # right images of a class that fails, at most
    risk = np.array([model.distribution(value, images)[below] if below >= 0 else 0.0 for value in accuracy])
    return Forecast(accuracy, spans[:, 0], spans[:, 1], limit, risk)


def reasons(features: ClassFeatures, names: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Why each class may fail: `kind`, the class `with` it is mixed up, and the `value` that says so.

    Args:
        features: of the classes.
        names: (classes,).
    """
    f = features
    median = float(np.median(f.count))
    by_words = _confusions(f.words.confusions, f.words.rows)
    by_images = _confusions(f.images.confusions, f.images.rows)
    found: list[list[dict[str, Any]]] = []
    for place, count in enumerate(f.count.tolist()):
        own: list[dict[str, Any]] = []
        if count < _RARE * median or count < 2:
            own.append({"kind": "rare", "value": count})
        if count and f.mentioned[place] < _UNMENTIONED * count:
            own.append({"kind": "unmentioned", "value": float(f.mentioned[place] / count)})
        for kind, (other, share) in (("confused", by_words[place]), ("looks_like", by_images[place])):
            if share >= _CONFUSED:
                own.append({"kind": kind, "with": names[other], "value": share})
        if count > 1 and f.all_domains >= _STYLES and f.domains[place] < _ONE_STYLE:
            own.append({"kind": "one_style", "value": float(f.domains[place])})
        found.append(own)
    return found


def _confusions(confusions: np.ndarray, rows: np.ndarray) -> list[tuple[int, float]]:
    """For each class the one that it is most often named, and the share of its rows."""
    others = confusions.argmax(axis=1)
    most = confusions[np.arange(len(others)), others]
    return list(zip(others.tolist(), (most / np.maximum(rows, 1)).tolist(), strict=True))


def pairs_needed(accuracy: float, naming: float, *, target: float, growth: float) -> int | None:
    """Further pairs, named by their captions, until the expected accuracy reaches a target.

    Args:
        accuracy: expected share.
        naming: pairs that show the class and say so, as `naming_pairs` counts them.
        target: share.
        growth: of the log odds, for e times as many.

    Returns:
        0 where it is reached; None where more pairs are no remedy.
    """
    if accuracy >= target:
        return 0
    gap = log(target / (1 - target)) - log(accuracy / (1 - accuracy))
    if growth <= 0 or gap / growth > log(_MOST_PAIRS):
        return None
    return ceil((naming + 1) * (exp(gap / growth) - 1))
