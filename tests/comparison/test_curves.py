"""Curves read at equal samples and seconds, and how much sooner an arm reaches a value."""

import math

import numpy as np
import pytest

from frugalclip.comparison.curves import Curve, isotonic, times_sooner


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


def test_when_a_curve_reaches_a_value(curve):
    assert curve.reaches(15) == pytest.approx(1.5)
    assert curve.reaches(4) == 1.0
    assert curve.reaches(25) == 2.0
    assert curve.reaches(26) is None


def test_isotonic_by_hand():
    assert isotonic([1, 3, 2, 4]).tolist() == [1, 2.5, 2.5, 4]
    assert isotonic([3, 2, 1]).tolist() == [2, 2, 2]


def test_noise_alone_is_not_sooner():
    """Of flat noisy curves the first point above the end comes early by luck; monotone means avoid that."""
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
    # three times as fast, and 4/5 of the way suffice
    own = {key: Curve(100 * places, 2 * places, 1.25 * rising()) for key in reference}
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
