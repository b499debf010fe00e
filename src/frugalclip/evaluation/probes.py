"""Evaluate frozen features by a classifier: a linear probe, or nearest neighbours.

`labelled` decides the splits, `classifiers` the classifier; here its scores become a result. CLIP's linear
probe reads the tower's output before the projection (`layer="pooled"`); the default is the joint embedding,
which search and zero-shot naming use. The result says which.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.finite import refuse_scores
from frugalclip.core.numerics import top_k
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.classifiers import Classifier, classify, linear_probe, neighbours
from frugalclip.evaluation.encoding import DataEncoder, FeatureEncoder, Layer, image_features
from frugalclip.evaluation.groups import find_groups
from frugalclip.evaluation.labelled import LabelledRows, labelled_rows
from frugalclip.evaluation.results import with_provenance
from frugalclip.evaluation.statistics import Statistic, group_codes, intervals, mean_of, mean_of_classes

CLASSIFIERS: dict[str, Classifier] = {"probe": linear_probe, "knn": neighbours}


@dataclass(frozen=True)
class LabelledFeatures:
    """Labelled rows of a data set with the features of their images."""

    features: Tensor  # (rows, width)
    labelled: LabelledRows
    left_out: dict[str, int]


def read_features(
    model: FeatureEncoder, everything: Manifest, labelled: LabelledRows, *, layer: Layer
) -> LabelledFeatures:
    """Encode the images of labelled rows, once for all splits.

    Args:
        model: encodes images.
        everything: the data set that `labelled.rows` count.
        labelled: rows, classes and splits.
        layer: the joint embedding, or the tower's output.

    Raises:
        DataError: if no image is left to train on or to test.
    """
    features, kept, faults = image_features(model, everything, labelled.rows, layer=layer)
    readable = labelled.only(kept) if faults else labelled
    return LabelledFeatures(features, readable, {**labelled.left_out, **faults})


def evaluate_classifier(
    task: str,
    model: DataEncoder,
    manifest: Manifest,
    everything: Manifest,
    *,
    where: str | None = None,
    label_field: str | None = None,
    language: str | None = None,
    group: str | None = None,
    layer: Layer = "embedding",
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Train a classifier on frozen features and evaluate it.

    Args:
        task: `probe` or `knn`.
        model: encodes images.
        manifest: the rows to test, or to split where they hold training rows; see `labelled.labelled_rows`.
        everything: the data set they come from.
        where: the condition that selected them, to be stored.
        label_field: field that names the class of a row; see `classes.row_names`.
        language: captions of this language are the names.
        group: field of the bootstrap; default see `groups.find_groups`.
        layer: which features.
        draws: bootstrap draws.
        seed: of the bootstrap and of divisions by seed.

    Returns:
        The result described in `docs/formats.md`.
    """
    labelled = labelled_rows(
        manifest, everything, label_field=label_field, language=language, group=group, seed=seed
    )
    found = read_features(model, everything, labelled, layer=layer)
    scores, settings = classify(CLASSIFIERS[task], found.features, found.labelled)
    tested = found.labelled.test_rows(everything)
    predictions = ClassifierPredictions.of(scores, found.labelled, tested, group=group)
    result = predictions.result(draws=draws, seed=seed) | {
        "left_out": found.left_out,
        "split": found.labelled.sizes(),
        task: {"features": layer, **settings[0]},
    }
    return with_provenance(task, result, model, labelled.evaluated(manifest, where))


def evaluate_probe(
    model: DataEncoder, manifest: Manifest, everything: Manifest, **options: Any
) -> dict[str, Any]:
    """A linear probe; arguments and result as `evaluate_classifier`."""
    return evaluate_classifier("probe", model, manifest, everything, **options)


def evaluate_knn(
    model: DataEncoder, manifest: Manifest, everything: Manifest, **options: Any
) -> dict[str, Any]:
    """Nearest neighbours; arguments and result as `evaluate_classifier`."""
    return evaluate_classifier("knn", model, manifest, everything, **options)


@dataclass(frozen=True)
class ClassifierPredictions:
    """A classifier's predictions for test rows."""

    names: list[str]  # (classes,)
    labels: Tensor  # (test,) int64
    right: Tensor  # (test, at most 5) float64, 1 where the class at that place of the ranking is right
    groups: np.ndarray  # (test,) int64
    over: str  # what the groups are, in words
    origin: str  # how they were found

    @classmethod
    def of(
        cls, scores: Tensor, labelled: LabelledRows, tested: Manifest, *, group: str | None = None
    ) -> Self:
        """From scores.

        Args:
            scores: (test, classes).
            labelled: the classes.
            tested: the test rows, in the same order.
            group: field of the bootstrap.

        Raises:
            DataError: if a score is not finite.
        """
        refuse_scores(scores)
        right = (top_k(scores, 5)[1] == labelled.test_labels[:, None]).double()
        groups = find_groups(tested, group)
        codes = group_codes(groups.codes if groups.over else None, len(tested))
        return cls(
            labelled.names, labelled.test_labels, right, codes, groups.over or "samples", groups.origin
        )

    @property
    def group_count(self) -> int:
        """How many groups the bootstrap draws from."""
        return int(self.groups.max(initial=-1)) + 1

    def per_class(self) -> Tensor:
        """(classes,) of those that occur: share named right, classes ascending."""
        _, dense = self.labels.unique(return_inverse=True)
        return torch.bincount(dense, weights=self.right[:, 0]) / torch.bincount(dense)

    def metrics(self) -> dict[str, float]:
        """top1, top5 and mean_per_class, in percent."""
        values = {
            "top1": self.right[:, 0].mean(),
            "top5": self.right.sum(1).mean(),
            "mean_per_class": self.per_class().mean(),
        }
        return {name: 100 * float(value) for name, value in values.items()}

    def chance(self) -> dict[str, float]:
        """What guessing gives, in percent."""
        first, five = 100 / len(self.names), 100 * min(5, len(self.names)) / len(self.names)
        return {"top1": first, "top5": five, "mean_per_class": first}

    def statistics(self, groups: np.ndarray | None = None) -> dict[str, Statistic]:
        """The metrics as functions of how often each group was drawn, in shares of one.

        Args:
            groups: (test,) int64 other groups than its own, such as those of a whole pack.
        """
        groups = self.groups if groups is None else groups
        first, dense = self.right[:, 0].numpy(), self.labels.unique(return_inverse=True)[1].numpy()
        return {
            "top1": mean_of(first, groups),
            "top5": mean_of(self.right.sum(1).numpy(), groups),
            "mean_per_class": mean_of_classes(first, dense, groups),
        }

    def class_table(self) -> list[dict[str, Any]]:
        """One entry a class that occurs, best first: name, samples, and top1 in percent."""
        present, sizes = self.labels.unique(return_counts=True)
        table = [
            {"name": self.names[int(number)], "samples": int(size), "top1": 100 * float(share)}
            for number, size, share in zip(present, sizes, self.per_class(), strict=True)
        ]
        return sorted(table, key=lambda entry: (-entry["top1"], entry["name"]))

    def result(self, *, draws: int, seed: int) -> dict[str, Any]:
        """Metrics with intervals, chance and a table of classes.

        Args:
            draws: bootstrap draws; 0 leaves intervals out.
            seed: of the bootstrap.
        """
        found = intervals(self.statistics(), groups=self.group_count, draws=draws, seed=seed) if draws else {}
        return {
            "metrics": self.metrics(),
            "interval": {name: [100 * low, 100 * high] for name, (low, high) in found.items()},
            "chance": self.chance(),
            "samples": len(self.labels),
            "prompts": None,
            "interval_over": self.over,
            "interval_groups": self.origin,
            "bootstrap": {"draws": draws, "seed": seed, "level": 95, "groups": self.group_count},
            "per_class": self.class_table(),
        }
