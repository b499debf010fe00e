"""The content of `compare.json`: the summary, the trials, and everything needed to repeat the comparison."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from frugalclip.comparison.baselines import Baselines, baseline_outcomes, mean_baselines
from frugalclip.comparison.design import Design
from frugalclip.comparison.jobs import Clock, Trial
from frugalclip.comparison.notes import design_notes, training_notes
from frugalclip.comparison.summary import available_clock, summarise
from frugalclip.core.records import environment
from frugalclip.data.manifest import Manifest

VERSION = 2
_ABOUT = ("description", "task", "metric", "pool", "where")  # settings of a metric that the record repeats


def comparison_record(
    trials: Sequence[Trial],
    design: Design,
    *,
    folds: Sequence[str],
    everything: Manifest,
    baselines: Baselines,
    clock: Clock,
    failures: Mapping[str, str],
    notes: Sequence[str],
    out: Path,
) -> dict[str, Any]:
    """Everything about a comparison but how it was run.

    Args:
        trials: all of them, read from their folders.
        design: what was to be compared.
        folds: their names.
        everything: the data set.
        baselines: of every metric and fold.
        clock: the wanted clock of seconds.
        failures: message of each trial that failed, by folder beneath `out`.
        notes: on the division of the data.
        out: folder of the comparison.
    """
    finished = [trial for trial in trials if trial.is_finished]
    used = available_clock(finished, clock)
    outcomes = baseline_outcomes(baselines[design.primary])
    summary = summarise(finished, design, clock=used, baselines=outcomes)
    for name, metric in summary["metrics"].items():
        about = design.protocol.metrics[name].model_dump(mode="json", include=set(_ABOUT))
        about = {key: about[key] for key in _ABOUT}
        summary["metrics"][name] = {**about, **mean_baselines(baselines[name]), **metric}
    primary = summary["metrics"][design.primary]
    return {
        "frugalclip_compare": VERSION,
        "answer": summary.pop("answer"),
        "reference": design.reference,
        "primary": design.primary,
        "folds": list(folds),
        "seeds": design.seeds,
        "fractions": list(design.fractions),
        "independent_seeds": design.has_independent_seeds,
        "clock": used,
        "arms": [arm.as_json() for arm in design.arms],
        **summary,
        "trials": [_trial_entry(trial, failures, out) for trial in trials],
        "notes": [*notes, *design_notes(design), *training_notes(finished, design, primary, clock, used)],
        "protocol": design.protocol.model_dump(mode="json"),
        "data": {
            "path": design.protocol.data,
            "rows": len(everything),
            "hash": everything.fingerprint(),
        },
        "environment": environment(),
    }


def _trial_entry(trial: Trial, failures: Mapping[str, str], out: Path) -> dict[str, Any]:
    folder = str(trial.folder.relative_to(out))
    entry: dict[str, Any] = {
        "arm": trial.arm,
        "fold": trial.fold,
        "fraction": trial.job.fraction,
        "seed": trial.job.seed_index,
        "folder": folder,
    }
    if trial.record is None:
        status = "failed" if folder in failures else "not run"
        return entry | {"status": status, "message": failures.get(folder, "")}
    values = {name: metric["value"] for name, metric in trial.metrics.items()}
    training = {key: value for key, value in trial.training.items() if key != "notes"}
    return entry | {
        "status": "finished",
        "values": values,
        "training": training,
        "code": trial.record["code"],
    }
