"""The files of a run as they are: nothing is assumed to be there, and nothing missing stops the report."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from frugalclip.core.errors import FrugalclipError, ModelError
from frugalclip.core.records import RunDirectory, read_json
from frugalclip.core.yaml_text import read_yaml
from frugalclip.report.formats import is_finite, number

_TIME = ("step", "samples_seen", "seconds")


@dataclass(frozen=True)
class RunRecord:
    """The four files of a run in memory."""

    name: str  # the folder's name
    path: str  # as the user wrote it
    recipe: dict[str, Any]
    recipe_text: str
    rows: list[dict[str, Any]]  # of metrics.jsonl, steps ascending
    evaluations: list[dict[str, Any]]  # of metrics.json, the primary one first
    training: dict[str, Any]
    environment: dict[str, Any]
    interpolation: dict[str, Any] = field(default_factory=dict)  # from start to end, of a run with a guard
    arms: list[dict[str, Any]] = field(default_factory=list)  # compared with it
    compression: dict[str, Any] = field(default_factory=dict)  # teacher and student, if the run compressed
    faults: list[str] = field(default_factory=list)  # what could not be read, as sentences

    def series(self, key: str) -> tuple[list[float], list[float]]:
        """Samples seen and values of one column; a value that is null or not a number becomes NaN."""
        rows = [row for row in self.rows if key in row and is_finite(row.get("samples_seen"))]
        return [row["samples_seen"] for row in rows], [
            float(row[key]) if isinstance(row[key], (int, float)) else math.nan for row in rows
        ]

    def columns(self) -> list[str]:
        """Names of numeric columns in order of appearance, without step, samples and seconds."""
        seen = dict.fromkeys(
            key
            for row in self.rows
            for key, value in row.items()
            if value is None or isinstance(value, (int, float))
        )
        return [key for key in seen if key not in _TIME]

    def points(self) -> list[dict[str, Any]]:
        """The rows at which the model was evaluated."""
        return [
            row
            for row in self.rows
            if isinstance(row.get("evaluation"), Mapping) and is_finite(row.get("samples_seen"))
        ]

    def advice(self) -> list[tuple[int | None, str]]:
        """(step, sentence) of what the trainer advised, each sentence once."""
        found: dict[str, int | None] = {}
        for row in self.rows:
            for sentence in row.get("advice") or () if isinstance(row.get("advice"), (list, tuple)) else ():
                found.setdefault(str(sentence), row.get("step"))
        return [(step, sentence) for sentence, step in found.items()]

    @property
    def last(self) -> dict[str, Any]:
        """The newest row, or nothing."""
        return self.rows[-1] if self.rows else {}

    @property
    def batch(self) -> float | None:
        """Samples of one step: the recipe's, else those seen divided by the steps."""
        if is_finite(self.recipe.get("batch")):
            return self.recipe["batch"]
        step, seen = self.last.get("step"), self.last.get("samples_seen")
        return seen / step if is_finite(step) and is_finite(seen) and step else None

    def planned_steps(self) -> int | None:
        """Length of the run by its recipe, where that follows without the data."""
        if is_finite(self.recipe.get("steps")):
            return int(self.recipe["steps"])
        if is_finite(self.recipe.get("samples")) and self.batch:
            return max(1, round(self.recipe["samples"] / self.batch))
        return None

    def cut_short(self) -> str | None:
        """How far an unfinished run came, in words; None for a finished one."""
        done, planned = self.training.get("steps", self.last.get("step")), self.planned_steps()
        if planned and is_finite(done) and done < planned:
            return f"step {number(done)} of {number(planned)}"
        if not self.training:
            return f"step {number(done)}" if is_finite(done) else "the first step"
        return None

    def chance_loss(self) -> float | None:
        """The total loss of guessing in nats, for a run with one contrastive objective; else None."""
        objectives = {
            name: o for name, o in _mapping(self.recipe.get("objectives")).items() if _weight(o) > 0
        }
        if len(objectives) != 1:
            return None
        name, settings = next(iter(objectives.items()))
        logged = [v for v in self.series(f"{name}/chance")[1] if is_finite(v)]
        is_contrastive = str(_mapping(settings).get("kind") or name).rpartition(".")[2] == "contrastive"
        if not logged and not (is_contrastive and self.batch and self.batch > 1):
            return None
        chance = logged[-1] if logged else math.log(self.batch or 1)
        return _weight(settings) * chance * (2 if _mapping(settings).get("reduction") == "sum" else 1)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _weight(settings: Any) -> float:
    value = settings if is_finite(settings) else _mapping(settings).get("weight", 1.0)
    return float(value) if is_finite(value) else 1.0


def read_run(run: RunDirectory) -> RunRecord:
    """Read a run directory.

    Raises:
        ModelError: when it holds no recipe, so that it is no run.
    """
    if not run.is_run():
        raise ModelError(
            f"{run.path} holds no recipe.yaml; "
            "expected a run directory such as the --out of 'frugalclip train'."
        )
    faults: list[str] = []
    try:
        recipe = read_yaml(run.recipe)
    except FrugalclipError as error:
        recipe, _ = {}, faults.append(str(error))
    summary, environment = (_read(path, faults) for path in (run.summary, run.environment))
    rows = []
    try:
        rows += run.rows()
    except FrugalclipError as error:
        faults.append(str(error))
    evaluations = summary.get("evaluations")
    return RunRecord(
        name=run.path.resolve().name,
        path=str(run.path),
        recipe=recipe,
        recipe_text=run.recipe.read_text(encoding="utf-8", errors="replace"),
        rows=sorted(rows, key=lambda row: row["step"] if is_finite(row.get("step")) else 0),
        evaluations=[e for e in evaluations if isinstance(e, dict)] if isinstance(evaluations, list) else [],
        training=dict(_mapping(summary.get("training"))),
        environment=environment,
        interpolation=dict(_mapping(summary.get("interpolation"))),
        arms=[one for one in _listed(summary.get("arms")) if isinstance(one, dict)],
        compression=dict(_mapping(summary.get("compression"))),
        faults=faults,
    )


def _read(path: Any, faults: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = read_json(path)
    except ModelError as error:
        faults.append(str(error))
        return {}
    return content if isinstance(content, dict) else {}
