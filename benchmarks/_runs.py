"""Runs of a benchmark that is resumed run by run: trained, measured, and recorded in a file each.

A record is written as soon as its run has ended, and a run that has one is not trained again. A run that was
killed goes on from its last checkpoint. Every process trains with one thread.
"""

import hashlib
import multiprocessing
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from frugalclip.comparison.evaluators import metric_evaluator
from frugalclip.comparison.metrics import MetricConfig
from frugalclip.comparison.paired import Estimate, FoldOutcomes, estimate
from frugalclip.compression.sizes import network_size
from frugalclip.core.errors import DataError
from frugalclip.core.processes import end_with_parent
from frugalclip.core.records import RunDirectory, environment, read_json, write_json
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.encoding import encode_texts, image_features
from frugalclip.evaluation.ranking import cosine_scores, rank_positives
from frugalclip.evaluation.retrieval import retrieval_task
from frugalclip.functional import unit
from frugalclip.models import Model, load
from frugalclip.sources.open import open_data
from frugalclip.training.loop import train_run
from frugalclip.training.recipe import Recipe, validate_recipe

Block = Mapping[str, FoldOutcomes]


@dataclass(frozen=True)
class Metric:
    """What is measured of a trained model, on rows of the data."""

    where: str
    task: str  # retrieval: reciprocal rank in both directions; zeroshot: top 1
    label_field: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Run:
    """One run of an arm: what is trained, where it stands, and what is measured afterwards."""

    arm: str
    seed: int
    recipe: Mapping[str, Any]  # mappings of a recipe, with length and rate
    data: str
    train: str  # condition of the training rows
    folder: Path  # becomes the run directory
    record: Path
    metrics: Mapping[str, Metric]
    validation: Metric | None = None  # measured at every point; None: no curve
    points: int = 1
    teacher: str = ""  # digest of the weights that a student learns from
    rows: str | None = None  # manifest with the training rows, where that is not the data

    def resolved(self) -> Recipe:
        """The recipe with data, seed and evaluation points."""
        path = self.rows or self.data
        data = {"path": path, "where": self.train, "validation": "none"}
        points = {"evaluation": {"points": self.points}, "checkpoints": {"keep": self.points + 1}}
        return validate_recipe({**self.recipe, "data": data, "seed": self.seed, **points})

    @property
    def is_done(self) -> bool:
        """Whether there is a record, under the same teacher."""
        return self.recorded_teacher == self.teacher

    @property
    def recorded_teacher(self) -> str | None:
        """The digest of the teacher in the record; None without a record."""
        return read_json(self.record)["teacher"] if self.record.is_file() else None


def run_all(runs: Sequence[Run], *, jobs: int) -> list[dict[str, Any]]:
    """Train and measure the runs that have no record, and read the records of all.

    Raises:
        SystemExit: if Ctrl-C or SIGTERM stopped a run.
    """
    missing = [run for run in runs if not run.is_done]
    if missing:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=jobs, mp_context=context, initializer=_begin) as pool:
            futures = [pool.submit(finish, run) for run in missing]
            try:
                _follow(futures)
            finally:
                pool.shutdown(cancel_futures=True)
    return [read_json(run.record) for run in runs]


def _begin() -> None:
    end_with_parent()
    torch.set_num_threads(1)


def _follow(futures: Sequence[Future[dict[str, Any] | None]]) -> None:
    for done, future in enumerate(as_completed(futures), 1):
        found = future.result()
        if found is None:
            raise SystemExit("stopped; the same command goes on from here.")
        means = {name: round(one["mean"], 2) for name, one in found["metrics"].items()}
        print(f"{done} of {len(futures)}: {found['arm']}, seed {found['seed']}: {means}", flush=True)


def finish(run: Run) -> dict[str, Any] | None:
    """Train a run, or go on with it, and write its record; None if it was stopped."""
    recipe, directory = run.resolved(), RunDirectory(run.folder)
    data = open_data(run.data)
    rows = data if run.rows is None else open_data(run.rows)
    result = train_run(recipe, rows, directory, resume=True)
    if not result.is_finished:
        return None
    last = list(directory.rows())[-1]
    measured = {name: measure(result.model, data, metric) for name, metric in run.metrics.items()}
    found = {
        "arm": run.arm,
        "seed": run.seed,
        "teacher": run.teacher,
        "rate": recipe.optimizer.lr,
        "steps": result.steps,
        "samples": result.samples_seen,
        "pairs": len(result.training),
        "cpu_seconds": round(last["cpu_seconds"], 1),
        "size": network_size(result.model.network),
        "data": data.fingerprint(),
        "metrics": {
            name: {"mean": round(100 * float(values.mean()), 4), "values": _rounded(values)}
            for name, values in measured.items()
        },
        "curve": _curve(run, recipe, directory, data),
        "environment": environment(),
    }
    run.record.parent.mkdir(parents=True, exist_ok=True)
    write_json(run.record, found)
    for step in directory.steps_saved()[:-1]:
        shutil.rmtree(directory.checkpoint(step))
    return found


def weights_file(folder: Path) -> Path:
    """The file of the weights of a finished run."""
    checkpoint = RunDirectory(folder).last_checkpoint()
    assert checkpoint is not None, "the run is finished"
    return checkpoint / "model.safetensors"


def digest(folder: Path) -> str:
    """16 hex digits of the weights of a finished run."""
    return hashlib.blake2b(weights_file(folder).read_bytes(), digest_size=8).hexdigest()


def _rounded(values: np.ndarray) -> list[float]:
    return [round(value, 4) for value in values.tolist()]


def _curve(run: Run, recipe: Recipe, directory: RunDirectory, data: Manifest) -> list[dict[str, float]]:
    """Validation metric at every point, without those at which gates are learned: no student is cut yet."""
    if run.validation is None:
        return []
    by_step = {row["step"]: row for row in directory.rows()}
    points = []
    for step in directory.steps_saved():
        row = by_step[step]
        if recipe.stage(row["stage"] - 1).gates is None:
            mean = float(measure(load(directory.checkpoint(step)), data, run.validation).mean())
            points.append({"step": step, "value": round(100 * mean, 4)})
    return points


def measure(model: Model, data: Manifest, metric: Metric) -> np.ndarray:
    """(samples,) outcomes from 0 to 1, in the order of the rows."""
    rows = data.where(metric.where)
    if metric.task == "retrieval":
        return reciprocal_ranks(model, rows)
    config = MetricConfig(task="zeroshot", label_field=metric.label_field, group=metric.group)
    return metric_evaluator(config, rows).evaluate(model).hits


def reciprocal_ranks(model: Model, rows: Manifest) -> np.ndarray:
    """(rows,) mean of two reciprocal ranks: of the row's caption by its image, and the reverse.

    Args:
        model: encodes both.
        rows: with one caption each.
    """
    task = retrieval_task(rows)
    features, kept, faults = image_features(model, rows, task.rows)
    assert not faults and len(kept) == len(rows), "composed scenes are whole"
    images, captions = unit(features), unit(encode_texts(model, task.texts))
    of_images, of_texts = task.positives()
    by_image = rank_positives(cosine_scores(images, captions), of_images).expected()
    by_text = rank_positives(cosine_scores(captions, images), of_texts).expected()
    return ((1 / by_image + 1 / by_text[of_images[:, 0]]) / 2).numpy()


def baselines(data: Manifest, train: str, metric: Metric) -> dict[str, float]:
    """Percent of a metric that guessing gives, and copying from the nearest training images.

    Args:
        data: everything.
        train: condition of the training rows.
        metric: what is measured.
    """
    rows, is_retrieval = data.where(metric.where), metric.task == "retrieval"
    evaluators = [
        metric_evaluator(
            MetricConfig(task="retrieval", metric=f"{way}_r1")
            if is_retrieval
            else MetricConfig(task="zeroshot", label_field=metric.label_field),
            rows,
        )
        for way in (("i2t", "t2i") if is_retrieval else ("",))
    ]
    neighbours = evaluators[0].neighbours(data.where(train))
    found: dict[str, list[float]] = {}
    for evaluator in evaluators:
        guessed = np.mean(1 / np.arange(1, len(rows) + 1)) * 100 if is_retrieval else evaluator.chance()
        found.setdefault("chance", []).append(float(guessed))
        for name, result in evaluator.baselines(neighbours).items():
            values = 1 / result.ranks if is_retrieval else result.hits
            found.setdefault(name, []).append(100 * float(values.mean()))
    return {name: fmean(each) for name, each in found.items()}


def block(
    records: Iterable[Mapping[str, Any]], arm: str, metric: str, *, groups: np.ndarray | None = None
) -> dict[str, FoldOutcomes]:
    """The outcomes of an arm's runs in percent, as the paired tests take them; empty without runs.

    Args:
        records: of all arms.
        arm: its name.
        metric: its name.
        groups: (samples,) what is drawn together; default each sample by itself.
    """
    runs = sorted((one for one in records if one["arm"] == arm), key=lambda one: one["seed"])
    if not runs:
        return {}
    values = 100 * np.array([one["metrics"][metric]["values"] for one in runs])
    ids = np.array([f"{place:06}" for place in range(values.shape[1])])
    own = ids if groups is None else groups
    return {"": FoldOutcomes(values, own, np.ones(len(ids)), ids, tuple(one["seed"] for one in runs))}


def beside(one: Block, runs: Block) -> dict[str, FoldOutcomes]:
    """The outcomes of a single run, such as a teacher's, paired with every run of an arm."""
    return {
        fold: replace(
            one[fold], values=np.repeat(one[fold].values[:1], len(other.seeds), axis=0), seeds=other.seeds
        )
        for fold, other in runs.items()
    }


def share_of(arm: Block, reference: Block) -> Estimate:
    """The arm's mean in percent of the reference's, with a paired interval.

    The difference from that share of the reference, over the reference's mean, has the mean 0 and the spread
    of the share (delta method).
    """
    mean = fmean(float(one.means().mean()) for one in reference.values())
    if mean == 0:
        raise DataError("the reference has a metric of 0, and there is no share of that; train it longer.")
    share = fmean(float(one.means().mean()) for one in arm.values()) / mean
    scaled = {
        fold: replace(one, values=100 * (one.values - share * reference[fold].values) / mean)
        for fold, one in arm.items()
    }
    found = estimate(list(scaled.values()))
    low_high = None if found.interval is None else tuple(100 * share + bound for bound in found.interval)
    return replace(found, value=100 * share, interval=low_high)


def reached(curve: Sequence[Mapping[str, float]], target: float) -> float | None:
    """The step at which a curve first reaches a target, between points on a line; None: never."""
    before = {"step": 0.0, "value": 0.0}
    for point in curve:
        if point["value"] >= target:
            rise = point["value"] - before["value"]
            share = 1.0 if rise <= 0 else (target - before["value"]) / rise
            return before["step"] + max(share, 0.0) * (point["step"] - before["step"])
        before = dict(point)
    return None
