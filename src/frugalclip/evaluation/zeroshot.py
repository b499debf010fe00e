"""Name images that no classifier was trained on.

Source: CLIP, arXiv 2103.00020, section 3.1: normalise every prompt's feature, average a class's prompts,
normalise again, take the nearest class. Two pools: *restricted* is the names among the evaluated rows,
*generalised* all names of the data set, where names seen in training attract.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.baselines import Baselines, Scorer
from frugalclip.evaluation.class_table import Predictions
from frugalclip.evaluation.classes import collect_classes, row_names
from frugalclip.evaluation.encoding import DataEncoder, encode_texts, image_features
from frugalclip.evaluation.groups import find_groups
from frugalclip.evaluation.prompts import fill, find_prompts
from frugalclip.evaluation.ranking import Ranks, Scores, chance_ranks, cosine_scores, padded, rank_positives
from frugalclip.evaluation.results import EvaluatedRows, with_provenance
from frugalclip.evaluation.robustness import evaluate_robustness
from frugalclip.evaluation.side_by_side import outcome_of
from frugalclip.evaluation.statistics import Statistic, group_codes, intervals, mean_of, mean_of_classes
from frugalclip.functional import class_weights, unit


@dataclass(frozen=True)
class ZeroshotTask:
    """Everything about a zero-shot evaluation that does not depend on the model."""

    names: list[str]  # (classes,) the generalised pool
    synonyms: list[list[str]]  # (classes,) every text of a class, the name first
    texts: list[str]  # (prompts,) what the text tower has to encode
    owners: Tensor  # (prompts,) int64 class of each text
    rows: np.ndarray  # (samples,) int64 rows of the manifest that take part
    ids: list[str]  # (samples,)
    labels: Tensor  # (samples, most) int64 right classes, -1 for none
    groups: np.ndarray  # (samples,) int64 what the bootstrap draws
    about: dict[str, Any]  # what the metrics depend on

    def class_features(self, text_features: Tensor) -> Tensor:
        """(classes, dim) unit vectors from the features of `texts` (prompts, dim)."""
        return class_weights(text_features, self.owners.to(text_features.device), count=len(self.names))

    def scores(self, image_features: Tensor, text_features: Tensor) -> Scores:
        """Cosines of images with classes.

        Args:
            image_features: (samples, dim) features of `rows`, any length.
            text_features: (prompts, dim) features of `texts`, any length.
        """
        return cosine_scores(unit(image_features), self.class_features(text_features))

    def metrics(self, image_features: Tensor, text_features: Tensor) -> dict[str, float]:
        """Accuracies, cheap enough for every evaluation point of a run.

        Args:
            image_features: (samples, dim) features of `rows`, any length.
            text_features: (prompts, dim) features of `texts`, any length.

        Returns:
            top1, top5, mean_per_class and the same with `generalised_`, in percent.
        """
        return self.metrics_of_scores(self.scores(image_features, text_features))

    def metrics_of_scores(self, scores: Scores, kept: np.ndarray | None = None) -> dict[str, float]:
        """The same from scores, such as those of a baseline.

        Args:
            scores: gives (rows, classes).
            kept: (kept,) samples that have a score; default all.
        """
        labels = self.labels if kept is None else self.labels[torch.from_numpy(kept)]
        return _pool_metrics(pool_ranks(scores, labels, classes=len(self.names)), labels)

    def compare(
        self, scores: Scores, other: Scores, kept: np.ndarray, *, draws: int, seed: int
    ) -> dict[str, Any]:
        """The accuracy of a model beside that of a baseline, image by image.

        Args:
            scores: of the model: gives (rows, classes) for all samples.
            other: of the baseline: likewise for `kept`.
            kept: (kept,) samples that the baseline has a score for.
            draws: bootstrap draws.
            seed: of the bootstrap.

        Returns:
            `metric`, `difference` in points, its paired `interval`, and `verdict`: above, level or below.
        """
        place = torch.from_numpy(kept)
        labels, groups = self.labels[place], self.groups[kept]
        ours = pool_ranks(lambda rows: scores(place[rows]), labels, classes=len(self.names))[""]
        theirs = pool_ranks(other, labels, classes=len(self.names))[""]
        apart = ours.hits(1).numpy() - theirs.hits(1).numpy()
        statistic = {"top1": mean_of(apart, groups)}
        size = int(groups.max(initial=-1)) + 1
        low, high = (100 * x for x in intervals(statistic, groups=size, draws=draws, seed=seed)["top1"])
        verdict = "above" if low > 0 else "below" if high < 0 else "level"
        difference = 100 * float(apart.mean())
        return {"metric": "top1", "difference": difference, "interval": [low, high], "verdict": verdict}

    @property
    def group_count(self) -> int:
        """How many groups the bootstrap draws from."""
        return int(self.groups.max(initial=-1)) + 1

    def statistics(self, image_features: Tensor, text_features: Tensor) -> dict[str, Statistic]:
        """The metrics as functions of how often each group was drawn, in shares of one.

        Args:
            image_features: (samples, dim) features of `rows`, any length.
            text_features: (prompts, dim) features of `texts`, any length.
        """
        scores = self.scores(image_features, text_features)
        return self._statistics(pool_ranks(scores, self.labels, classes=len(self.names)))

    def _statistics(self, ranks: dict[str, Ranks]) -> dict[str, Statistic]:
        samples, classes = _pairs(self.labels)
        places, dense = samples.numpy(), classes.unique(return_inverse=True)[1].numpy()
        statistics = {}
        for prefix, rank in ranks.items():
            first = rank.hits(1).numpy()
            statistics[f"{prefix}top1"] = mean_of(first, self.groups)
            statistics[f"{prefix}top5"] = mean_of(rank.hits(5).numpy(), self.groups)
            statistics[f"{prefix}mean_per_class"] = mean_of_classes(first[places], dense, self.groups[places])
        return statistics

    def chance(self) -> dict[str, float]:
        """What guessing gives, exactly, in percent."""
        pools = _pools(self.labels, len(self.names))
        ranks = {prefix: chance_ranks(self.labels, len(pool)) for prefix, pool in pools.items()}
        return _pool_metrics(ranks, self.labels)

    def result(
        self,
        image_features: Tensor,
        text_features: Tensor,
        *,
        kept: np.ndarray | None = None,
        draws: int = 1000,
        seed: int = 0,
    ) -> dict[str, Any]:
        """Metrics with intervals, chance, a table of classes, and examples.

        Args:
            image_features: (kept, dim).
            text_features: (prompts, dim).
            kept: samples whose image could be read; default all.
            draws: bootstrap draws; 0 leaves intervals out.
            seed: of the bootstrap.
        """
        task = self if kept is None or len(kept) == len(self.rows) else self.only(kept)
        scores = task.scores(image_features, text_features)
        ranks = pool_ranks(scores, task.labels, classes=len(task.names))
        statistics = task._statistics(ranks) if draws else {}
        found = intervals(statistics, groups=task.group_count, draws=draws, seed=seed)
        pool = _pools(task.labels, len(task.names))[""]
        predictions = task._predictions(scores, pool, ranks[""])
        return {
            "metrics": _pool_metrics(ranks, task.labels),
            "interval": {name: [100 * low, 100 * high] for name, (low, high) in found.items()},
            "chance": task.chance(),
            "samples": len(task.rows),
            **task.about,
            "classes": {"restricted": len(pool), "generalised": len(task.names)},
            "bootstrap": {"draws": draws, "seed": seed, "level": 95, "groups": task.group_count},
            "per_class": predictions.table(),
            "examples": predictions.examples(task.ids, task.rows),
        }

    def _predictions(self, scores: Scores, pool: Tensor, ranks: Ranks) -> Predictions:
        """The best class of the pool for each sample."""
        parts = [
            pool[scores(rows).cpu()[:, pool].argmax(1)] for rows in torch.arange(len(self.rows)).split(1024)
        ]
        predicted = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)
        return Predictions(self.names, *_pairs(self.labels), predicted, ranks.hits(1))

    def only(self, samples: np.ndarray) -> "ZeroshotTask":
        """The same task on some samples; names that lose all their samples leave the restricted pool."""
        return replace(
            self,
            rows=self.rows[samples],
            ids=[self.ids[i] for i in samples],
            labels=self.labels[torch.from_numpy(np.asarray(samples, np.int64))],
            groups=group_codes(self.groups[samples], len(samples)),
        )


def zeroshot_task(
    manifest: Manifest,
    everything: Manifest | None = None,
    *,
    label_field: str | None = None,
    classes: Path | str | Sequence[str] | None = None,
    prompts: str | Path = "plain",
    language: str | None = None,
    group: str | None = None,
) -> ZeroshotTask:
    """Read names, labels and prompts of a data set.

    Args:
        manifest: the rows to evaluate on.
        everything: the data set before rows were selected; its names are the generalised pool. Default the
            rows themselves.
        label_field: field with the name or names of a row; default `label`, else the first caption.
        classes: class file, or a list of its lines; see `classes.read_classes`.
        prompts: prompt set or file, see `prompts.find_prompts`.
        language: names are the captions of this language; rows without it take no part.
        group: field whose equal values are drawn together by the bootstrap; default see `groups.find_groups`.

    Raises:
        DataError: unknown field, prompt set or class file, or no row with a name.
    """
    found = collect_classes(
        manifest, everything or manifest, label_field=label_field, classes=classes, language=language
    )
    templates = find_prompts(prompts)
    filled = [[text for name in names for text in fill(templates, name)] for names in found.synonyms]
    rows = np.array([i for i, labels in enumerate(found.labels) if labels], dtype=np.int64)
    ids, groups = manifest.ids, find_groups(manifest, group)
    everywhere = "all names of the data set" if classes is None else "the class list"
    lost = "without a name of the list" if classes else "without a name"
    return ZeroshotTask(
        names=found.names,
        synonyms=found.synonyms,
        texts=[text for texts in filled for text in texts],
        owners=torch.tensor([i for i, texts in enumerate(filled) for _ in texts], dtype=torch.int64),
        rows=rows,
        ids=[ids[i] for i in rows],
        labels=padded([found.labels[i] for i in rows]),
        groups=group_codes(groups.codes[rows] if groups.over else None, len(rows)),
        about={
            "prompts": {"set": str(prompts), "templates": templates},
            "pool": f"restricted: names among the rows; generalised_: {everywhere}",
            "names": found.source,
            "left_out": {lost: len(manifest) - len(rows)},
            "interval_over": groups.over or "samples",
            "interval_groups": groups.origin,
        },
    )


def evaluate_zeroshot(
    model: DataEncoder,
    manifest: Manifest,
    everything: Manifest | None = None,
    *,
    where: str | None = None,
    label_field: str | None = None,
    classes: Path | str | Sequence[str] | None = None,
    prompts: str | Path = "plain",
    language: str | None = None,
    group: str | None = None,
    baselines: Baselines | None = None,
    with_robustness: bool = False,
    with_outcome: bool = False,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Name the images of a data set.

    Args:
        model: encodes images and texts.
        manifest: the rows to evaluate on.
        everything: the data set they were selected from; default the rows themselves.
        where: the condition that selected them, to be stored.
        label_field: see `zeroshot_task`, as `classes`, `prompts`, `language` and `group`.
        classes: class file or lines.
        prompts: prompt set or file.
        language: language of the names.
        group: field of the bootstrap.
        baselines: of what the model was trained on; given, they are measured too. Evaluations that share the
            object share its work.
        with_robustness: also evaluate on altered copies of the images, see `robustness`.
        with_outcome: add what the model did on every sample, for a comparison of models.
        draws: bootstrap draws.
        seed: of the bootstrap.

    Returns:
        The result described in `docs/formats.md`: what `evaluate --json` writes.
    """
    task = zeroshot_task(
        manifest,
        everything,
        label_field=label_field,
        classes=classes,
        prompts=prompts,
        language=language,
        group=group,
    )
    images, kept, faults = image_features(model, manifest, task.rows)
    texts = encode_texts(model, task.texts)
    result = task.result(images, texts, kept=kept, draws=draws, seed=seed)
    result["left_out"] = {**task.about["left_out"], **faults}
    readable = task if len(kept) == len(task.rows) else task.only(kept)
    if with_robustness:
        result["robustness"] = evaluate_robustness(
            readable, model, manifest, images, texts, draws=draws, seed=seed
        )
    if with_outcome:
        ranks = pool_ranks(readable.scores(images, texts), readable.labels, classes=len(readable.names))
        hits = ranks[""].hits(1).numpy()
        result["outcome"] = outcome_of("top1", readable.ids, hits, readable.groups)
    measured = None
    if baselines is not None:
        label = label_field if label_field in baselines.training.field_names else None
        names, _ = row_names(baselines.training, label_field=label, language=language)
        own = readable.scores(images, texts)
        compared: dict[str, Any] = {}

        def measure(name: str, scorer: Scorer, rows: np.ndarray) -> dict[str, float]:
            scores = scorer(readable.synonyms)
            if draws:
                compared[name] = readable.compare(own, scores, rows, draws=draws, seed=seed)
            return readable.metrics_of_scores(scores, rows)

        measured = baselines.measure(manifest.take(readable.rows), names, measure)
        result["compared"] = compared
    rows = EvaluatedRows.of(manifest, where)
    return with_provenance("zeroshot", result, model, rows, baselines=measured)


def pool_ranks(scores: Scores, labels: Tensor, *, classes: int) -> dict[str, Ranks]:
    """Ranks on the restricted and the generalised pool.

    Args:
        scores: gives (rows, classes).
        labels: (samples, most) int64 right classes, -1 for none.
        classes: how many there are in the generalised pool.

    Returns:
        prefix of the metrics -> ranks.
    """
    found = {}
    for prefix, pool in _pools(labels, classes).items():
        place = torch.full((classes,), -1, dtype=torch.int64)
        place[pool] = torch.arange(len(pool))
        inside = torch.where(
            labels >= 0, place[labels.clamp(min=0)], labels
        )  # (samples, most) places in the pool
        found[prefix] = rank_positives(lambda rows, pool=pool: scores(rows).cpu()[:, pool], inside)
    return found


def _pools(labels: Tensor, classes: int) -> dict[str, Tensor]:
    """Prefix of the metrics -> classes of the pool, ascending."""
    return {"": labels[labels >= 0].unique(), "generalised_": torch.arange(classes)}


def _pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """(pairs,) samples and (pairs,) classes: a sample counts in each of its classes."""
    samples, column = (labels >= 0).nonzero(as_tuple=True)
    return samples, labels[samples, column]


def _pool_metrics(ranks: dict[str, Ranks], labels: Tensor) -> dict[str, float]:
    """In percent."""
    samples, classes = _pairs(labels)
    _, dense = classes.unique(return_inverse=True)
    sizes = torch.bincount(dense).double()
    metrics = {}
    for prefix, rank in ranks.items():
        first = rank.hits(1)
        per_class = torch.bincount(dense, weights=first[samples]) / sizes
        metrics[f"{prefix}top1"] = 100 * float(first.mean())
        metrics[f"{prefix}top5"] = 100 * float(rank.hits(5).mean())
        metrics[f"{prefix}mean_per_class"] = 100 * float(per_class.mean())
    return metrics
