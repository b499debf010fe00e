"""One trial of a comparison in a process of its own: an arm, a fold, a fraction of the pairs and a seed.

`python -m frugalclip.comparison.trial JOB.json` runs it. The folder of the job becomes a run directory with
one more file, `trial.json`: metrics and the outcome of every evaluated sample. An arm of another library
reads the same job and writes the same files, with `validation_metrics` and `finish_trial` (`docs/formats.md`,
"A trial").
"""

import math
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from frugalclip.comparison.evaluators import metric_evaluator
from frugalclip.comparison.jobs import TRIAL, VERSION, TrialJob, read_job
from frugalclip.comparison.metrics import MetricConfig
from frugalclip.core.config import validated
from frugalclip.core.errors import DataError, FrugalclipError, RecipeError
from frugalclip.core.locks import writing
from frugalclip.core.processes import end_with_starter
from frugalclip.core.records import RunDirectory, environment, write_json
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.encoding import DataEncoder
from frugalclip.sources.open import open_data
from frugalclip.training.loop import train_run
from frugalclip.training.recipe import Recipe, validate_recipe
from frugalclip.training.run import TrainingResult

INTERRUPTED = 130
CHECKPOINTS = 4  # in a trial, the last at its end
LENGTHS = ("epochs", "samples", "steps")


def trial_recipe(job: TrialJob) -> Recipe:
    """The recipe of a trial: the arm's, with the job's data, seed, length and evaluation points.

    Raises:
        RecipeError: if the arm has no recipe, or an incomplete one.
    """
    if job.recipe is None:
        raise RecipeError(
            f"arm '{job.arm}' has a command and no recipe; start it with: {' '.join(job.program())} JOB.json"
        )
    content = {key: value for key, value in job.recipe.items() if job.samples is None or key not in LENGTHS}
    length, seldom = {}, {}
    if job.samples is not None:
        batch = int(content.get("batch") or Recipe.model_fields["batch"].default)
        length = {"samples": job.samples}
        seldom = {"every": max(1, math.ceil(job.samples / batch / CHECKPOINTS))}  # a trial is short
    data = {
        **_section(content, "data"),
        "path": job.data,
        "where": job.train,
        "validation": job.validation or "none",
        "columns": {},
    }
    evaluation = {**_section(content, "evaluation"), "points": job.points, "label_field": job.label_field}
    checkpoints = {**seldom, **_section(content, "checkpoints"), "keep": 1}  # only the last is read
    changes = {"data": data, "evaluation": evaluation, "checkpoints": checkpoints, "seed": job.seed}
    return validate_recipe({**content, **length, **changes})


def _section(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name)
    return dict(found) if isinstance(found, Mapping) else {}


def run_trial(path: Path | str) -> bool:
    """Train and evaluate one job, or resume it.

    Args:
        path: of the job; its folder becomes the run directory.

    Returns:
        True when it is finished, False when it was interrupted and saved.
    """
    job, folder = read_job(path), Path(path).resolve().parent
    with writing(folder):
        return _run(job, Path(path), folder)


def _run(job: TrialJob, path: Path, folder: Path) -> bool:
    everything = open_data(job.data)
    if everything.fingerprint() != job.data_hash:
        raise DataError(f"{job.data} is not the data that {path} was written for; compare into a new --out.")
    result = train_run(trial_recipe(job), everything, RunDirectory(folder), resume=True)
    if result.is_finished:
        finish_trial(path, result.model, training=_training(result))
    return result.is_finished


def _training(result: TrainingResult) -> dict[str, Any]:
    """The cost of a run."""
    return {
        "steps": result.steps,
        "samples_seen": result.samples_seen,
        "seconds": round(result.seconds, 3),
        "parameters": result.parameters,
        "training_rows": len(result.training),
        "notes": result.notes,
    }


def evaluate(job: TrialJob, model: DataEncoder) -> dict[str, Any]:
    """The metrics of a job for a model, as `trial.json` holds them."""
    opened: dict[str, Manifest] = {}
    metrics: dict[str, Any] = {}
    for name, metric in job.metrics.items():
        for path in (metric.rows, metric.everything):
            if path is not None and path not in opened:
                opened[path] = open_data(path)
        everything = opened[metric.everything] if metric.everything else None
        evaluator = metric_evaluator(metric.config, opened[metric.rows], everything)
        metrics[name] = evaluator.evaluate(model).as_json(metric.config.metric)
    return metrics


def validation_metrics(job: TrialJob, model: DataEncoder) -> dict[str, float]:
    """The metric of the curve on the validation set, for the `evaluation` of a row in `metrics.jsonl`.

    Returns:
        {job.curve: percent}; empty without a validation set.
    """
    if job.validation is None:
        return {}
    task, _, metric = job.curve.partition("/")
    settings = {"task": task, "metric": metric, "label_field": job.label_field}
    evaluator = metric_evaluator(
        validated(MetricConfig, settings, where="curve"), open_data(job.data, where=job.validation)
    )
    return {job.curve: round(evaluator.evaluate(model).value, 4)}


def finish_trial(path: Path | str, model: DataEncoder, *, training: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluate a trained model and write `trial.json` and `metrics.json` beside the job.

    Args:
        path: of the job.
        model: encodes images and texts; `frugalclip.load` gives one, as does any object with the same
            members.
        training: at least `samples_seen`, `seconds` and `parameters`; more is read from `metrics.jsonl`.

    Returns:
        The content of `trial.json`.
    """
    job, run = read_job(path), RunDirectory(Path(path).resolve().parent)
    metrics, cost = evaluate(job, model), _cost(run, training)
    code = environment()
    record = {
        "frugalclip_trial": VERSION,
        "job": job.digest(),
        **{key: getattr(job, key) for key in ("arm", "seed", "seed_index", "fold", "fraction")},
        "metrics": metrics,
        "training": cost,
        "code": {
            "version": code["versions"].get("frugalclip"),
            **{key: code[key] for key in ("commit", "device", "threads")},
        },
    }
    evaluations = [
        {
            "task": job.metrics[name].config.task,
            "metrics": {found["metric"]: found["value"]},
            "where": name,
            "samples": len(found["outcome"]["id"]),
        }
        for name, found in metrics.items()
    ]
    write_json(run.summary, {"evaluations": evaluations, "training": cost})
    write_json(run.path / TRIAL, record)  # last: a trial with this file is finished
    return record


def _cost(run: RunDirectory, training: Mapping[str, Any]) -> dict[str, Any]:
    """The given cost of training, with what `metrics.jsonl` and the system add."""
    rows = list(run.rows())
    cost = {"evaluations": sum("evaluation" in row for row in rows), "peak_memory_bytes": _peak_memory()}
    if rows and rows[-1].get("cpu_seconds") is not None:
        cost["cpu_seconds"] = rows[-1]["cpu_seconds"]
    cost = {**cost, **training}
    cost.setdefault("samples_per_second", round(cost["samples_seen"] / max(cost["seconds"], 1e-9), 1))
    return cost


def _peak_memory() -> int:
    """Largest memory of this process so far, in bytes; of the GPU's where one was used."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job: 0 finished, 2 an error of the user's, 130 interrupted and saved."""
    end_with_starter()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) != 1:
        print("usage: python -m frugalclip.comparison.trial JOB.json", file=sys.stderr)
        return 2
    try:
        return 0 if run_trial(words[0]) else INTERRUPTED
    except FrugalclipError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
