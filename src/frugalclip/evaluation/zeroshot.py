"""Name pictures that no classifier was trained on.

Source: CLIP, arXiv 2103.00020, section 3.1: normalise every prompt's feature, average a class's prompts, normalise again, take the nearest class.
Two pools: *restricted* is the names among the judged rows, *generalised* all names of the data set, where names seen in training attract.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.classes import collect_classes
from frugalclip.evaluation.groups import find_groups
from frugalclip.evaluation.prompts import fill, find_prompts
from frugalclip.evaluation.ranking import Ranks, Scores, chance_ranks, cosine_scores, padded, rank_positives
from frugalclip.evaluation.statistics import Statistic, group_codes, intervals, mean_of, mean_of_classes
from frugalclip.functional import class_weights, unit

POOLS = {"": "restricted", "generalised_": "generalised"}  # prefix of the metric -> pool


@dataclass(frozen=True)
class ZeroshotTask:
    """Everything about a zero-shot test that does not depend on the model: made once, scored as often as wanted."""

    names: list[str]  # (classes,) the generalised pool
    synonyms: list[list[str]]  # (classes,) every text of a class, the name first
    texts: list[str]  # (prompts,) what the text tower has to encode
    owners: Tensor  # (prompts,) int64 class of each text
    rows: np.ndarray  # (samples,) int64 rows of the manifest that take part
    ids: list[str]  # (samples,)
    labels: Tensor  # (samples, most) int64 right classes, -1 for none
    groups: np.ndarray  # (samples,) int64 what the bootstrap draws
    about: dict[str, Any]  # what must stand beside the number

    def class_features(self, text_features: Tensor) -> Tensor:
        """(classes, dim) unit vectors from the features of `texts` (prompts, dim)."""
        return class_weights(text_features, self.owners.to(text_features.device), count=len(self.names))

    def scores(self, image_features: Tensor, text_features: Tensor) -> Scores:
        """Cosines of pictures with classes.

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
        return {
            name: 100 * float(value)
            for name, value in _pool_metrics(
                self._ranks(self.scores(image_features, text_features)), self.labels
            ).items()
        }

    def _ranks(self, scores: Scores) -> dict[str, Ranks]:
        return pool_ranks(scores, self.labels, classes=len(self.names))

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
        return _statistics(self._ranks(self.scores(image_features, text_features)), self.labels, self.groups)

    def baseline(self, scores: Scores, kept: np.ndarray | None = None) -> dict[str, float]:
        """The metrics of scores that no model of ours made.

        Args:
            scores: gives (rows, classes).
            kept: samples that have a score; default all.
        """
        labels = self.labels if kept is None else self.labels[torch.from_numpy(kept)]
        return {
            name: 100 * float(value)
            for name, value in _pool_metrics(
                pool_ranks(scores, labels, classes=len(self.names)), labels
            ).items()
        }

    def chance(self) -> dict[str, float]:
        """What guessing gives, exactly."""
        ranks = {
            prefix: chance_ranks(self.labels, len(pool))
            for prefix, pool in _pools(self.labels, len(self.names)).items()
        }
        return {name: 100 * float(value) for name, value in _pool_metrics(ranks, self.labels).items()}

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
            kept: samples whose picture could be read; default all.
            draws: bootstrap draws; 0 leaves intervals out.
            seed: of the bootstrap.
        """
        task = self if kept is None or len(kept) == len(self.rows) else self.only(kept)
        scores = task.scores(image_features, text_features)
        ranks = task._ranks(scores)
        statistics = _statistics(ranks, task.labels, task.groups) if draws else {}
        found = intervals(statistics, groups=task.group_count, draws=draws, seed=seed)
        pool = _pools(task.labels, len(task.names))[""]
        best = _predicted(scores, pool, len(task.rows))  # (samples,) classes
        table = _class_table(task, ranks[""].hits(1), best)
        return {
            "metrics": {
                name: 100 * float(value) for name, value in _pool_metrics(ranks, task.labels).items()
            },
            "interval": {name: [100 * low, 100 * high] for name, (low, high) in found.items()},
            "chance": task.chance(),
            "samples": len(task.rows),
            **task.about,
            "classes": {"restricted": len(pool), "generalised": len(task.names)},
            "bootstrap": {"draws": draws, "seed": seed, "level": 95, "groups": task.group_count},
            "per_class": table,
            "examples": _examples(task, table, best),
        }

    def only(self, samples: np.ndarray) -> "ZeroshotTask":
        """The same test on some of its samples; names that lose all their samples leave the restricted pool."""
        places = torch.from_numpy(np.asarray(samples, np.int64))
        ids, groups = [self.ids[i] for i in samples], group_codes(self.groups[samples], len(samples))
        return ZeroshotTask(
            self.names,
            self.synonyms,
            self.texts,
            self.owners,
            self.rows[samples],
            ids,
            self.labels[places],
            groups,
            self.about,
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
        manifest: the rows to judge.
        everything: the data set before rows were chosen; its names are the generalised pool. Default the rows themselves.
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
    sentences = find_prompts(prompts)
    texts, owners = [], []
    for i, names in enumerate(found.synonyms):
        filled = [text for name in names for text in fill(sentences, name)]
        texts += filled
        owners += [i] * len(filled)
    rows = np.array([i for i, labels in enumerate(found.labels) if labels], dtype=np.int64)
    ids, groups = manifest.ids, find_groups(manifest, group)
    about = {
        "prompts": {"set": str(prompts), "templates": sentences},
        "pool": "restricted: names among the rows; generalised_: all names of the data set"
        if classes is None
        else "restricted: names among the rows; generalised_: the class list",
        "names": found.source,
        "left_out": {
            "without a name of the list" if classes else "without a name": len(manifest) - len(rows)
        },
        "interval_over": groups.over or "samples",
        "interval_groups": groups.origin,
    }
    return ZeroshotTask(
        names=found.names,
        synonyms=found.synonyms,
        texts=texts,
        owners=torch.tensor(owners, dtype=torch.int64),
        rows=rows,
        ids=[ids[i] for i in rows],
        labels=padded([found.labels[i] for i in rows]),
        groups=group_codes(groups.codes[rows] if groups.over else None, len(rows)),
        about=about,
    )


def zeroshot_metrics(image_features: Tensor, class_features: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy of naming by the nearest class direction.

    Args:
        image_features: (samples, dim), any length.
        class_features: (classes, dim), any length; see `functional.class_weights`.
        labels: (samples,) or (samples, most) int64 right classes, -1 for none.

    Returns:
        top1, top5, mean_per_class on the classes that occur among the labels, and `generalised_…` on all classes, in percent.
    """
    labels = labels[:, None] if labels.ndim == 1 else labels
    scores = cosine_scores(unit(image_features), unit(class_features))
    ranks = pool_ranks(scores, labels, classes=len(class_features))
    return {name: 100 * float(value) for name, value in _pool_metrics(ranks, labels).items()}


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
    """Classes of each pool, ascending."""
    return {"": labels[labels >= 0].unique(), "generalised_": torch.arange(classes)}


def _pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """(pairs,) samples and (pairs,) classes: a sample counts in each of its classes."""
    samples, column = (labels >= 0).nonzero(as_tuple=True)
    return samples, labels[samples, column]


def _pool_metrics(ranks: dict[str, Ranks], labels: Tensor) -> dict[str, float]:
    samples, classes = _pairs(labels)
    _, dense = classes.unique(return_inverse=True)
    sizes = torch.bincount(dense).double()
    metrics = {}
    for prefix, rank in ranks.items():
        first = rank.hits(1)
        metrics[f"{prefix}top1"] = float(first.mean())
        metrics[f"{prefix}top5"] = float(rank.hits(5).mean())
        metrics[f"{prefix}mean_per_class"] = float(
            (torch.bincount(dense, weights=first[samples]) / sizes).mean()
        )
    return metrics


def _statistics(ranks: dict[str, Ranks], labels: Tensor, groups: np.ndarray) -> dict[str, Statistic]:
    samples, classes = _pairs(labels)
    dense = classes.unique(return_inverse=True)[1].numpy()
    statistics = {}
    for prefix, rank in ranks.items():
        first = rank.hits(1).numpy()
        statistics[f"{prefix}top1"] = mean_of(first, groups)
        statistics[f"{prefix}top5"] = mean_of(rank.hits(5).numpy(), groups)
        statistics[f"{prefix}mean_per_class"] = mean_of_classes(
            first[samples.numpy()], dense, groups[samples.numpy()]
        )
    return statistics


def _predicted(scores: Scores, pool: Tensor, samples: int) -> Tensor:
    """(samples,) int64 best class of the pool."""
    parts = [pool[scores(rows).cpu()[:, pool].argmax(1)] for rows in torch.arange(samples).split(1024)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)


def _class_table(task: ZeroshotTask, hits: Tensor, predicted: Tensor) -> list[dict[str, Any]]:
    """One entry a class of the restricted pool, best first: name, samples, top1 in percent, what it is mistaken for most."""
    samples, classes = _pairs(task.labels)
    table = []
    for members in _members(classes):
        number = int(classes[members[0]])
        rows = samples[members]
        wrong = predicted[rows][hits[rows] < 0.5]
        entry: dict[str, Any] = {
            "name": task.names[number],
            "samples": len(rows),
            "top1": 100 * float(hits[rows].mean()),
        }
        if len(wrong):
            values, counts = wrong.unique(return_counts=True)
            entry["mistaken_for"], entry["times"] = (
                task.names[int(values[counts.argmax()])],
                int(counts.max()),
            )
        table.append(entry)
    return sorted(table, key=lambda entry: (-entry["top1"], -entry["samples"], entry["name"]))


def _members(classes: Tensor) -> list[Tensor]:
    """Places of each class, classes ascending."""
    order = torch.sort(classes, stable=True).indices
    return list(order.split(classes.unique(return_counts=True)[1].tolist()))


def _examples(
    task: ZeroshotTask, table: list[dict[str, Any]], predicted: Tensor, *, classes: int = 8, rows: int = 4
) -> dict[str, Any]:
    """Rows to show for the best and the worst classes, and the confusions that happen most."""
    samples, owners = _pairs(task.labels)
    members = {task.names[int(owners[m[0]])]: samples[m] for m in _members(owners)}

    def shown(name: str) -> list[dict[str, Any]]:
        return [
            {"id": task.ids[i], "row": int(task.rows[i]), "named": task.names[int(predicted[i])]}
            for i in members[name][:rows].tolist()
        ]

    worst = sorted(table, key=lambda entry: (entry["top1"], -entry["samples"], entry["name"]))
    listed = {"best": table[:classes], "worst": worst[:classes]}
    confused = sorted((e for e in table if "times" in e), key=lambda e: (-e["times"], e["name"]))[:classes]
    return {
        **{
            side: [
                {"name": e["name"], "samples": e["samples"], "top1": e["top1"], "rows": shown(e["name"])}
                for e in entries
            ]
            for side, entries in listed.items()
        },
        "confusions": [
            {"name": e["name"], "named": e["mistaken_for"], "times": e["times"], "rows": shown(e["name"])}
            for e in confused
        ],
    }
