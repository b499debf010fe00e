"""Tables and evaluations in a terminal."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from frugalclip.core.terminal import Terminal
from frugalclip.report.evaluations import evaluation_notes, evaluation_remarks, evaluation_tables
from frugalclip.report.formats import MISSING, difference, number, percent
from frugalclip.report.rows import ChangedValue, Interval, Label, Measure, ReportTable, Strip


def print_evaluation(result: Mapping[str, Any], console: Console | None = None) -> None:
    """Print each metric beside its interval, chance and baselines, then what it depends on."""
    console = console or Terminal()
    for table in evaluation_tables(result):
        print_table(table, console)
    for remark in evaluation_remarks(result):
        style = "yellow" if remark.is_warning else ""
        console.print(Text(remark.text, style=style), soft_wrap=True)
    notes = [f"{note.name} {note.text}" for note in evaluation_notes(result) if note.is_brief]
    line = "; ".join(notes)
    console.print(Text(line[:1].upper() + line[1:] + ".", style="dim"), soft_wrap=True)


def print_table(table: ReportTable, console: Console) -> None:
    """Print a table that fits 80 columns; what only a page can show is left out."""
    shown = [i for i, column in enumerate(table.columns) if not _is_drawn(table, i, column.kind)]
    drawn = RichTable(
        title=Text(table.caption),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        padding=0,
    )
    for i in shown:
        column = table.columns[i]
        title = column.title if column.short is None else column.short
        drawn.add_column(Text(title), justify="right" if column.numeric else "left", no_wrap=True)
    for number_of_row, row in enumerate(table.rows, 1):
        if table.has_total and number_of_row == len(table.rows):
            drawn.add_section()
        drawn.add_row(*(cell_text(row[i]) for i in shown))
    console.print(drawn)


def _is_drawn(table: ReportTable, place: int, kind: str) -> bool:
    """Whether a column holds drawings."""
    return bool(kind) and all(row[place] is None or isinstance(row[place], Strip) for row in table.rows)


def cell_text(cell: Any) -> Text:
    """A cell of `rows` as text."""
    match cell:
        case Label():
            return Text(cell.short or cell.text)
        case Measure():
            reach = f" ({_span(cell.interval, cell.in_percent)})" if cell.interval else ""
            value = Text(_value(cell.value, cell.in_percent), style="bold" if cell.is_main else "")
            return value.append(reach, style="not bold dim")
        case ChangedValue():
            reach = ""
            if cell.interval:
                low, high = (difference(one, in_percent=cell.in_percent) for one in cell.interval)
                reach = f" ({low} to {high})"
            change = difference(cell.difference, in_percent=cell.in_percent)
            return Text(_value(cell.value, cell.in_percent)).append(f"\n{change}{reach}", style="dim")
        case None:
            return Text(MISSING)
        case int() | float():
            return Text(number(cell))
        case _:
            return Text(str(cell))


def _value(value: float, in_percent: bool) -> str:
    return percent(value, unit=False) if in_percent else number(value)


def _span(interval: Interval, in_percent: bool) -> str:
    return "–".join(_value(one, in_percent) for one in interval)
