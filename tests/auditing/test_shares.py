"""The long tail in numbers."""

import numpy as np
import pytest

from frugalclip.auditing.misalignment import Misalignment
from frugalclip.auditing.shares import gini, spread_of


def test_gini_of_equal_single_and_no_counts():
    assert gini(np.full(10, 3)) == pytest.approx(0)
    assert gini(np.array([0] * 9 + [5])) == pytest.approx(0.9)
    assert gini(np.zeros(3)) == 0
    assert gini(np.zeros(0)) == 0


def test_gini_is_half_the_relative_mean_difference():
    counts = np.random.default_rng(0).integers(0, 50, 40)
    apart = np.abs(counts[:, None] - counts[None]).mean() / (2 * counts.mean())
    assert gini(counts) == pytest.approx(apart)


def test_shares():
    found = spread_of(np.array([0] * 50 + [1] * 149 + [851]), samples=20_000)
    assert (found["zeros"], found["zero_share"]) == (50, 0.25)
    assert found["head_share"] == pytest.approx(852 / 1000)  # two concepts are a hundredth
    assert found["tail_share"] == pytest.approx(199 / 200)
    assert spread_of(np.zeros(0), samples=3)["concepts"] == 0


@pytest.mark.parametrize(
    ("misaligned", "size", "degree"),
    [
        (557_683, 3_318_333, 16.81),
        (2_143_784, 12_423_374, 17.26),
        (5_409_248, 14_825_236, 36.49),
        (21_996_097, 414_080_000, 5.31),
        (23_104_076, 161_100_000, 14.34),
    ],
)
def test_the_published_degrees_over_fixed_sizes(misaligned: int, size: int, degree: float):
    assert round(100 * Misalignment(0, 0, 0, misaligned, size).of_all, 2) == degree
