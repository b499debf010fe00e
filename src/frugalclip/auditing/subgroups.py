"""A metric by the values of a field: intervals for each, and whether the largest gap is more than chance.

The gap is that of the best to the worst group. Looking for the largest gap finds one in any data, so its p
value comes from the same search in data whose values are dealt out anew: a permutation test of the range of
means.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from frugalclip.core.errors import DataError
from frugalclip.evaluation.statistics import bootstrap, group_codes, intervals, mean_of, percentiles

_PERMUTATIONS = 2000


def subgroup_report(
    hits: np.ndarray,
    values: Sequence[str | None],
    clusters: np.ndarray,
    *,
    least: int = 10,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """A metric for each value of a field, in percent.

    Args:
        hits: (samples,) from 0 to 1; the metric is their mean.
        values: (samples,) of the field; None takes no part.
        clusters: (samples,) int64 what the bootstrap draws together.
        least: samples of a group; smaller ones are counted in `left_out`.
        draws: of the bootstrap.
        seed: of bootstrap and permutations.

    Returns:
        `groups`: {value, samples, metric, interval}, the highest first; `gap`; `left_out`.

    Raises:
        DataError: when fewer than two values have enough samples.
    """
    names = np.array(["" if value is None else str(value) for value in values], dtype=object)
    known = np.array([value is not None for value in values], dtype=bool)
    found, sizes = np.unique(names[known], return_counts=True)
    kept = [name for name, size in zip(found.tolist(), sizes.tolist(), strict=True) if size >= least]
    if len(kept) < 2:
        raise DataError(
            f"{len(kept)} values of the field have {least} samples, expected two or more; lower --least, or "
            "name another field."
        )
    rows = np.flatnonzero(known & np.isin(names, kept))
    codes = np.array([kept.index(name) for name in names[rows].tolist()])
    own, groups = hits[rows], group_codes(clusters[rows], len(rows))
    statistics = {name: mean_of(own[codes == i], groups[codes == i]) for i, name in enumerate(kept)}
    spans = intervals(statistics, groups=int(groups.max()) + 1, draws=draws, seed=seed)
    means = _means(own, codes, len(kept))
    table = [
        {
            "value": name,
            "samples": int((codes == i).sum()),
            "metric": 100 * float(means[i]),
            "interval": [100 * bound for bound in spans[name]],
        }
        for i, name in enumerate(kept)
    ]
    table.sort(key=lambda one: (-one["metric"], one["value"]))
    drawn = bootstrap(statistics, groups=int(groups.max()) + 1, draws=draws, seed=seed)
    best, worst = table[0]["value"], table[-1]["value"]
    return {
        "groups": table,
        "gap": {
            "best": best,
            "worst": worst,
            "points": table[0]["metric"] - table[-1]["metric"],
            "interval": percentiles(100 * (drawn[best] - drawn[worst])),
            "p": _range_test(own, codes, len(kept), seed=seed),
        },
        "left_out": int(len(hits) - len(rows)),
    }


def _means(hits: np.ndarray, codes: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(codes, weights=hits, minlength=count) / np.bincount(codes, minlength=count)


def _range_test(hits: np.ndarray, codes: np.ndarray, count: int, *, seed: int) -> float:
    """How often values that are dealt out anew have as large a range of means."""
    random, as_large = np.random.default_rng(seed), 0
    observed = np.ptp(_means(hits, codes, count)) - 1e-12
    for _ in range(_PERMUTATIONS):
        as_large += np.ptp(_means(hits, random.permutation(codes), count)) >= observed
    return (1 + as_large) / (1 + _PERMUTATIONS)
