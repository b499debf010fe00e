"""One trial of a comparison: an arm, a rotation, a fraction of the data and a seed, in a process of its own.

`python -m frugalclip.comparison.trial JOB.json` runs it. The job says everything, and the folder it lies in becomes a run directory with one
more file, `trial.json`: the figures and the outcome of every judged sample. An arm that is not ours reads the same job and writes the same
files; `read_job`, `validation_metrics` and `finish_trial` are for it (`docs/formats.md`, "A trial").
"""

import hashlib
import json
import math
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from frugalclip.comparison.metrics import MetricConfig, SampledMetric
from frugalclip.core.config import Settings, validated
from frugalclip.core.errors import DataError, FrugalclipError, RecipeError
from frugalclip.core.records import RunDirectory, environment, read_json, write_json
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.encoding import Encoder
from frugalclip.sources.open import open_data
from frugalclip.training.loop import train_run
from frugalclip.training.recipe import Recipe, validate_recipe
from frugalclip.training.run import TrainingResult

JOB, TRIAL = "job.json", "trial.json"
INTERRUPTED = 130
PARTS = 4  # of a trial, each with a checkpoint at its end
LENGTHS = ("epochs", "samples", "steps")
_PLACES = (
    "data",
    "rows",
    "everything",
)  # keys that hold a path: no part of what a job is, since its data is named by fingerprint


class JobMetric(MetricConfig):
    """A figure with its rows as files."""

    rows: str = Field(description="manifest of the judged rows")
    everything: str | None = Field(
        None, description="manifest of the data they come from, whose names are the pool all"
    )
    rows_hash: str = Field(description="fingerprint of the judged rows")


class Job(Settings):
    """What one trial does. Paths are relative to the folder of the job's file; `read_job` makes them absolute."""

    frugalclip_job: Literal[1] = Field(1, description="version of this schema")
    arm: str = Field(description="name of the arm")
    recipe: dict[str, Any] | None = Field(
        None, description="recipe with all that is not default, or null for an arm with a command"
    )
    command: list[str] | None = Field(
        None, description="how an arm that is not ours is started; the path of the job is appended"
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="settings of an arm with a command, handed on as they are"
    )
    seed: int = Field(ge=0, description="every random stream of the trial derives from it")
    seed_index: int = Field(ge=0, description="which repetition this is, from 0")
    rotation: str | None = Field(None, description="value that is left out of training, or null")
    fraction: float = Field(1.0, gt=0, le=1, description="share of the training pairs")
    data: str = Field(description="manifest with the rows to train on and those that watch")
    train: str = Field(description="condition that gives the training rows")
    validation: str | None = Field(None, description="condition that gives the rows that watch, or null")
    data_hash: str = Field(description="fingerprint of the manifest")
    label_field: str | None = Field(
        None, description="field that names the class of a watching row; null: label, else the first caption"
    )
    curve: str = Field("zeroshot/top1", description="figure on the watching rows that curves are drawn of")
    points: int = Field(
        20,
        ge=1,
        description="how often the watching rows are scored, evenly spaced, the last time at the end",
    )
    samples: int | None = Field(
        None, ge=1, description="samples to see; null: as many as the arm itself says"
    )
    metrics: dict[str, JobMetric] = Field(default_factory=dict, description="what to measure at the end")

    def digest(self) -> str:
        """16 hex digits over all that the result depends on; where the files lie does not count."""
        content = self.model_dump(mode="json", exclude={"data"})
        for metric in content["metrics"].values():
            for key in _PLACES:
                metric.pop(key, None)
        return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()

    def moved(self, change: Any) -> "Job":
        """The job with every path changed by a function of it."""
        metrics = {
            name: f.model_copy(
                update={
                    "rows": change(f.rows),
                    "everything": None if f.everything is None else change(f.everything),
                }
            )
            for name, f in self.metrics.items()
        }
        return self.model_copy(update={"data": change(self.data), "metrics": metrics})


def write_job(folder: Path, job: Job) -> Path:
    """Write `job.json` into the folder that becomes the run directory; absolute paths become relative to it."""
    path = folder / JOB
    start = folder.resolve()
    write_json(path, job.moved(lambda place: os.path.relpath(place, start)).model_dump(mode="json"))
    return path


def read_job(path: Path | str) -> Job:
    """Read a job, with absolute paths.

    Raises:
        RecipeError: when it is no job of this version.
    """
    path = Path(path)
    if not path.is_file():
        raise RecipeError(f"there is no job at {path}; 'frugalclip compare' writes them.")
    content = read_json(path)
    if not isinstance(content, dict) or content.get("frugalclip_job") != 1:
        raise RecipeError(
            f"{path} is no job of version 1; run 'frugalclip compare' again with the version that wrote it."
        )
    start = path.resolve().parent
    return validated(Job, content, where=str(path)).moved(lambda place: os.path.normpath(start / place))


def finished_trial(folder: Path) -> dict[str, Any] | None:
    """What `trial.json` in a folder says, or None where the trial has not ended."""
    return read_json(folder / TRIAL) if (folder / TRIAL).is_file() else None


def trial_recipe(job: Job) -> Recipe:
    """The recipe of a trial: the arm's, on the job's data, seed, length and evaluation points.

    Raises:
        RecipeError: when the arm has no recipe, or one that does not describe a run.
    """
    if job.recipe is None:
        raise RecipeError(
            f"arm '{job.arm}' has a command and no recipe; start it with: {' '.join(job.command or [])} JOB.json"
        )
    content = {key: value for key, value in job.recipe.items() if job.samples is None or key not in LENGTHS}
    data = {
        **_section(content, "data"),
        "path": job.data,
        "where": job.train,
        "validation": job.validation or "none",
        "columns": {},
    }
    points = {**_section(content, "evaluation"), "points": job.points, "label_field": job.label_field}
    batch = int(content.get("batch") or Recipe.model_fields["batch"].default)
    seldom = (
        {} if job.samples is None else {"every": max(1, math.ceil(job.samples / batch / PARTS))}
    )  # trials are short, and there are many
    checkpoints = {**seldom, **_section(content, "checkpoints"), "keep": 1}  # only the last is ever read
    length = {} if job.samples is None else {"samples": job.samples}
    return validate_recipe(
        {
            **content,
            **length,
            "data": data,
            "evaluation": points,
            "checkpoints": checkpoints,
            "seed": job.seed,
        }
    )


def _section(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name)
    return dict(found) if isinstance(found, Mapping) else {}


def run_trial(path: Path | str) -> bool:
    """Train and judge what a job says, or go on with it.

    Args:
        path: of the job; its folder becomes the run directory.

    Returns:
        True when it is finished, False when it was interrupted and saved.
    """
    job, folder = read_job(path), Path(path).resolve().parent
    everything = open_data(job.data)
    if everything.fingerprint() != job.data_hash:
        raise DataError(f"{job.data} is not the data that {path} was written for; compare into a new --out.")
    result = train_run(trial_recipe(job), everything, RunDirectory(folder), resume=True)
    if result.is_finished:
        finish_trial(path, result.model, training=_training(result))
    return result.is_finished


def _training(result: TrainingResult) -> dict[str, Any]:
    """The cost of a run of ours."""
    return {
        "steps": result.steps,
        "samples_seen": result.samples_seen,
        "seconds": round(result.seconds, 3),
        "parameters": sum(p.numel() for p in result.model.network.parameters()),
        "training_rows": len(result.training),
        "notes": result.notes,
    }


def judge(job: Job, model: Encoder) -> dict[str, Any]:
    """The figures of a job, as `trial.json` holds them."""
    opened: dict[str, Manifest] = {}
    metrics: dict[str, Any] = {}
    for name, config in job.metrics.items():
        for place in (config.rows, config.everything):
            if place is not None and place not in opened:
                opened[place] = open_data(place)
        everything = opened[config.everything] if config.everything else None
        metrics[name] = (
            SampledMetric(config, opened[config.rows], everything).judge(model).as_json(config.metric)
        )
    return metrics


def validation_metrics(job: Job, model: Encoder) -> dict[str, float]:
    """The figure that curves are drawn of, on the rows that watch: what an arm that is not ours puts under `evaluation` in its rows.

    Returns:
        {job.curve: percent}; empty where nothing watches.
    """
    if job.validation is None:
        return {}
    task, _, metric = job.curve.partition("/")
    config = validated(
        MetricConfig, {"task": task, "metric": metric, "label_field": job.label_field}, where="curve"
    )
    return {
        job.curve: round(
            SampledMetric(config, open_data(job.data, where=job.validation)).judge(model).value, 4
        )
    }


def finish_trial(path: Path | str, model: Encoder, *, training: Mapping[str, Any]) -> dict[str, Any]:
    """Judge a trained model and write `trial.json` and `metrics.json` beside the job.

    Args:
        path: of the job.
        model: encodes pictures and texts; `frugalclip.load` gives one, and any object with its four members will do.
        training: at least `samples_seen`, `seconds` and `parameters`; what `metrics.jsonl` and the system know is added.

    Returns:
        The content of `trial.json`.
    """
    job, run = read_job(path), RunDirectory(Path(path).resolve().parent)
    metrics = judge(job, model)
    rows = list(run.rows())
    cost = {"evaluations": sum("evaluation" in row for row in rows), "peak_memory_bytes": _peak_memory()}
    if rows and rows[-1].get("cpu_seconds") is not None:
        cost["cpu_seconds"] = rows[-1]["cpu_seconds"]
    cost = {**cost, **training}
    cost.setdefault("samples_per_second", round(cost["samples_seen"] / max(cost["seconds"], 1e-9), 1))
    code = environment()
    record = {
        "frugalclip_trial": 1,
        "job": job.digest(),
        **{key: getattr(job, key) for key in ("arm", "seed", "seed_index", "rotation", "fraction")},
        "metrics": metrics,
        "training": cost,
        "code": {
            "version": code["versions"].get("frugalclip"),
            "commit": code["commit"],
            "device": code["device"],
            "threads": code["threads"],
        },
    }
    evaluations = [
        {
            "task": job.metrics[name].task,
            "metrics": {found["metric"]: found["value"]},
            "where": name,
            "samples": len(found["outcome"]["id"]),
        }
        for name, found in metrics.items()
    ]
    write_json(run.summary, {"evaluations": evaluations, "training": cost})
    write_json(run.path / TRIAL, record)  # last: a trial that has this file is finished
    return record


def _peak_memory() -> int:
    """Largest memory of this process so far, in bytes; of the GPU's where one was used."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job: 0 done, 2 a fault of what was given, 130 interrupted and saved."""
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
