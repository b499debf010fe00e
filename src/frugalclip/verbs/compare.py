"""`frugalclip compare`: train several recipes several times and test which is better on this data.

Every trial is a process with a run directory that is kept. The same command resumes, more seeds or arms add
to what is there, and all results can be computed again from the trials.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from frugalclip.comparison.arms import read_arms
from frugalclip.comparison.baselines import fold_baselines
from frugalclip.comparison.design import ComparisonSettings, make_design
from frugalclip.comparison.duration import duration_in_words
from frugalclip.comparison.execution import check_folder, failures, train_missing
from frugalclip.comparison.folds import make_folds
from frugalclip.comparison.jobs import Clock
from frugalclip.comparison.planning import DataFiles, plan_trials, refuse_other_jobs, trial_lengths
from frugalclip.comparison.protocol import choose_protocol, fill_environment
from frugalclip.comparison.record import comparison_record
from frugalclip.comparison.speed import equal_seconds
from frugalclip.core.config import validated
from frugalclip.core.errors import TrainingError
from frugalclip.core.locks import writes_into
from frugalclip.core.paths import user_path
from frugalclip.core.processes import refuse_processes
from frugalclip.core.records import write_atomically, write_json
from frugalclip.core.terminal import Terminal
from frugalclip.core.yaml_text import dump_yaml
from frugalclip.report.compare import write_comparison_report
from frugalclip.report.compare_tables import print_comparison
from frugalclip.sources.open import open_data


@writes_into("out")
def compare(arms: Sequence[str], *, out: str | Path, **settings: Any) -> dict[str, Any]:
    """Train several arms with several seeds and test their differences.

    Args:
        arms: recipes by name or path, or `NAME:RECIPE`; arm files with a command; `key=value` for every
            recipe.
        out: folder of the comparison; the next call resumes it and trains only what is missing.
        settings: fields of `ComparisonSettings`, such as seeds=3, data="my/" or samples=20000.

    Returns:
        The content of `compare.json` (docs/formats.md).

    Raises:
        RecipeError, DataError, TrainingError: one sentence with the next command.
    """
    refuse_processes("compare")
    chosen = validated(ComparisonSettings, settings, where="compare")
    folder, report = user_path(out), partial(Terminal().print, soft_wrap=True)
    found = read_arms(arms)
    wanted = {"data": chosen.data, "hold_out": chosen.hold_out, "split": chosen.split}
    config = choose_protocol(found, chosen.protocol, wanted)
    design = make_design(found, config, chosen)
    everything = open_data(fill_environment(config.data or ""), columns=config.columns or None)
    folds, clock = make_folds(everything, config), _clock(chosen)
    check_folder(folder)
    files = DataFiles(folder, everything, config)
    lengths = trial_lengths(found, folds, chosen.samples)
    if chosen.seconds is not None:
        lengths = equal_seconds(
            design, folds, files, lengths=lengths, seconds=chosen.seconds, clock=clock, report=report
        )
    trials = plan_trials(design, folds, files, lengths=lengths)
    refuse_other_jobs(trials)
    report(duration_in_words([trial.read() for trial in trials], jobs=chosen.jobs))
    write_atomically(folder / "protocol.yaml", dump_yaml(config.model_dump(mode="json")))
    report("Measuring baselines: copying from the nearest training images …")
    baselines = fold_baselines(folds, everything, config, folder)
    is_finished = train_missing(trials, folder, jobs=chosen.jobs, primary=config.primary, report=report)
    trials = [trial.read() for trial in trials]
    failed = failures(trials, folder)
    result = comparison_record(
        trials,
        design,
        folds=[fold.name for fold in folds],
        everything=everything,
        baselines=baselines,
        clock=clock,
        failures=failed,
        notes=folds[0].notes,
        out=folder,
    )
    result |= chosen.model_dump(include={"samples", "seconds", "jobs"}) | {"is_stopped": not is_finished}
    write_json(folder / "compare.json", result)
    write_comparison_report(folder / "report.html", result)
    if is_finished and not any(trial.is_finished for trial in trials):
        message = next(iter(failed.values()), "no message")
        raise TrainingError(f"no trial finished; the first failed with: {message}")
    return result


def _clock(settings: ComparisonSettings) -> Clock:
    if settings.clock == "auto":
        return "wall" if torch.cuda.is_available() else "cpu"
    return settings.clock


def show(result: dict[str, Any]) -> None:
    """Print the answer, then the tables."""
    print_comparison(result)
