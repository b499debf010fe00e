"""Which rows of clusters stay: how many of each, and which ones.

Source: TL;DR (arXiv 2305.20087). Its code takes every N-th row of each cluster in the order of the data set,
which is systematic sampling; the paper names representative rows. Both are here, and two more.
"""

from typing import Literal

import numpy as np

Order = Literal["nearest", "farthest", "stratified"]
Quota = Literal["proportional", "sqrt", "equal"]
_HALVINGS = 100  # of an interval that holds the scale of the quotas


def cluster_quotas(sizes: np.ndarray, target: int, quota: Quota) -> np.ndarray:
    """How many rows of each cluster stay, together exactly as many as wanted.

    Args:
        sizes: (clusters,) rows to choose from.
        target: rows wanted; at most as many as there are.
        quota: whether clusters give in proportion to their size, to its root, or equally many. A cluster that
            is too small gives all it has, and the others give more.

    Returns:
        (clusters,) int64.
    """
    target = min(target, int(sizes.sum()))
    weights = {"proportional": sizes, "sqrt": np.sqrt(sizes), "equal": (sizes > 0)}[quota].astype(np.float64)
    low, high = 0.0, float(sizes.max(initial=0) + 1)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if np.minimum(middle * weights, sizes).sum() < target:
            low = middle
        else:
            high = middle
    wanted = np.minimum(high * weights, sizes)
    quotas = np.floor(wanted + 1e-9).astype(np.int64)
    rest = np.where(quotas < sizes, wanted - quotas, -np.inf)
    order = np.lexsort((-sizes, -np.round(rest, 9)))  # of equal remainders the larger cluster's first
    quotas[order[: target - quotas.sum()]] += 1
    return quotas


def cluster_places(labels: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """The place of each row within its cluster, from 0, in ascending order of its key.

    Args:
        labels: (rows,) cluster of each row.
        keys: (rows,) what rows are ordered by; equal ones by row.

    Returns:
        (rows,) int64.
    """
    order = np.lexsort((keys, labels))
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    places = np.empty(len(labels), dtype=np.int64)
    places[order] = np.arange(len(labels)) - np.repeat(starts, counts)
    return places


def selection_keys(order: Order, distances: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """What rows are ordered by within their cluster, of which the first ones stay.

    Args:
        order: `nearest` to the centre, `farthest` from it, `stratified` at random.
        distances: (rows,) to the centre.
        draws: (rows,) uniform numbers.

    Returns:
        (rows,) float64.
    """
    return {"nearest": distances, "farthest": -distances, "stratified": draws}[order]
