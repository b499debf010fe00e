"""Clusters of features: spherical k-means, assignment as in DataComp, whitening and selection as in TL;DR."""

from typing import Any

import numpy as np

from frugalclip.core.errors import require
from frugalclip.core.random import stream_seed

_ROWS = 8_192  # multiplied at once
_STEPS = 20  # of k-means


def spherical_centroids(points: np.ndarray, clusters: int, *, seed: int) -> np.ndarray:
    """Centroids of spherical k-means, by faiss: unit vectors, each point belongs to that of largest cosine.

    Args:
        points: (points, dim) float32 unit vectors.
        clusters: at most as many as points.
        seed: of the starts.

    Returns:
        (clusters, dim) float32.

    Raises:
        MissingExtra: without faiss.
    """
    faiss: Any = require("faiss", extra="curate", purpose="clustering vectors")
    options = {"niter": _STEPS, "seed": stream_seed(seed, "curate/kmeans") % 2**31, "spherical": True}
    limits = {"min_points_per_centroid": 1, "max_points_per_centroid": len(points)}  # no warning, no sample
    kmeans = faiss.Kmeans(points.shape[1], clusters, **options, **limits)
    kmeans.train(np.ascontiguousarray(points))
    return kmeans.centroids


def nearest_by_product(features: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The centroid with the largest dot product, as DataComp assigns images.

    For unit features and unit centroids this is the nearest centroid. DataComp's centroids are means of
    k-means and no unit vectors, so that long ones attract more rows than they should.

    Args:
        features: (rows, dim).
        centroids: (clusters, dim).

    Returns:
        (rows,) int64.
    """
    pieces = [
        np.argmax(features[start : start + _ROWS] @ centroids.T, axis=1)
        for start in range(0, len(features), _ROWS)
    ]
    return np.concatenate([np.zeros(0, dtype=np.int64), *pieces])


def whitened(features: np.ndarray, components: int) -> np.ndarray:
    """Features on their principal axes, each of variance one, then rows of length one.

    Source: TL;DR's `preprocess_features` (`fast_cluster.py`), PCA of faiss with eigen power -0.5. The signs
    of the axes are arbitrary.

    Args:
        features: (rows, dim).
        components: axes kept, those of the largest variance.

    Returns:
        (rows, components) float64.
    """
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    kept = np.argsort(-values, kind="stable")[:components]
    least = max(float(values.max()) * 1e-12, np.finfo(float).tiny)  # axes without variance stay without
    projected = centred @ vectors[:, kept] / np.sqrt(np.maximum(values[kept], least))
    return projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)


def every_nth(labels: np.ndarray, step: int) -> np.ndarray:
    """Rows of which each cluster gives its first and every `step`-th after it, cluster by cluster.

    Source: TL;DR's `codebook_cluster.py`. A cluster gives at least one row, so small clusters give more than
    their share.

    Args:
        labels: (rows,) cluster of each row.
        step: rows from one that is taken to the next.
    """
    order = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    place = np.arange(len(order)) - np.repeat(starts, counts)  # of each row within its cluster
    return order[place % step == 0]
