"""Parts that all drawings share: scales, round ticks, and the SVG element."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from frugalclip.report.formats import Html, escape, exponent_mark

TEXT_SIZE = 12.0  # px of every text in a chart
_DIVISORS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class Scale:
    """Maps values to pixels, linearly."""

    low: float
    high: float
    start: float
    end: float
    ticks: Sequence[float] = field(default_factory=tuple)

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def nice_ticks(low: float, high: float, *, count: int = 5, least_step: float = 0.0) -> list[float]:
    """Round numbers, 1, 2 or 5 times a power of ten apart, that enclose `low` and `high`.

    Args:
        low: smallest value to cover.
        high: largest value to cover; equal to `low` when there is one value.
        count: about how many ticks.
        least_step: smallest distance allowed, 1 for counts.

    Returns:
        At least two ascending ticks.
    """
    if high <= low:
        pad = abs(low) * 0.1 or 1.0
        low, high = (low - pad if low else 0.0), low + pad
    raw = max((high - low) / max(count, 1), least_step, 1e-300)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) if step > 1e-9 else i * step for i in range(first, max(last, first + 1) + 1)]


def tick_labels(ticks: Sequence[float]) -> tuple[list[str], str]:
    """Labels that share one unit, and the power of ten to write beside the axis.

    Returns:
        labels: `0, 20k, 40k` or `0, 2, 4`.
        mark: empty, or `×10⁻⁴` where the labels are multiples of it.
    """
    largest, step = max(abs(t) for t in ticks), min(b - a for a, b in pairwise(ticks))
    if 0 < largest < 0.01:
        power = math.floor(math.log10(largest))
        return [_plain(t / 10.0**power, step / 10.0**power) for t in ticks], exponent_mark(power)
    divisor, unit = next(((d, u) for d, u in _DIVISORS if largest >= max(d, 1e4)), (1.0, ""))
    return [_plain(t / divisor, step / divisor) + (unit if t else "") for t in ticks], ""


def _plain(value: float, step: float) -> str:
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value if abs(value) > step * 1e-6 else 0.0:,.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def svg(kind: str, width: float, height: float, parts: Sequence[str], *, label: str, hover: str = "") -> Html:
    """One `<svg>` element.

    Args:
        kind: class, for the style sheet.
        width: px.
        height: px.
        parts: markup inside.
        label: what it shows, for those who do not see it.
        hover: JSON for the page's script.
    """
    data = f' data-hover="{escape(hover)}"' if hover else ""
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    name = escape(label)
    return Html(f'<svg class="{kind}" {size} role="img" aria-label="{name}"{data}>{"".join(parts)}</svg>')


def nothing_to_draw(title: str, *, width: int, height: int) -> Html:
    """A chart without any finite value."""
    place = f'x="{width / 2:g}" y="40" text-anchor="middle"'
    text = f'<text class="empty" {place}>Nothing to draw: no finite value.</text>'
    label = f"{title}: nothing to draw, no finite value"
    return svg("chart", width, min(height, 72), [text], label=label)
