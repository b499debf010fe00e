"""Whether images of one class lie together in feature space, and how far apart images and texts are.

Source: ProtoCLIP, arXiv 2206.10996, section IV (`evaluations/analyze_features.py`, `zero_shot.py`): K-means
on the embeddings of labelled images with as many clusters as classes, compared with the labels by the
adjusted Rand index and the adjusted mutual information. The gap between the modalities is that of Liang et
al. 2022, arXiv 2203.02053.
"""

import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.errors import DataError
from frugalclip.core.numerics import kmeans
from frugalclip.core.random import generator
from frugalclip.data.manifest import Manifest
from frugalclip.data.words import normalise
from frugalclip.evaluation.classes import row_names
from frugalclip.evaluation.encoding import DataEncoder, Layer, encode_texts, image_features
from frugalclip.evaluation.groups import find_groups
from frugalclip.evaluation.results import EvaluatedRows, with_provenance
from frugalclip.functional import unit

STEPS, RESTARTS = 100, 5  # of the clustering; ProtoCLIP: 100 and 5
PARTS = 20  # of the jackknife


def modality_gap(images: Tensor, texts: Tensor) -> float:
    """Distance between the mean image and the mean text.

    Args:
        images: (batch, dim) unit vectors.
        texts: (texts, dim) unit vectors.
    """
    return float((images.mean(dim=0) - texts.mean(dim=0)).norm())


def self_similarity(features: Tensor, *, published: bool = False) -> float:
    """Mean cosine within one modality.

    Args:
        features: (batch, dim) unit vectors.
        published: as ProtoCLIP's code computes it: each row with itself counts too, and cosines of zero or
            less do not.
    """
    cosines = features @ features.T
    if published:
        return float(cosines[cosines > 0].mean())
    rows = len(features)
    return float((cosines.sum() - cosines.diagonal().sum()) / max(rows * (rows - 1), 1))


def feature_spread(features: Tensor) -> float:
    """Standard deviation of each of the coordinates (batch, dim) over the rows, mean over coordinates."""
    return float(features.std(dim=0).mean())


def grouping_scores(labels: Tensor, clusters: Tensor) -> dict[str, float]:
    """Agreement of a clustering with labels.

    The formulas of Hubert & Arabie 1985 and of Vinh et al., JMLR 2010, as scikit-learn computes them; written
    out, since evaluation runs where only the core is installed.

    Args:
        labels: (samples,) int64.
        clusters: (samples,) int64.

    Returns:
        `ari`, the adjusted Rand index, and `ami`, the adjusted mutual information with the arithmetic mean; 0
        is chance, 1 is the same partition.
    """
    truth, found = (np.unique(codes.numpy(), return_inverse=True)[1] for codes in (labels, clusters))
    table = np.zeros((truth.max() + 1, found.max() + 1))
    np.add.at(table, (truth, found), 1)
    return {"ari": _adjusted_rand(table), "ami": _adjusted_information(table)}


def _adjusted_rand(table: np.ndarray) -> float:
    """From counts (classes, clusters)."""

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    together, rows, columns = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    expected = rows * columns / max(pairs(table.sum(keepdims=True)), 1)
    most = (rows + columns) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)


def _adjusted_information(table: np.ndarray) -> float:
    """From counts (classes, clusters)."""
    number = table.sum()
    rows, columns = table.sum(axis=1), table.sum(axis=0)

    def entropy(counts: np.ndarray) -> float:
        return -float((counts / number * np.log(counts / number)).sum())

    i, j = np.nonzero(table)
    shared = table[i, j]
    information = float((shared / number * np.log(number * shared / (rows[i] * columns[j]))).sum())
    expected, most = _expected_information(rows, columns, number), (entropy(rows) + entropy(columns)) / 2
    if len(rows) == len(columns) == 1 or len(rows) == len(columns) == number:
        return 1.0  # both partitions are the trivial one
    return (information - expected) / (most - expected)


def _expected_information(rows: np.ndarray, columns: np.ndarray, number: float) -> float:
    """Mean mutual information of random partitions with these sizes.

    A sum over the hypergeometric distribution of each cell.
    """
    log_factorial = torch.lgamma(torch.arange(int(number) + 1, dtype=torch.float64) + 1).numpy()
    total = 0.0
    for (a, times_a), (b, times_b) in itertools.product(_sizes(rows), _sizes(columns)):
        shared = np.arange(max(1, a + b - int(number)), min(a, b) + 1)
        log_share = (
            log_factorial[a]
            + log_factorial[b]
            + log_factorial[int(number) - a]
            + log_factorial[int(number) - b]
            - log_factorial[int(number)]
            - log_factorial[shared]
            - log_factorial[a - shared]
            - log_factorial[b - shared]
            - log_factorial[int(number) - a - b + shared]
        )
        information = shared / number * np.log(number * shared / (a * b))
        total += times_a * times_b * float((information * np.exp(log_share)).sum())
    return total


def _sizes(counts: np.ndarray) -> list[tuple[int, int]]:
    """(size, how many have it)."""
    sizes, times = np.unique(counts.astype(np.int64), return_counts=True)
    return list(zip(sizes.tolist(), times.tolist(), strict=True))


def grouping(features: Tensor, labels: Tensor, *, seed: int = 0) -> tuple[dict[str, float], Tensor]:
    """Cluster features into as many groups as there are labels and compare.

    Args:
        features: (samples, dim) unit vectors.
        labels: (samples,) int64.
        seed: of the clustering's random starts.

    Returns:
        `ari` and `ami`, in [-1, 1], near 0 by chance; and (samples,) int64 clusters.

    Raises:
        DataError: if all samples have one label.
    """
    classes = len(np.unique(labels.numpy()))
    if classes < 2:
        raise DataError(
            f"all {len(labels):,} samples have one label, expected several; choose another --label-field."
        )
    found = kmeans(
        features.float(), classes, steps=STEPS, restarts=RESTARTS, generator=generator(seed, "grouping")
    )
    return grouping_scores(labels, found.labels), found.labels


def jackknife(labels: Tensor, clusters: Tensor, groups: Tensor) -> dict[str, tuple[float, float]]:
    """95 % intervals of both scores over which samples were drawn, the clustering as it is.

    A bootstrap would draw pairs of equal samples, which agree by construction; leaving out a twentieth of the
    groups in turn does not.

    Args:
        labels: (samples,) int64.
        clusters: (samples,) int64.
        groups: (samples,) int64; equal ones are left out together.
    """
    _, numbers = groups.unique(return_inverse=True)  # (samples,)
    parts = numbers % PARTS
    found = [
        grouping_scores(labels[parts != part], clusters[parts != part]) for part in parts.unique().tolist()
    ]
    whole, intervals = grouping_scores(labels, clusters), {}
    for name, value in whole.items():
        values = np.array([one[name] for one in found])
        deviation = math.sqrt(
            (len(values) - 1) / len(values) * float(np.square(values - values.mean()).sum())
        )
        intervals[name] = (value - 1.96 * deviation, value + 1.96 * deviation)
    return intervals


def evaluate_grouping(
    model: DataEncoder,
    manifest: Manifest,
    everything: Manifest | None = None,
    *,
    where: str | None = None,
    label_field: str | None = None,
    language: str | None = None,
    group: str | None = None,
    layer: Layer = "embedding",
    seed: int = 0,
) -> dict[str, Any]:
    """Whether images of one class lie together, and how far apart images and captions are.

    Args:
        model: encodes images and texts.
        manifest: the rows to evaluate on.
        everything: the data set they were selected from; not needed here.
        where: the condition that selected them, to be stored.
        label_field: field that names the class of a row; see `classes.row_names`.
        language: language of the captions.
        group: field whose equal values are left out together; default see `groups.find_groups`.
        layer: what is clustered: the joint embedding, or the tower's output.
        seed: of the clustering's random starts.

    Returns:
        The result described in `docs/formats.md`: `ami` and `ari` in percent with jackknife intervals over
        groups. `geometry` holds the gap between the modalities, mean cosines within each, and their spread,
        where the model encodes both.

    Raises:
        DataError: if no row has a class, or all have the same.
    """
    names, _ = row_names(manifest, label_field=label_field, language=language)
    rows = np.array([row for row, texts in enumerate(names) if texts], dtype=np.int64)
    if not len(rows):
        raise DataError(f"no row of {manifest.name} has a class; choose a --label-field such as category.")
    features, kept, faults = image_features(model, manifest, rows, layer=layer)
    classes = {
        name: place
        for place, name in enumerate(sorted({normalise(names[row][0]) for row in rows[kept].tolist()}))
    }
    labels = torch.tensor([classes[normalise(names[row][0])] for row in rows[kept].tolist()])
    scores, clusters = grouping(unit(features), labels, seed=seed)
    groups = find_groups(manifest, group)
    intervals = jackknife(labels, clusters, torch.from_numpy(groups.codes[rows[kept]]))
    result: dict[str, Any] = {
        "metrics": {name: 100 * scores[name] for name in ("ami", "ari")},
        "interval": {name: [100 * low, 100 * high] for name, (low, high) in intervals.items()},
        "chance": {"ami": 0.0, "ari": 0.0},
        "samples": len(kept),
        "prompts": None,
        "geometry": _geometry(model, manifest.take(rows[kept]), features, language)
        if layer == "embedding" and model.reads == "both"
        else None,
        "clusters": {
            "number": len(classes),
            "label_field": label_field,
            "steps": STEPS,
            "restarts": RESTARTS,
            "features": layer,
        },
        "left_out": {"without a class": len(manifest) - len(rows), **faults},
        "interval_by": "jackknife",
        "interval_over": groups.over or "samples",
        "interval_groups": groups.origin,
    }
    return with_provenance("grouping", result, model, EvaluatedRows.of(manifest, where))


def _geometry(
    model: DataEncoder, manifest: Manifest, features: Tensor, language: str | None
) -> dict[str, float]:
    """Gap, similarity and spread of images and of each image's first caption."""
    captions = [next(iter(texts), "") for texts in manifest.captions(language=language)]
    images, texts = unit(features), encode_texts(model, captions)
    found = {"modality_gap": modality_gap(images, texts)}
    for name, one in (("image", images), ("text", texts)):
        found |= {f"{name}_similarity": self_similarity(one), f"{name}_spread": feature_spread(one)}
    return {name: round(value, 6) for name, value in found.items()}
