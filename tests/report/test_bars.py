import math
import re
from xml.etree import ElementTree

import pytest

from frugalclip.report.bars import Bar, bar_comparison, interval_strip


@pytest.mark.parametrize("width", [350, 620])
def test_bars_begin_at_zero_and_are_as_long_as_their_values(width):
    bars = [Bar("model", 40.0, "model", (30.0, 55.0)), Bar("baseline", 20.0), Bar("chance", 0.5, "chance")]
    root = ElementTree.fromstring(bar_comparison(bars, title="t", axis_label="top-1 (%)", width=width))
    rects = [e for e in root.iter() if e.tag.endswith("rect")]
    starts, lengths = {e.get("x") for e in rects}, [float(e.get("width") or 0) for e in rects]
    assert len(starts) == 1
    assert lengths[0] == pytest.approx(2 * lengths[1], abs=0.2)
    assert lengths[2] == pytest.approx(lengths[0] / 80, abs=0.6)
    whisker = next(e for e in root.iter() if e.get("class") == "whisker").get("d") or ""
    low, high = map(float, re.findall(r"M([\d.]+) [\d.]+v", whisker))
    start = float(rects[0].get("x") or 0)
    assert (low - start) / lengths[0] == pytest.approx(30 / 40, abs=0.01)
    assert (high - start) / lengths[0] == pytest.approx(55 / 40, abs=0.01)
    for text in (e for e in root.iter() if (e.get("class") or "").startswith("bar-value")):
        assert float(text.get("x") or 0) <= width - 20


def test_bars_without_a_value_say_so():
    assert "no finite value" in bar_comparison([Bar("a", math.nan)], title="t", axis_label="x")


def test_a_strip_marks_the_value_its_interval_and_the_baselines_on_one_scale():
    drawing = interval_strip(50.0, interval=(25.0, 75.0), marks=[0.0, math.nan], maximum=100.0, label="<x>")
    root = ElementTree.fromstring(drawing)
    places = {e.get("class"): e for e in root.iter() if e.get("class")}
    assert float(places["mark s0"].get("cx") or 0) == 95.0
    assert [float(places["reach"].get(side) or 0) for side in ("x1", "x2")] == [50.0, 140.0]
    assert sum(e.get("class") == "stroke" for e in root.iter()) == 1
    assert root.get("aria-label") == "<x>"
