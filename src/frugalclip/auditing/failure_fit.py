"""Fit the table of `failure_model` to records of runs: numbers of classes before, accuracies afterwards.

The precision is chosen so that the intervals hold on sources of images that the regression has not seen.
The growth with the pairs is that of the same class of the same source in runs with fewer and more rows.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from frugalclip.auditing.failure_check import auroc, failing
from frugalclip.auditing.failure_model import LEVEL, NAMES, FailureModel

RIDGE = 10.0  # of standardised numbers; 3 to 30 change the AUROC by less than .005
MOST_WEIGHT = 15.0  # of a class, however many images its accuracy was measured on
_STEPS = 40
_PRECISIONS = tuple(float(x) for x in np.exp(np.linspace(0.5, 5, 46)))


@dataclass(frozen=True)
class Outcomes:
    """Classes of many runs."""

    numbers: np.ndarray  # (outcomes, predictors)
    accuracies: np.ndarray  # (outcomes,) shares
    images: np.ndarray  # (outcomes,) int64 test images
    runs: np.ndarray  # (outcomes,) int64 run of each
    sources: np.ndarray  # (outcomes,) source of the images
    classes: Sequence[str]  # (outcomes,) name

    def __len__(self) -> int:
        return len(self.accuracies)

    def only(self, rows: np.ndarray) -> "Outcomes":
        """Some of them."""
        places: list[int] = np.arange(len(self))[rows].tolist()
        names = [self.classes[place] for place in places]
        return Outcomes(
            self.numbers[rows],
            self.accuracies[rows],
            self.images[rows],
            self.runs[rows],
            self.sources[rows],
            names,
        )


def fit(outcomes: Outcomes) -> FailureModel:
    """The regression, its precision and its growth.

    Args:
        outcomes: of at least two sources.
    """
    model = regression(outcomes)
    apart = held_out(outcomes)
    return replace(model, precision=_precision(model, apart, outcomes), growth=_growth(outcomes))


def held_out(outcomes: Outcomes) -> np.ndarray:
    """(outcomes,) accuracy that is expected from runs on the other sources."""
    found = np.zeros(len(outcomes))
    for source in np.unique(outcomes.sources):
        own = outcomes.sources == source
        found[own] = regression(outcomes.only(~own)).accuracy(outcomes.numbers[own])
    return found


@dataclass(frozen=True)
class HeldOut:
    """Predictions for sources that neither regression nor precision was fitted to."""

    expected: np.ndarray  # (outcomes,) shares
    low: np.ndarray  # (outcomes,) ends of the interval
    high: np.ndarray  # (outcomes,)
    plain_low: np.ndarray  # (outcomes,) interval of always predicting the mean of the other sources
    plain_high: np.ndarray  # (outcomes,)


def held_out_intervals(outcomes: Outcomes) -> HeldOut:
    """Predictions with intervals for each source from the others, for as many images as were measured.

    Args:
        outcomes: of at least three sources.
    """
    found = np.zeros((5, len(outcomes)))
    for source in np.unique(outcomes.sources):
        own = np.flatnonzero(outcomes.sources == source)
        others = outcomes.only(outcomes.sources != source)
        model = fit(others)
        expected = model.accuracy(outcomes.numbers[own])
        images = outcomes.images[own].tolist()
        spans = [model.interval(p, n) for p, n in zip(expected.tolist(), images, strict=True)]
        ends = _shortest(others.accuracies)
        found[0, own], found[1:3, own], found[3:, own] = expected, np.array(spans).T, ends[:, None]
    return HeldOut(*found)


def ceiling(outcomes: Outcomes, *, draws: int = 40) -> float:
    """AUROC of the failing classes that the true accuracies would reach, mean over runs.

    Few test images let the lowest third of the measured accuracies differ from that of the true ones.
    True accuracies are drawn from their posterior under a beta prior that is fitted to each run by moments,
    and measured anew.

    Args:
        outcomes: of runs.
        draws: for each run.
    """
    random = np.random.default_rng(0)
    found = []
    for run in np.unique(outcomes.runs):
        own = outcomes.runs == run
        y, n = outcomes.accuracies[own], outcomes.images[own]
        mean = float(np.clip(y.mean(), 0.01, 0.99))
        scatter = max(float(y.var() - (y * (1 - y) / n).mean()), 1e-3)
        precision = max(mean * (1 - mean) / scatter - 1, 0.5)
        for _ in range(draws):
            truth = random.beta(mean * precision + y * n, (1 - mean) * precision + (1 - y) * n)
            found.append(auroc(truth, failing(random.binomial(n, truth) / n)))
    return float(np.mean([one for one in found if one is not None]))


def _shortest(values: np.ndarray) -> np.ndarray:
    """(2,) ends of the shortest span that holds enough of the values."""
    ordered = np.sort(values)
    held = ceil(LEVEL * len(ordered))
    lengths = ordered[held - 1 :] - ordered[: len(ordered) - held + 1]
    start = int(lengths.argmin())
    return ordered[[start, start + held - 1]]


def regression(outcomes: Outcomes) -> FailureModel:
    """Ridge logistic regression of shares, by Newton's method; precision and growth are not set."""
    x, y = outcomes.numbers, outcomes.accuracies
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-6
    design = np.c_[np.ones(len(x)), (x - mean) / deviation]
    weights = MOST_WEIGHT * outcomes.images / (outcomes.images + MOST_WEIGHT)
    penalty = np.diag([1e-6] + [RIDGE] * x.shape[1])
    solution = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(design @ solution, -30, 30)))
        curvature = design.T @ ((weights * np.maximum(p * (1 - p), 1e-4))[:, None] * design) + penalty
        solution = solution + np.linalg.solve(curvature, design.T @ (weights * (y - p)) - penalty @ solution)
    own_mean, own_deviation, weight = (tuple(part.tolist()) for part in (mean, deviation, solution[1:]))
    return FailureModel(NAMES, own_mean, own_deviation, weight, float(solution[0]), 1.0, 0.0)


def _precision(model: FailureModel, expected: np.ndarray, outcomes: Outcomes) -> float:
    """The largest precision whose intervals hold at least as often as they say."""
    for precision in sorted(_PRECISIONS, reverse=True):
        if coverage(replace(model, precision=precision), expected, outcomes) >= LEVEL:
            return precision
    return min(_PRECISIONS)


def coverage(model: FailureModel, expected: np.ndarray, outcomes: Outcomes) -> float:
    """Share of classes whose accuracy lies in its interval."""
    spans = np.array(
        [model.interval(p, n) for p, n in zip(expected.tolist(), outcomes.images.tolist(), strict=True)]
    )
    y = outcomes.accuracies
    return float(((y >= spans[:, 0] - 1e-9) & (y <= spans[:, 1] + 1e-9)).mean())


def _growth(outcomes: Outcomes) -> float:
    """Slope of log odds in the log of the pairs that name a class, within a class of a source."""
    same: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, (source, name) in enumerate(zip(outcomes.sources.tolist(), outcomes.classes, strict=True)):
        same[(source, name)].append(row)
    n = outcomes.images
    odds = np.log((outcomes.accuracies * n + 0.5) / ((1 - outcomes.accuracies) * n + 0.5))
    both = outcomes.numbers[:, [NAMES.index("log_naming"), NAMES.index("log_classes")]]
    x, y = [], []
    for rows in same.values():
        if len(rows) > 1:
            x += (both[rows] - both[rows].mean(axis=0)).tolist()
            y += (odds[rows] - odds[rows].mean()).tolist()
    if not x:
        return 0.0
    return float(np.linalg.lstsq(np.array(x), np.array(y), rcond=None)[0][0])
