"""Vectors and the nearest of them: an exact scan, and clusters (faiss' IVF) above a row limit.

Clusters keep vectors in half precision, as the store has them, so that a query reads half the bytes. A small
index needs no faiss. A condition selects rows before anything is scored.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np

from frugalclip.core.errors import require

EXACT_ROWS = 50_000  # above: clusters
SCANNED_ROWS = 100_000  # selected rows up to which all are scored
SHARED_VECTORS = 30_000  # scored by a query, above which threads share them
RECALL = 0.995  # wanted of the tuning queries, so that others have 0.99
NEAREST = 10  # of the recall
_ROWS_A_LIST = 64  # that k-means is trained on
_ITERATIONS = 10
_BLOCK = 32  # scores whose maximum is taken
_PIECE = 65_536  # vectors in memory at once while clusters are filled


def faiss_module() -> Any:
    """Faiss.

    Raises:
        MissingExtra: with the install line.
    """
    return require("faiss", extra="search", purpose="searching many vectors")


class RowVectors(Protocol):
    """Vectors of rows, read in pieces."""

    def __len__(self) -> int: ...

    def read(self, rows: np.ndarray) -> np.ndarray:
        """(n, dim) float32 vectors of (n,) rows."""
        ...


@dataclass(frozen=True)
class FoundRows:
    """Rows and their scores, best first."""

    rows: np.ndarray  # (k,) int64
    scores: np.ndarray  # (k,) float64

    @staticmethod
    def best(rows: np.ndarray, scores: np.ndarray, *, k: int) -> "FoundRows":
        """The k best of (n,) rows with (n,) scores; equal scores in the order of rows."""
        order = np.lexsort((rows, -scores))[:k]
        return FoundRows(rows[order].astype(np.int64), scores[order].astype(np.float64))

    def after(self, other: "FoundRows", *, k: int) -> "FoundRows":
        """The k best of both."""
        rows, scores = (
            np.concatenate(both) for both in ((other.rows, self.rows), (other.scores, self.scores))
        )
        return FoundRows.best(rows, scores, k=k)


@contextmanager
def _threads_for(vectors: int) -> Iterator[None]:
    """Score many vectors on all threads, a few on one: starting the others takes longer than they save."""
    faiss = faiss_module()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(before if vectors > SHARED_VECTORS else 1)  # of this thread alone
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _selector(members: np.ndarray, size: int) -> tuple[Any, np.ndarray]:
    """A selector of numbers below `size`, and the bytes that it reads while it lives."""
    mask = np.zeros(size, dtype=bool)
    mask[members] = True
    bits = np.packbits(mask, bitorder="little")
    return faiss_module().IDSelectorBitmap(bits), bits


@final
class ExactScan:
    """Every selected vector is scored.

    Args:
        vectors: of all rows of the index.
        rows: (n,) rows that are scanned, ascending.
        dim: numbers of a vector.
    """

    def __init__(self, vectors: RowVectors, rows: np.ndarray, *, dim: int) -> None:
        self.rows = rows
        self.values = np.empty((len(rows), dim), dtype=np.float32)
        for start in range(0, len(rows), _PIECE):
            self.values[start : start + _PIECE] = vectors.read(rows[start : start + _PIECE])

    def search(self, query: np.ndarray, *, k: int, among: np.ndarray | None = None) -> FoundRows:
        """The k rows nearest to a (dim,) query, among (m,) ascending rows or all."""
        rows, values = self.rows, self.values
        if among is not None:
            own = np.flatnonzero(_are_in(rows, among))
            rows, values = rows[own], values[own]
        return best_of(rows, values @ query, k=k)


def _are_in(rows: np.ndarray, among: np.ndarray) -> np.ndarray:
    """(n,) bool whether ascending rows are among others, also ascending."""
    if not len(among):
        return np.zeros(len(rows), dtype=bool)
    return among[np.minimum(np.searchsorted(among, rows), len(among) - 1)] == rows


def best_of(rows: np.ndarray, scores: np.ndarray, *, k: int) -> FoundRows:
    """The k best of (n,) rows with (n,) scores, without sorting the others."""
    near = np.flatnonzero(scores >= reached_by(scores, k))
    return FoundRows.best(rows[near], scores[near], k=k)


def reached_by(scores: np.ndarray, k: int) -> float:
    """A number that at least k of (n,) scores reach, and few others; -inf if there are only k.

    The k-th best of the maxima of blocks: each of the k best blocks has a score that reaches it.
    """
    blocks = len(scores) // _BLOCK
    if blocks > k:
        scores = scores[: blocks * _BLOCK].reshape(blocks, _BLOCK).max(axis=1)
    if len(scores) <= k:
        return -math.inf
    return float(np.partition(scores, len(scores) - k)[len(scores) - k])


@final
class VectorClusters:
    """Vectors in lists around centroids, of which a query visits the nearest.

    A row is known by its serial number, which stays when rows before it are removed.

    Args:
        index: of faiss; its numbers are serial numbers.
        probes: lists of a query.
    """

    def __init__(self, index: Any, *, probes: int) -> None:
        self.index, self.probes = index, probes
        index.parallel_mode = 1  # threads share the lists of one query

    @property
    def lists(self) -> int:
        """How many there are."""
        return int(self.index.nlist)

    def serials(self) -> np.ndarray:
        """(n,) serial numbers of the rows that they hold, removed ones too."""
        return np.concatenate([self._ids(number) for number in range(self.lists)])

    def _ids(self, number: int) -> np.ndarray:
        """(n,) serial numbers in a list."""
        lists, faiss = self.index.invlists, faiss_module()
        size = lists.list_size(number)
        return faiss.rev_swig_ptr(lists.get_ids(number), size) if size else np.zeros(0, np.int64)

    @staticmethod
    def fit(vectors: RowVectors, rows: np.ndarray, serials: np.ndarray, *, dim: int) -> "VectorClusters":
        """Fit centroids to a sample and put every row into its list.

        Args:
            vectors: of all rows.
            rows: (n,) rows to hold.
            serials: (n,) their serial numbers.
            dim: numbers of a vector.
        """
        faiss = faiss_module()
        lists = max(1, 2 ** round(math.log2(2 * math.sqrt(max(len(rows), 1)))))
        kind = faiss.ScalarQuantizer.QT_fp16
        # residuals would change the stored numbers
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(dim), dim, lists, kind, faiss.METRIC_INNER_PRODUCT, False
        )
        index.cp.min_points_per_centroid = 1  # no warning about few rows on standard error
        index.cp.niter, index.cp.seed, index.cp.max_points_per_centroid = _ITERATIONS, 0, _ROWS_A_LIST
        sample = np.sort(np.random.default_rng(0).permutation(len(rows))[: lists * _ROWS_A_LIST])
        index.train(vectors.read(rows[sample]))
        for start in range(0, len(rows), _PIECE):
            piece = slice(start, start + _PIECE)
            index.add_with_ids(vectors.read(rows[piece]), serials[piece])
        return VectorClusters(index, probes=1)

    @staticmethod
    def read(path: Path, *, probes: int) -> "VectorClusters":
        """Read what `write` wrote."""
        return VectorClusters(faiss_module().read_index(str(path)), probes=probes)

    def write(self, path: Path) -> None:
        """Write the faiss file."""
        faiss_module().write_index(self.index, str(path))

    def search(self, query: np.ndarray, *, k: int, among: np.ndarray | None, probes: int) -> FoundRows:
        """The serial numbers nearest to a (dim,) query, among (m,) serial numbers or all.

        Others are passed over by a bit each and not scored.
        """
        faiss, kept, probes = faiss_module(), None, min(probes, self.lists)
        options = faiss.SearchParametersIVF(nprobe=probes)
        scored = int(self.index.ntotal) if among is None else len(among)
        if among is not None:
            selector, kept = _selector(among, int(among.max(initial=0)) + 1)
            options = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
        with _threads_for(scored * probes // self.lists):
            scores, serials = self.index.search(query[None], k, params=options)
        del kept
        there = serials[0] >= 0
        return FoundRows(serials[0][there], scores[0][there].astype(np.float64))

    def probes_for(self, selected: float) -> int:
        """Lists to visit for a share of the rows: a condition leaves fewer, and a large k wants more.

        Either way neighbours lie further apart than the ten that the recall was measured with.
        """
        return math.ceil(self.probes * max(selected, 1e-9) ** -0.7)


@final
class DenseSearch:
    """VectorClusters and, beside them, a scan of the rows that they do not hold.

    Args:
        scan: rows outside the clusters.
        clusters: or None, where everything is scanned.
        serials: (rows,) serial number of every row of the index, ascending.
        clustered: (n,) rows that the clusters hold.
    """

    def __init__(
        self, scan: ExactScan, clusters: VectorClusters | None, *, serials: np.ndarray, clustered: np.ndarray
    ) -> None:
        self.scan, self.clusters, self.serials, self.clustered = scan, clusters, serials, clustered
        held = 0 if clusters is None else int(clusters.index.ntotal)
        self._is_clustered = np.zeros(len(serials), dtype=bool)
        self._is_clustered[clustered] = True
        self._lacks_none = held == len(clustered)  # nothing in the clusters has been removed

    def search(
        self, query: np.ndarray, *, k: int, among: np.ndarray | None = None, exactly: bool = False
    ) -> FoundRows:
        """The k rows nearest to a (dim,) query.

        Args:
            query: (dim,) float32 of length one.
            k: rows wanted.
            among: (m,) ascending rows that compete; all by default.
            exactly: score every vector.
        """
        query = np.ascontiguousarray(query, dtype=np.float32)
        near = self.scan.search(query, k=k, among=among)
        if self.clusters is None:
            return near
        return self._clustered(self.clusters, query, k=k, among=among, exactly=exactly).after(near, k=k)

    def _clustered(
        self, clusters: VectorClusters, query: np.ndarray, *, k: int, among: np.ndarray | None, exactly: bool
    ) -> FoundRows:
        chosen = self.clustered if among is None else among[self._is_clustered[among]]
        if not len(chosen):
            return FoundRows(np.zeros(0, np.int64), np.zeros(0))
        share = len(chosen) / len(self.clustered) * NEAREST / max(k, NEAREST)
        are_few = 10 * k >= len(chosen) or (among is not None and len(chosen) <= SCANNED_ROWS)
        probes = clusters.lists if exactly or are_few else clusters.probes_for(share)
        serials = self.serials[chosen] if among is not None or not self._lacks_none else None
        k = min(k, len(chosen))
        found = clusters.search(query, k=k, among=serials, probes=probes)
        while among is not None and probes < clusters.lists:
            # a condition may select what lies far from the query: visit more until nothing better comes
            before, probes = found, 2 * probes
            found = clusters.search(query, k=k, among=serials, probes=probes)
            if len(before.rows) == k and np.array_equal(before.scores, found.scores):
                break
        return FoundRows(np.searchsorted(self.serials, found.rows), found.scores)

    def tune(self, queries: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Visit as many lists as the recall needs; gives the recall@10 of each kind of (n, dim) queries."""
        if self.clusters is None:
            return dict.fromkeys(queries, 1.0)  # every vector is scored
        least = {kind: [self._tenth(query) for query in some] for kind, some in queries.items()}
        while True:
            found = {kind: self._recall(some, least[kind]) for kind, some in queries.items()}
            if min(found.values()) >= RECALL or self.clusters.probes == self.clusters.lists:
                return {kind: round(value, 5) for kind, value in found.items()}
            more = max(self.clusters.probes + 1, round(1.4 * self.clusters.probes))
            self.clusters.probes = min(self.clusters.lists, more)

    def _tenth(self, query: np.ndarray) -> tuple[float, int]:
        """The lowest score among the ten best by a scan of everything, and how many there are."""
        right = self.search(query, k=NEAREST, exactly=True)
        return (float(right.scores[-1]), len(right.rows)) if len(right.rows) else (0.0, 0)

    def _recall(self, queries: np.ndarray, least: list[tuple[float, int]]) -> float:
        """Share of the ten best that are found; a row that ties with the tenth is as good."""
        shares = [
            min(int((self.search(query, k=NEAREST).scores >= score - 1e-6).sum()), count) / count
            for query, (score, count) in zip(queries, least, strict=True)
            if count
        ]
        return float(np.mean(shares)) if shares else 1.0
