"""Accuracy against frequency: joined by name, planted slopes come back, intervals hold what they should."""

from pathlib import Path

import numpy as np
import pytest

from frugalclip.auditing.frequency import FrequencyTable, frequency_report
from frugalclip.core.errors import DataError

ARRAYS = Path(__file__).resolve().parents[1] / "parity" / "arrays"


def planted(concepts: int = 300, sets: int = 1, *, noise: float = 6.0) -> FrequencyTable:
    random = np.random.default_rng(0)
    counts = np.round(10 ** random.uniform(-0.5, 4, concepts)).astype(np.int64)
    groups = (np.arange(concepts) % sets).astype(np.int64)
    accuracies = 10 + 9 * np.log10(np.maximum(counts, 1)) + 15 * groups
    accuracies = accuracies + noise * random.standard_normal(concepts)
    return FrequencyTable([f"c{i}" for i in range(concepts)], counts, accuracies, groups)


def test_the_planted_slope_is_in_its_interval():
    found = frequency_report(planted(), draws=200)
    low, high = found["interval"]["slope_per_decade"]
    assert 7 < low < found["slope_per_decade"] < high < 11
    assert low < 9 < high
    assert found["zeros"]["concepts"] == int((planted().counts == 0).sum()) > 0
    assert found["within"] is None
    assert set(found["sensitivity"]) == {"5", "8", "12", "20", "30"}
    assert sum(found["bins"]["sizes"]) == 300


def test_data_sets_are_taken_apart_and_drawn_whole():
    found = frequency_report(planted(sets=6), draws=200)
    assert found["within"]["slope_per_decade"] == pytest.approx(9, abs=0.8)
    alone = frequency_report(planted(sets=4), draws=200)
    assert set(found["interval"]) == set(alone["interval"])


def test_equal_seeds_give_equal_intervals():
    first, second = (frequency_report(planted(), draws=50, seed=3)["interval"] for _ in range(2))
    assert first == second != frequency_report(planted(), draws=50, seed=4)["interval"]


def test_the_published_table_has_a_slope_above_zero():
    table = np.load(ARRAYS / "concept_frequency_cc3m.npz")
    groups = np.unique(table["dataset"], return_inverse=True)[1]
    rows = FrequencyTable(table["concept"].tolist(), table["freq_joint"], table["acc_ensemble_RN50"], groups)
    found = frequency_report(rows, draws=60)
    assert found["interval"]["slope_per_decade"][0] > 0
    assert found["binned"]["r"] == pytest.approx(0.9615, abs=1e-4)
    assert (round(found["r_found"], 3), round(found["spearman"], 3)) == (0.424, 0.622)
    assert found["zeros"]["concepts"] == 2477


def test_names_are_joined_in_any_spelling():
    counts = {"Red_Disc": 5, "cat": 0, "dog": None, "bus": 7}
    table = FrequencyTable.joined(counts, [{"red disc": 50.0, "Cat": 10.0, "dog": 1.0}, {"BUS": 70.0}])
    assert table.names == ["red disc", "Cat", "BUS"]
    assert table.counts.tolist() == [5, 0, 7]
    assert table.groups.tolist() == [0, 0, 1]
    with pytest.raises(DataError, match="1 concepts have a count and an accuracy"):
        FrequencyTable.joined(counts, [{"cat": 1.0, "zebra": 2.0}])


def test_concepts_that_all_occur_once_have_no_slope():
    table = FrequencyTable(["a", "b", "c"], np.ones(3, int), np.arange(3.0), np.zeros(3, int))
    found = frequency_report(table, draws=5)
    assert found["slope_per_decade"] is None
    assert found["interval"]["slope_per_decade"] is None
