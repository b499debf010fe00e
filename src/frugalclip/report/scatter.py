"""A scatter over a logarithmic axis: single points, means of bins, and a line with its band."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from frugalclip.report.formats import Html, escape, number, short_count, text_width
from frugalclip.report.svg import TEXT_SIZE, Scale, nice_ticks, nothing_to_draw, svg, tick_labels

_BOTTOM, _TOP, _RIGHT = 44.0, 26.0, 12.0


@dataclass(frozen=True)
class Dot:
    """One point; `at` is a count, and 0 is drawn left of 1."""

    at: float
    value: float
    label: str = ""


def log_scatter(
    dots: Sequence[Dot],
    means: Sequence[Dot],
    *,
    slope: float | None,
    intercept: float | None,
    x_label: str,
    y_label: str,
    title: str,
    width: int = 540,
    height: int = 320,
) -> Html:
    """Draw points over counts.

    Args:
        dots: single concepts.
        means: of bins, joined by a line.
        slope: of a straight line, for a factor of ten; None draws none.
        intercept: of that line at a count of one.
        x_label: what is counted.
        y_label: what the vertical axis shows.
        title: what the chart is about, for those who do not see it.
        width: px at which it is shown.
        height: px.
    """
    drawn = [dot for dot in dots if math.isfinite(dot.value)]
    if not drawn:
        return nothing_to_draw(title, width=width, height=height)
    decades = math.ceil(max(math.log10(max(dot.at, 1)) for dot in drawn)) or 1
    y_ticks = nice_ticks(min(0.0, *(d.value for d in drawn)), max(d.value for d in drawn))
    labels, _ = tick_labels(y_ticks)
    left = max(text_width(label, TEXT_SIZE) for label in labels) + 10
    x = Scale(-0.5, float(decades), left, width - _RIGHT)
    y = Scale(y_ticks[0], y_ticks[-1], height - _BOTTOM, _TOP, y_ticks)
    parts = [
        f'<text class="axis-name" x="0" y="12">{escape(y_label)}</text>',
        *_axes(x, y, labels, decades, x_label),
        *(_dot(dot, x, y) for dot in drawn),
        _means(means, x, y),
        _straight(slope, intercept, x, y, decades),
    ]
    summary = f"{title}. {len(drawn)} concepts, {x_label} against {y_label}."
    return svg("chart", width, height, parts, label=summary)


def _place(count: float) -> float:
    return math.log10(count) if count >= 1 else -0.35


def _axes(x: Scale, y: Scale, labels: Sequence[str], decades: int, x_label: str) -> list[str]:
    parts = []
    for tick, label in zip(y.ticks, labels, strict=True):
        at, kind = y(tick), "base" if tick == y.low else "grid"
        parts.append(
            f'<line class="{kind}" x1="{x.start:.1f}" x2="{x.end:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
        place = f'x="{x.start - 6:.1f}" y="{at + 4:.1f}" text-anchor="end"'
        parts.append(f'<text class="tick" {place}>{escape(label)}</text>')
    for place, label in [(-0.35, "0"), *((d, short_count(10**d)) for d in range(decades + 1))]:
        where = f'x="{x(place):.1f}" y="{y.start + 17:.1f}" text-anchor="middle"'
        parts.append(f'<text class="tick" {where}>{escape(label)}</text>')
    middle = f'x="{(x.start + x.end) / 2:.1f}" y="{y.start + 36:.1f}" text-anchor="middle"'
    parts.append(f'<text class="axis-name" {middle}>{escape(x_label)}</text>')
    return parts


def _dot(dot: Dot, x: Scale, y: Scale) -> str:
    tip = f"{dot.label}: {number(dot.value)} at {dot.at:,.0f}"
    where = f'cx="{x(_place(dot.at)):.1f}" cy="{y(dot.value):.1f}" r="2.2"'
    return f'<circle class="mark s0" fill-opacity="0.35" {where}><title>{escape(tip)}</title></circle>'


def _means(means: Sequence[Dot], x: Scale, y: Scale) -> str:
    places = [(x(_place(m.at)), y(m.value)) for m in means if math.isfinite(m.value)]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    marks = "".join(f'<circle class="mark s1" cx="{a:.1f}" cy="{b:.1f}" r="4"/>' for a, b in places)
    return f'<polyline class="line s1" points="{path}"/>{marks}'


def _straight(slope: float | None, intercept: float | None, x: Scale, y: Scale, decades: int) -> str:
    if slope is None or intercept is None:
        return ""
    ends = [(0.0, intercept), (float(decades), intercept + slope * decades)]
    kept = [(x(a), min(max(y(b), y.end), y.start)) for a, b in ends]
    (x1, y1), (x2, y2) = kept
    return f'<line class="reference" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
