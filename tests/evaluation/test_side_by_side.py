"""Several models on the same rows: differences by hand, pairs by id, and tasks without outcomes."""

import numpy as np
import pytest

from frugalclip.evaluation.side_by_side import outcome_of, side_by_side


def result(hits: list[float], ids: list[str] | None = None, groups: list[int] | None = None) -> dict:
    ids = ids or [str(i) for i in range(len(hits))]
    own = np.array(groups if groups is not None else range(len(hits)))
    return {"task": "zeroshot", "outcome": outcome_of("top1", ids, np.array(hits, np.float64), own)}


def test_the_difference_is_that_of_the_means():
    found = side_by_side({"a": result([1, 0, 0, 1] * 25), "b": result([1, 1, 0, 1] * 25)})
    assert found["against"] == "a" and list(found["models"]) == ["a", "b"]
    compared = found["compared"]["b"]
    assert (compared["difference"], compared["samples"], compared["metric"]) == (25.0, 100, "top1")
    low, high = compared["interval"]
    assert 10 < low < 25 < high < 40
    assert compared["verdict"] == "better"
    assert all("outcome" not in one for one in found["models"].values())


def test_samples_are_paired_by_id():
    first = result([1, 0, 1], ids=["x", "y", "z"])
    other = result([0, 1, 1], ids=["z", "x", "w"])
    assert (
        side_by_side({"a": first, "b": other})["compared"]["b"]["difference"] == -50.0
    )  # x, z: 1, 0 to 1, 1


def test_groups_are_drawn_together():
    hits = [1.0] * 20 + [0.0] * 20
    alone = side_by_side({"a": result([0.0] * 40), "b": result(hits)})["compared"]["b"]["interval"]
    groups = [0] * 20 + [1] * 20
    joined = side_by_side({"a": result([0.0] * 40), "b": result(hits, groups=groups)})["compared"]["b"]
    assert joined["interval"][1] - joined["interval"][0] > 2 * (alone[1] - alone[0])


def test_equal_models_are_not_distinguishable():
    compared = side_by_side({"a": result([1, 0] * 9), "b": result([1, 0] * 9)})["compared"]["b"]
    assert (compared["difference"], compared["interval"]) == (0.0, [0.0, 0.0])
    assert compared["verdict"] == "not distinguishable"


@pytest.mark.parametrize("task", ["knn"])
def test_a_task_without_outcomes_has_no_difference(task: str):
    assert side_by_side({"a": {"task": task}, "b": {"task": task}})["compared"] == {}
