"""Bars and strips that compare a value with baselines, as inline SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from frugalclip.report.formats import Html, escape, fit, is_finite, percent, text_width
from frugalclip.report.svg import TEXT_SIZE, Scale, nice_ticks, nothing_to_draw, svg, tick_labels

_NAME_SIZE = TEXT_SIZE + 1


@dataclass(frozen=True)
class Bar:
    """One row of a bar comparison."""

    label: str
    value: float
    role: Literal["model", "baseline", "chance"] = "baseline"
    interval: tuple[float, float] | None = None


def bar_comparison(bars: Sequence[Bar], *, title: str, axis_label: str, width: int = 620) -> Html:
    """Horizontal bars from zero, with the interval as a whisker and the value beside it, in percent.

    Args:
        bars: drawn in order; the role sets the colour.
        title: what is compared, for those who do not see it.
        axis_label: what the axis shows, with its unit.
        width: px at which it is shown; below 460 each name stands above its bar.

    Returns:
        One `<svg>` element.
    """
    shown = [b for b in bars if is_finite(b.value)]
    if not shown:
        return nothing_to_draw(title, width=width, height=72)
    stacked = width < 460
    row = 44.0 if stacked else 34.0
    left = 0.0 if stacked else min(max(text_width(b.label, _NAME_SIZE) for b in shown) + 14, width * 0.4)
    largest = max(max(b.value, *(b.interval or (0.0,))) for b in shown)
    ticks = nice_ticks(0.0, min(largest * 1.02, 100.0) if largest <= 100 else largest, count=4)
    x = Scale(0.0, ticks[-1], left, width - text_width("100.0 %", _NAME_SIZE) - 12, ticks)
    bottom = row * len(shown) + 4
    parts = [f'<line class="grid" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="0" y2="{bottom:.1f}"/>' for t in ticks]
    for i, bar in enumerate(shown):
        parts.append(_bar(bar, x, top=i * row + (18 if stacked else 6), stacked=stacked))
    parts += _axis(x, bottom, axis_label, width=width, stacked=stacked)
    return svg("bars", width, bottom + 40, parts, label=f"{title}: {'; '.join(map(_in_words, shown))}")


def _axis(x: Scale, bottom: float, label: str, *, width: int, stacked: bool) -> list[str]:
    parts = []
    for tick, text in zip(x.ticks, tick_labels(x.ticks)[0], strict=True):
        anchor = "start" if stacked and tick == 0 else "middle"
        place = f'x="{x(tick):.1f}" y="{bottom + 15:.1f}" text-anchor="{anchor}"'
        parts.append(f'<text class="tick" {place}>{escape(text)}</text>')
    name = escape(fit(label, TEXT_SIZE, width - x.start))
    return [*parts, f'<text class="axis-name" x="{x.start:.1f}" y="{bottom + 34:.1f}">{name}</text>']


def _in_words(bar: Bar) -> str:
    interval = f", interval {bar.interval[0]:.1f} to {bar.interval[1]:.1f}" if bar.interval else ""
    return f"{bar.label} {percent(bar.value)}{interval}"


def _bar(bar: Bar, x: Scale, *, top: float, stacked: bool) -> str:
    thick, middle = 20.0, top + 10
    end = reach = x(bar.value)
    place = f'x="{x.start:.1f}" y="{top:.1f}" width="{max(end - x.start, 1):.1f}" height="{thick:g}"'
    parts = [f'<rect class="bar {bar.role}" {place} rx="2"/>']
    if bar.interval:
        low, high = x(max(bar.interval[0], 0.0)), x(bar.interval[1])
        reach = max(reach, high)
        ends = f"M{low:.1f} {middle - 5:.1f}v10M{high:.1f} {middle - 5:.1f}v10"
        shape = f'd="M{low:.1f} {middle:.1f}H{high:.1f}{ends}"'
        parts.append(f'<path class="whisker halo" {shape}/><path class="whisker" {shape}/>')
    label = escape(fit(bar.label, _NAME_SIZE, x.end if stacked else x.start - 12))
    beside = f'x="{x.start - 10:.1f}" y="{middle + 4.5:.1f}" text-anchor="end"'
    place = f'x="0" y="{top - 5:.1f}"' if stacked else beside
    parts.append(f'<text class="bar-name {bar.role}" {place}>{label}</text>')
    place = f'x="{reach + 8:.1f}" y="{middle + 4.5:.1f}"'
    parts.append(f'<text class="bar-value {bar.role}" {place}>{escape(percent(bar.value))}</text>')
    return "".join(parts)


def interval_strip(
    value: float,
    *,
    interval: tuple[float, float] | None,
    marks: Sequence[float],
    maximum: float,
    label: str,
    width: int = 190,
) -> Html:
    """A value with its interval on a thin scale, for a row of a table.

    Args:
        value: the dot.
        interval: the bar behind it.
        marks: chance and baselines, grey strokes.
        maximum: right end of the scale, which begins at 0.
        label: what it shows, for those who do not see it.
        width: px.
    """
    x = Scale(0.0, max(maximum, 1e-9), 5.0, width - 5.0)

    def place(one: float) -> str:
        return f"{x(min(max(one, 0.0), x.high)):.1f}"

    parts = [f'<line class="grid" x1="{x.start:g}" x2="{x.end:g}" y1="9" y2="9"/>']
    for mark in filter(is_finite, marks):
        parts.append(f'<line class="stroke" x1="{place(mark)}" x2="{place(mark)}" y1="3" y2="15"/>')
    if interval:
        low, high = map(place, interval)
        parts.append(f'<line class="reach" x1="{low}" x2="{high}" y1="9" y2="9"/>')
    if is_finite(value):
        parts.append(f'<circle class="mark s0" cx="{place(value)}" cy="9" r="4"/>')
    return svg("strip", width, 18, parts, label=label)
