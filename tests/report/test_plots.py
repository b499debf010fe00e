import json
import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugalclip.report.bars import Bar, bar_comparison, interval_strip
from frugalclip.report.formats import text_width
from frugalclip.report.plots import Reference, Series, line_chart, thin

finite = st.floats(-1e6, 1e6, allow_nan=False)


def parsed(svg: str) -> ElementTree.Element:
    """The drawing, which has to be well-formed XML to be anything in a page."""
    return ElementTree.fromstring(svg)


def of_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [e for e in root.iter() if name in (e.get("class") or "").split()]


def corners(element: ElementTree.Element) -> list[tuple[float, float]]:
    pairs = (element.get("points") or "").split()
    return [tuple(map(float, pair.split(","))) for pair in pairs]  # pyright: ignore[reportReturnType]


def hover(root: ElementTree.Element) -> dict:
    return json.loads(root.get("data-hover") or "{}")


@given(
    st.lists(st.tuples(finite, st.one_of(finite, st.just(math.nan))), min_size=1, max_size=30),
    st.sampled_from([350, 548]),
    st.booleans(),
)
def test_everything_drawn_lies_inside_the_axes(points, width, from_zero):
    points = sorted(points, key=lambda p: p[0])
    root = parsed(
        line_chart(
            [Series("a", points)],
            x_label="samples",
            y_label="loss",
            title="t",
            width=width,
            from_zero=from_zero,
            counts=False,
        )
    )
    if all(math.isnan(y) for _, y in points):
        assert "no finite value" in ElementTree.tostring(root, encoding="unicode")
        return
    left, top, right, bottom = hover(root)["box"]
    height = float((root.get("viewBox") or "").split()[3])
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    places = [p for line in of_class(root, "line") if line.get("points") for p in corners(line)]
    assert places
    for x, y in [*places, *((p[0], p[1]) for line in hover(root)["lines"] for p in line["points"])]:
        assert left - 0.11 <= x <= right + 0.11
        assert top - 0.11 <= y <= bottom + 0.11


def test_larger_values_stand_higher_and_later_ones_further_right():
    root = parsed(
        line_chart([Series("a", [(0, 1.0), (10, 3.0), (20, 2.0)])], x_label="x", y_label="y", title="t")
    )
    (x0, y0), (x1, y1), (x2, y2) = corners(of_class(root, "line")[0])
    assert x0 < x1 < x2
    assert y1 < y2 < y0
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.11)
    assert (y0 - y1) == pytest.approx(2 * (y0 - y2), abs=0.3)


def test_a_missing_value_breaks_the_line_and_is_marked_on_the_axis():
    points = [(float(i), math.nan if i in (3, 9) else 1.0 + i) for i in range(10)]
    root = parsed(line_chart([Series("a", points)], x_label="x", y_label="y", title="t"))
    lines = [corners(e) for e in of_class(root, "line")]
    assert [len(line) for line in lines] == [3, 5]
    (missing,) = of_class(root, "missing")
    assert (missing.get("d") or "").count("M") == 2
    assert hover(root)["box"][2] > lines[-1][-1][0]  # the axis goes on to where the value is missing


def test_a_flat_line_and_a_single_point_have_an_axis():
    for points in ([(5.0, 2.0)], [(1.0, 2.0), (2.0, 2.0)], [(0.0, 0.0)]):
        root = parsed(line_chart([Series("a", points)], x_label="x", y_label="y", title="t"))
        assert len(of_class(root, "tick")) >= 4
        assert of_class(root, "mark")


def test_noise_below_a_hundredth_does_not_fill_the_chart():
    points = [(float(i), 4.158 + 1e-4 * (i % 2)) for i in range(10)]
    root = parsed(line_chart([Series("a", points)], x_label="x", y_label="y", title="t"))
    heights = [y for _, y in corners(of_class(root, "line")[0])]
    assert max(heights) - min(heights) < 5


def test_a_reference_is_drawn_at_its_value_and_stretches_the_axis():
    root = parsed(
        line_chart(
            [Series("a", [(0, 1.0), (1, 2.0)])],
            x_label="x",
            y_label="y",
            title="t",
            references=[Reference(5.5, "guessing")],
        )
    )
    (line,) = of_class(root, "reference")
    box = hover(root)["box"]
    assert box[1] <= float(line.get("y1") or -1) < min(y for _, y in corners(of_class(root, "line")[0]))
    assert of_class(root, "reference-name")[0].text == "guessing"


def test_names_of_lines_that_end_together_do_not_overlap_and_stay_in_the_drawing():
    series = [Series(f"metric {i}", [(0, 0.0), (1, 10.0 + 0.01 * i)]) for i in range(6)]
    root = parsed(line_chart(series, x_label="x", y_label="y", title="t", width=548, height=300))
    places = sorted(float(e.get("y") or 0) for e in of_class(root, "end"))
    assert len(places) == 6
    assert min(b - a for a, b in pairwise(places)) >= 14.9
    assert places[0] > 0
    assert places[-1] <= 300


def test_a_narrow_chart_has_a_legend_instead_of_names_at_the_ends():
    series = [Series(f"metric {i}", [(0, 0.0), (1, float(i))]) for i in range(6)]
    narrow = parsed(line_chart(series, x_label="x", y_label="y", title="t", width=350))
    assert [e.text for e in of_class(narrow, "legend")] == [s.name for s in series]
    assert not of_class(narrow, "end")
    rows = {float(e.get("y") or 0) for e in of_class(narrow, "legend")}
    assert len(rows) > 1
    assert max(rows) < hover(narrow)["box"][1]


def test_series_differ_by_mark_as_well_as_by_colour():
    series = [Series(f"m{i}", [(0, float(i))], marks=True) for i in range(4)]
    marks = of_class(parsed(line_chart(series, x_label="x", y_label="y", title="t")), "mark")
    shapes = {(e.tag.rpartition("}")[2], len(corners(e)), e.get("class")) for e in marks}
    assert len({s[:2] for s in shapes}) >= 3
    assert len({s[2] for s in shapes}) == 4


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x>', "a & b", "קטע"])
def test_labels_are_escaped_and_read_out(text):
    chart = line_chart(
        [Series(text, [(0, 1.0), (1, 2.0)]), Series("b", [(0, 1.0)])], x_label=text, y_label=text, title=text
    )
    drawn = bar_comparison([Bar(text, 3.0, "model", (1.0, 5.0))], title=text, axis_label=text)
    strip = interval_strip(3.0, interval=None, marks=[], maximum=100, label=text)
    for svg in (chart, drawn, strip):
        assert "<script" not in svg
        assert "<img" not in svg
        root = parsed(svg)
        assert root.get("role") == "img"
        assert text in (root.get("aria-label") or "")


def label_box(text: ElementTree.Element) -> tuple[float, float, float, float]:
    """Left, right, top, bottom of a label that ends at its place."""
    right, base = float(text.get("x", 0)), float(text.get("y", 0))
    return right - text_width(text.text or "", 12), right, base - 12, base + 3


@pytest.mark.parametrize("shape", ["falls", "rises"])
def test_the_label_of_a_reference_covers_no_point_of_the_line(shape):
    points = [(i, 5 - 4 * i / 50 if shape == "falls" else 1 + 4 * i / 50) for i in range(51)]
    root = parsed(
        line_chart(
            [Series("loss", points)],
            x_label="x",
            y_label="y",
            title="t",
            references=[Reference(3.0, "guessing")],
        )
    )
    (name,), (line,) = of_class(root, "reference-name"), of_class(root, "line")
    left, right, top, bottom = label_box(name)
    places = [tuple(map(float, one.split(","))) for one in line.get("points", "").split()]
    assert not [(a, b) for a, b in places if left <= a <= right and top <= b <= bottom]


@pytest.mark.parametrize("width", [350, 548])
def test_beside_several_lines_a_reference_stands_in_the_legend_and_no_entries_overlap(width):
    names = ["top-1", "text → image R@1", "image → text R@1", "class mean"]
    root = parsed(
        line_chart(
            [Series(name, [(0, 1), (9, i)]) for i, name in enumerate(names)],
            x_label="x",
            y_label="y",
            title="t",
            width=width,
            references=[Reference(0.3, "guessing top-1: 0.30 %")],
        )
    )
    assert not of_class(root, "reference-name") and len(of_class(root, "reference")) == 2
    entries = [(float(t.get("y", 0)), float(t.get("x", 0)), t.text or "") for t in of_class(root, "legend")]
    assert [text for _, _, text in entries] == [*names, "guessing top-1: 0.30 %"]
    for (y, x, text), (next_y, next_x, _) in pairwise(entries):
        assert next_y > y or x + text_width(text, 12) < next_x - 24


def test_thinning_keeps_the_mean_and_the_extremes():
    ys = [math.sin(i) for i in range(1000)]
    series, group = thin(list(range(1000)), ys, name="a", buckets=100)
    assert group == 10
    assert sum(y for _, y in series.points) / 100 == pytest.approx(sum(ys) / 1000)
    assert min(low for low, _ in series.band) == min(ys)
    assert max(high for _, high in series.band) == max(ys)
    assert all(low <= y <= high for (_, y), (low, high) in zip(series.points, series.band, strict=True))
    assert [x for x, _ in series.points] == sorted(x for x, _ in series.points)


def test_thinning_leaves_a_short_series_and_holes_alone():
    series, group = thin([1, 2], [3.0, math.nan], name="a", buckets=10)
    assert group == 1
    assert not series.band
    holes, _ = thin(list(range(20)), [math.nan] * 10 + [1.0] * 10, name="a", buckets=2)
    assert math.isnan(holes.points[0][1])
    assert holes.points[1][1] == 1.0
