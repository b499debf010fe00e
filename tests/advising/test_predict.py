"""Predictions before training: what is recovered, how wide intervals are, and what is not predicted."""

import numpy as np
import pytest

from frugalclip.advising.predict import Predictor
from frugalclip.advising.routes import ROUTES, Candidate

from .made_runs import made_profile, made_runs, made_value

BY_NAME = {route.name: route for route in ROUTES}


def candidate(route: str, samples: int | None = None) -> Candidate:
    return Candidate(BY_NAME[route], samples)


def test_a_rule_without_errors_is_recovered():
    predictor = Predictor(made_runs(spread=0.0))
    profile = made_profile(12.0, pairs=2_000)
    for route, samples in (("pretrained", None), ("clip-small", 4_000), ("frugal", 16_000)):
        found = predictor.predict(profile, candidate(route, samples))
        assert found is not None
        assert found.value == pytest.approx(made_value(profile, route, samples), rel=0.08)
        assert found.low < found.value < found.high


def test_intervals_cover_kinds_of_data_that_were_not_seen():
    covered = []
    for seed in range(20):
        runs = made_runs(kinds=9, seed=seed, spread=0.4)
        predictor = Predictor([one for one in runs if one.kind != "kind 8"])
        for one in (run for run in runs if run.kind == "kind 8"):
            found = predictor.predict(one.profile, candidate(one.route, one.samples))
            assert found is not None
            covered.append(found.low <= one.value <= found.high)
    assert 0.65 <= np.mean(covered) <= 0.95  # 80 % promised; kinds are drawn 20 times only


def test_intervals_grow_with_the_spread_between_kinds_and_with_few_rows():
    profile, few = made_profile(12.0), made_profile(12.0, queries=30)
    calm, wild = Predictor(made_runs(spread=0.1)), Predictor(made_runs(spread=0.8))
    one, two, three = (
        predictor.predict(data, candidate("frugal", 4_000))
        for predictor, data in ((calm, profile), (wild, profile), (calm, few))
    )
    assert one and two and three
    assert two.width > 1.5 * one.width
    assert three.width > 1.5 * one.width


def test_what_was_not_run_is_not_predicted():
    profile = made_profile(12.0)
    predictor = Predictor(made_runs())
    assert predictor.predict(profile, candidate("clip", 64_000)) is None
    few = Predictor([one for one in made_runs() if one.kind in ("kind 0", "kind 1")])
    assert few.predict(profile, candidate("frugal", 4_000)) is None
    assert Predictor([]).predict(profile, candidate("pretrained")) is None


def test_a_shorter_run_moves_and_narrows_the_prediction_of_a_longer_one():
    predictor, profile = Predictor(made_runs()), made_profile(12.0)
    short = predictor.predict(profile, candidate("frugal", 4_000))
    long = predictor.predict(profile, candidate("frugal", 16_000))
    assert short and long
    better = long.after(short, short.value + 5)
    assert better.value > long.value + 3
    assert better.width == pytest.approx(long.width / 2)
    assert long.after(short, 0.0).value < long.value  # 0 % has log-odds too
