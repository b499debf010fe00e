"""Factors of data efficiency: interpolated inside the measured fractions, censored outside."""

import math

import numpy as np
import pytest

from frugalclip.comparison.efficiency import Censored, censor, data_efficiency, estimate_efficiency
from frugalclip.comparison.paired import FoldOutcomes


def test_interpolated_over_the_logarithm_of_pairs_and_censored_outside():
    pairs = [100, 200, 400, 800]
    assert data_efficiency(pairs, [10, 20, 30, 40], 30) == pytest.approx(2)
    assert data_efficiency(pairs, [10, 20, 30, 40], 25) == pytest.approx(800 / (200 * math.sqrt(2)))
    assert data_efficiency(pairs, [10, 20, 30, 40], 40) == pytest.approx(1)
    assert str(censor(data_efficiency(pairs, [10, 20, 30, 40], 9), most=8)) == "> 8.00 ×"
    assert str(censor(data_efficiency(pairs, [10, 20, 30, 40], 10), most=8)) == "8.00 ×"  # reached there
    assert str(censor(data_efficiency(pairs, [10, 20, 30, 40], 41), most=8)) == "< 1.00 ×"
    assert Censored(2.104, "").as_json() == {"value": 2.104, "bound": ""}


def outcomes(random, chance, runs=4, families=400):
    ids = np.array([f"f{i:03}" for i in range(families)])
    return [
        FoldOutcomes(
            (random.random((runs, families)) < chance).astype(float),
            ids,
            np.ones(families),
            ids,
            tuple(range(runs)),
        )
    ]


def test_the_interval_holds_the_truth_and_may_be_open():
    random = np.random.default_rng(0)
    pairs, held = {0.25: 100.0, 0.5: 200.0, 1.0: 400.0}, 0
    for draw in range(20):
        arm = {0.25: outcomes(random, 0.3), 0.5: outcomes(random, 0.4), 1.0: outcomes(random, 0.5)}
        factor, interval = estimate_efficiency(arm, outcomes(random, 0.4), pairs, draws=200, seed=draw)
        assert interval is not None
        held += interval[0].value <= 2 <= interval[1].value
        assert factor.bound == "" and 1.5 < factor.value < 2.7
    assert held >= 18
    strong = {f: outcomes(random, 0.6) for f in pairs}
    factor, interval = estimate_efficiency(strong, outcomes(random, 0.3), pairs, draws=100)
    assert (factor, interval) == (Censored(4.0, ">"), (Censored(4.0, ">"), Censored(4.0, ">")))
    weak = {f: outcomes(random, 0.2) for f in pairs}
    assert estimate_efficiency(weak, outcomes(random, 0.4), pairs, draws=100)[0] == Censored(1.0, "<")
    once = {1.0: outcomes(random, 0.4, runs=1)}
    assert estimate_efficiency(once, outcomes(random, 0.2, runs=1), {1.0: 9.0})[1] is None
