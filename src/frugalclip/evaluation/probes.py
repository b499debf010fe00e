"""Classify with labels: a linear probe and nearest neighbours on frozen features.

Source: CLIP, arXiv 2103.00020, A.3: logistic regression by L-BFGS, its strength chosen on held-out rows by a coarse-to-fine search, then fitted
on all training rows. The features here are the joint embedding (the paper reads the layer before the projection); the result says so.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.errors import DataError
from frugalclip.core.numerics import SoftmaxRegression, softmax_regression, top_k
from frugalclip.core.random import uniform
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.classes import key, row_names
from frugalclip.evaluation.protocol import Encoder, image_features, with_provenance
from frugalclip.evaluation.statistics import Statistic, group_codes, intervals, mean_of, mean_of_classes

TRAINING = "split=train"  # rows that the probe may learn from
HELD_OUT = 0.2  # of the training rows, to choose the strength
NEIGHBOURS = 20


@dataclass(frozen=True)
class Labelled:
    """Features of rows that have one of the classes."""

    features: Tensor  # (samples, dim)
    labels: Tensor  # (samples,) int64
    manifest: Manifest  # the samples' rows
    left_out: dict[str, int]


def choose_strength(features: Tensor, labels: Tensor, *, classes: int, seed: int = 0) -> float:
    """C of the linear probe by accuracy on held-out rows: seven powers of ten, then half the step around the best, twice.

    Args:
        features: (samples, dim).
        labels: (samples,) int64.
        classes: how many there are.
        seed: of the held-out rows.
    """
    is_out = torch.from_numpy(uniform(seed, "probe", np.arange(len(labels)), 1)[:, 0] < HELD_OUT)
    if not is_out.any() or is_out.all():
        return 1.0

    def accuracy(power: float) -> float:
        # only the order of the accuracies matters here, not the last digit of a fit
        fit = softmax_regression(features[~is_out], labels[~is_out], strength=10**power, classes=classes, steps=200, tolerance=1e-5)
        return float((fit.logits(features[is_out]).argmax(1) == labels[is_out]).double().mean())

    found = {power: accuracy(power) for power in (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)}
    for step in (1.0, 0.5):
        best = max(found, key=lambda power: (found[power], -power))  # of equals the more regularised
        found |= {power: accuracy(power) for power in (best - step, best + step) if power not in found}
    return 10 ** max(found, key=lambda power: (found[power], -power))


def knn_votes(features: Tensor, training: Tensor, labels: Tensor, *, classes: int, k: int = NEIGHBOURS, temperature: float = 0.07) -> Tensor:
    """Votes of the nearest training rows, weighted by exp(cosine / temperature) (Wu et al. 2018, arXiv 1805.01978, section 3.4).

    Args:
        features: (samples, dim) unit vectors.
        training: (training, dim) unit vectors.
        labels: (training,) int64.
        classes: how many there are.
        k: neighbours.
        temperature: divides cosines.

    Returns:
        (samples, classes).
    """
    votes = []
    for part in features.split(1024):
        cosines, places = top_k(part @ training.T, k)
        weights = ((cosines - 1) / temperature).exp()  # at most 1, so that nothing overflows
        votes.append(torch.zeros(len(part), classes, dtype=weights.dtype).scatter_add_(1, labels[places], weights))
    return torch.cat(votes)


def evaluate_probe(
    model: Encoder,
    manifest: Manifest,
    everything: Manifest,
    *,
    where: str | None = None,
    label_field: str | None = None,
    language: str | None = None,
    group: str | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Fit a linear classifier on `split=train` of the data set and judge the given rows; arguments as `evaluate_zeroshot`."""
    training, judged, names = _labelled(model, manifest, everything, label_field=label_field, language=language)
    strength = choose_strength(training.features, training.labels, classes=len(names), seed=seed)
    fit: SoftmaxRegression = softmax_regression(training.features, training.labels, strength=strength, classes=len(names))
    about = {"probe": {"features": "embedding", "strength": strength, "gradient": fit.gradient, "training_samples": len(training.labels)}}
    return _result("probe", fit.logits(judged.features), judged, names, about, model, manifest, where, group, draws, seed)


def evaluate_knn(
    model: Encoder,
    manifest: Manifest,
    everything: Manifest,
    *,
    where: str | None = None,
    label_field: str | None = None,
    language: str | None = None,
    group: str | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Let the nearest rows of `split=train` of the data set vote; arguments as `evaluate_zeroshot`."""
    training, judged, names = _labelled(model, manifest, everything, label_field=label_field, language=language)
    k = min(NEIGHBOURS, len(training.labels))
    votes = knn_votes(judged.features, training.features, training.labels, classes=len(names), k=k)
    about = {"knn": {"features": "embedding", "neighbours": k, "temperature": 0.07, "training_samples": len(training.labels)}}
    return _result("knn", votes, judged, names, about, model, manifest, where, group, draws, seed)


def _labelled(
    model: Encoder, manifest: Manifest, everything: Manifest, *, label_field: str | None, language: str | None
) -> tuple[Labelled, Labelled, list[str]]:
    """Training rows, judged rows, and the class names that occur in training."""
    if "split" not in everything.field_names:
        raise DataError(f"{everything.name} has no field 'split', so the probe does not know what to learn from; add one with train and test.")
    judged = set(manifest.ids)
    training = everything.where(TRAINING)
    training = training.take([row for row, name in enumerate(training.ids) if name not in judged])
    if not len(training):
        raise DataError(f"every {TRAINING} row of {everything.name} is judged too; choose others with --where split=test.")
    names = sorted({key(row[0]) for row in row_names(training, label_field=label_field, language=language)[0] if row})
    place = {name: i for i, name in enumerate(names)}
    parts = [_read(model, part, place, label_field, language) for part in (training, manifest)]
    if not len(parts[1].labels):
        raise DataError(f"none of the {len(manifest)} rows has a class that occurs in {TRAINING}; choose a --label-field such as category.")
    return parts[0], parts[1], names


def _read(model: Encoder, manifest: Manifest, place: dict[str, int], label_field: str | None, language: str | None) -> Labelled:
    names, _ = row_names(manifest, label_field=label_field, language=language)
    rows = np.array([row for row, texts in enumerate(names) if texts and key(texts[0]) in place], dtype=np.int64)
    if not len(rows):
        return Labelled(torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64), manifest.take(rows), {})
    features, kept, faults = image_features(model, manifest, rows)
    labels = torch.tensor([place[key(names[row][0])] for row in rows[kept]], dtype=torch.int64)
    return Labelled(features, labels, manifest.take(rows[kept]), {"without a class of the training rows": len(manifest) - len(rows), **faults})


def _result(
    task: str,
    scores: Tensor,
    judged: Labelled,
    names: list[str],
    about: dict[str, Any],
    model: Encoder,
    manifest: Manifest,
    where: str | None,
    group: str | None,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    best = top_k(scores, 5)[1]  # (samples, at most 5)
    right = (best == judged.labels[:, None]).double()
    first, five = right[:, 0].numpy(), right.sum(1).numpy()
    groups = group_codes(judged.manifest.codes(group) if group else None, len(first))
    present, dense = judged.labels.unique(return_inverse=True)
    per_class = torch.bincount(dense, weights=right[:, 0]) / torch.bincount(dense)
    statistics: dict[str, Statistic] = {
        "top1": mean_of(first, groups),
        "top5": mean_of(five, groups),
        "mean_per_class": mean_of_classes(first, dense.numpy(), groups),
    }
    number = int(groups.max(initial=-1)) + 1
    found = intervals(statistics, groups=number, draws=draws, seed=seed) if draws else {}
    result = {
        "metrics": {"top1": 100 * float(first.mean()), "top5": 100 * float(five.mean()), "mean_per_class": 100 * float(per_class.mean())},
        "interval": {name: [100 * low, 100 * high] for name, (low, high) in found.items()},
        "chance": {"top1": 100 / len(names), "top5": 100 * min(5, len(names)) / len(names), "mean_per_class": 100 / len(names)},
        "samples": len(first),
        "prompts": None,
        "left_out": judged.left_out,
        "interval_over": group or "samples",
        "bootstrap": {"draws": draws, "seed": seed, "level": 95, "groups": number},
        "per_class": sorted(
            ({"name": names[int(c)], "samples": int((dense == i).sum()), "top1": 100 * float(per_class[i])} for i, c in enumerate(present)),
            key=lambda entry: (-entry["top1"], entry["name"]),
        ),
        **about,
    }
    return with_provenance(task, result, {}, model, manifest, where)
