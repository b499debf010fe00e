import numpy as np
import pytest

from frugalclip.evaluation.statistics import group_codes, intervals, mean_of, mean_of_classes, median_of


def counts_of(*draws: list[int]) -> np.ndarray:
    """(draws, groups) how often each group is in a draw."""
    groups = max(max(draw) for draw in draws) + 1
    return np.stack([np.bincount(draw, minlength=groups) for draw in draws]).astype(np.float64)


def test_statistics_equal_their_formulas_written_as_loops():
    values, groups, classes = (
        np.array([1.0, 0.0, 3.0, 5.0, 4.0]),
        np.array([0, 0, 1, 2, 2]),
        np.array([0, 1, 1, 0, 2]),
    )
    sizes = [2, 2, 1]
    for draw in ([0, 0, 1], [1, 1, 1], [2, 0, 2], [0, 1, 2]):
        samples = [i for g in draw for i in range(5) if groups[i] == g]
        weights = [1 / sizes[classes[i]] for i in samples]
        counts = counts_of(draw, [2, 2, 2])[:1]
        assert mean_of(values, groups)(counts) == pytest.approx([values[samples].mean()])
        assert mean_of_classes(values, classes, groups)(counts) == pytest.approx(
            [np.average(values[samples], weights=weights)]
        )
        assert median_of(values, groups)(counts) == pytest.approx(
            [np.sort(values[samples])[(len(samples) - 1) // 2]]
        )
    everything = counts_of([0, 1, 2])
    assert mean_of_classes(values, classes, groups)(everything) == pytest.approx([np.mean([3, 1.5, 4])])


def test_classes_of_one_sample_have_the_interval_of_their_samples():
    hits = (np.random.default_rng(0).random(200) < 0.2).astype(float)
    alone = np.arange(200)
    found = intervals(
        {"samples": mean_of(hits, alone), "classes": mean_of_classes(hits, alone, alone)}, groups=200
    )
    assert found["classes"] == pytest.approx(found["samples"])


def test_a_statistic_whose_samples_no_draw_holds_is_left_out_of_it():
    only_first = mean_of(
        np.array([2.0]), np.array([0])
    )  # queries of one group, drawn together with those of another
    assert np.isnan(only_first(counts_of([1, 1])))
    assert intervals({"m": only_first}, groups=2, draws=50)["m"] == [2, 2]


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
    assert (together[1] - together[0]) / (alone[1] - alone[0]) == pytest.approx(
        3, rel=0.15
    )  # the root of the group's size


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
