"""What decides how far a data set carries: its size, its captions, and what simple baselines reach on it.

The baselines are measured on the rows that a run of the data set validates on, by the metric that the run
ends with. They need no training and take seconds; nothing else known before training says as much about how
hard the data are.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from frugalclip.core.errors import DataError
from frugalclip.core.stored import StoredRecord
from frugalclip.core.users_text import command_line
from frugalclip.data.manifest import Manifest
from frugalclip.data.splits import DataSplit, divide
from frugalclip.data.statistics import caption_statistics, image_statistics, sampled_rows
from frugalclip.evaluation.baselines import Baselines, Scorer
from frugalclip.evaluation.classes import row_names
from frugalclip.evaluation.retrieval import evaluate_retrieval, retrieval_task
from frugalclip.evaluation.zeroshot import ZeroshotTask, evaluate_zeroshot, zeroshot_task
from frugalclip.models import Model
from frugalclip.training.guard import TOP1, headline

MOST_MEASURED = 2_000  # validation rows that baselines are measured on
SIDES = 200  # images whose size is read
RECALLS = ("i2t_r1", "t2i_r1")


class DataProfile(StoredRecord):
    """A data set as predictions read it. Metrics are in percent."""

    pairs: int  # to train on
    validation: int  # rows that runs are measured on
    queries: int  # images named, or images and captions searched with
    metric: str  # the headline of a run on these data
    chance: float
    baselines: dict[str, float]  # name -> headline metric
    words: float  # in a caption, the median
    distinct: float  # share of captions that differ from all others
    side: float  # pixels of the shorter side, the median

    @property
    def best_baseline(self) -> float:
        """The value that a run has to beat."""
        return max(self.baselines.values(), default=self.chance)


def profile_data(everything: Manifest, *, where: str | None, label_field: str | None) -> DataProfile:
    """Measure a data set without training.

    Args:
        everything: the data set.
        where: condition of the rows to train on; None as in a recipe without one.
        label_field: field that names the classes; None as in `evaluate`.

    Raises:
        DataError: when nothing can be held out to measure on.
    """
    split = divide(everything, where=where, validation="auto")
    if split.validation is None or not len(split.train):
        raise DataError(
            f"{everything.name} leaves {len(split.train):,} rows to train on and none to measure on, and "
            "advice rests on both; add pairs, or divide the data: "
            f"{command_line('data', 'divide', everything.name, '--out', 'divided.parquet')}"
        )
    rows = _measured_rows(split)
    captions = caption_statistics(split.train)
    sizes = image_statistics(split.train, sampled_rows(len(split.train), SIDES), decoded=False).sizes.values()
    metric, queries, chance, measured = _headline_baselines(split.train, rows, label_field)
    return DataProfile(
        pairs=len(split.train),
        validation=len(split.validation),
        queries=queries,
        metric=metric,
        chance=chance,
        baselines=measured,
        words=captions.words.middle,
        distinct=captions.distinct / max(1, captions.captions),
        side=float(statistics.median(map(min, sizes))) if sizes else 0.0,
    )


def measure_model(model: Model, rows: Manifest, *, label_field: str | None) -> float:
    """The headline metric of a model as it is, in percent.

    Args:
        model: to measure.
        rows: `measured_rows` of the data.
        label_field: as for `profile_data`.
    """
    if headline(zeroshot_task(rows, label_field=label_field)) == TOP1:
        return evaluate_zeroshot(model, rows, label_field=label_field, draws=0)["metrics"]["top1"]
    return _mean(evaluate_retrieval(model, rows, draws=0)["metrics"], RECALLS)


def measured_rows(everything: Manifest, *, where: str | None) -> Manifest:
    """The rows that a profile and models are measured on: those that runs validate on, 2,000 at most.

    Args:
        everything: the data set.
        where: condition of the rows to train on.
    """
    return _measured_rows(divide(everything, where=where, validation="auto"))


def _measured_rows(split: DataSplit) -> Manifest:
    assert split.validation is not None
    rows = sampled_rows(len(split.validation), MOST_MEASURED)
    return split.validation.take(np.asarray(rows, dtype=np.int64))


def _headline_baselines(
    training: Manifest, rows: Manifest, label_field: str | None
) -> tuple[str, int, float, dict[str, float]]:
    """(metric, queries, chance, baseline -> value) of the metric that a run ends with."""
    naming = zeroshot_task(rows, label_field=label_field)
    metric, baselines = headline(naming), Baselines(training)
    if metric == TOP1:
        label = label_field if label_field in training.field_names else None
        names, _ = row_names(training, label_field=label)
        found = baselines.measure(rows.take(naming.rows), names, _naming(naming))
        return metric, len(naming.rows), naming.chance()["top1"], _values(found, ("top1",))
    task = retrieval_task(rows)
    found = baselines.measure(rows.take(task.rows), training.captions(), task.metrics_of_baseline)
    chance = task.chance()
    return metric, len(task.rows) + len(task.texts), _mean(chance, RECALLS), _values(found, RECALLS)


def _naming(task: ZeroshotTask) -> Callable[[str, Scorer, np.ndarray], dict[str, float]]:
    return lambda _, scorer, readable: task.metrics_of_scores(scorer(task.synonyms), readable)


def _values(found: dict[str, Any], names: Sequence[str]) -> dict[str, float]:
    """Baseline -> the mean of some metrics."""
    return {name: _mean(metrics, names) for name, metrics in found.items() if name != "about"}


def _mean(metrics: Mapping[str, float], names: Sequence[str]) -> float:
    return sum(metrics[name] for name in names) / len(names)


def headline_of(summary: Mapping[str, Any], metric: str) -> float:
    """The headline metric in the `metrics.json` of a finished run, in percent."""
    naming, retrieval = (one["metrics"] for one in summary["evaluations"][:2])
    return naming["top1"] if metric == TOP1 else _mean(retrieval, RECALLS)
