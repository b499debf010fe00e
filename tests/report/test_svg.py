import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugalclip.report.svg import nice_ticks, tick_labels

finite = st.floats(-1e6, 1e6, allow_nan=False)


@given(finite, st.floats(1e-6, 1e6), st.integers(2, 8))
def test_ticks_cover_the_values_in_round_even_steps(low, extent, count):
    high = low + extent
    ticks = nice_ticks(low, high, count=count)
    steps = [b - a for a, b in pairwise(ticks)]
    slack = 1e-6 * max(abs(low), abs(high), extent)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert max(steps) == pytest.approx(min(steps), rel=1e-3, abs=1e-9)
    assert len(ticks) <= count + 3
    mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-6)
    assert min(abs(mantissa - m) for m in (1, 2, 5, 10)) < 1e-3


def test_tick_labels_share_a_unit():
    assert tick_labels([0, 50_000, 100_000]) == (["0", "50k", "100k"], "")
    assert tick_labels([0, 0.0005, 0.001]) == (["0.0", "0.5", "1.0"], "×10⁻³")
    assert tick_labels([-0.5, 0, 0.5]) == (["−0.5", "0.0", "0.5"], "")
