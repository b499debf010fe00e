"""Bootstrap intervals over samples, or over groups of samples.

Source: Efron 1979 (percentile bootstrap); drawing whole groups is the cluster bootstrap (Davison & Hinkley
1997, section 3.8). Emoji of one concept in three drawing styles, or captions of one image, are not
independent: drawing them singly makes intervals too narrow.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

Statistic = Callable[[np.ndarray], np.ndarray]  # (draws, groups) counts -> (draws,) values
_CELLS = 4_000_000  # numbers held at a time


def group_codes(values: np.ndarray | None, samples: int) -> np.ndarray:
    """Number the groups from 0.

    Args:
        values: (samples,) anything comparable, equal within a group; None puts every sample in a group of its
            own.
        samples: how many there are.

    Returns:
        (samples,) int64.
    """
    if values is None:
        return np.arange(samples)
    assert len(values) == samples, "one group for each sample"
    return np.unique(values, return_inverse=True)[1].reshape(-1).astype(np.int64)


def mean_of(values: np.ndarray, groups: np.ndarray, weights: np.ndarray | None = None) -> Statistic:
    """The mean over samples.

    Args:
        values: (samples,) such as hits.
        groups: (samples,) int64 group of each.
        weights: (samples,) how much each counts; default all the same.
    """
    weights = np.ones(len(values)) if weights is None else weights
    size = int(groups.max(initial=-1)) + 1
    sums, sizes = (
        np.bincount(groups, weights=weights * values, minlength=size),
        np.bincount(groups, weights=weights, minlength=size),
    )

    def statistic(counts: np.ndarray) -> np.ndarray:
        above, below = counts[:, :size] @ sums, counts[:, :size] @ sizes
        return np.divide(above, below, out=np.full(len(counts), np.nan), where=below > 0)

    return statistic


def mean_of_classes(values: np.ndarray, classes: np.ndarray, groups: np.ndarray) -> Statistic:
    """The mean over classes of each class's mean: a mean over samples that count 1 / size of their class.

    The weights stay what they are in every draw. Dividing by the class's size in the draw instead would make
    each class of one sample either present once or absent, and its interval a quarter too narrow.

    Args:
        values: (pairs,) such as hits, one for each (sample, class) pair.
        classes: (pairs,) int64, each from 0 on occurs.
        groups: (pairs,) int64.
    """
    return mean_of(values, groups, weights=1 / np.bincount(classes)[classes])


def mean_over_draws(values: np.ndarray, groups: np.ndarray, weights: np.ndarray, *, seed: int) -> Statistic:
    """The mean over samples and over repeated experiments on them; a bootstrap draw draws both.

    Args:
        values: (experiments, samples) such as the hits of probes that learned from other examples.
        groups: (samples,) int64 group of each.
        weights: (samples,) how much each counts.
        seed: of drawing the experiments; on counts of one, no experiment is drawn twice.
    """
    experiments, size = len(values), int(groups.max(initial=-1)) + 1
    sums = np.stack(
        [np.bincount(groups, weights=weights * row, minlength=size) for row in values], axis=1
    )  # (groups, experiments)
    sizes = np.bincount(groups, weights=weights, minlength=size)
    random = np.random.default_rng(seed)

    def statistic(counts: np.ndarray) -> np.ndarray:
        drawn = (
            random.multinomial(experiments, np.full(experiments, 1 / experiments), size=len(counts))
            / experiments
        )
        shares = (
            np.full_like(drawn, 1 / experiments) if (counts == 1).all() else drawn
        )  # (draws, experiments)
        above, below = ((counts[:, :size] @ sums) * shares).sum(1), counts[:, :size] @ sizes
        return np.divide(above, below, out=np.full(len(counts), np.nan), where=below > 0)

    return statistic


def median_of(values: np.ndarray, groups: np.ndarray) -> Statistic:
    """The median over samples (the lower one of an even number).

    Args:
        values: (samples,).
        groups: (samples,) int64 group of each.
    """
    order = np.argsort(values, kind="stable")
    ranked, owners = np.asarray(values, np.float64)[order], groups[order]

    def statistic(counts: np.ndarray) -> np.ndarray:
        below = np.cumsum(counts[:, owners], axis=1)  # (draws, samples)
        place = (below < below[:, -1:] / 2).sum(1)
        return np.where(below[:, -1] > 0, ranked[np.minimum(place, len(ranked) - 1)], np.nan)

    return statistic


def intervals(
    statistics: Mapping[str, Statistic], *, groups: int, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, list[float]]:
    """Percentile bootstrap intervals of several statistics on the same draws.

    Args:
        statistics: from `mean_of`, `mean_of_classes` or `median_of`.
        groups: how many groups are drawn from, with replacement, that many at a time.
        draws: how often.
        level: share of the draws inside the interval.
        seed: equal seeds give equal intervals.

    Returns:
        name -> [low, high].
    """
    return {
        name: percentiles(values, level=level)
        for name, values in bootstrap(statistics, groups=groups, draws=draws, seed=seed).items()
    }


def bootstrap(
    statistics: Mapping[str, Statistic], *, groups: int, draws: int = 1000, seed: int = 0
) -> dict[str, np.ndarray]:
    """The values of several statistics on the same draws; equal seeds give paired draws.

    Args:
        statistics: as for `intervals`.
        groups: how many groups are drawn from.
        draws: how often.
        seed: of the draws.

    Returns:
        name -> (draws,); empty where there are no groups.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in statistics}
    for counts in _draws(groups, draws, seed) if groups else ():
        for name, statistic in statistics.items():
            found[name].append(statistic(counts))
    return {name: np.concatenate(parts) for name, parts in found.items() if parts}


def percentiles(values: np.ndarray, *, level: float = 0.95) -> list[float]:
    """The middle `level` of bootstrap values, as [low, high].

    Args:
        values: (draws,), NaN where a draw had none of the samples.
        level: share of the draws inside.
    """
    tail = (1 - level) / 2
    return [float(quantile) for quantile in np.nanquantile(values, [tail, 1 - tail])]


def on_the_sample(statistic: Statistic, *, groups: int) -> float:
    """A statistic on the samples as they are: every group once."""
    return float(statistic(np.ones((1, groups)))[0])


def _draws(groups: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """(some draws, groups) float64: how often each group was drawn."""
    random = np.random.default_rng(seed)
    at_once = max(1, _CELLS // groups)
    for start in range(0, draws, at_once):
        number = min(at_once, draws - start)
        picked = random.integers(0, groups, size=(number, groups)) + np.arange(number)[:, None] * groups
        yield (
            np.bincount(picked.reshape(-1), minlength=number * groups)
            .reshape(number, groups)
            .astype(np.float64)
        )
