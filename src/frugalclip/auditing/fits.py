"""Accuracy against concept frequency: the published fit of bin means, and fits of the concepts themselves.

Source: Udandarao et al. 2024, arXiv 2404.04125 (`notebooks/zero_shot_integrated_search_results.ipynb`). A
count of 0 becomes 1, x = ln(count), edges are evenly spaced in x, and a bin is open on the left. The x of a
bin is its upper edge. The first bin (counts of 0 and 1) and the last one are left out. A correlation of bin
means is unweighted and hides the spread, so the correlations over concepts belong beside it.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

EDGES = 12


@dataclass(frozen=True)
class Line:
    """A straight line by least squares, and the correlation along it."""

    slope: float
    intercept: float
    r: float

    @classmethod
    def through(cls, x: np.ndarray, y: np.ndarray) -> Self:
        """The line through points; all NaN for fewer than two different x.

        Args:
            x: (points,).
            y: (points,).
        """
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        if len(x) < 2 or np.ptp(x) == 0:
            return cls(math.nan, math.nan, math.nan)
        across, up = x - x.mean(), y - y.mean()
        slope = float(across @ up / (across @ across))
        spread = math.sqrt((across @ across) * (up @ up))
        r = float(across @ up / spread) if spread else math.nan
        return cls(slope, float(y.mean() - slope * x.mean()), r)

    def per_decade(self) -> "Line":
        """The same line, fitted on natural logarithms, with its slope for a factor of ten."""
        return Line(self.slope * math.log(10), self.intercept, self.r)


@dataclass(frozen=True)
class Bins:
    """Mean accuracy of the concepts of each bin of frequency; NaN where a bin is empty."""

    edges: np.ndarray  # (bins,) counts; the upper end of each bin
    means: np.ndarray  # (bins,)
    deviations: np.ndarray  # (bins,) of the population
    sizes: np.ndarray  # (bins,) int64 concepts

    def line(self, *, drop_first: int = 1, drop_last: int = 1) -> Line:
        """The published fit: a line through bin means over ln(upper edge), per decade.

        Args:
            drop_first: bins left out at the start.
            drop_last: bins left out at the end.
        """
        used = slice(drop_first, len(self.edges) - drop_last)
        x, y = np.log(self.edges[used]), self.means[used]
        filled = np.isfinite(y)
        return Line.through(x[filled], y[filled]).per_decade()


def binned(counts: np.ndarray, accuracies: np.ndarray, *, edges: int = EDGES) -> Bins:
    """Bins by frequency, evenly spaced in its logarithm.

    Args:
        counts: (concepts,) at least 0.
        accuracies: (concepts,).
        edges: number of bins; the first holds only the lowest count.
    """
    x = np.log(np.maximum(counts, 1))
    places = np.linspace(x.min(), x.max(), edges)
    bins = np.minimum(np.digitize(x, places, right=True), edges - 1)  # equal counts have one edge
    sizes = np.bincount(bins, minlength=edges)
    with np.errstate(invalid="ignore"):
        means = np.bincount(bins, weights=accuracies, minlength=edges) / sizes
        spread = np.bincount(bins, weights=(accuracies - means[bins]) ** 2, minlength=edges) / sizes
    return Bins(np.exp(places), means, np.sqrt(spread), sizes)


@dataclass(frozen=True)
class ConceptFit:
    """Correlations over concepts, without bins."""

    r_all: float  # Pearson of ln(count), zero as one, and accuracy
    r_found: float  # of concepts that were found at all
    slope: float  # points per decade, of those
    intercept: float  # at a count of one, of those
    spearman: float  # of counts, zeros included
    zeros: int  # concepts that were not found


def concept_fit(counts: np.ndarray, accuracies: np.ndarray) -> ConceptFit:
    """Accuracy against frequency over single concepts.

    Args:
        counts: (concepts,) at least 0.
        accuracies: (concepts,).
    """
    found = counts > 0
    every = Line.through(np.log(np.maximum(counts, 1)), accuracies)
    line = Line.through(np.log10(counts[found]), accuracies[found])
    ranks = Line.through(average_ranks(counts), average_ranks(accuracies))
    return ConceptFit(every.r, line.r, line.slope, line.intercept, ranks.r, int((~found).sum()))


def average_ranks(values: np.ndarray) -> np.ndarray:
    """(values,) float64 ranks from 1; equal values share the mean of theirs."""
    _, places, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    return (last - (sizes - 1) / 2)[places.reshape(-1)]


def centred(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Values less the mean of their group.

    Args:
        values: (concepts,).
        groups: (concepts,) int64 such as the data set of each concept.
    """
    return values - (np.bincount(groups, weights=values) / np.maximum(np.bincount(groups), 1))[groups]


def within_line(counts: np.ndarray, accuracies: np.ndarray, groups: np.ndarray) -> Line:
    """The line of the concepts that were found, both variables centred in each data set; per decade.

    Args:
        counts: (concepts,).
        accuracies: (concepts,).
        groups: (concepts,) int64 data set of each.
    """
    found = counts > 0
    own = np.unique(groups[found], return_inverse=True)[1].reshape(-1)
    return Line.through(centred(np.log10(counts[found]), own), centred(accuracies[found], own))
