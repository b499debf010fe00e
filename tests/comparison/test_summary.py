"""The results of a comparison, from trials that were made up so that the answer is known."""

from dataclasses import replace

import numpy as np
import pytest

from frugalclip.comparison.arms import Arm
from frugalclip.comparison.design import Design
from frugalclip.comparison.outcomes import blocks_of
from frugalclip.comparison.protocol import ProtocolConfig
from frugalclip.comparison.summary import available_clock, summarise

FAMILIES = 150
FOLDS = ("ink", "oil")
PROTOCOL = ProtocolConfig.model_validate({"metrics": {"unseen": {"primary": True}, "seen": {}}})
DESIGN = Design(
    arms=[Arm("base"), Arm("good"), Arm("same")],
    reference="base",
    protocol=PROTOCOL.resolved(),
    seeds=3,
    fractions=[0.25, 1.0],
)
CHANCES = {"base": 0.4, "good": 0.6, "same": 0.4}
SPEEDS = {"base": 1.0, "good": 2.0, "same": 1.0}


def outcome(random, chance, samples=FAMILIES):
    ids = [f"i{i}" for i in range(samples)]
    order = random.permutation(samples)  # trials need not list samples in the same order
    hits = (random.random(samples) < chance).astype(float)
    return {
        "id": [ids[i] for i in order],
        "group": [f"f{i}" for i in order],
        "hit": [hits[i] for i in order],
        "rank": [1.0] * samples,
        "weight": None,
    }


def record_of(random, arm, fraction):
    chance = CHANCES[arm] * (0.75 if fraction < 1 else 1.0)
    points = [{"samples_seen": 1000, "seconds": 2.0, "cpu_seconds": 1.0, "evaluation": {}}]
    metrics = {name: {"metric": "top1", "outcome": outcome(random, chance)} for name in PROTOCOL.metrics}
    training = {
        "samples_seen": 1000,
        "seconds": 20 / SPEEDS[arm],
        "cpu_seconds": 10 / SPEEDS[arm],
        "training_rows": int(400 * fraction),
    }
    return {"metrics": metrics, "training": training | {"parameters": 5}}, points


@pytest.fixture(scope="module")
def trials(make_trial):
    random, made = np.random.default_rng(0), []
    for seed in range(3):
        for fold in FOLDS:
            for fraction in DESIGN.fractions:
                for arm in DESIGN.names:
                    record, points = record_of(random, arm, fraction)
                    job = {"fold": fold, "fraction": fraction, "seed_index": seed}
                    made.append(make_trial(arm=arm, record=record, points=points, **job))
    return made


def whole(trials, arm):
    return [t for t in trials if t.arm == arm and t.job.fraction == 1.0]


@pytest.fixture(scope="module")
def found(trials):
    return summarise(trials, DESIGN, clock="cpu", draws=300)


def test_every_arm_is_tested_against_every_baseline_sample_by_sample(trials):
    random = np.random.default_rng(1)
    blocks = blocks_of(whole(trials, "good"), "unseen")
    copied = {
        "low": {r: outcome(random, 0.4) for r in FOLDS},
        "level": {r: outcome(random, 0.6) for r in FOLDS},
    }
    tests = {
        (t["arm"], t["baseline"]): t
        for t in summarise(trials, DESIGN, clock="cpu", baselines=copied, draws=50)["baseline_tests"]
    }
    assert len(tests) == 6
    assert (tests["good", "low"]["verdict"], tests["base", "level"]["verdict"]) == ("better", "worse")
    assert tests["good", "level"]["verdict"] == "not distinguishable"
    own = np.mean([block.means().mean() for block in blocks.values()])
    baseline = np.mean([100 * np.mean(one["hit"]) for one in copied["low"].values()])
    assert tests["good", "low"]["value"] == pytest.approx(own - baseline)
    assert tests["good", "low"]["p_holm"] >= tests["good", "low"]["p"]


def test_without_baselines_nothing_is_tested_against_them(found):
    assert found["baseline_tests"] == []


def test_the_better_arm_is_better_and_the_equal_one_is_not_told_apart(found):
    tests = {test["arm"]: test for test in found["tests"]}
    assert (tests["good"]["verdict"], tests["same"]["verdict"]) == ("better", "not distinguishable")
    assert tests["good"]["interval"][0] < 20 < tests["good"]["interval"][1] + 3
    assert tests["good"]["p_holm"] == pytest.approx(2 * tests["good"]["p"])
    assert tests["good"]["pigeonhole"][0] > 0
    assert (tests["good"]["runs"], tests["good"]["families"], tests["good"]["folds"]) == (6, FAMILIES, 2)
    assert found["answer"] == "Against base on unseen: good is better; same is not distinguishable."
    metric = found["metrics"]["seen"]["arms"]
    assert metric["base"]["difference"] is None
    assert metric["good"]["value"] - metric["base"]["value"] == pytest.approx(
        metric["good"]["difference"]["value"], abs=1e-5
    )
    assert set(metric["good"]["by_fold"]) == {"ink", "oil"}


def test_data_efficiency_is_censored(found):
    arms = found["data_efficiency"]["arms"]
    assert arms["good"]["factor"]["bound"] == ">"
    assert arms["good"]["factor"]["value"] == 4
    assert arms["base"]["factor"] == {"value": 1.0, "bound": ""}
    assert [f["pairs"] for f in arms["base"]["fractions"]] == [100, 400]


def test_one_seed_cannot_say_and_missing_trials_leave_a_row(trials):
    once = [t for t in trials if t.job.seed_index == 0 and t.arm != "same"]
    found = summarise(once, DESIGN, clock="cpu", draws=50)
    tests = {test["arm"]: test for test in found["tests"]}
    assert tests["good"]["verdict"] == "one seed: cannot say"
    assert tests["good"]["interval"] is None
    assert tests["same"]["verdict"] == "no finished pair of runs"
    assert found["metrics"]["unseen"]["arms"]["same"]["value"] is None
    assert found["data_efficiency"]["arms"]["same"] is None
    assert "undecided for good, same" in found["answer"]
    two = replace(DESIGN, arms=DESIGN.arms[:2])
    assert summarise([], two, clock="cpu")["answer"].startswith("Undecided: no pair of runs of good and base")


def test_samples_are_matched_by_id(trials):
    block = blocks_of(whole(trials, "good"), "unseen")["ink"]
    assert block.values.shape == (3, FAMILIES)
    one = next(t for t in whole(trials, "good") if t.run == ("ink", 1))
    outcome = one.metrics["unseen"]["outcome"]
    hits = dict(zip(outcome["id"], outcome["hit"], strict=True))
    assert [100 * hits[name] for name in block.ids] == block.values[1].tolist()
    assert all(group == f"f{name[1:]}" for group, name in zip(block.groups, block.ids, strict=True))


def test_the_clock_falls_back_to_the_wall(trials, make_trial):
    assert available_clock(trials, "cpu") == "cpu"
    without = {k: v for k, v in trials[0].training.items() if k != "cpu_seconds"}
    assert available_clock([make_trial(record={"training": without})], "cpu") == "wall"
