"""Reading curves at equal samples and seconds, and factors that are censored instead of extrapolated."""

import math

import numpy as np
import pytest

from frugalclip.comparison.curves import (
    Censored,
    Curve,
    censor,
    data_efficiency,
    isotonic,
    saved_with_interval,
    times_sooner,
)
from frugalclip.comparison.paired import Block


@pytest.fixture
def curve():
    return Curve(np.array([10.0, 20.0, 40.0]), np.array([1.0, 2.0, 4.0]), np.array([5.0, 25.0, 15.0]))


def test_a_curve_is_read_between_its_points_and_nowhere_else(curve):
    assert curve.at("samples", 15.0) == 15.0
    assert curve.at("seconds", 3.0) == 20.0
    assert np.isnan(curve.at("samples", np.array([9.0, 41.0]))).all()
    assert curve.area("samples", 10, 40) == pytest.approx((15 * 10 + 20 * 20) / 30)
    assert curve.area("samples", 12, 18) == pytest.approx(15.0)
    assert math.isnan(curve.area("samples", 0, 20))


def test_when_a_curve_reaches_a_figure(curve):
    assert curve.reaches(15) == pytest.approx(1.5)
    assert curve.reaches(4) == 1.0
    assert curve.reaches(25) == 2.0
    assert curve.reaches(26) is None


def test_isotonic_by_hand():
    assert isotonic([1, 3, 2, 4]).tolist() == [1, 2.5, 2.5, 4]
    assert isotonic([3, 2, 1]).tolist() == [2, 2, 2]


def test_pairs_saved_on_a_logarithm_and_censored_outside():
    pairs = [100, 200, 400, 800]
    assert data_efficiency(pairs, [10, 20, 30, 40], 30) == pytest.approx(2)
    assert data_efficiency(pairs, [10, 20, 30, 40], 25) == pytest.approx(800 / (200 * math.sqrt(2)))
    assert data_efficiency(pairs, [10, 20, 30, 40], 40) == pytest.approx(1)
    assert str(censor(data_efficiency(pairs, [10, 20, 30, 40], 9), most=8)) == "> 8.00 ×"
    assert str(censor(data_efficiency(pairs, [10, 20, 30, 40], 10), most=8)) == "8.00 ×", (
        "reached there, and not before as far as anyone knows"
    )
    assert str(censor(data_efficiency(pairs, [10, 20, 30, 40], 41), most=8)) == "< 1.00 ×"
    assert Censored(2.104, "").as_json() == {"value": 2.104, "bound": ""}


def test_noise_alone_is_not_sooner():
    """Flat noisy curves: the first point above the end comes early by luck; one rule for both, on monotone means, says neither is sooner."""
    random, factors, naive = np.random.default_rng(1), [], []
    places = np.arange(1.0, 11.0)
    for _ in range(60):
        own, reference = (
            {("", s): Curve(places, places, 50 + places / 10 + random.normal(0, 3, 10)) for s in range(3)}
            for _ in range(2)
        )
        found = times_sooner(own, reference, draws=2)
        if found.factor:
            factors.append(math.log(found.factor))
            naive += [math.log(10 / (own[k].reaches(c.values[-1]) or 10)) for k, c in reference.items()]
    assert len(factors) > 20
    assert abs(np.mean(factors)) < 0.5 < 1 < np.mean(naive)


def test_a_faster_arm_is_sooner_by_its_factor():
    random, places = np.random.default_rng(2), np.arange(1.0, 21.0)
    rising = lambda: 50 * places / 20 + random.normal(0, 1, 20)  # noqa: E731
    reference = {(r, s): Curve(100 * places, 6 * places, rising()) for r in "ab" for s in range(3)}
    own = {
        key: Curve(100 * places, 2 * places, 1.25 * rising()) for key in reference
    }  # three times as fast, and 4/5 of the way suffice
    found = times_sooner(own, reference)
    assert found.factor == pytest.approx(3 * 1.25, rel=0.05)
    assert 3.4 < found.interval[0] < found.factor < found.interval[1] < 4.1
    assert (found.seconds, found.reference_seconds) == (
        pytest.approx(32, rel=0.05),
        pytest.approx(120, rel=0.05),
    )
    low = {key: Curve(c.samples, c.seconds, c.values / 3) for key, c in own.items()}
    assert (times_sooner(low, reference).factor, times_sooner(low, reference).interval) == (0, (0, 0))
    assert times_sooner({("a", 0): own["a", 0]}, reference).interval is None
    assert times_sooner({}, reference) is None


def outcomes(random, chance, runs=4, families=400):
    ids = np.array([f"f{i:03}" for i in range(families)])
    return [
        Block(
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
        factor, interval = saved_with_interval(arm, outcomes(random, 0.4), pairs, draws=200, seed=draw)
        assert interval is not None
        held += interval[0].value <= 2 <= interval[1].value
        assert factor.bound == "" and 1.5 < factor.value < 2.7
    assert held >= 18
    strong = {f: outcomes(random, 0.6) for f in pairs}
    factor, interval = saved_with_interval(strong, outcomes(random, 0.3), pairs, draws=100)
    assert (factor, interval) == (Censored(4.0, ">"), (Censored(4.0, ">"), Censored(4.0, ">")))
    weak = {f: outcomes(random, 0.2) for f in pairs}
    assert saved_with_interval(weak, outcomes(random, 0.4), pairs, draws=100)[0] == Censored(1.0, "<")
    assert (
        saved_with_interval({1.0: outcomes(random, 0.4, runs=1)}, outcomes(random, 0.2, runs=1), {1.0: 9.0})[
            1
        ]
        is None
    )
