"""A metric by groups: means, intervals, and a gap that chance would not give."""

import numpy as np
import pytest

from frugalclip.auditing.subgroups import subgroup_report
from frugalclip.core.errors import DataError


def planted(gap: float, *, samples: int = 600) -> tuple[np.ndarray, list[str]]:
    random = np.random.default_rng(0)
    values = [("north", "south", "west")[i % 3] for i in range(samples)]
    rates = np.array([0.5 + (gap if value == "north" else 0) for value in values])
    return (random.random(samples) < rates).astype(float), values


def test_a_planted_gap_is_found_and_equal_groups_have_none():
    hits, values = planted(0.3)
    found = subgroup_report(hits, values, np.arange(600), draws=300)
    gap = found["gap"]
    assert gap["best"] == "north"
    assert gap["points"] == pytest.approx(30, abs=9)
    assert gap["interval"][0] > 0
    assert gap["p"] < 0.01
    assert subgroup_report(*planted(0.0), np.arange(600), draws=50)["gap"]["p"] > 0.05


def test_groups_are_means_with_intervals_and_small_ones_are_left_out():
    hits = np.array([1.0, 0, 1, 1, 0, 0, 1])
    found = subgroup_report(hits, ["a", "a", "a", "b", "b", None, "c"], np.arange(7), least=2, draws=50)
    assert [(one["value"], one["samples"]) for one in found["groups"]] == [("a", 3), ("b", 2)]
    assert found["groups"][0]["metric"] == pytest.approx(200 / 3)
    assert found["left_out"] == 2
    low, high = found["groups"][0]["interval"]
    assert low <= 200 / 3 <= high


def test_clusters_widen_the_intervals():
    hits, values = planted(0.2)
    hits = np.repeat(hits[:60], 10)
    values = [value for value in values[:60] for _ in range(10)]
    singly, whole = (
        subgroup_report(hits, values, clusters, draws=300)["groups"][0]["interval"]
        for clusters in (np.arange(600), np.repeat(np.arange(60), 10))
    )
    assert whole[1] - whole[0] > 1.5 * (singly[1] - singly[0])


def test_one_group_is_refused():
    with pytest.raises(DataError, match="1 values of the field"):
        subgroup_report(np.ones(20), ["a"] * 20, np.arange(20))
