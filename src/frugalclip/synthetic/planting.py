"""Splits and planted faults of all scenes, known before any scene is made.

Each answer depends on the seed and on scenes of smaller number, or of the same block of 1,024, only. So more
scenes never change earlier ones.
"""

from dataclasses import dataclass

import numpy as np

from frugalclip.core.random import uniform
from frugalclip.synthetic.draws import Draws
from frugalclip.synthetic.plan import ScenePlan

BLOCK = 1024  # scenes among which captions are exchanged
COPIES = ("duplicate", "near-duplicate", "leak")


@dataclass(frozen=True)
class Assignment:
    """One row a scene, for whole blocks: captions may come from a scene that is not made itself."""

    splits: np.ndarray  # (scenes,) names
    planted: np.ndarray  # (scenes,) names of faults, empty for none
    sources: np.ndarray  # (scenes,) int64 number of the scene the fault came from, -1 for none


def assign(plan: ScenePlan, scenes: int) -> Assignment:
    """Splits and faults of scenes 0, 1, ...

    Args:
        plan: shares and rates.
        scenes: how many are wanted at least.
    """
    # exchanges need whole blocks, however few scenes of the last one are wanted
    whole = -(-scenes // BLOCK) * BLOCK
    numbers = np.arange(whole)
    splits = _drawn(uniform(plan.seed, "scenes/splits", numbers, 1)[:, 0], plan.splits.scenes)
    rates = plan.planted.rates
    faults = _drawn(
        uniform(plan.seed, "scenes/planted", numbers, 1)[:, 0],
        {**rates, "": max(0.0, 1 - sum(rates.values()))},
    )
    planted = np.where(splits == "train", faults, "").astype(faults.dtype)
    sources = np.full(whole, -1, dtype=np.int64)
    places = uniform(plan.seed, "scenes/sources", numbers, 1)[:, 0]
    clean = planted == ""
    for kind in COPIES:
        _choose_earlier(
            sources,
            np.flatnonzero(planted == kind),
            np.flatnonzero(clean & ((splits == "train") ^ (kind == "leak"))),
            places,
        )
    for start in range(0, whole, BLOCK):
        _exchange(
            sources,
            start + np.flatnonzero(planted[start : start + BLOCK] == "swapped"),
            Draws(plan.seed, "exchange", start),
        )
    needs_source = np.isin(planted, [*COPIES, "swapped"])
    planted[needs_source & (sources < 0)] = ""  # nothing to copy came before, or nobody to exchange with
    return Assignment(splits, planted, sources)


def _drawn(places: np.ndarray, weights: dict[str, float]) -> np.ndarray:
    """(rows,) names, each as often as its weight."""
    ends = np.cumsum(list(weights.values()))
    return np.array(list(weights))[
        np.minimum(np.searchsorted(ends / ends[-1], places, side="right"), len(ends) - 1)
    ]


def _choose_earlier(sources: np.ndarray, rows: np.ndarray, eligible: np.ndarray, places: np.ndarray) -> None:
    before = np.searchsorted(eligible, rows)  # how many eligible scenes come earlier
    chosen = (places[rows] * before).astype(np.int64)
    sources[rows[before > 0]] = eligible[chosen[before > 0]]


def _exchange(sources: np.ndarray, rows: np.ndarray, draws: Draws) -> None:
    """Captions go round in a circle of a drawn order, so that nobody keeps its own."""
    if len(rows) > 1:
        order = draws.shuffled(rows.tolist())
        sources[order] = order[1:] + order[:1]
