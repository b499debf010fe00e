from dataclasses import dataclass

import numpy as np
import pytest

from frugalclip.serving import dense
from frugalclip.serving.dense import DenseSearch, ExactScan, VectorClusters

DIM = 24


@dataclass(frozen=True)
class Held:
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def read(self, rows: np.ndarray) -> np.ndarray:
        return self.values[rows]


def clumps(rows: int, *, seed: int = 0) -> np.ndarray:
    """Unit vectors around some centres, as embeddings of pictures are; exact in half precision."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).standard_normal((40, DIM))
    values = centres[random.integers(40, size=rows)] + 0.5 * random.standard_normal((rows, DIM))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values.astype(np.float16).astype(np.float32)


def nearest(values: np.ndarray, query: np.ndarray, rows: np.ndarray, k: int) -> list[int]:
    return rows[np.argsort(-(values[rows] @ query), kind="stable")[:k]].tolist()


def clustered(values: np.ndarray, *, outside: int = 0, gone: tuple[int, ...] = ()) -> DenseSearch:
    """VectorClusters of all but the last rows, some of which are gone; serial numbers are three apart."""
    serials = np.arange(len(values)) * 3
    held = np.arange(len(values) - outside)
    clusters = VectorClusters.fit(Held(values), held, serials[held], dim=DIM)
    kept = np.setdiff1d(np.arange(len(values)), gone)
    rest = np.arange(len(kept) - outside, len(kept))
    scan = ExactScan(Held(values[kept]), rest, dim=DIM)
    return DenseSearch(scan, clusters, serials=serials[kept], clustered=np.arange(len(kept) - outside))


def test_a_scan_is_that_of_numpy_also_among_some_rows():
    values, random = clumps(500), np.random.default_rng(1)
    rows = np.sort(random.permutation(500)[:400])
    scan = ExactScan(Held(values), rows, dim=DIM)
    for query in clumps(5, seed=2):
        assert scan.search(query, k=7).rows.tolist() == nearest(values, query, rows, 7)
        among = np.sort(random.permutation(500)[:60])
        right = nearest(values, query, np.intersect1d(rows, among), 7)
        assert scan.search(query, k=7, among=among).rows.tolist() == right
    assert len(scan.search(values[0], k=999).rows) == 400
    assert not len(scan.search(values[0], k=3, among=np.array([], np.int64)).rows)


@pytest.mark.parametrize("size", [0, 1, 9, 31, 64, 700, 5000])
@pytest.mark.parametrize("k", [1, 10, 100])
def test_the_bound_of_the_best_is_reached_by_all_of_them(size, k):
    random = np.random.default_rng(size)
    for scores in (random.standard_normal(size), random.integers(-2, 3, size).astype(float)):
        bound = dense.reached_by(scores, k)
        assert (scores >= bound).sum() >= min(k, size)
        assert np.all(np.sort(scores)[::-1][:k] >= bound)
        found = dense.best_of(np.arange(size), scores, k=k)
        assert found.rows.tolist() == np.argsort(-scores, kind="stable")[:k].tolist()


def test_the_bound_of_the_best_leaves_few_to_sort():
    scores = np.random.default_rng(0).standard_normal(100_000)
    assert (scores >= dense.reached_by(scores, 10)).sum() < 30


def test_a_search_leaves_the_threads_of_faiss_as_they_were():
    faiss = dense.faiss_module()
    before = faiss.omp_get_max_threads()
    clustered(clumps(500)).search(clumps(1)[0], k=3)
    assert faiss.omp_get_max_threads() == before


def test_clusters_are_tuned_until_their_recall_is_measured_above_99_percent():
    values, queries = clumps(6000), clumps(60, seed=2)
    search = clustered(values)
    before = search.clusters.probes
    recall = search.tune({"text": queries, "image": values[:40]})
    assert min(recall.values()) >= dense.RECALL
    assert before < search.clusters.probes < search.clusters.lists
    fresh = clumps(100, seed=3)
    hits = [
        len({*search.search(query, k=10).rows} & {*nearest(values, query, np.arange(6000), 10)})
        for query in fresh
    ]
    assert np.mean(hits) / 10 >= 0.99


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5])
@pytest.mark.parametrize("limit", [100_000, 0], ids=["scanned", "by clusters"])
def test_recall_under_a_condition(share, limit, monkeypatch):
    monkeypatch.setattr(dense, "SCANNED_ROWS", limit)
    values = clumps(6000)
    search = clustered(values)
    search.tune({"text": clumps(60, seed=2)})
    among = np.sort(np.random.default_rng(5).permutation(6000)[: int(6000 * share)])
    found = []
    for query in clumps(40, seed=4):
        right = nearest(values, query, among, 10)
        found.append(len({*search.search(query, k=10, among=among).rows} & {*right}) / len(right))
    assert np.mean(found) >= 0.99


@pytest.mark.parametrize("share", [0.02, 0.2])
def test_a_condition_that_selects_what_is_unlike_the_query(share, monkeypatch):
    monkeypatch.setattr(dense, "SCANNED_ROWS", 0)
    values = clumps(6000)
    search = clustered(values)
    search.tune({"text": clumps(60, seed=2)})
    found = []
    for query in clumps(20, seed=4):
        among = np.sort(np.argsort(values @ query)[: int(6000 * share)])
        right = nearest(values, query, among, 10)
        found.append(len({*search.search(query, k=10, among=among).rows} & {*right}) / 10)
    assert np.mean(found) >= 0.99


def test_rows_beside_the_clusters_are_found_and_removed_ones_are_not():
    values = clumps(3000)
    gone = (3, 700, 2500)
    search = clustered(values, outside=50, gone=gone)
    kept = np.setdiff1d(np.arange(3000), gone)
    for row in (2960, 2999, 10):
        found = search.search(values[row], k=5, exactly=True)
        assert kept[found.rows].tolist() == nearest(values, values[row], kept, 5)
    for row in gone:
        assert row not in kept[search.search(values[row], k=20, exactly=True).rows]


def test_clusters_are_what_was_written(tmp_path):
    clusters = clustered(clumps(2000)).clusters
    clusters.write(tmp_path / "x.faiss")
    read = VectorClusters.read(tmp_path / "x.faiss", probes=3)
    assert sorted(read.serials()) == sorted(clusters.serials()) == list(range(0, 6000, 3))
    assert read.lists == clusters.lists
