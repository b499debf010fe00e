"""Clusters of features: which centroid a row belongs to."""

import numpy as np

_ROWS = 65_536  # multiplied at once


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
