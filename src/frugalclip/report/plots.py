"""Line charts as inline SVG: pure functions from numbers to markup.

Nothing here reads a file or knows what a run is. Colours are classes (`s0`, `reference`, …) that the page's
style sheet fills, so one drawing serves light and dark. Texts are drawn at 12 to 13 px, so a chart is drawn
for the width at which it is shown and not scaled down.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from frugalclip.report.formats import Html, escape, fit, is_finite, number, short_count, text_width
from frugalclip.report.svg import TEXT_SIZE, Scale, nice_ticks, nothing_to_draw, svg, tick_labels

COLOURS = 6  # classes s0 to s5; further series start again with another mark
_Sign = Literal["line", "band", "reference"]  # of an entry of a legend
_LINE = 18.0  # px between rows of a legend


@dataclass(frozen=True)
class Series:
    """One line of a chart; a value that is not finite breaks it and is marked on the axis."""

    name: str
    points: Sequence[tuple[float, float]]  # (x, y), x ascending
    band: Sequence[tuple[float, float]] = ()  # lowest and highest y around each point, or empty
    marks: bool = False  # a mark on every point, for series of few points


@dataclass(frozen=True)
class Reference:
    """A horizontal line to compare with, such as the loss of guessing."""

    value: float
    label: str


def thin(xs: Sequence[float], ys: Sequence[float], *, name: str, buckets: int = 160) -> tuple[Series, int]:
    """A long series as means of neighbouring points, with the lowest and highest of each group as a band.

    Args:
        xs: ascending.
        ys: as many; values that are not finite are left out of the means.
        name: of the series.
        buckets: points at most.

    Returns:
        The series and how many points went into one (1: nothing was averaged, and there is no band).
    """
    group = max(1, math.ceil(len(xs) / buckets))
    if group == 1:
        return Series(name, list(zip(xs, ys, strict=True))), 1
    points: list[tuple[float, float]] = []
    band: list[tuple[float, float]] = []
    for start in range(0, len(xs), group):
        values = [y for y in ys[start : start + group] if is_finite(y)]
        middle = sum(xs[start : start + group]) / len(xs[start : start + group])
        points.append((middle, math.fsum(values) / len(values) if values else math.nan))
        band.append((min(values), max(values)) if values else (math.nan, math.nan))
    return Series(name, points, band), group


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    title: str,
    width: int = 540,
    height: int = 300,
    references: Sequence[Reference] = (),
    from_zero: bool = False,
    counts: bool = True,
) -> Html:
    """Lines over a common axis, with round ticks, a name at the end of each line and values to hover.

    Args:
        series: drawn in order; colours and marks follow the position.
        x_label: what the horizontal axis counts, with its unit.
        y_label: what the vertical axis shows, with its unit.
        title: what the chart is about, for those who do not see it.
        width: px at which it is shown; below 460 the names move into a legend.
        height: px of the drawing.
        references: horizontal lines to compare with.
        from_zero: the vertical axis starts at 0.
        counts: the horizontal axis has whole numbers only.

    Returns:
        One `<svg>` element.
    """
    drawn = [[(x, y) for x, y in s.points if is_finite(x) and is_finite(y)] for s in series]
    values = [y for points in drawn for _, y in points]
    values += [v for s in series for pair in s.band for v in pair if is_finite(v)]
    if not values:
        return nothing_to_draw(title, width=width, height=height)
    values += [r.value for r in references if is_finite(r.value)] + ([0.0] if from_zero else [])
    lowest, highest = min(values), max(values)
    if 0 < highest - lowest < 0.02 * abs(highest):  # do not blow a hair's breadth up to the whole height
        lowest, highest = lowest - 0.01 * abs(highest), highest + 0.01 * abs(highest)
    wide = width >= 460
    ends = [
        f"{s.name} {number(p[-1][1])}" if len(series) > 1 else number(p[-1][1])
        for s, p in zip(series, drawn, strict=True)
        if p
    ]
    margin = (
        min(max(text_width(e, TEXT_SIZE) for e in ends) + 14, width * 0.34)
        if wide or len(series) == 1
        else 12.0
    )
    # several lines leave no free place beside a reference, so the legend names it
    named = [r.label for r in references if is_finite(r.value)] if len(series) > 1 else []
    legend = [] if wide and not (named or any(s.band for s in series)) else _legend_rows(series, width, named)
    top = 26.0 + _LINE * len(legend)
    y_ticks = nice_ticks(lowest, highest, count=max(2, int((height - top) // 45)))
    labels, mark = tick_labels(y_ticks)
    left = max(text_width(label, TEXT_SIZE) for label in labels) + 10
    y = Scale(y_ticks[0], y_ticks[-1], height - 40.0, top, y_ticks)
    x = _x_scale(
        [x for s in series for x, _ in s.points if is_finite(x)],
        start=left,
        end=width - margin,
        counts=counts,
    )
    name = escape(fit(f"{y_label} ({mark})" if mark else y_label, TEXT_SIZE, width))
    parts = [
        f'<text class="axis-name" x="0" y="12">{name}</text>',
        *_legend(legend),
        *_axes(x, y, labels, x_label=x_label),
        *(_reference(r, x, y, drawn=drawn, is_named=not named) for r in references if is_finite(r.value)),
        *(_band(s, i, x, y) for i, s in enumerate(series) if s.band),
        *(_line(s, i, x, y) for i, s in enumerate(series)),
        *_missing(series, x, y),
        *(_end_labels(series, drawn, x, y, margin=margin) if wide or len(series) == 1 else []),
    ]
    summary = f"{title}. {x_label} against {y_label}. " + "; ".join(
        _in_words(s, p) for s, p in zip(series, drawn, strict=True)
    )
    return svg(
        "chart", width, height, parts, label=summary, hover=_hover(series, drawn, x, y, x_label=x_label)
    )


def _in_words(series: Series, points: Sequence[tuple[float, float]]) -> str:
    if not points:
        return f"{series.name}: no finite value"
    if len(points) == 1:
        return f"{series.name}: {number(points[0][1])} at {number(points[0][0])}"
    lowest, highest = min(y for _, y in points), max(y for _, y in points)
    ends = f"from {number(points[0][1])} to {number(points[-1][1])}"
    return f"{series.name}: {ends}, lowest {number(lowest)}, highest {number(highest)}"


def _x_scale(xs: Sequence[float], *, start: float, end: float, counts: bool) -> Scale:
    low, high = min(xs), max(xs)
    if low == high:
        low, high = min(low, 0.0), max(high, 0.0 if low else 1.0)
    ticks = nice_ticks(low, high, count=max(2, int((end - start) // 64)), least_step=1.0 if counts else 0.0)
    low = (
        0.0 if 0 < low < high * 0.2 else low
    )  # the first point of a run lies near nothing seen; an axis from 0 reads better
    return Scale(low, high, start, end, [t for t in ticks if low <= t <= high])


def _axes(x: Scale, y: Scale, labels: Sequence[str], *, x_label: str) -> list[str]:
    parts = []
    for tick, label in zip(y.ticks, labels, strict=True):
        at = y(tick)
        kind = "base" if tick == y.low else "grid"
        parts.append(
            f'<line class="{kind}" x1="{x.start:.1f}" x2="{x.end:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
        place = f'x="{x.start - 6:.1f}" y="{at + 4:.1f}" text-anchor="end"'
        parts.append(f'<text class="tick" {place}>{escape(label)}</text>')
    shown = list(x.ticks) if len(x.ticks) > 1 else [x.low, x.high]
    for tick, label in zip(shown, tick_labels(shown)[0], strict=True):
        at, half = x(tick), text_width(label, TEXT_SIZE) / 2
        anchor, place = ("end", x.end) if at + half > x.end + 8 else ("middle", at)
        parts.append(
            f'<line class="base" x1="{at:.1f}" x2="{at:.1f}" y1="{y.start:.1f}" y2="{y.start + 4:.1f}"/>'
        )
        where = f'x="{place:.1f}" y="{y.start + 17:.1f}" text-anchor="{anchor}"'
        parts.append(f'<text class="tick" {where}>{escape(label)}</text>')
    name = escape(fit(x_label, TEXT_SIZE, x.end - x.start))
    middle = f'x="{(x.start + x.end) / 2:.1f}" y="{y.start + 35:.1f}" text-anchor="middle"'
    parts.append(f'<text class="axis-name" {middle}>{name}</text>')
    return parts


def _reference(
    reference: Reference,
    x: Scale,
    y: Scale,
    *,
    drawn: Sequence[Sequence[tuple[float, float]]],
    is_named: bool,
) -> str:
    at = y(reference.value)
    line = f'<line class="reference" x1="{x.start:.1f}" x2="{x.end:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>'
    if not is_named:
        return line
    label = fit(reference.label, TEXT_SIZE, x.end - x.start - 8)
    right, base = _free_place(label, at, x, y, drawn)
    place = f'x="{right:.1f}" y="{base:.1f}" text-anchor="end"'
    return f'{line}<text class="reference-name" {place}>{escape(label)}</text>'


def _free_place(
    label: str, at: float, x: Scale, y: Scale, drawn: Sequence[Sequence[tuple[float, float]]]
) -> tuple[float, float]:
    """Right end and base line of a label beside a horizontal line, where it covers the fewest points."""
    width = text_width(label, TEXT_SIZE)
    rights = [x.end - 4, (x.start + x.end + width) / 2, x.start + width + 4]
    bases = [base for base in (at - 5, at + 15) if base - TEXT_SIZE > y.end and base < y.start]

    def covered(right: float, base: float) -> int:
        return sum(
            right - width - 4 <= x(a) <= right + 4 and base - TEXT_SIZE - 2 <= y(b) <= base + 5
            for points in drawn
            for a, b in points
        )

    return min(
        ((right, base) for base in bases or [at - 5] for right in rights), key=lambda one: covered(*one)
    )


def _runs(series: Series) -> list[list[int]]:
    """Positions of neighbouring finite points; a gap starts a new run."""
    runs: list[list[int]] = [[]]
    for i, point in enumerate(series.points):
        if all(is_finite(v) for v in point):
            runs[-1].append(i)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _band(series: Series, index: int, x: Scale, y: Scale) -> str:
    shapes = []
    for run in _runs(series):
        upper = [(x(series.points[i][0]), y(series.band[i][1])) for i in run]
        lower = [(x(series.points[i][0]), y(series.band[i][0])) for i in reversed(run)]
        shapes.append(f'<polygon class="band s{index % COLOURS}" points="{_path([*upper, *lower])}"/>')
    return "".join(shapes)


def _line(series: Series, index: int, x: Scale, y: Scale) -> str:
    shapes = []
    for run in _runs(series):
        places = [(x(series.points[i][0]), y(series.points[i][1])) for i in run]
        shapes.append(f'<polyline class="line s{index % COLOURS}" points="{_path(places)}"/>')
        shown = range(len(run)) if series.marks or len(run) == 1 else [len(run) - 1]
        for k in shown:
            values = (
                f"{series.name}: {number(series.points[run[k]][1])} at {number(series.points[run[k]][0])}"
            )
            shapes.append(_mark(index, *places[k], title=values))
    return "".join(shapes)


def _missing(series: Sequence[Series], x: Scale, y: Scale) -> list[str]:
    """Strokes on the axis where a value is not finite, so that a gap is not taken for a pause."""
    places = {round(x(a), 1) for s in series for a, b in s.points if is_finite(a) and not is_finite(b)}
    path = "".join(f"M{at:.1f} {y.start:.1f}v-8" for at in sorted(places))
    return [f'<path class="missing" d="{path}"><title>not a finite number</title></path>'] if path else []


def _path(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in places)


def _mark(index: int, at_x: float, at_y: float, *, title: str = "") -> str:
    """A circle, square, diamond or triangle: series differ by shape as well as by colour."""
    tip, kind, r = (
        (f"<title>{escape(title)}</title>" if title else ""),
        f'class="mark s{index % COLOURS}"',
        3.2,
    )
    if index % 4 == 0:
        return f'<circle {kind} cx="{at_x:.1f}" cy="{at_y:.1f}" r="{r}">{tip}</circle>'
    corners = {
        1: ((-r, -r), (r, -r), (r, r), (-r, r)),
        2: ((0, -r * 1.3), (r * 1.3, 0), (0, r * 1.3), (-r * 1.3, 0)),
        3: ((0, -r * 1.2), (r * 1.2, r), (-r * 1.2, r)),
    }[index % 4]
    return f'<polygon {kind} points="{_path([(at_x + a, at_y + b) for a, b in corners])}">{tip}</polygon>'


def _end_labels(
    series: Sequence[Series],
    drawn: Sequence[Sequence[tuple[float, float]]],
    x: Scale,
    y: Scale,
    *,
    margin: float,
) -> list[str]:
    """The name and last value beside the end of each line, pushed apart where lines end close together."""
    ends = [(y(points[-1][1]), i, points[-1]) for i, points in enumerate(drawn) if points]
    ends.sort(key=lambda e: e[0])
    places = [max(y.end + 4, e[0]) for e in ends]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + 15)
    for i in range(len(places) - 1, -1, -1):  # what ran out below moves up again
        limit = y.start if i == len(places) - 1 else places[i + 1] - 15
        places[i] = min(places[i], limit)
    parts = []
    for place, (_, i, point) in zip(places, ends, strict=True):
        value = number(point[1])
        name = (
            fit(series[i].name, TEXT_SIZE, margin - 16 - text_width(value, TEXT_SIZE))
            if len(series) > 1
            else ""
        )
        text = (
            f'{escape(name)} <tspan class="value">{escape(value)}</tspan>'
            if name
            else f'<tspan class="value">{escape(value)}</tspan>'
        )
        at = min(x(point[0]), x.end) if len(series) == 1 else x.end
        parts.append(f'<text class="end t{i % COLOURS}" x="{at + 8:.1f}" y="{place + 4:.1f}">{text}</text>')
    return parts


def _legend_rows(
    series: Sequence[Series], width: float, references: Sequence[str]
) -> list[list[tuple[float, int, str, _Sign]]]:
    """Places of the legend's entries: rows of (x, series, text, sign)."""
    entries: list[tuple[int, str, _Sign]] = []
    if len(series) > 1:
        entries.extend((i, s.name, "line") for i, s in enumerate(series))
    entries.extend((0, name, "reference") for name in references)
    for i, s in enumerate(series):
        if s.band:
            name = "lowest to highest" if len(series) == 1 else f"{s.name}, lowest to highest"
            entries.append((i, name, "band"))
    if len(series) == 1 and entries:
        entries.insert(0, (0, series[0].name, "line"))
    rows: list[list[tuple[float, int, str, _Sign]]] = []
    at = width
    for i, name, sign in entries:
        text = fit(name, TEXT_SIZE, width - 40)
        needed = 26 + 1.1 * text_width(text, TEXT_SIZE) + 20  # wide fonts need a tenth more
        if at + needed > width or not rows:
            rows.append([])
            at = 0.0
        rows[-1].append((at, i, text, sign))
        at += needed
    return rows


def _legend(rows: Sequence[Sequence[tuple[float, int, str, _Sign]]]) -> list[str]:
    parts = []
    for k, row in enumerate(rows):
        middle = 26 + k * _LINE
        for at, i, text, sign in row:
            kind = f"s{i % COLOURS}"
            if sign == "band":
                place = f'x="{at:.1f}" y="{middle - 5:.1f}" width="18" height="10"'
                parts.append(f'<rect class="band {kind}" {place}/>')
            else:
                place = f'x1="{at:.1f}" x2="{at + 18:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"'
                parts.append(
                    f'<line class="{"reference" if sign == "reference" else f"line {kind}"}" {place}/>'
                )
                parts += [_mark(i, at + 9, middle)] if sign == "line" else []
            parts.append(f'<text class="legend" x="{at + 24:.1f}" y="{middle + 4:.1f}">{escape(text)}</text>')
    return parts


def _hover(
    series: Sequence[Series],
    drawn: Sequence[Sequence[tuple[float, float]]],
    x: Scale,
    y: Scale,
    *,
    x_label: str,
) -> str:
    """What the page's script needs to show values under the pointer, as JSON."""
    lines = [
        {
            "name": s.name,
            "colour": i % COLOURS,
            "points": [[round(x(a), 1), round(y(b), 1), short_count(a), number(b)] for a, b in points],
        }
        for i, (s, points) in enumerate(zip(series, drawn, strict=True))
    ]
    return json.dumps(
        {
            "x": x_label,
            "box": [round(x.start, 1), round(y.end, 1), round(x.end, 1), round(y.start, 1)],
            "lines": lines,
        },
        ensure_ascii=False,
    )
