"""One figure of a comparison: a number, and the outcome of every sample behind it, so that paired tests need no second run.

A figure is a task on fixed rows with a fixed pool and one metric that speaks for it. Everything that does not depend on the model is made once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from frugalclip.core.config import Settings
from frugalclip.core.errors import known_names
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.baselines import (
    MOST_DESCRIBED,
    MOST_ROWS,
    VOTERS,
    Neighbours,
    describers,
    find_neighbours,
)
from frugalclip.evaluation.classes import row_names
from frugalclip.evaluation.encoding import Encoder, encode_texts, image_features
from frugalclip.evaluation.ranking import Ranks, Scores, cosine_scores, rank_positives
from frugalclip.evaluation.retrieval import DEPTHS, RetrievalTask, retrieval_task
from frugalclip.evaluation.zeroshot import ZeroshotTask, pool_ranks, zeroshot_task
from frugalclip.functional import unit

METRICS = {
    "zeroshot": ("top1", "top5", "mean_per_class"),
    "retrieval": tuple(f"{way}_r{k}" for way in ("t2i", "i2t") for k in DEPTHS),
}


class MetricConfig(Settings):
    """What is measured on a set of rows."""

    task: Literal["zeroshot", "retrieval"] = "zeroshot"
    metric: str = Field(
        "",
        description="zeroshot: top1, top5, mean_per_class; retrieval: t2i_r1, i2t_r1, t2i_r5, …; default the first",
    )
    pool: Literal["restricted", "all"] = Field(
        "restricted", description="names that compete: those of the judged rows, or of all the data"
    )
    label_field: str | None = Field(
        None, description="field that names the class of a row; null: label, else the first caption"
    )
    group: str | None = Field(
        None,
        description="field whose equal values stand or fall together, such as family; null: every row alone",
    )
    prompts: str = Field("plain", description="a prompt set")

    @model_validator(mode="before")
    @classmethod
    def _first_metric(cls, content: Any) -> Any:
        if isinstance(content, dict) and not content.get("metric"):
            return {**content, "metric": METRICS.get(str(content.get("task", "zeroshot")), ("",))[0]}
        return content

    @model_validator(mode="after")
    def _metric_of_the_task(self) -> Self:
        known = METRICS[self.task]
        if self.metric not in known:
            raise ValueError(
                f"metric {self.metric} is not one of {self.task}; {known_names(self.metric, known)}"
            )
        if self.pool == "all" and self.task == "retrieval":
            raise ValueError("pool: all belongs to zeroshot; retrieval always searches the judged rows")
        return self


@dataclass(frozen=True)
class MetricResult:
    """How a model did on one figure."""

    value: float  # percent: the weighted mean of hits
    metrics: dict[str, float]  # every metric of the task
    ids: list[str]  # (samples,) pictures, or captions where those are the queries
    groups: list[str]  # (samples,)
    hits: np.ndarray  # (samples,) float64 from 0 to 1, ties counted in part
    ranks: np.ndarray  # (samples,) float64 expected rank of the right answer, from 1
    weights: np.ndarray | None  # (samples,) float64, or None where all count the same

    def outcome(self) -> dict[str, Any]:
        """What became of every sample, as records hold it."""
        outcome = {
            "id": self.ids,
            "group": self.groups,
            "hit": np.round(self.hits, 9).tolist(),
            "rank": np.round(self.ranks, 3).tolist(),
        }
        return outcome | {"weight": None if self.weights is None else np.round(self.weights, 9).tolist()}

    def as_json(self, metric: str) -> dict[str, Any]:
        """The record of `trial.json`."""
        metrics = {k: round(v, 6) for k, v in self.metrics.items()}
        return {
            "metric": metric,
            "value": round(self.value, 6),
            "metrics": metrics,
            "outcome": self.outcome(),
        }


class SampledMetric:
    """A figure on its rows, ready to judge models.

    Args:
        config: what is measured.
        rows: the judged rows.
        everything: the data set they come from, whose names are the pool `all`; default the rows themselves.
    """

    def __init__(self, config: MetricConfig, rows: Manifest, everything: Manifest | None = None) -> None:
        self.config, self.manifest = config, rows
        self._zeroshot: ZeroshotTask | None = None
        self._retrieval: RetrievalTask | None = None
        if config.task == "zeroshot":
            label = config.label_field
            self._zeroshot = zeroshot_task(
                rows, everything, label_field=label, prompts=config.prompts, group=config.group
            )
        else:
            self._retrieval = retrieval_task(rows, group=config.group)

    @property
    def name(self) -> str:
        """The metric as evaluations call it, `generalised_top1` where all names compete."""
        return ("generalised_" if self.config.pool == "all" else "") + self.config.metric

    @property
    def samples(self) -> int:
        """Pictures, or captions where those are the queries, that are judged."""
        if self._zeroshot is not None:
            return len(self._zeroshot.rows)
        assert self._retrieval is not None
        return len(self._retrieval.texts if self.config.metric.startswith("t2i") else self._retrieval.rows)

    def judge(self, model: Encoder) -> MetricResult:
        """Measure a model.

        Raises:
            DataError: when no picture can be read.
        """
        return (
            self._judge_naming(model, self._zeroshot)
            if self._zeroshot is not None
            else self._judge_finding(model)
        )

    def _judge_naming(self, model: Encoder, task: ZeroshotTask) -> MetricResult:
        images, kept, _ = image_features(model, self.manifest, task.rows)
        task = task.only(kept) if len(kept) < len(task.rows) else task
        texts = encode_texts(model, task.texts)
        return self._naming(task, task.scores(images, texts), task.metrics(images, texts))

    def _naming(self, task: ZeroshotTask, scores: Scores, metrics: dict[str, float]) -> MetricResult:
        ranks = pool_ranks(scores, task.labels, classes=len(task.names))[
            "generalised_" if self.config.pool == "all" else ""
        ]
        depth = 5 if self.config.metric == "top5" else 1
        # the classes' weights make the mean over samples the mean over classes, also where a row has several
        weights = _class_weights(task.labels) if self.config.metric == "mean_per_class" else None
        return self._judgement(metrics, ranks, depth, rows=task.rows, ids=task.ids, weights=weights)

    def _judge_finding(self, model: Encoder) -> MetricResult:
        task = self._retrieval
        assert task is not None
        images, kept, _ = image_features(model, self.manifest, task.rows)
        task = task.only(kept) if len(kept) < len(task.rows) else task
        texts = encode_texts(model, task.texts)
        image_rows, captions = unit(images), unit(texts)
        return self._finding(
            task,
            cosine_scores(image_rows, captions),
            cosine_scores(captions, image_rows),
            task.metrics(images, texts),
        )

    def _finding(
        self, task: RetrievalTask, by_image: Scores, by_text: Scores, metrics: dict[str, float]
    ) -> MetricResult:
        of_images, of_texts = task.positives()
        way, _, depth = self.config.metric.partition("_r")
        if way == "i2t":
            return self._judgement(
                metrics,
                rank_positives(by_image, of_images),
                int(depth),
                rows=task.rows,
                ids=task.ids,
                weights=None,
            )
        first = task.rows[of_texts[:, 0].numpy()]  # a caption goes with the first picture that bears it
        return self._judgement(
            metrics, rank_positives(by_text, of_texts), int(depth), rows=first, ids=task.texts, weights=None
        )

    def _judgement(
        self,
        metrics: dict[str, float],
        ranks: Ranks,
        depth: int,
        *,
        rows: np.ndarray,
        ids: list[str],
        weights: np.ndarray | None,
    ) -> MetricResult:
        hits = ranks.hits(depth).numpy()
        value = 100 * float(np.average(hits, weights=weights))
        return MetricResult(value, metrics, ids, self._groups(rows), hits, ranks.expected().numpy(), weights)

    def _groups(self, rows: np.ndarray) -> list[str]:
        """What each judged row stands or falls with; a null stands alone."""
        ids = self.manifest.ids
        values = self.manifest.field(self.config.group) if self.config.group else [None] * len(ids)
        return [f"id {ids[row]}" if values[row] is None else str(values[row]) for row in rows.tolist()]

    def chance(self) -> float:
        """What guessing gives, in percent."""
        task = self._zeroshot or self._retrieval
        assert task is not None
        return task.chance()[self.name]

    def neighbours(self, training: Manifest) -> dict[str, Neighbours]:
        """Training pictures, by pixels and by features, with the words that could be copied; the same for figures of one task and label field."""
        if self._zeroshot is None:
            names = training.captions()
        else:
            label = self.config.label_field if self.config.label_field in training.field_names else None
            names = row_names(training, label_field=label)[0]
        if not any(names):
            return {}
        return {
            kind: find_neighbours(
                training, names, describe, most=MOST_ROWS if kind == "pixel" else MOST_DESCRIBED
            )
            for kind, describe in describers().items()
        }

    def baselines(self, neighbours: Mapping[str, Neighbours]) -> dict[str, MetricResult]:
        """How copying from the nearest training pictures does: `pixel_nn_1`, `pixel_nn_10`, `feature_nn_1`, `feature_nn_10`.

        Args:
            neighbours: what `neighbours` gave.
        """
        task = self._zeroshot or self._retrieval
        assert task is not None
        judged, found = self.manifest.take(task.rows), dict[str, MetricResult]()
        for kind, describe in describers().items() if neighbours else ():
            features, readable = describe(judged)
            places, _ = neighbours[kind].nearest(features)
            for k in VOTERS:
                found[f"{kind}_nn_{k}"] = self._copied(neighbours[kind], places[:, :k], readable)
        return found

    def _copied(self, neighbours: Neighbours, places: Tensor, readable: np.ndarray) -> MetricResult:
        task = (self._zeroshot or self._retrieval).only(readable)  # pyright: ignore[reportOptionalMemberAccess]
        votes = neighbours.scores(
            places, task.synonyms if isinstance(task, ZeroshotTask) else [[text] for text in task.texts]
        )
        matrix = torch.cat(
            [votes(rows) for rows in torch.arange(len(places)).split(1024)]
        )  # (images, names or texts), made once for ranks and metrics

        def by_image(rows: Tensor) -> Tensor:
            return matrix[rows]

        def by_text(rows: Tensor) -> Tensor:
            return matrix.T[rows]

        if isinstance(task, ZeroshotTask):
            return self._naming(task, by_image, task.metrics_of_scores(by_image))
        return self._finding(task, by_image, by_text, task.metrics_of_scores(by_image, by_text))


def _class_weights(labels: Tensor) -> np.ndarray:
    """(samples,) such that the weighted mean over samples is the mean over classes of the class's mean, from (samples, most) labels, -1 for none."""
    known = labels >= 0
    sizes = torch.bincount(labels[known])
    share = torch.where(
        known, 1 / sizes[labels.clamp(min=0)].clamp(min=1).double(), torch.zeros((), dtype=torch.float64)
    )
    return share.sum(1).numpy()
