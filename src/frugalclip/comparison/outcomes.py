"""Outcomes of the samples of trials as blocks: runs times samples, one block for each fold."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from frugalclip.comparison.jobs import Trial
from frugalclip.comparison.paired import FoldOutcomes


def blocks_of(trials: Sequence[Trial], metric: str) -> dict[str, FoldOutcomes]:
    """Outcomes of one arm on a metric.

    Args:
        trials: of one arm and one fraction.
        metric: name in the protocol.

    Returns:
        fold -> block of the samples that every run evaluated, runs in the order of their seeds.
    """
    found: dict[str, FoldOutcomes] = {}
    for fold in dict.fromkeys(t.fold for t in trials):
        runs = [t for t in trials if t.fold == fold and metric in t.metrics]
        runs.sort(key=lambda t: t.job.seed_index)
        if runs:
            outcomes = [t.metrics[metric]["outcome"] for t in runs]
            found[fold] = _block(outcomes, [t.job.seed_index for t in runs])
    return found


def baseline_blocks(
    outcomes: Mapping[str, Mapping[str, Any]], own: Mapping[str, FoldOutcomes]
) -> dict[str, FoldOutcomes]:
    """Outcomes of a baseline beside those of an arm.

    A baseline is deterministic, so every run of the arm is paired with the same outcomes.

    Args:
        outcomes: fold -> outcome of the baseline.
        own: fold -> block of the arm.
    """
    return {
        fold: _block([outcomes[fold]] * len(block.seeds), block.seeds)
        for fold, block in own.items()
        if fold in outcomes
    }


def _block(outcomes: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> FoldOutcomes:
    ids = sorted(set.intersection(*(set(o["id"]) for o in outcomes)))
    places = [{name: i for i, name in enumerate(o["id"])} for o in outcomes]
    values = np.array(
        [[100 * o["hit"][place[name]] for name in ids] for o, place in zip(outcomes, places, strict=True)]
    )
    first, place = outcomes[0], places[0]
    weights = np.array([1.0 if first["weight"] is None else first["weight"][place[name]] for name in ids])
    groups = np.array([first["group"][place[name]] for name in ids])
    return FoldOutcomes(values, groups, weights, np.array(ids), tuple(seeds))
