"""`frugalclip compare`: train several recipes several times and test which is better on this data.

Every trial is a process with a run directory that is kept. The same command resumes, more seeds or arms add
to what is there, and all results can be computed again from the trials.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from frugalclip.comparison.arms import read_arms
from frugalclip.comparison.baselines import fold_baselines
from frugalclip.comparison.design import make_design
from frugalclip.comparison.execution import check_folder, failures, train_missing
from frugalclip.comparison.folds import make_folds
from frugalclip.comparison.jobs import Clock
from frugalclip.comparison.planning import DataFiles, plan_trials, refuse_other_jobs, trial_lengths
from frugalclip.comparison.protocol import ProtocolConfig, choose_protocol, fill_environment
from frugalclip.comparison.record import comparison_record
from frugalclip.comparison.speed import equal_seconds
from frugalclip.core.errors import RecipeError, TrainingError
from frugalclip.core.paths import user_path
from frugalclip.core.records import write_atomically, write_json
from frugalclip.core.yaml_text import dump_yaml
from frugalclip.data.splits import parse_fractions
from frugalclip.report.compare import write_comparison_report
from frugalclip.report.compare_tables import print_comparison
from frugalclip.sources.open import open_data


def compare(
    arms: Sequence[str],
    *,
    out: str | Path,
    seeds: int = 3,
    samples: int | None = None,
    seconds: float | None = None,
    fractions: str | Sequence[float] | None = None,
    full_data: Sequence[str] = (),
    data: str | None = None,
    protocol: str | Path | ProtocolConfig | None = None,
    hold_out: str | None = None,
    split: str | None = None,
    reference: str | None = None,
    jobs: int = 1,
    clock: Literal["auto", "cpu", "wall"] = "auto",
    independent_seeds: bool = False,
) -> dict[str, Any]:
    """Train several arms with several seeds and test their differences.

    Args:
        arms: recipes by name or path, or `NAME:RECIPE`; arm files with a command; `key=value` for every
            recipe.
        out: folder of the comparison; the next call resumes it and trains only what is missing.
        seeds: repetitions of every arm; 3 to screen, 6 to claim.
        samples: samples that every run sees; default each recipe's own length.
        seconds: seconds of every run instead; the speed of each arm is measured and gives its samples.
        fractions: such as `1/8,1/4,1`: also train on fractions of the pairs and report data efficiency.
        full_data: arms that are trained on all pairs only, such as a costly reference.
        data: the data set, instead of the protocol's or the recipes'.
        protocol: YAML file with training rows and metrics; default metrics on the data's own validation set.
        hold_out: field whose values are held out of training in turn, and evaluated.
        split: split that the protocol's metrics are evaluated on, such as validation.
        reference: arm that the others are compared with; default the first.
        jobs: trials at a time.
        clock: the clock of seconds: processor or wall; auto is the processor's on a CPU, the wall's on a GPU.
        independent_seeds: give each arm its own randomness; arms with equal recipes always have.

    Returns:
        The content of `compare.json` (docs/formats.md).

    Raises:
        RecipeError, DataError, TrainingError: one sentence with the next command.
    """
    if samples is not None and seconds is not None:
        raise RecipeError("--samples and --seconds are both given; keep one of them.")
    folder, report = user_path(out), partial(Console().print, highlight=False, markup=False, soft_wrap=True)
    found = read_arms(arms)
    config = choose_protocol(found, protocol, {"data": data, "hold_out": hold_out, "split": split})
    shares = fractions if isinstance(fractions, str) else ",".join(map(str, fractions or [1]))
    design = make_design(
        found,
        config,
        reference=reference,
        seeds=seeds,
        fractions=parse_fractions(shares),
        full_data=full_data,
        independent_seeds=independent_seeds,
    )
    everything = open_data(fill_environment(config.data or ""), columns=config.columns or None)
    folds = make_folds(everything, config)
    check_folder(folder)
    files, wanted = DataFiles(folder, everything, config), _wanted_clock(clock)
    lengths = trial_lengths(found, folds, samples)
    if seconds is not None:
        lengths = equal_seconds(
            design, folds, files, lengths=lengths, seconds=seconds, clock=wanted, report=report
        )
    trials = plan_trials(design, folds, files, lengths=lengths)
    refuse_other_jobs(trials)
    write_atomically(folder / "protocol.yaml", dump_yaml(config.model_dump(mode="json")))
    report("Measuring baselines: copying from the nearest training images …")
    baselines = fold_baselines(folds, everything, config, folder)
    is_finished = train_missing(trials, folder, jobs=jobs, primary=config.primary, report=report)
    trials = [trial.read() for trial in trials]
    failed = failures(trials, folder)
    result = comparison_record(
        trials,
        design,
        folds=[fold.name for fold in folds],
        everything=everything,
        baselines=baselines,
        clock=wanted,
        failures=failed,
        notes=folds[0].notes,
        out=folder,
    )
    result |= {"samples": samples, "seconds": seconds, "jobs": jobs, "is_stopped": not is_finished}
    write_json(folder / "compare.json", result)
    write_comparison_report(folder / "report.html", result)
    if is_finished and not any(trial.is_finished for trial in trials):
        message = next(iter(failed.values()), "no message")
        raise TrainingError(f"no trial finished; the first failed with: {message}")
    return result


def _wanted_clock(clock: Literal["auto", "cpu", "wall"]) -> Clock:
    if clock == "auto":
        return "wall" if torch.cuda.is_available() else "cpu"
    return clock


def show(result: dict[str, Any]) -> None:
    """Print the answer, then the tables."""
    print_comparison(result)
