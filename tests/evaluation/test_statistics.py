import numpy as np
import pytest

from frugalclip.evaluation.statistics import group_codes, intervals, mean_of, mean_of_classes, median_of


def counts_of(*draws: list[int]) -> np.ndarray:
    """(draws, groups) how often each group is in a draw."""
    groups = max(max(draw) for draw in draws) + 1
    return np.stack([np.bincount(draw, minlength=groups) for draw in draws]).astype(np.float64)


def test_statistics_equal_their_formulas_written_as_loops():
    values, groups, classes = np.array([1.0, 0.0, 3.0, 5.0, 4.0]), np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 0, 2])
    draws = [[0, 0, 1], [1, 1, 1], [2, 0, 2], [0, 1, 2]]
    for draw in draws:
        samples = [i for g in draw for i in range(5) if groups[i] == g]
        means = [np.mean([values[i] for i in samples if classes[i] == c]) for c in range(3) if any(classes[i] == c for i in samples)]
        counts = counts_of(draw, [2, 2, 2])[:1]
        assert mean_of(values, groups)(counts) == pytest.approx([values[samples].mean()])
        assert mean_of_classes(values, classes, groups)(counts) == pytest.approx([np.mean(means)])
        assert median_of(values, groups)(counts) == pytest.approx([np.sort(values[samples])[(len(samples) - 1) // 2]])


def test_the_interval_of_a_mean_is_the_normal_one_for_many_samples():
    hits = (np.random.default_rng(1).random(2000) < 0.3).astype(float)
    low, high = intervals({"mean": mean_of(hits, np.arange(2000))}, groups=2000, draws=2000)["mean"]
    half = 1.96 * hits.std() / np.sqrt(2000)
    assert low == pytest.approx(hits.mean() - half, abs=0.15 * half)
    assert high == pytest.approx(hits.mean() + half, abs=0.15 * half)


def test_groups_that_stand_or_fall_together_widen_the_interval():
    hits = np.repeat((np.random.default_rng(2).random(100) < 0.5).astype(float), 9)
    groups = np.repeat(np.arange(100), 9)
    alone = intervals({"m": mean_of(hits, np.arange(900))}, groups=900)["m"]
    together = intervals({"m": mean_of(hits, groups)}, groups=100)["m"]
    assert (together[1] - together[0]) / (alone[1] - alone[0]) == pytest.approx(3, rel=0.15)  # the root of the group's size


def test_seeds_decide_and_chunks_do_not(monkeypatch):
    statistic = {"m": mean_of(np.arange(30.0), np.arange(30))}
    first = intervals(statistic, groups=30, draws=200, seed=3)
    assert intervals(statistic, groups=30, draws=200, seed=3) == first
    assert intervals(statistic, groups=30, draws=200, seed=4) != first
    monkeypatch.setattr("frugalclip.evaluation.statistics._CELLS", 100)
    narrow = intervals(statistic, groups=30, draws=200, seed=3)["m"]
    assert narrow == pytest.approx(first["m"], abs=1e-9)
    assert intervals(statistic, groups=0) == {}


def test_groups_are_numbered_from_zero():
    assert group_codes(np.array([7, -1, 7]), 3).tolist() == [1, 0, 1]
    assert group_codes(None, 3).tolist() == [0, 1, 2]
