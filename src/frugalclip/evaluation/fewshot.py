"""How much a few labelled examples of each class are worth: a linear probe on 1, 2, 4, 8 and 16 of them.

Source: CLIP, arXiv 2103.00020, figure 6, and the protocol that followed it (CoOp, arXiv 2109.01134, section 4.1): as many validation examples
as training ones, at most four a class, so that the tuning does not see what the probe may not. Shots are drawn several times by seed; those of
two are the two of four, so that a curve rises by what was added. Starting the probe from zero-shot weights is not offered: the problem is
convex, so the start would change nothing but the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.numerics import softmax_regression
from frugalclip.core.random import uniform
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.classifiers import Examples, choose_strength
from frugalclip.evaluation.groups import Groups, find_groups
from frugalclip.evaluation.labelled import Labelled, labelled_rows
from frugalclip.evaluation.probes import joined, read_features
from frugalclip.evaluation.protocol import Encoder, Layer, with_provenance
from frugalclip.evaluation.statistics import Statistic, group_codes, intervals, mean_over_draws

SHOTS = (1, 2, 4, 8, 16)
DRAWS = 5  # of the shots
TUNED = 2  # draws that the strength is chosen on, for all of them
MOST_VALIDATION = 4  # examples a class to tune on


@dataclass(frozen=True)
class Shots:
    """What one number of shots came to, over all draws."""

    shots: int
    hits: np.ndarray  # (draws, judged) 1 where the judged row was named right
    strength: float
    training_samples: int
    short: dict[str, int]  # class -> examples, of the classes that have fewer than asked for

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
    model: Encoder,
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
    """Train linear probes on few examples of each class and judge them on all judged rows.

    Args:
        model: encodes pictures.
        manifest: as `evaluate_classifier`, with `everything`, `where`, `label_field`, `language`, `group` and `layer`.
        everything: the data set the rows come from.
        where: the condition that chose the rows.
        label_field: field that names the class.
        language: captions of this language are the names.
        group: field of the bootstrap.
        layer: which features.
        shots: examples of each class.
        shot_draws: how often the examples are drawn.
        draws: bootstrap draws, over groups of judged rows and over the draws of the examples.
        seed: of the draws.

    Returns:
        The result described in `docs/formats.md`: `4shot_top1` and so on, and the same without prefix for the most shots.
    """
    labelled = labelled_rows(
        manifest, everything, label_field=label_field, language=language, group=group, seed=seed
    )
    found = read_features(model, everything, labelled, layer=layer)
    curve = few_shot_curve(
        found.features, found.labelled, everything, shots=shots, draws=shot_draws, seed=seed
    )
    judged = everything.take(found.labelled.rows[found.labelled.judged])
    result = _result(curve, found.labelled, find_groups(judged, group), draws=draws, seed=seed) | {
        "left_out": found.left_out,
        "parts": found.labelled.sizes(),
        "fewshot": {
            "features": layer,
            "draws": shot_draws,
            "curve": [one.entry(len(found.labelled.names)) for one in curve],
        },
    }
    return with_provenance(
        "fewshot",
        result,
        {},
        model,
        manifest.where(labelled.judged_where),
        joined(where, labelled.judged_where),
    )


def few_shot_curve(
    features: Tensor, labelled: Labelled, everything: Manifest, *, shots: Sequence[int], draws: int, seed: int
) -> list[Shots]:
    """Probes for every number of shots and every draw.

    Args:
        features: (rows, width) of the labelled rows.
        labelled: classes and parts; the first fold is used.
        everything: the data set, for groups and ids.
        shots: examples of each class.
        draws: how often they are drawn.
        seed: of the draws.
    """
    fold, curve = labelled.folds[0], []
    codes = find_groups(everything).codes[labelled.rows]
    keys = everything.codes("id")[labelled.rows]
    orders = [
        [
            _order(part, labelled.labels.numpy(), codes, keys, seed=seed, draw=draw)
            for part in (fold.train, fold.validation)
        ]
        for draw in range(draws)
    ]
    for number in shots:
        parts = []
        for train, validation in orders:
            chosen = (train.first(number), validation.first(min(number, MOST_VALIDATION)))
            parts.append(
                tuple(
                    Examples(features[places], labelled.labels[places])
                    for places in map(torch.from_numpy, chosen)
                )
            )
        strength = choose_strength(parts[:TUNED], classes=len(labelled.names), finest=1.0)
        hits = [_hits(train, features, labelled, strength) for train, _ in parts]
        sizes = np.bincount(
            labelled.labels[torch.from_numpy(fold.train)].numpy(), minlength=len(labelled.names)
        )
        short = {labelled.names[i]: int(size) for i, size in enumerate(sizes) if size < number}
        curve.append(Shots(number, np.stack(hits), strength, len(parts[0][0]), short))
    return curve


def _hits(train: Examples, features: Tensor, labelled: Labelled, strength: float) -> np.ndarray:
    fit = softmax_regression(
        train.features,
        train.labels,
        strength=strength,
        classes=len(labelled.names),
        steps=1000,
        tolerance=1e-6,
    )
    test = torch.from_numpy(labelled.folds[0].test)
    return (fit.logits(features[test]).argmax(1) == labelled.labels[test]).double().numpy()


@dataclass(frozen=True)
class _Order:
    """Rows of a part in the order in which a class's examples are taken."""

    places: np.ndarray  # (part,) int64
    turn: np.ndarray  # (part,) int64, from 0: how many of its class come before

    def first(self, number: int) -> np.ndarray:
        """The first `number` rows of each class; all of a class that has fewer."""
        return self.places[self.turn < number]


def _order(
    part: np.ndarray, labels: np.ndarray, codes: np.ndarray, keys: np.ndarray, *, seed: int, draw: int
) -> _Order:
    """One draw: by chance, but a group gives its second row only after every group of the class gave its first."""
    chance = (
        uniform(seed, f"fewshot/{draw}", keys[part].view(np.uint64), 1)[:, 0] if len(part) else np.zeros(0)
    )
    drawn = part[np.argsort(chance, kind="stable")]
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
    curve: list[Shots], labelled: Labelled, groups: Groups, *, draws: int, seed: int
) -> dict[str, Any]:
    labels = labelled.labels[torch.from_numpy(labelled.judged)].numpy()
    dense = np.unique(labels, return_inverse=True)[1].reshape(-1)
    codes = group_codes(groups.codes if groups.over else None, len(labels))
    weights = {"top1": np.ones(len(labels)), "mean_per_class": 1 / np.bincount(dense)[dense]}
    metrics: dict[str, float] = {}
    statistics: dict[str, Statistic] = {}
    for prefix, one in [
        ("", max(curve, key=lambda one: one.shots)),
        *((f"{one.shots}shot_", one) for one in curve),
    ]:
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
