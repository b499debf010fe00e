"""Accuracy of concepts against how often the training data holds them, with what the fit hides beside it.

The published fit is a line through bin means (`fits.Bins`). Beside it stand the correlations over concepts
with bootstrap intervals, the slope for a factor of ten, concepts that were never seen, the same within data
sets, and the fit with other numbers of bins. Concepts are resampled; of five data sets and more, whole data
sets.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from frugalclip.auditing.fits import EDGES, Line, average_ranks, binned, concept_fit, within_line
from frugalclip.core.errors import DataError
from frugalclip.data.words import normalise

FEWEST = 3  # concepts that a fit needs
_SENSITIVITY = (5, 8, 12, 20, 30)  # numbers of edges
_CLUSTERS = 5  # data sets from which on they are drawn whole


@dataclass(frozen=True)
class FrequencyTable:
    """Concepts with their frequency in the training data, and their accuracy afterwards."""

    names: list[str]
    counts: np.ndarray  # (concepts,) int64
    accuracies: np.ndarray  # (concepts,) percent
    groups: np.ndarray  # (concepts,) int64 data set of each

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def joined(
        cls, counts: Mapping[str, int | None], results: Sequence[Mapping[str, float]]
    ) -> "FrequencyTable":
        """Join counts and accuracies by name, in any spelling; never by place.

        Args:
            counts: concept -> count, None where it was not counted.
            results: of each data set concept -> accuracy in percent.

        Raises:
            DataError: when fewer than three concepts have both.
        """
        known = {normalise(name): count for name, count in counts.items() if count is not None}
        rows = [
            (name, known[normalise(name)], accuracy, number)
            for number, one in enumerate(results)
            for name, accuracy in one.items()
            if normalise(name) in known
        ]
        if len(rows) < FEWEST:
            raise DataError(
                f"{len(rows)} concepts have a count and an accuracy, expected {FEWEST} or more; count the "
                "classes of the evaluation with audit concepts --classes FILE."
            )
        names, counts_, accuracies, groups = (list(column) for column in zip(*rows, strict=True))
        return cls(names, np.array(counts_), np.array(accuracies, np.float64), np.array(groups))


def frequency_report(
    table: FrequencyTable, *, edges: int = EDGES, draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Every number of the relation, as JSON values; NaN becomes None.

    Args:
        table: counts and accuracies.
        edges: of the published fit.
        draws: of the bootstrap.
        seed: of the bootstrap.
    """
    counts, accuracies = table.counts, table.accuracies
    bins, fit = binned(counts, accuracies, edges=edges), concept_fit(counts, accuracies)
    line, never = bins.line(), accuracies[counts == 0]
    found: dict[str, Any] = {
        "concepts": len(table),
        "binned": {"r": line.r, "slope_per_decade": line.slope, "intercept": line.intercept, "edges": edges},
        "bins": {
            "upper_edges": bins.edges.tolist(),
            "means": bins.means.tolist(),
            "sizes": bins.sizes.tolist(),
        },
        "r": fit.r_all,
        "r_found": fit.r_found,
        "spearman": fit.spearman,
        "slope_per_decade": fit.slope,
        "intercept": fit.intercept,
        "interval": _intervals(table, draws=draws, seed=seed),
        "zeros": {"concepts": fit.zeros, "mean_accuracy": float(never.mean()) if len(never) else None},
        "sensitivity": {str(n): binned(counts, accuracies, edges=n).line().r for n in _SENSITIVITY},
        "within": None,
    }
    if table.groups.max(initial=0) > 0:
        own = within_line(counts, accuracies, table.groups)
        found["within"] = {"slope_per_decade": own.slope, "r": own.r}
    return _finite(found)


def _statistics(counts: np.ndarray, accuracies: np.ndarray) -> dict[str, float]:
    found = counts > 0
    line = Line.through(np.log10(counts[found]), accuracies[found])
    return {
        "r": Line.through(np.log(np.maximum(counts, 1)), accuracies).r,
        "r_found": line.r,
        "spearman": Line.through(average_ranks(counts), average_ranks(accuracies)).r,
        "slope_per_decade": line.slope,
    }


def _intervals(table: FrequencyTable, *, draws: int, seed: int) -> dict[str, list[float] | None]:
    """95 % percentile intervals."""
    random = np.random.default_rng(seed)
    draw = _cluster_draw(table.groups, random) if table.groups.max() + 1 >= _CLUSTERS else None
    values: dict[str, list[float]] = {}
    for _ in range(draws):
        rows = draw() if draw else random.integers(0, len(table), len(table))
        for name, value in _statistics(table.counts[rows], table.accuracies[rows]).items():
            values.setdefault(name, []).append(value)
    return {name: _percentiles(np.array(own)) for name, own in values.items()}


def _cluster_draw(groups: np.ndarray, random: np.random.Generator) -> Callable[[], np.ndarray]:
    members = [np.flatnonzero(groups == group) for group in range(int(groups.max()) + 1)]
    return lambda: np.concatenate([members[g] for g in random.integers(0, len(members), len(members))])


def _percentiles(values: np.ndarray) -> list[float] | None:
    values = values[np.isfinite(values)]
    return [float(one) for one in np.quantile(values, [0.025, 0.975])] if len(values) else None


def _finite(value: Any) -> Any:
    """The same with None for numbers that are not finite, which JSON has no word for."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
