"""Notes for the reader of a comparison."""

from frugalclip.comparison.arms import Arm
from frugalclip.comparison.design import Design
from frugalclip.comparison.notes import design_notes, training_notes
from frugalclip.comparison.protocol import ProtocolConfig

ARMS = [Arm("a", command=("x",)), Arm("b", command=("y",))]
PRIMARY = {"baselines": {"pixel_nn_10": 20.0}, "chance": 1.0, "arms": {"a": {"value": 30.0}}}


def design(**changes):
    return Design(**{"arms": ARMS, "reference": "a", "protocol": ProtocolConfig().resolved(), **changes})


def test_few_seeds_and_equal_arms_are_noted():
    assert design_notes(design(seeds=3)) == []
    assert design_notes(design(seeds=1))[0].startswith("1 seed screen at best")
    twins = [Arm("a", command=("x",)), Arm("b", command=("x",))]
    assert "A/A comparison" in design_notes(design(seeds=6, arms=twins))[0]


def notes(make_trial, runs, primary=PRIMARY, used="cpu"):
    trials = [
        make_trial(arm=arm, record={"training": {"samples_seen": seen}, "code": {"commit": commit}})
        for arm, seen, commit in runs
    ]
    return training_notes(trials, design(seeds=6), primary, "cpu", used)


def test_unequal_lengths_and_versions_and_another_clock_are_noted(make_trial):
    assert notes(make_trial, [("a", 8, "x"), ("b", 8, "x")]) == []
    (length,) = notes(make_trial, [("a", 8, "x"), ("b", 16, "x")])
    assert "add --samples N" in length
    (code,) = notes(make_trial, [("a", 8, "x"), ("b", 8, "y")])
    assert "several versions of the code" in code
    (clock,) = notes(make_trial, [("a", 8, "x")], used="wall")
    assert "seconds are wall time" in clock


def test_arms_below_the_baselines_are_noted(make_trial):
    low = PRIMARY | {"arms": {"a": {"value": 20.0}, "b": {"value": None}}}
    (note,) = notes(make_trial, [("a", 8, "x")], low)
    assert note.startswith("No arm is above") and "(20.0 %) on naming" in note
    assert notes(make_trial, [("a", 8, "x")], PRIMARY | {"arms": {"a": {"value": None}}}) == []
