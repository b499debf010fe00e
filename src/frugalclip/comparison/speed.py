"""Measures how many samples a second each arm trains on, so that all arms can run for equal seconds."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from frugalclip.comparison.design import Design
from frugalclip.comparison.execution import Report
from frugalclip.comparison.folds import Fold
from frugalclip.comparison.jobs import Clock, Trial
from frugalclip.comparison.planning import DataFiles, Lengths, plan_trials, speed_trial
from frugalclip.comparison.queue import TrialExit, run_trials
from frugalclip.core.errors import TrainingError
from frugalclip.core.records import RunDirectory, write_json
from frugalclip.core.stored import read_object

STEPS, SAMPLES = 24, 6144  # of a short trial: of an arm with a recipe, and of one without


def equal_seconds(
    design: Design,
    folds: Sequence[Fold],
    files: DataFiles,
    *,
    lengths: Lengths,
    seconds: float,
    clock: Clock,
    report: Report,
) -> Lengths:
    """Samples that each arm sees in so many seconds, from a short trial of each that is kept.

    Args:
        design: what is compared.
        folds: of the data.
        files: writes the rows that trials read.
        lengths: the arms' own; their keys are used.
        seconds: of every run.
        clock: the seconds of which clock.
        report: prints a line.
    """
    once = replace(design, seeds=1, fractions=(1.0,))
    trials = plan_trials(once, folds, files, lengths=dict.fromkeys(lengths, SAMPLES))
    first: dict[str, Trial] = {}
    for trial in trials:
        first.setdefault(trial.arm, trial)
    batches = {arm.name: arm.recipe.batch if arm.recipe else 0 for arm in design.arms}
    rates = {}
    for name, trial in first.items():
        short = speed_trial(trial, files.out, samples=batches[name] * STEPS or SAMPLES)
        rates[name] = _kept_rate(short, files.out, clock)
        report(f"{name}: {rates[name]:,.0f} samples a second ({clock} clock)")
    return {key: max(1, round(seconds * rates[key[0]])) for key in lengths}


def _kept_rate(trial: Trial, out: Path, clock: Clock) -> float:
    """The rate in `rates.json`, measured where it is not there: a resumed comparison has the same lengths."""
    path, key = out / "rates.json", f"{trial.arm} {clock}"
    known: dict[str, float] = read_object(path) if path.is_file() else {}
    if key not in known:
        known[key] = _measure_rate(trial, clock)
        write_json(path, known)
    return known[key]


def _measure_rate(trial: Trial, clock: Clock) -> float:
    exits: list[TrialExit] = []
    trial.write()
    run_trials([trial], ended=exits.append)
    if not exits or not exits[0].is_finished:
        message = exits[0].message if exits else "it was stopped"
        raise TrainingError(f"the speed of {trial.arm} cannot be measured: {message}")
    return _read_rate(trial.folder, clock)


def _read_rate(folder: Path, clock: Clock) -> float:
    """Samples a second in the second half of a short trial, after the start is over."""
    name = "cpu_seconds" if clock == "cpu" else "seconds"
    rows = [row for row in RunDirectory(folder).rows() if name in row]
    if len(rows) < 2:
        other = "wall" if clock == "cpu" else "cpu"
        raise TrainingError(
            f"{folder} has fewer than two rows with {name}; compare with --clock {other}, or with --samples."
        )
    start, end = rows[len(rows) // 2 - 1], rows[-1]
    return (end["samples_seen"] - start["samples_seen"]) / max(end[name] - start[name], 1e-9)
