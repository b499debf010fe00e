"""A histogram of values with their threshold, as inline SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

from frugalclip.report.formats import Html, escape, fit, number, text_width
from frugalclip.report.svg import TEXT_SIZE, Scale, nice_ticks, nothing_to_draw, svg, tick_labels

_HEIGHT, _TOP, _BELOW = 190, 22, 40  # px


@dataclass(frozen=True)
class Histogram:
    """Counts of values between edges, of rows that stay and of rows that are dropped."""

    title: str
    axis: str  # what the values are, with their unit
    edges: Sequence[float]  # (bins + 1,) ascending
    kept: Sequence[int]  # (bins,)
    dropped: Sequence[int]  # (bins,)
    threshold: float | None = None


def histogram_chart(histogram: Histogram, *, width: int) -> Html:
    """Bars of both counts, dropped rows above the ones that stay, and the threshold as a dashed line."""
    counts = [kept + dropped for kept, dropped in zip(histogram.kept, histogram.dropped, strict=True)]
    if not any(counts):
        return nothing_to_draw(histogram.title, width=width, height=_HEIGHT)
    ticks = nice_ticks(0, max(counts), count=4, least_step=1)
    labels = tick_labels(ticks)[0]
    left = max(text_width(label, TEXT_SIZE) for label in labels) + 10
    bottom = _HEIGHT - _BELOW
    y = Scale(0, ticks[-1], bottom, _TOP, ticks)
    x = Scale(histogram.edges[0], histogram.edges[-1], left, width - 12)
    parts = [
        f'<line class="grid" x1="{left:.1f}" x2="{width}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
        f'<text class="tick" x="{left - 6:.1f}" y="{y(t) + 4:.1f}" text-anchor="end">{escape(label)}</text>'
        for t, label in zip(ticks, labels, strict=True)
    ]
    edges = zip(histogram.edges[:-1], histogram.edges[1:], histogram.kept, counts, strict=True)
    for low, high, kept, every in edges:
        place = f'x="{x(low) + 0.5:.1f}" width="{max(x(high) - x(low) - 1, 1):.1f}"'
        if every > kept:
            parts.append(_bar("baseline", place, top=y(every), bottom=y(kept)))
        if kept:
            parts.append(_bar("model", place, top=y(kept), bottom=bottom))
    parts += _axis(histogram, x, bottom, width=width)
    label = f"{histogram.title}: {sum(histogram.kept):,} rows stay, {sum(histogram.dropped):,} are dropped"
    return svg("histogram", width, _HEIGHT, parts, label=label)


def _bar(role: str, place: str, *, top: float, bottom: float) -> str:
    return f'<rect class="bar {role}" {place} y="{top:.1f}" height="{max(bottom - top, 1):.1f}"/>'


def _axis(histogram: Histogram, x: Scale, bottom: float, *, width: int) -> list[str]:
    ticks = [t for t in nice_ticks(x.low, x.high, count=5) if x.low <= t <= x.high]
    labels = tick_labels(ticks)[0] if len(ticks) > 1 else [number(t) for t in ticks]
    parts = [
        f'<text class="tick" x="{x(t):.1f}" y="{bottom + 15:.1f}" text-anchor="middle">{escape(label)}</text>'
        for t, label in zip(ticks, labels, strict=True)
    ]
    name = escape(fit(histogram.axis, TEXT_SIZE, width - x.start))
    parts.append(f'<text class="axis-name" x="{x.start:.1f}" y="{bottom + 34:.1f}">{name}</text>')
    if histogram.threshold is None or not x.low <= histogram.threshold <= x.high:
        return parts
    place = x(histogram.threshold)
    is_right = place > width * 0.6
    anchor, shift = ("end", -5) if is_right else ("start", 5)
    text = escape(f"threshold {number(histogram.threshold)}")
    parts.append(
        f'<line class="reference" x1="{place:.1f}" x2="{place:.1f}" y1="{_TOP - 12}" y2="{bottom}"/>'
    )
    where = f'x="{place + shift:.1f}" y="{_TOP - 8}" text-anchor="{anchor}"'
    return [*parts, f'<text class="reference-name" {where}>{text}</text>']
