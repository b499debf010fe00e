"""How much a few labelled examples of each class are worth: a linear probe on 1, 2, 4, 8 and 16 of them.

Source: CLIP, arXiv 2103.00020, figure 6, and the protocol that followed it (CoOp, arXiv 2109.01134, section
    4.1): as
many validation examples as training ones, at most four a class, so that tuning sees no more than the probe.
Shots are drawn several times by seed; those of two are among those of four, so a curve shows what the added
ones bring. Starting the probe from zero-shot weights is not offered: the problem is convex, so the start
changes only the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.numerics import SoftmaxRegression, softmax_regression
from frugalclip.core.random import uniform
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.classifiers import Examples, choose_strength
from frugalclip.evaluation.encoding import DataEncoder, Layer
from frugalclip.evaluation.groups import Groups, find_groups
from frugalclip.evaluation.labelled import LabelledRows, labelled_rows
from frugalclip.evaluation.probes import read_features
from frugalclip.evaluation.results import with_provenance
from frugalclip.evaluation.statistics import Statistic, group_codes, intervals, mean_over_draws

SHOTS = (1, 2, 4, 8, 16)
DRAWS = 5  # of the shots
TUNED = 2  # draws that the strength is chosen on, for all of them
MOST_VALIDATION = 4  # examples a class to tune on


@dataclass(frozen=True)
class Shots:
    """Results of one number of shots, over all draws."""

    shots: int
    hits: np.ndarray  # (draws, test) 1 where the test row was named right
    strength: float
    training_samples: int
    short: dict[str, int]  # class -> examples, of the classes that have fewer than `shots`

    def entry(self, names: int) -> dict[str, Any]:
        """For the result."""
        listed = dict(sorted(self.short.items(), key=lambda item: (item[1], item[0]))[:20])
        return {
            "shots": self.shots,
            "strength": self.strength,
            "training_samples": self.training_samples,
            "classes_with_fewer": len(self.short),
            "classes": names,
            "fewest": listed,
        }


def evaluate_fewshot(
    model: DataEncoder,
    manifest: Manifest,
    everything: Manifest,
    *,
    where: str | None = None,
    label_field: str | None = None,
    language: str | None = None,
    group: str | None = None,
    layer: Layer = "embedding",
    shots: Sequence[int] = SHOTS,
    shot_draws: int = DRAWS,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Train linear probes on few examples of each class and evaluate them on all test rows.

    Args:
        model: encodes images.
        manifest: as `evaluate_classifier`, with `everything`, `where`, `label_field`, `language`, `group` and
            `layer`.
        everything: the data set the rows come from.
        where: the condition that selected the rows.
        label_field: field that names the class.
        language: captions of this language are the names.
        group: field of the bootstrap.
        layer: which features.
        shots: examples of each class.
        shot_draws: how often the examples are drawn.
        draws: bootstrap draws, over groups of test rows and over the draws of the examples.
        seed: of the draws.

    Returns:
        The result described in `docs/formats.md`: `4shot_top1` and so on, and the same without prefix for the
        most shots.
    """
    labelled = labelled_rows(
        manifest, everything, label_field=label_field, language=language, group=group, seed=seed
    )
    found = read_features(model, everything, labelled, layer=layer)
    curve = few_shot_curve(
        found.features, found.labelled, everything, shots=shots, draws=shot_draws, seed=seed
    )
    groups = find_groups(found.labelled.test_rows(everything), group)
    result = _result(curve, found.labelled, groups, draws=draws, seed=seed) | {
        "left_out": found.left_out,
        "split": found.labelled.sizes(),
        "fewshot": {
            "features": layer,
            "draws": shot_draws,
            "curve": [one.entry(len(found.labelled.names)) for one in curve],
        },
    }
    return with_provenance("fewshot", result, model, labelled.evaluated(manifest, where))


def few_shot_curve(
    features: Tensor,
    labelled: LabelledRows,
    everything: Manifest,
    *,
    shots: Sequence[int],
    draws: int,
    seed: int,
) -> list[Shots]:
    """Probes for every number of shots and every draw.

    Args:
        features: (rows, width) of the labelled rows.
        labelled: classes and splits; the first fold is used.
        everything: the data set, for groups and ids.
        shots: examples of each class.
        draws: how often they are drawn.
        seed: of the draws.
    """
    drawn, curve = ShotDraws.of(labelled, everything, draws=draws, seed=seed), []
    test, classes = torch.from_numpy(labelled.folds[0].test), len(labelled.names)
    for number in shots:
        splits = drawn.splits(features, labelled, number)
        fits, strength = fit_probes(splits, classes=classes)
        hits = [hits_of(fit.logits(features[test]), labelled.labels[test]) for fit in fits]
        short = classes_with_fewer(labelled, number)
        curve.append(Shots(number, np.stack(hits), strength, len(splits[0][0]), short))
    return curve


def fit_probes(
    splits: Sequence[tuple[Examples, Examples]], *, classes: int
) -> tuple[list[SoftmaxRegression], float]:
    """A linear probe on the training examples of every draw, and the strength chosen on the first ones.

    Args:
        splits: training and validation examples of each draw.
        classes: how many there are.
    """
    strength = choose_strength(splits[:TUNED], classes=classes, finest=1.0)
    options: dict[str, Any] = {"strength": strength, "classes": classes, "steps": 1000, "tolerance": 1e-6}
    return [softmax_regression(train.features, train.labels, **options) for train, _ in splits], strength


def hits_of(scores: Tensor, labels: Tensor) -> np.ndarray:
    """(samples,) float64, 1 where the highest of the scores (samples, classes) is the label's."""
    return (scores.argmax(1) == labels).double().numpy()


def classes_with_fewer(labelled: LabelledRows, number: int) -> dict[str, int]:
    """Class -> training examples, of the classes that have fewer than `number`."""
    train = labelled.labels[torch.from_numpy(labelled.folds[0].train)].numpy()
    sizes = np.bincount(train, minlength=len(labelled.names))
    return {labelled.names[i]: int(size) for i, size in enumerate(sizes) if size < number}


@dataclass(frozen=True)
class ShotDraws:
    """Random orders in which training and validation examples of each class are taken, one a draw."""

    orders: list[tuple["_Order", "_Order"]]

    @classmethod
    def of(cls, labelled: LabelledRows, everything: Manifest, *, draws: int, seed: int) -> Self:
        """Draw from the first fold.

        Args:
            labelled: classes and splits.
            everything: the data set, for groups and ids.
            draws: how often.
            seed: of the draws.
        """
        fold, labels = labelled.folds[0], labelled.labels.numpy()
        codes = find_groups(everything).codes[labelled.rows]
        keys = everything.codes("id")[labelled.rows]

        def order(rows: np.ndarray, draw: int) -> _Order:
            return _order(rows, labels, codes, keys, seed=seed, draw=draw)

        return cls([(order(fold.train, draw), order(fold.validation, draw)) for draw in range(draws)])

    def splits(
        self, features: Tensor, labelled: LabelledRows, number: int
    ) -> list[tuple[Examples, Examples]]:
        """`number` training examples of each class, and as many validation ones, at most four, of each draw.

        Args:
            features: (rows, width) of the labelled rows.
            labelled: their classes.
            number: of shots.
        """
        return [
            (
                _examples(features, labelled, train.first(number)),
                _examples(features, labelled, validation.first(min(number, MOST_VALIDATION))),
            )
            for train, validation in self.orders
        ]


def _examples(features: Tensor, labelled: LabelledRows, places: np.ndarray) -> Examples:
    rows = torch.from_numpy(places)
    return Examples(features[rows], labelled.labels[rows])


@dataclass(frozen=True)
class _Order:
    """Rows of a split in the order in which a class's examples are taken."""

    places: np.ndarray  # (rows,) int64
    turn: np.ndarray  # (rows,) int64, from 0: how many of its class come before

    def first(self, number: int) -> np.ndarray:
        """The first `number` rows of each class; all of a class that has fewer."""
        return self.places[self.turn < number]


def _order(
    rows: np.ndarray, labels: np.ndarray, codes: np.ndarray, keys: np.ndarray, *, seed: int, draw: int
) -> _Order:
    """One random draw; a group gives its second row only after every group of the class gave its first."""
    chance = (
        uniform(seed, f"fewshot/{draw}", keys[rows].view(np.uint64), 1)[:, 0] if len(rows) else np.zeros(0)
    )
    drawn = rows[np.argsort(chance, kind="stable")]
    order = np.argsort(_turns(np.stack([labels[drawn], codes[drawn]], axis=1)), kind="stable")
    places = drawn[order]
    return _Order(places, _turns(labels[places]))


def _turns(values: np.ndarray) -> np.ndarray:
    """(rows,) how many equal values come before each, for values (rows,) or (rows, columns)."""
    _, codes = np.unique(values, axis=0, return_inverse=True)
    codes = codes.reshape(-1)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], codes[order])
    turns = np.empty(len(codes), dtype=np.int64)
    turns[order] = np.arange(len(codes)) - starts
    return turns


def _result(
    curve: list[Shots], labelled: LabelledRows, groups: Groups, *, draws: int, seed: int
) -> dict[str, Any]:
    labels = labelled.test_labels.numpy()
    dense = np.unique(labels, return_inverse=True)[1].reshape(-1)
    codes = group_codes(groups.codes if groups.over else None, len(labels))
    weights = {"top1": np.ones(len(labels)), "mean_per_class": 1 / np.bincount(dense)[dense]}
    metrics: dict[str, float] = {}
    statistics: dict[str, Statistic] = {}
    prefixes = [(f"{one.shots}shot_", one) for one in curve]
    for prefix, one in [("", max(curve, key=lambda one: one.shots)), *prefixes]:
        for name, weight in weights.items():
            metrics[prefix + name] = 100 * float(np.average(one.hits.mean(0), weights=weight))
            statistics[prefix + name] = mean_over_draws(one.hits, codes, weight, seed=seed)
    count = int(codes.max(initial=-1)) + 1
    found = intervals(statistics, groups=count, draws=draws, seed=seed) if draws else {}
    return {
        "metrics": metrics,
        "interval": {name: [100 * low, 100 * high] for name, (low, high) in found.items()},
        "chance": dict.fromkeys(metrics, 100 / len(labelled.names)),
        "samples": len(labels),
        "prompts": None,
        "interval_over": f"{groups.over or 'samples'} and draws of the shots",
        "interval_groups": groups.origin,
        "bootstrap": {"draws": draws, "seed": seed, "level": 95, "groups": count},
    }
