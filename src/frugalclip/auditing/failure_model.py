"""From what is known of a class before training to its accuracy afterwards, with an interval.

A logistic regression over readable numbers (`predictors`), fitted to the accuracies of many small runs
(`benchmarks/failing_classes.py`). Around its prediction an accuracy scatters as a beta distribution, and the
accuracy that is measured on some images as a beta-binomial one. The fitted table is shipped
(`failure_table.json`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from math import lgamma
from typing import Any

import numpy as np

from frugalclip.auditing.class_features import ClassFeatures
from frugalclip.auditing.rehearsal import KEYWORDS
from frugalclip.core.guard import parse_json

LEVEL = 0.8  # of intervals
NAMES = (
    "log_count",
    "log_naming",
    "mention_share",
    "keyword_share",
    "name_similarity",
    "word_hits",
    "word_shares",
    "word_ranks",
    "image_shares",
    "image_ranks",
    "spread",
    "log_classes",
    "word_overall",
)
_PRIOR = 2.0  # rows at the overall value that a class's own are mixed with
_INSIDE = 0.005  # predictions are this far from 0 and 1


def predictors(features: ClassFeatures) -> np.ndarray:
    """(classes, predictors) numbers of each class, in the order of `NAMES`."""
    f = features
    words, images = f.words, f.images
    columns = [
        np.log(f.count + 1),
        np.log(naming_pairs(f) + 1),
        (f.mentioned + 0.5) / (f.count + 1),
        (f.keyworded + 0.5) / (f.count + 1),
        f.name_similarity,
        _logit(_mixed(words.hits, words.rows)),
        _logit(_mixed(words.shares, words.rows)),
        _logit(_mixed(words.ranks, words.rows)),
        _logit(_mixed(images.shares, images.rows)),
        _logit(_mixed(images.ranks, images.rows)),
        f.spread,
        np.full(len(f), np.log(len(f))),
        np.full(len(f), _logit(_overall(words.hits, words.rows))),
    ]
    return np.stack(columns, axis=1)


def naming_pairs(features: ClassFeatures) -> np.ndarray:
    """(classes,) pairs that show a class and say so: captions that name it, and keywords by their share."""
    return features.mentioned + KEYWORDS * features.keyworded


def _overall(sums: np.ndarray, rows: np.ndarray) -> float:
    """Mean over classes that have rows."""
    seen = rows > 0
    return float((sums[seen] / rows[seen]).mean()) if seen.any() else 0.0


def _mixed(sums: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(classes,) means, mixed with the overall one where rows are few."""
    return (sums + _PRIOR * _overall(sums, rows)) / (rows + _PRIOR)


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


def _logit(share: Any) -> Any:
    inside = np.clip(share, 0.01, 0.99)
    return np.log(inside / (1 - inside))


@dataclass(frozen=True)
class FailureModel:
    """A fitted regression over `names`."""

    names: tuple[str, ...]
    mean: tuple[float, ...]  # (predictors,)
    deviation: tuple[float, ...]  # (predictors,)
    weight: tuple[float, ...]  # (predictors,) of standardised numbers
    intercept: float
    precision: float  # the beta distribution has mean * precision and (1 - mean) * precision
    growth: float  # of log odds, for a count that is e times as large

    def accuracy(self, numbers: np.ndarray) -> np.ndarray:
        """(classes,) expected accuracy, a share.

        Args:
            numbers: (classes, predictors) as `predictors` gives them.
        """
        standard = (numbers - np.array(self.mean)) / np.array(self.deviation)
        return np.clip(_logistic(self.intercept + standard @ np.array(self.weight)), _INSIDE, 1 - _INSIDE)

    def distribution(self, accuracy: float, images: int) -> np.ndarray:
        """(images + 1,) cumulative chances of 0, 1, ... right images.

        Args:
            accuracy: expected share.
            images: test images of the class.
        """
        return _beta_binomial(accuracy * self.precision, (1 - accuracy) * self.precision, images).cumsum()

    def interval(self, accuracy: float, images: int, *, level: float = LEVEL) -> tuple[float, float]:
        """The shortest span of shares that holds a measured accuracy with a chance of at least `level`.

        Near 0 and 1 it is much shorter than one that leaves as much out on both sides. Of spans that are
        equally short, the likeliest.

        Args:
            accuracy: expected share.
            images: test images that it is measured on.
            level: chance.
        """
        through = np.r_[0.0, self.distribution(accuracy, images)]  # chance of fewer than k right ones
        ends = np.searchsorted(through, through[:-1] + level - 1e-12)
        starts = np.flatnonzero(ends <= images + 1)
        lengths, chances = ends[starts] - starts, through[ends[starts]] - through[starts]
        best = np.lexsort((-chances, lengths))[0]
        return float(starts[best]) / images, float(ends[starts[best]] - 1) / images

    def content(self) -> dict[str, Any]:
        """The table as JSON values."""
        return asdict(self)

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> "FailureModel":
        """From JSON values."""
        return cls(
            names=tuple(content["names"]),
            mean=tuple(content["mean"]),
            deviation=tuple(content["deviation"]),
            weight=tuple(content["weight"]),
            intercept=float(content["intercept"]),
            precision=float(content["precision"]),
            growth=float(content["growth"]),
        )


@cache
def shipped_model() -> FailureModel:
    """The table of the package."""
    content = parse_json(files("frugalclip.auditing").joinpath("failure_table.json").read_bytes())
    return FailureModel.read(content)


def _beta_binomial(a: float, b: float, images: int) -> np.ndarray:
    """(images + 1,) chances of 0, 1, ... right ones."""
    whole = lgamma(images + 1) + lgamma(a + b) - lgamma(a) - lgamma(b) - lgamma(images + a + b)
    logs = [
        whole + lgamma(k + a) + lgamma(images - k + b) - lgamma(k + 1) - lgamma(images - k + 1)
        for k in range(images + 1)
    ]
    chances = np.exp(logs)
    return chances / chances.sum()
