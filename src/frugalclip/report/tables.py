"""Tables and definition lists as HTML."""

from collections.abc import Mapping, Sequence
from typing import Any

from frugalclip.report.bars import interval_strip
from frugalclip.report.evaluations import evaluation_notes, evaluation_remarks, evaluation_tables
from frugalclip.report.formats import Html, cell, difference, escape, number, percent, span
from frugalclip.report.html import folded
from frugalclip.report.rows import ChangedValue, Column, Label, Measure, Strip


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Any]],
    *,
    caption: str,
    sortable: bool = False,
    stacked: bool = False,
) -> Html:
    """A table whose first column names the rows, in a frame that scrolls sideways on a narrow screen.

    Args:
        columns: titles, in order.
        rows: cells of `rows`, or `Html`, which is put in as it is; anything else is escaped.
        caption: what the table holds; read out, and shown above it.
        sortable: let the reader sort by a click on a title (with script only).
        stacked: on a phone, the first cell of a row stands above the others.
    """
    heads = "".join(map(_head, columns))
    body = "".join(
        f'<tr role="row">{"".join(map(_cell, columns, row, [True] + [False] * len(row)))}</tr>'
        for row in rows
    )
    kinds = " ".join(k for k, given in (("sortable", sortable), ("stacked", stacked)) if given)
    shown, title = sum(not column.kind for column in columns[1:]), escape(caption)
    inner = (  # roles are explicit, since a browser may drop them where the style sheet stacks cells
        f'<table role="table" class="{kinds}" style="--columns: {shown}"><caption>{title}</caption>'
        f'<thead role="rowgroup"><tr role="row">{heads}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table>'
    )
    return Html(f'<div class="frame" tabindex="0" role="region" aria-label="{title}">{inner}</div>')


def _kinds(column: Column) -> str:
    kinds = " ".join(k for k in ("metrics" if column.numeric else "", column.kind) if k)
    return f' class="{kinds}"' if kinds else ""


def _head(column: Column) -> str:
    title = f"{escape(column.title)}{_small(column.note)}"
    return f'<th scope="col" role="columnheader"{_kinds(column)}>{title}</th>'


def _cell(column: Column, value: Any, is_first: bool) -> str:
    content = cell_markup(value)
    if is_first:
        return f'<th scope="row" role="rowheader" dir="auto"{_kinds(column)}>{content}</th>'
    direction = "" if column.numeric else ' dir="auto"'
    return f'<td role="cell"{_kinds(column)}{direction}>{content}</td>'


def cell_markup(value: Any) -> Html:
    """A cell of `rows` as markup."""
    match value:
        case Label():
            return Html(f"{escape(value.text)}{_small(value.note)}")
        case Measure():
            text = escape(_value(value.value, value.in_percent))
            reach = span(value.interval, in_percent=value.in_percent) if value.interval else ""
            return Html((f"<b>{text}</b>" if value.is_main else text) + _small(reach))
        case ChangedValue():
            reach = f", {span(value.interval, in_percent=value.in_percent)}" if value.interval else ""
            change = difference(value.difference, in_percent=value.in_percent)
            return Html(f"<b>{escape(_value(value.value, value.in_percent))}</b>{_small(change + reach)}")
        case Strip():
            return interval_strip(
                value.value, interval=value.interval, marks=value.marks, maximum=100.0, label=value.label
            )
        case _:
            return cell(value)


def _value(value: float, in_percent: bool) -> str:
    return percent(value) if in_percent else number(value)


def _small(text: str) -> str:
    return f"<small>{escape(text)}</small>" if text else ""


def definitions(pairs: Sequence[tuple[str, Any]], *, kind: str = "settings") -> Html:
    """Names with their values, as a definition list; pairs whose value is None or empty are left out."""
    shown = [(name, value) for name, value in pairs if value not in (None, "", [], {})]
    items = "".join(
        f'<div><dt>{escape(name)}</dt><dd dir="auto">{cell(value)}</dd></div>' for name, value in shown
    )
    return Html(f'<dl class="{kind}">{items}</dl>' if items else "")


def evaluation_block(result: Mapping[str, Any]) -> Html:
    """One evaluation: its tables, remarks, and what its metrics depend on."""
    shown = "".join(
        table(one.columns, one.rows, caption=one.caption, stacked=True) for one in evaluation_tables(result)
    )
    shown += "".join(
        f'<p class="foot" dir="auto">{escape(remark.text)}</p>' for remark in evaluation_remarks(result)
    )
    notes = definitions([(note.name, note.text) for note in evaluation_notes(result)], kind="notes")
    return Html(f'<div class="evaluation">{shown}{folded("What these metrics depend on", notes)}</div>')
