"""Evaluates one metric of a comparison and keeps the outcome of every sample.

Paired tests need the outcomes of two models on the same samples, and no second run. A metric has fixed rows
and a fixed pool, so whatever does not depend on the model is computed once.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from frugalclip.comparison.metrics import MetricConfig
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.baselines import (
    MOST_DESCRIBED,
    MOST_ROWS,
    VOTERS,
    TrainingImages,
    describers,
    find_neighbours,
)
from frugalclip.evaluation.classes import row_names
from frugalclip.evaluation.encoding import DataEncoder, encode_texts, image_features
from frugalclip.evaluation.ranking import Ranks, Scores, cosine_scores, rank_positives
from frugalclip.evaluation.retrieval import RetrievalTask, retrieval_task
from frugalclip.evaluation.zeroshot import ZeroshotTask, pool_ranks, zeroshot_task
from frugalclip.functional import unit

Task = TypeVar("Task", ZeroshotTask, RetrievalTask)


@dataclass(frozen=True)
class MetricResult:
    """The value of a metric for one model, and the outcome of every sample."""

    value: float  # percent: the weighted mean of hits
    metrics: dict[str, float]  # every metric of the task
    ids: list[str]  # (samples,) of images, or captions where those are the queries
    groups: list[str]  # (samples,)
    hits: np.ndarray  # (samples,) float64 from 0 to 1, ties counted in part
    ranks: np.ndarray  # (samples,) float64 expected rank of the right answer, from 1
    weights: np.ndarray | None  # (samples,) float64, or None where all count the same

    def outcome(self) -> dict[str, Any]:
        """Lists of equal length, an entry for every sample, as records hold them."""
        return {
            "id": self.ids,
            "group": self.groups,
            "hit": np.round(self.hits, 9).tolist(),
            "rank": np.round(self.ranks, 3).tolist(),
            "weight": None if self.weights is None else np.round(self.weights, 9).tolist(),
        }

    def as_json(self, metric: str) -> dict[str, Any]:
        """The record of `trial.json`."""
        return {
            "metric": metric,
            "value": round(self.value, 6),
            "metrics": {k: round(v, 6) for k, v in self.metrics.items()},
            "outcome": self.outcome(),
        }


class MetricEvaluator(ABC, Generic[Task]):
    """Base class of evaluators: a metric on its rows.

    Args:
        config: what is measured.
        rows: the evaluated rows.
        task: texts, rows and right answers of the evaluation.
    """

    def __init__(self, config: MetricConfig, rows: Manifest, task: Task) -> None:
        self.config, self.manifest, self.task = config, rows, task

    @abstractmethod
    def _from_features(self, task: Task, images: Tensor, texts: Tensor) -> MetricResult:
        """The result of features of images and texts."""

    @abstractmethod
    def _from_scores(self, task: Task, by_image: Scores, by_text: Scores) -> MetricResult:
        """The result of scores that no model made."""

    @abstractmethod
    def _training_names(self, training: Manifest) -> list[list[str]]:
        """The words of every training row that its nearest neighbours copy."""

    @abstractmethod
    def _candidates(self, task: Task) -> list[list[str]]:
        """The texts that compete, each with its synonyms."""

    def evaluate(self, model: DataEncoder) -> MetricResult:
        """Measure a model.

        Raises:
            DataError: when no image can be read.
        """
        images, kept, _ = image_features(model, self.manifest, self.task.rows)
        task = self.task.only(kept) if len(kept) < len(self.task.rows) else self.task
        return self._from_features(task, images, encode_texts(model, task.texts))

    def chance(self) -> float:
        """The value of guessing, in percent."""
        return self.task.chance()[self.config.name]

    def neighbours(self, training: Manifest) -> dict[str, TrainingImages]:
        """Training images by pixels and by features, with their words.

        They are the same for all metrics of one task and label field.
        """
        names = self._training_names(training)
        if not any(names):
            return {}
        most = {"pixel": MOST_ROWS}
        return {
            kind: find_neighbours(training, names, describe, most=most.get(kind, MOST_DESCRIBED))
            for kind, describe in describers().items()
        }

    def baselines(self, neighbours: Mapping[str, TrainingImages]) -> dict[str, MetricResult]:
        """Results of copying from the nearest training images.

        Args:
            neighbours: the result of `neighbours`.

        Returns:
            `pixel_nn_1`, `pixel_nn_10`, `feature_nn_1` and `feature_nn_10`.
        """
        evaluated, found = self.manifest.take(self.task.rows), dict[str, MetricResult]()
        for kind, describe in describers().items() if neighbours else ():
            features, readable = describe(evaluated)
            places, _ = neighbours[kind].nearest(features)
            for k in VOTERS:
                found[f"{kind}_nn_{k}"] = self._copy(neighbours[kind], places[:, :k], readable)
        return found

    def _copy(self, neighbours: TrainingImages, places: Tensor, readable: np.ndarray) -> MetricResult:
        task = self.task.only(readable)
        votes = neighbours.scores(places, self._candidates(task))
        chunks = torch.arange(len(places)).split(1024)
        matrix = torch.cat([votes(rows) for rows in chunks])  # (images, candidates), for ranks and metrics
        return self._from_scores(task, lambda rows: matrix[rows], lambda rows: matrix.T[rows])

    def _result(
        self,
        metrics: dict[str, float],
        ranks: Ranks,
        depth: int,
        *,
        rows: np.ndarray,
        ids: list[str],
        weights: np.ndarray | None = None,
    ) -> MetricResult:
        hits = ranks.hits(depth).numpy()
        value = 100 * float(np.average(hits, weights=weights))
        return MetricResult(value, metrics, ids, self._groups(rows), hits, ranks.expected().numpy(), weights)

    def _groups(self, rows: np.ndarray) -> list[str]:
        """The group of every evaluated row; a row without one is a group of its own."""
        ids = self.manifest.ids
        values = self.manifest.field(self.config.group) if self.config.group else [None] * len(ids)
        return [f"id {ids[row]}" if values[row] is None else str(values[row]) for row in rows.tolist()]


class ZeroshotEvaluator(MetricEvaluator[ZeroshotTask]):
    """Zero-shot naming."""

    def __init__(self, config: MetricConfig, rows: Manifest, everything: Manifest | None) -> None:
        label, group = config.label_field, config.group
        task = zeroshot_task(rows, everything, label_field=label, prompts=config.prompts, group=group)
        super().__init__(config, rows, task)

    def _from_features(self, task: ZeroshotTask, images: Tensor, texts: Tensor) -> MetricResult:
        return self._named(task, task.scores(images, texts), task.metrics(images, texts))

    def _from_scores(self, task: ZeroshotTask, by_image: Scores, by_text: Scores) -> MetricResult:
        return self._named(task, by_image, task.metrics_of_scores(by_image))

    def _named(self, task: ZeroshotTask, scores: Scores, metrics: dict[str, float]) -> MetricResult:
        pools = pool_ranks(scores, task.labels, classes=len(task.names))
        ranks = pools["generalised_" if self.config.pool == "all" else ""]
        depth = 5 if self.config.metric == "top5" else 1
        # with these weights the mean over samples is the mean over classes, also for rows with several
        # classes
        weights = _class_weights(task.labels) if self.config.metric == "mean_per_class" else None
        return self._result(metrics, ranks, depth, rows=task.rows, ids=task.ids, weights=weights)

    def _training_names(self, training: Manifest) -> list[list[str]]:
        label = self.config.label_field if self.config.label_field in training.field_names else None
        return row_names(training, label_field=label)[0]

    def _candidates(self, task: ZeroshotTask) -> list[list[str]]:
        return task.synonyms


class RetrievalEvaluator(MetricEvaluator[RetrievalTask]):
    """Retrieval of images by text, or of texts by image."""

    def __init__(self, config: MetricConfig, rows: Manifest) -> None:
        super().__init__(config, rows, retrieval_task(rows, group=config.group))

    def _from_features(self, task: RetrievalTask, images: Tensor, texts: Tensor) -> MetricResult:
        image_rows, captions = unit(images), unit(texts)
        by_image, by_text = cosine_scores(image_rows, captions), cosine_scores(captions, image_rows)
        return self._retrieved(task, by_image, by_text, task.metrics(images, texts))

    def _from_scores(self, task: RetrievalTask, by_image: Scores, by_text: Scores) -> MetricResult:
        return self._retrieved(task, by_image, by_text, task.metrics_of_scores(by_image, by_text))

    def _retrieved(
        self, task: RetrievalTask, by_image: Scores, by_text: Scores, metrics: dict[str, float]
    ) -> MetricResult:
        of_images, of_texts = task.positives()
        way, _, depth = self.config.metric.partition("_r")
        if way == "i2t":
            ranks = rank_positives(by_image, of_images)
            return self._result(metrics, ranks, int(depth), rows=task.rows, ids=task.ids)
        first = task.rows[of_texts[:, 0].numpy()]  # a caption belongs to the group of its first image
        ranks = rank_positives(by_text, of_texts)
        return self._result(metrics, ranks, int(depth), rows=first, ids=task.texts)

    def _training_names(self, training: Manifest) -> list[list[str]]:
        return training.captions()

    def _candidates(self, task: RetrievalTask) -> list[list[str]]:
        return [[text] for text in task.texts]


def metric_evaluator(
    config: MetricConfig, rows: Manifest, everything: Manifest | None = None
) -> ZeroshotEvaluator | RetrievalEvaluator:
    """The evaluator of a metric.

    Args:
        config: what is measured.
        rows: the evaluated rows.
        everything: the data set they come from, whose names are the pool `all`; default the rows themselves.
    """
    if config.task == "zeroshot":
        return ZeroshotEvaluator(config, rows, everything)
    return RetrievalEvaluator(config, rows)


def _class_weights(labels: Tensor) -> np.ndarray:
    """Weights of samples whose weighted mean is the mean over classes of the mean of each class.

    Args:
        labels: (samples, most) int64 classes of every sample, -1 for none.

    Returns:
        (samples,) float64.
    """
    known = labels >= 0
    sizes = torch.bincount(labels[known])
    share = torch.where(
        known, 1 / sizes[labels.clamp(min=0)].clamp(min=1).double(), torch.zeros((), dtype=torch.float64)
    )
    return share.sum(1).numpy()
