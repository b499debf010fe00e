"""A job is the description of one trial; a trial is a job, its folder and the record of its run.

The folder becomes a run directory with `job.json` before the run and `trial.json` after it.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from frugalclip.comparison.curves import Curve
from frugalclip.comparison.metrics import MetricConfig
from frugalclip.core.config import Settings, validated
from frugalclip.core.errors import RecipeError
from frugalclip.core.records import RunDirectory, read_json, write_json
from frugalclip.core.stored import read_object

JOB, TRIAL = "job.json", "trial.json"
VERSION = 2
Clock = Literal["cpu", "wall"]


class JobMetric(Settings):
    """A metric with its rows as files."""

    config: MetricConfig
    rows: str = Field(description="manifest of the evaluated rows")
    rows_hash: str = Field(description="fingerprint of the evaluated rows")
    everything: str | None = Field(
        None, description="manifest of the data they come from, whose names are the pool all"
    )


class TrialJob(Settings):
    """What one trial does. Paths in a file are relative to its folder; `read_job` makes them absolute."""

    frugalclip_job: Literal[2] = Field(VERSION, description="version of this schema")
    arm: str = Field(description="name of the arm")
    recipe: dict[str, Any] | None = Field(
        None, description="settings of the recipe that are not default, or null for an arm with a command"
    )
    command: list[str] | None = Field(
        None, description="program of another library; the path of the job is appended"
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="settings of an arm with a command, passed on unchanged"
    )
    seed: int = Field(ge=0, description="every random stream of the trial derives from it")
    seed_index: int = Field(ge=0, description="number of the repetition, from 0")
    fold: str | None = Field(None, description="value that is held out of training, or null")
    fraction: float = Field(1.0, gt=0, le=1, description="share of the training pairs")
    data: str = Field(description="manifest with the training and validation rows")
    train: str = Field(description="condition of the training rows")
    validation: str | None = Field(None, description="condition of the validation set, or null")
    data_hash: str = Field(description="fingerprint of the manifest")
    label_field: str | None = Field(
        None, description="field that names the class of a validation row; null: label, else first caption"
    )
    curve: str = Field("zeroshot/top1", description="metric on the validation set that curves show")
    points: int = Field(
        20,
        ge=1,
        description="evaluations of the validation set, evenly spaced, the last at the end",
    )
    samples: int | None = Field(None, ge=1, description="samples to see; null: the arm's own length")
    metrics: dict[str, JobMetric] = Field(default_factory=dict, description="what to evaluate at the end")

    def digest(self) -> str:
        """16 hex digits over everything that the result depends on; paths and descriptions do not count."""
        content = self.model_dump(mode="json", exclude={"data", "metrics"})
        content["metrics"] = {
            name: metric.config.content() | {"rows_hash": metric.rows_hash}
            for name, metric in self.metrics.items()
        }
        return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()

    def with_paths(self, change: Callable[[str], str]) -> "TrialJob":
        """The job with every path replaced by a function of it."""
        metrics = {}
        for name, metric in self.metrics.items():
            everything = None if metric.everything is None else change(metric.everything)
            update = {"rows": change(metric.rows), "everything": everything}
            metrics[name] = metric.model_copy(update=update)
        return self.model_copy(update={"data": change(self.data), "metrics": metrics})

    def program(self) -> list[str]:
        """The program of the arm and its arguments, before the path of the job."""
        if self.command is None:
            return [sys.executable, "-m", "frugalclip.comparison.trial"]
        return [sys.executable if self.command[0] == "python" else self.command[0], *self.command[1:]]


def write_job(folder: Path, job: TrialJob) -> Path:
    """Write `job.json` into the folder that becomes the run directory, with paths relative to it."""
    path = folder / JOB
    start = folder.resolve()
    relative = job.with_paths(lambda place: os.path.relpath(place, start))
    write_json(path, relative.model_dump(mode="json"))
    return path


def read_job(path: Path | str) -> TrialJob:
    """Read a job, with absolute paths.

    Raises:
        RecipeError: if the file is missing or has another version.
    """
    path = Path(path)
    if not path.is_file():
        raise RecipeError(f"there is no job at {path}; 'frugalclip compare' writes them.")
    content = read_json(path)
    if not isinstance(content, dict) or content.get("frugalclip_job") != VERSION:
        raise RecipeError(
            f"{path} is no job of version {VERSION}; run 'frugalclip compare' again into a new --out."
        )
    start = path.resolve().parent
    return validated(TrialJob, content, where=str(path)).with_paths(
        lambda place: os.path.normpath(start / place)
    )


def read_record(folder: Path) -> dict[str, Any] | None:
    """The content of `trial.json` in a folder, or None where the trial has not ended."""
    return read_object(folder / TRIAL) if (folder / TRIAL).is_file() else None


@dataclass(frozen=True, eq=False)  # compared by identity: jobs hold mappings
class Trial:
    """A job, its folder and, once the run has ended, the record of it."""

    job: TrialJob
    folder: Path
    record: Mapping[str, Any] | None = None  # trial.json
    points: Sequence[Mapping[str, Any]] = ()  # rows of metrics.jsonl with `evaluation`

    @property
    def arm(self) -> str:
        """Name of the arm."""
        return self.job.arm

    @property
    def fold(self) -> str:
        """The held-out value, empty where nothing is held out."""
        return self.job.fold or ""

    @property
    def run(self) -> tuple[str, int]:
        """Fold and number of the repetition: runs of two arms with the same key are a pair."""
        return self.fold, self.job.seed_index

    @property
    def is_finished(self) -> bool:
        return self.record is not None

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Results by metric; empty before the end."""
        return (self.record or {}).get("metrics", {})

    @property
    def training(self) -> Mapping[str, Any]:
        """What the training cost; empty before the end."""
        return (self.record or {}).get("training", {})

    def write(self) -> None:
        """Write the job into the folder, which is made."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_job(self.folder, self.job)

    def read(self) -> "Trial":
        """The trial with the record in its folder, if that is the record of an equal job."""
        found = read_record(self.folder)
        if found is None or found.get("job") != self.job.digest():
            return replace(self, record=None, points=())
        points = [row for row in RunDirectory(self.folder).rows() if "evaluation" in row]
        return replace(self, record=found, points=points)

    def curve(self, name: str, clock: Clock) -> Curve | None:
        """A metric of the validation set over samples and seconds, or None where it was not measured."""
        key = "cpu_seconds" if clock == "cpu" else "seconds"
        rows = [row for row in self.points if name in row.get("evaluation", {}) and key in row]
        if not rows:
            return None
        triples = [(row["samples_seen"], row[key], row["evaluation"][name]) for row in rows]
        return Curve(*(np.array(column, np.float64) for column in zip(*triples, strict=True)))
