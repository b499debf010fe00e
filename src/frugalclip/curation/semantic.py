"""Images that repeat another one in meaning: near each other in the space of a MODEL, within a cluster.

Source: SemDeDup (arXiv 2303.09540; facebookresearch/SemDeDup, June 2024). Clusters are those of spherical
k-means, and only rows of one cluster are compared. Within it the paper keeps one image of each group of
duplicates. The authors' code drops a row that is like any row before it, even where that one is dropped
itself, so that a chain drops rows which are unlike all that stay (issue 8 of their repository).

Here a group is a row that stays and the rows like it, so a group whose chain is too long is split. Clusters
are formed again of what stays, until none of them holds two rows that are alike; then a second call drops
nothing.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import final

import numpy as np

from frugalclip.core.random import uniform
from frugalclip.curation.image_clusters import READ, Clustering, cluster_images
from frugalclip.curation.image_vectors import ImageVectors
from frugalclip.curation.keepers import search_keepers

ROWS_A_CLUSTER = 1_000  # the card: 200 to 1,000 in small pools
_COMPARED = 512  # rows compared with all before them at once
_DIGITS = 6  # of a cosine in float32 that are compared


@final
class SemanticSearch:
    """Clusters rows and finds those that repeat another one of their cluster.

    Args:
        vectors: of the images.
        codes: (rows,) uint64, by which rows are drawn to fit centroids.
        least: cosine of two rows of which one goes.
        clusters: of all rows; None for one in a thousand rows.
        seed: of the plan.
    """

    def __init__(
        self, vectors: ImageVectors, codes: np.ndarray, *, least: float, clusters: int | None, seed: int
    ) -> None:
        self.vectors, self.least, self.clusters, self.seed = vectors, least, clusters, seed
        self.draws = uniform(seed, "curate/semantic", codes, 1)[:, 0]

    def clustering(self, rows: np.ndarray) -> Clustering:
        """Clusters of some rows."""
        clusters = self.clusters or round(len(rows) / ROWS_A_CLUSTER)
        return cluster_images(self.vectors, rows, self.draws, clusters=clusters, seed=self.seed)

    def keepers(
        self, rows: np.ndarray, order: np.ndarray, first: Clustering
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which of the rows stays for each, see `search_keepers`: the paper's rule.

        Args:
            rows: to compare, ascending.
            order: (rows,) every place among them once, preferred ones first.
            first: clusters of all of them.
        """
        rank = np.argsort(order)

        def repeated(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            every = len(places) == len(rows)
            labels = (first if every else self.clustering(rows[places])).labels
            found, _ = self.repeats(rows[places], np.argsort(rank[places]), labels, is_chained=False)
            gone = np.flatnonzero(found != np.arange(len(places)))
            low, high = np.minimum(gone, found[gone]), np.maximum(gone, found[gone])
            return np.divmod(np.unique(low * max(len(places), 1) + high), max(len(places), 1))

        def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
            result = np.zeros(len(one))
            for start in range(0, len(one), READ):
                piece = slice(start, start + READ)
                ends = (self.vectors.read(rows[places[piece]]) for places in (one, other))
                result[piece] = np.einsum("rd,rd->r", *ends)
            return np.round(result, _DIGITS)

        return search_keepers(order, [repeated], cosines, least=self.least)

    def repeats(
        self, rows: np.ndarray, order: np.ndarray, labels: np.ndarray, *, is_chained: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Within each cluster, the row that stays for each row.

        Args:
            rows: to compare.
            order: (rows,) every place among them once, preferred ones first.
            labels: (rows,) cluster of each.
            is_chained: a row that is dropped drops others, as in the authors' code.

        Returns:
            (rows,) place of the most similar row that stays and is preferred, a row's own where it stays, and
            (rows,) float64 cosine with it, NaN where the row stays.
        """
        keepers, values = np.arange(len(rows)), np.full(len(rows), np.nan)
        grouped = order[np.argsort(labels[order], kind="stable")]  # by cluster, preferred ones first
        ends = np.r_[np.flatnonzero(np.diff(labels[grouped])) + 1, len(grouped)]
        for clusters in _pieces(ends):
            start = clusters[0]
            read = self.vectors.read(rows[grouped[start : clusters[-1]]])
            for low, high in pairwise(clusters):
                found, cosines = repeated_rows(
                    read[low - start : high - start], least=self.least, is_chained=is_chained
                )
                places = grouped[low:high]
                keepers[places], values[places] = places[found], cosines
        return keepers, values


def _pieces(ends: np.ndarray) -> Iterator[list[int]]:
    """Borders of clusters, so many at a time that few enough rows lie between the first and the last."""
    borders = [0]
    for end in ends.tolist():
        if len(borders) > 1 and end - borders[0] > READ:
            yield borders
            borders = borders[-1:]
        borders.append(end)
    yield borders


def repeated_rows(vectors: np.ndarray, *, least: float, is_chained: bool) -> tuple[np.ndarray, np.ndarray]:
    """Which row of a cluster stays for each of its rows.

    Args:
        vectors: (rows, dim) unit vectors, those of preferred rows first.
        least: cosine of two rows of which the later one goes.
        is_chained: a row goes where any row before it is like it, one that goes itself included.

    Returns:
        (rows,) int64 the most similar row before it that stays, its own where it stays, and (rows,) float64
        cosine with it, NaN where the row stays. In a chain that cosine may be less than `least`.
    """
    rows = len(vectors)
    keepers, values, stays = np.arange(rows), np.full(rows, np.nan), np.ones(rows, dtype=bool)
    for start in range(0, rows, _COMPARED):
        stop = min(start + _COMPARED, rows)
        cosines = vectors[start:stop] @ vectors[:stop].T  # (some, rows before and these)
        near = np.tril(np.round(cosines, _DIGITS) >= np.float32(least), start - 1)
        for place in np.flatnonzero(near.any(axis=1)):
            row, before = start + place, slice(0, start + place)
            if not is_chained and not (near[place, before] & stays[before]).any():
                continue
            best = int(np.argmax(np.where(stays[before], cosines[place, before], -np.inf)))
            keepers[row], values[row], stays[row] = best, cosines[place, best], False
    return keepers, np.round(values, _DIGITS)
