"""Numbers and foreign text, made fit for a page.

Every string that a user could have written passes through `escape`, or travels as plain `str` until `cell`
escapes it; only `Html` is trusted.
"""

import html
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from frugalclip.evaluation.metrics import words

NBSP = "\N{NO-BREAK SPACE}"
MISSING = "\N{EM DASH}"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


class Html(str):
    """Markup that is already safe to put into a page."""

    __slots__ = ()


def escape(value: Any) -> Html:
    """Text as markup: `<`, `>`, `&` and quotes become references, unprintable characters a mark."""
    text = "".join("\N{REPLACEMENT CHARACTER}" if _is_unprintable(c) else c for c in str(value))
    return Html(html.escape(text, quote=True))


def _is_unprintable(character: str) -> bool:
    """True for control characters, lone surrogates and overrides of direction."""
    turns_text = character in "\u202d\u202e"  # overrides of direction also turn the text beside them
    return turns_text or (unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n\r")


def cell(value: Any) -> Html:
    """What a table cell shows: `Html` as it is, None as a dash, a number formatted, anything else escaped."""
    if isinstance(value, Html):
        return value
    if value is None:
        return Html(MISSING)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return escape(number(value))
    return escape(value)


def shorten(text: Any, limit: int) -> str:
    """The text on one line, cut to `limit` characters with an ellipsis, but not inside a combined letter."""
    line = " ".join(str(text).split())
    if len(line) <= limit:
        return line
    cut = max(limit - 1, 1)
    while cut > 1 and (
        unicodedata.combining(line[cut]) or line[cut] in "\u200d\ufe0f" or line[cut - 1] == "\u200d"
    ):
        cut -= 1
    return line[:cut].rstrip() + "…"


def text_width(text: str, size: float) -> float:
    """Estimated width in px of text in a system font of `size` px; wide characters count one em."""
    ems = 0.0
    for character in text:
        if unicodedata.combining(character) or unicodedata.category(character) == "Cf":
            continue
        wide = unicodedata.east_asian_width(character) in "WF" or ord(character) > 0x1F000
        ems += (
            1.1
            if wide
            else 0.62
            if character.isupper() or character in "mwMW@%"
            else 0.9
            if character in "→←×±≥≤"
            else 0.3
            if character in " .,:;'|!iljtfr()"
            else 0.55
        )
    return ems * size


def fit(text: str, size: float, width: float) -> str:
    """The text, shortened until its estimated width is at most `width` px."""
    line = " ".join(text.split())
    limit = len(line)
    while limit > 2 and text_width(shorten(line, limit), size) > width:
        limit -= 1
    return shorten(line, limit) if limit else line


def is_finite(value: Any) -> TypeGuard[float]:
    """True for a number that is neither NaN nor infinite; False for anything else, also None and booleans."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any, *, digits: int = 3) -> str:
    """A number with `digits` significant ones: `0.0312`, `12.4`, `1,519`; whole numbers keep all theirs."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return MISSING if value is None else str(value)
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if value == int(value) and abs(value) < 1e15 and (isinstance(value, int) or abs(value) >= 1):
        return _minus(f"{int(value):,}")
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    if magnitude < -4 or magnitude >= 15:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return _minus(f"{float(mantissa):g}") + f"×10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    return _minus(f"{value:,.{max(digits - 1 - magnitude, 0)}f}")


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def percent(value: Any, *, unit: bool = True) -> str:
    """A percentage with one decimal, two below 1: `34.2 %`, `0.54 %`."""
    if not is_finite(value):
        return number(value)
    text = _minus(f"{value:.2f}" if abs(value) < 1 and value != 0 else f"{value:.1f}")
    return text + (f"{NBSP}%" if unit else "")


def difference(value: float, *, in_percent: bool = True) -> str:
    """A difference with its sign: `+4.1`, in points of a percentage or as a plain number."""
    text = percent(value, unit=False) if in_percent else number(value)
    return f"+{text}" if value > 0 else text


def is_interval(value: Any) -> TypeGuard[Sequence[float]]:
    """True for two finite numbers."""
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(is_finite(v) for v in value)


def span(interval: Sequence[float], *, in_percent: bool = True) -> str:
    """`28.0 to 40.6` of [low, high]; in percent with one decimal, else as plain numbers."""
    return " to ".join(percent(v, unit=False) if in_percent else number(v) for v in interval)


def times(value: float) -> str:
    """A ratio as `6.1 ×`."""
    return f"{value:,.1f}{NBSP}×" if value < 99.95 else f"{value:,.0f}{NBSP}×"


def short_count(value: Any) -> str:
    """A count for a tick or a tile: `950`, `1.2k`, `36k`, `1.52M`."""
    if not is_finite(value):
        return number(value)
    for size, unit in _UNITS:
        if abs(value) >= size:
            scaled = value / size
            text = f"{scaled:.3g}" if abs(scaled) < 999.5 else f"{scaled:.0f}"
            return _minus(text) + unit
    return number(value)


def duration(seconds: Any) -> str:
    """Seconds as people say them: `8.4 s`, `2 min 31 s`, `3 h 05 min`."""
    if not is_finite(seconds):
        return number(seconds)
    if seconds < 60:
        return f"{seconds:.1f}{NBSP}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{NBSP}min{NBSP}{rest:02d}{NBSP}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{NBSP}h{NBSP}{minutes:02d}{NBSP}min"


def plain(value: Any, *, most: int = 3) -> str:
    """Lists and mappings in one line: the first few, and how many more."""
    if isinstance(value, Mapping):
        value = [f"{words(key)}: {plain(content)}" for key, content in value.items()]
    if isinstance(value, (list, tuple)):
        head = " · ".join(plain(v) for v in value[:most])
        return head + (f" and {len(value) - most:,} more" if len(value) > most else "")
    return number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def exponent_mark(power: int) -> str:
    """`×10⁻³` for -3."""
    return f"×10{str(power).translate(_SUPERSCRIPT)}"


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 class`, `184 classes`."""
    return f"{count:,}{NBSP}{one if count == 1 else many or one + 's'}"
