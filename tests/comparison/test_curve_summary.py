"""Curves of arms at equal samples and at equal seconds, from curves that were made up."""

from dataclasses import replace

import pytest

from frugalclip.comparison.arms import Arm
from frugalclip.comparison.curve_summary import summarise_curves
from frugalclip.comparison.design import Design
from frugalclip.comparison.protocol import ProtocolConfig

DESIGN = Design([Arm("base"), Arm("good"), Arm("same")], "base", ProtocolConfig().resolved())
HEIGHTS = {"base": 40.0, "good": 60.0, "same": 40.0}
SPEEDS = {"base": 1.0, "good": 2.0, "same": 1.0}


@pytest.fixture
def trials(make_trial):
    """Straight curves to a height, six runs an arm; the better arm is twice as fast."""

    def points(arm):
        return [
            {
                "samples_seen": 100 * k,
                "seconds": 2 * k / SPEEDS[arm],
                "cpu_seconds": k / SPEEDS[arm],
                "evaluation": {"zeroshot/top1": HEIGHTS[arm] * k / 10},
            }
            for k in range(1, 11)
        ]

    runs = [(fold, seed) for fold in ("ink", "oil") for seed in range(3)]
    return {
        arm: [make_trial(arm=arm, fold=fold, seed_index=seed, points=points(arm)) for fold, seed in runs]
        for arm in HEIGHTS
    }


def test_equal_samples_and_equal_seconds_are_read_from_the_same_runs(trials):
    curves = summarise_curves(trials, DESIGN, clock="cpu")
    assert curves["equal_samples"] == 1000
    assert curves["equal_seconds"] == 5  # when the faster arm ends
    base, good = curves["arms"]["base"], curves["arms"]["good"]
    assert base["at_equal_samples"]["value"] == pytest.approx(40)
    assert base["at_equal_seconds"]["value"] == pytest.approx(20)
    assert good["at_equal_seconds"]["difference"]["value"] == pytest.approx(40)
    assert good["points_above_samples"] == 100
    assert good["area_samples"]["value"] == pytest.approx(33)
    assert base["reach"] is None and base["area_samples"]["difference"] is None
    assert (good["samples"]["x"][-1], good["samples"]["mean"][-1]) == (1000, 60)


def test_when_an_arm_reaches_the_final_value_of_the_reference(trials):
    arms = summarise_curves(trials, DESIGN, clock="cpu")["arms"]
    reach = arms["good"]["reach"]
    assert reach["runs"] == 6
    assert reach["times_sooner"] == pytest.approx(10 / (10 / 2 * 40 / 60))
    assert reach["interval"] == pytest.approx([3, 3])
    assert reach["seconds"] == pytest.approx(10 / 3)
    assert reach["reference_seconds"] == pytest.approx(10)
    assert reach["reference_whole_seconds"] == pytest.approx(10)
    assert arms["same"]["reach"]["times_sooner"] == pytest.approx(1)


def test_an_arm_that_never_gets_there_has_no_ratio(trials):
    swapped = replace(DESIGN, reference="good")
    reach = summarise_curves(trials, swapped, clock="cpu")["arms"]["base"]["reach"]
    assert (reach["runs"], reach["times_sooner"], reach["interval"]) == (6, None, [None, None])


def test_arms_without_runs_or_curves_are_empty(trials, make_trial):
    arms = summarise_curves(trials | {"same": []}, DESIGN, clock="wall")["arms"]
    assert "samples" not in arms["same"]
    assert arms["same"]["at_equal_samples"]["value"] is None
    assert arms["same"]["reach"] == dict.fromkeys(arms["same"]["reach"]) | {"runs": 0}
    none = summarise_curves({arm: [make_trial(arm=arm)] for arm in HEIGHTS}, DESIGN, clock="cpu")
    assert none == {"metric": "zeroshot/top1", "clock": "cpu", "arms": {}}
