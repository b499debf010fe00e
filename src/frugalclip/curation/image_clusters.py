"""Clusters of images by their vectors, fitted to some of the rows and read from disk a piece at a time."""

from dataclasses import dataclass
from typing import final

import numpy as np

from frugalclip.curation.clusters import nearest_by_product, spherical_centroids
from frugalclip.curation.image_vectors import ImageVectors

READ = 32_768  # vectors in memory at once
_FITTED_A_CLUSTER, _FITTED = 64, 262_144  # rows that centroids are fitted to: for each cluster, at most


@final
@dataclass(frozen=True, eq=False)
class Clustering:
    """Clusters of rows."""

    labels: np.ndarray  # (rows,) int64
    cosines: np.ndarray  # (rows,) float64, of each row with the centroid of its cluster
    centroids: np.ndarray  # (clusters, dim) float32 unit vectors

    @property
    def sizes(self) -> np.ndarray:
        """(clusters,) rows of each."""
        return np.bincount(self.labels, minlength=len(self.centroids))

    @property
    def note(self) -> str:
        """What the report shows of them."""
        sizes = self.sizes
        return f"{len(sizes):,} clusters of {sizes.min():,} to {sizes.max():,} rows"


def cluster_images(
    vectors: ImageVectors, rows: np.ndarray, draws: np.ndarray, *, clusters: int, seed: int
) -> Clustering:
    """Clusters of some rows, by spherical k-means.

    Args:
        vectors: of the images.
        rows: which to cluster; at least one.
        draws: uniform numbers of all rows, by which rows are drawn to fit centroids.
        clusters: wanted; at most as many as rows.
        seed: of the plan.
    """
    clusters = max(1, min(clusters, len(rows)))
    drawn = rows[np.argsort(draws[rows], kind="stable")]
    fitted = vectors.read(drawn[: min(clusters * _FITTED_A_CLUSTER, max(_FITTED, clusters))])
    centroids = spherical_centroids(fitted, clusters, seed=seed)
    return Clustering(*assign_images(vectors, rows, centroids), centroids)


def assign_images(
    vectors: ImageVectors, rows: np.ndarray, centroids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centroid of each of some rows.

    Returns:
        (rows,) int64, and (rows,) float64 the cosine with it.
    """
    labels, cosines = np.zeros(len(rows), np.int64), np.zeros(len(rows))
    for start in range(0, len(rows), READ):
        piece = slice(start, start + READ)
        values = vectors.read(rows[piece])
        labels[piece] = nearest_by_product(values, centroids)
        cosines[piece] = np.einsum("rd,rd->r", values, centroids[labels[piece]])
    return labels, cosines
