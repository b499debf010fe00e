"""Several models on the same rows: their metrics, and the difference of each to the first by sample."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from frugalclip.evaluation.statistics import group_codes, intervals, mean_of


def outcome_of(
    metric: str, ids: Sequence[str], hits: np.ndarray, groups: np.ndarray
) -> dict[str, str | list[Any]]:
    """What a model did on every sample, as a result holds it for a comparison.

    Args:
        metric: that is the mean of the hits.
        ids: (samples,) of the samples, or the texts that were searched for.
        hits: (samples,) from 0 to 1.
        groups: (samples,) what the bootstrap draws together.
    """
    return {"metric": metric, "ids": list(ids), "hits": hits.tolist(), "groups": groups.tolist()}


def side_by_side(
    results: Mapping[str, dict[str, Any]], *, draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """The results of several models, and paired differences to the first.

    Args:
        results: model -> result of one task on the same data; `outcome` is taken out where it is there.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        `task`, `models` (model -> result), `against` (the first model), and `compared`: model -> metric,
        difference in points, its 95 % interval, verdict and samples; empty where a task has no outcome.
    """
    outcomes = {name: result.pop("outcome", None) for name, result in results.items()}
    first, *others = results
    compared = {
        name: _difference(outcomes[name], outcomes[first], draws=draws, seed=seed)
        for name in others
        if outcomes[name] and outcomes[first]
    }
    return {"task": results[first]["task"], "models": dict(results), "against": first, "compared": compared}


def _difference(own: Mapping[str, Any], other: Mapping[str, Any], *, draws: int, seed: int) -> dict[str, Any]:
    """How much more often a model is right than another, on the samples that both have."""
    place = {id: i for i, id in enumerate(other["ids"])}
    shared = [(i, place[id]) for i, id in enumerate(own["ids"]) if id in place]
    mine, theirs = np.array(shared, dtype=np.int64).reshape(-1, 2).T
    apart = np.asarray(own["hits"])[mine] - np.asarray(other["hits"])[theirs]
    groups = group_codes(np.asarray(own["groups"])[mine], len(apart))
    statistic = {"difference": mean_of(apart, groups)}
    found = intervals(statistic, groups=int(groups.max(initial=-1)) + 1, draws=draws, seed=seed)["difference"]
    low, high = (100 * bound for bound in found)
    return {
        "metric": own["metric"],
        "difference": round(100 * float(apart.mean()), 4),
        "interval": [round(low, 4), round(high, 4)],
        "verdict": "better" if low > 0 else "worse" if high < 0 else "not distinguishable",
        "samples": len(apart),
    }
