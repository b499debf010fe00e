"""What the reader of a comparison has to know: too few seeds, unequal lengths, arms below the baselines."""

from collections.abc import Mapping, Sequence
from typing import Any

from frugalclip.comparison.arms import equal_arms
from frugalclip.comparison.design import Design
from frugalclip.comparison.jobs import Clock, Trial
from frugalclip.evaluation.metrics import words

SCREENING = 3  # seeds below which nothing should be claimed


def design_notes(design: Design) -> list[str]:
    """Notes on what was compared."""
    notes = []
    if twins := equal_arms(design.arms):
        notes.append(
            f"{twins[0]} and {twins[1]} are the same recipe (an A/A comparison), "
            "so every arm has its own randomness."
        )
    if design.seeds < SCREENING:
        seeds = f"{design.seeds} seed{'s' if design.seeds > 1 else ''}"
        notes.append(f"{seeds} screen at best: repeat with --seeds 3, and 6 for what is claimed.")
    return notes


def training_notes(
    trials: Sequence[Trial], design: Design, primary: Mapping[str, Any], wanted: Clock, used: Clock
) -> list[str]:
    """Notes on the runs and on the primary metric.

    Args:
        trials: the finished ones.
        design: what was compared.
        primary: the primary metric as `compare.json` holds it.
        wanted: the clock that was to be used.
        used: the one that was.
    """
    notes = []
    if used != wanted:
        notes.append(
            "Some trials did not record their processor time, so seconds are wall time; "
            "compare them only if the machine was otherwise idle."
        )
    lengths = {(trial.fold, trial.training["samples_seen"]) for trial in trials}
    if len(lengths) > len({fold for fold, _ in lengths}):
        notes.append(
            "The arms did not see equally many samples: final metrics are at each arm's own length; "
            "add --samples N for equal ones."
        )
    if len({trial.record["code"].get("commit") for trial in trials if trial.record}) > 1:
        notes.append(
            "The trials were made by several versions of the code; "
            "delete the older ones and compare again for what is claimed."
        )
    return notes + _below_baselines(primary, design)


def _below_baselines(metric: Mapping[str, Any], design: Design) -> list[str]:
    """A note if no arm is above the best baseline: such arms cannot be ranked."""
    levels = {**metric["baselines"], "chance": metric["chance"]}
    known = {name: level for name, level in levels.items() if level is not None}
    values = [arm["value"] for arm in metric["arms"].values() if arm["value"] is not None]
    best = max(known, key=lambda name: known[name], default=None)
    if best is None or not values or max(values) > known[best]:
        return []
    return [
        f"No arm is above {words(best)} ({known[best]:.1f} %) on {design.primary}, "
        "which needs no training: the arms have learned too little to be ranked."
    ]
