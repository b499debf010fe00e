"""Tables before they are drawn: columns and rows of typed cells; `tables` and `terminal` render them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Interval = tuple[float, float]


@dataclass(frozen=True)
class Column:
    """A column of a table; numbers are set right and in tabular numerals."""

    title: str
    numeric: bool = False
    note: str = ""  # shown small below the title
    kind: str = ""  # class of its cells, for the style sheet
    short: str | None = None  # the title in a terminal, where width is scarce


@dataclass(frozen=True)
class Label:
    """The name of a row."""

    text: str
    note: str = ""  # shown small below the text, on a page only
    short: str = ""  # the text in a terminal


@dataclass(frozen=True)
class Measure:
    """The value of a metric."""

    value: float
    interval: Interval | None = None
    in_percent: bool = True
    is_main: bool = False  # set in bold


@dataclass(frozen=True)
class ChangedValue:
    """The value of a metric after a change, and the difference that the change makes."""

    value: float
    difference: float
    interval: Interval | None = None  # of the difference
    in_percent: bool = True


@dataclass(frozen=True)
class Strip:
    """A value on a scale from 0 to 100 % beside what it is compared with; on a page only."""

    value: float
    interval: Interval | None
    marks: tuple[float, ...]  # chance and baselines
    label: str  # for those who do not see it


@dataclass(frozen=True)
class ReportTable:
    """A table; the first cell of a row names it."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]  # the classes above, or text, numbers and None
    has_total: bool = False  # the last row sums the others up
