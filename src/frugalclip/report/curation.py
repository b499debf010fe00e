"""The report of a curation: the flow of rows first, then what each stage dropped, to look at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from frugalclip.core.records import write_atomically
from frugalclip.report.bars import Bar, bar_comparison
from frugalclip.report.formats import Html, counted, escape, number
from frugalclip.report.gallery import LONGEST, Thumbnail
from frugalclip.report.histograms import Histogram, histogram_chart
from frugalclip.report.html import ReportSection, at_both_widths, chart, command, document, source, tile
from frugalclip.report.rows import Column
from frugalclip.report.tables import table


@dataclass(frozen=True)
class ShownRow:
    """A row to look at."""

    thumbnail: Thumbnail | None  # None where the image cannot be read
    text: str  # its captions
    note: str = ""  # id, reason, value


@dataclass(frozen=True)
class DuplicateGroup:
    """A row that stays, and rows that repeat it."""

    keeper: ShownRow
    dropped: Sequence[ShownRow]
    more: int = 0  # rows of the group that are not shown


@dataclass(frozen=True)
class StageView:
    """What a page shows of one stage."""

    name: str
    rows_in: int
    rows_out: int
    reasons: Sequence[tuple[str, str, int, float | None]]  # code, plain words, rows, threshold
    notes: Sequence[str] = ()
    taken_back: bool = False
    histograms: Sequence[Histogram] = ()
    groups: Sequence[DuplicateGroup] = ()
    groups_in_all: int = 0
    dropped: Sequence[ShownRow] = ()  # drawn at random


@dataclass(frozen=True)
class CoverageView:
    """Words that captions cover before and after, and their languages."""

    least: int  # rows, below which a word is rare
    words: int  # before
    common: int  # that `least` rows have before
    lost: int  # that no row has after
    fallen: Sequence[tuple[str, int, int]]  # common before and rare after: word, rows before and after
    fallen_in_all: int
    about: str  # how words are compared
    languages: Sequence[tuple[str, int, int]] = ()  # captions before and after


@dataclass(frozen=True)
class CurationView:
    """What the page shows."""

    data: str
    plan: str
    description: str
    rows: int
    unread: Mapping[str, int]  # reason -> rows that reading left out
    kept: int
    stages: Sequence[StageView]
    settings: str  # the plan as YAML
    coverage: CoverageView
    commands: Sequence[tuple[str, str]] = field(default_factory=tuple)  # what it does, command


def write_curation_report(path: Path, view: CurationView) -> None:
    """Write the page, one file that needs no network."""
    write_atomically(path, curation_page(view).encode("utf-8", "replace"))


def curation_page(view: CurationView) -> str:
    """The page as text."""
    sections = [_flow(view), *map(_stage, view.stages), _coverage(view.coverage), _next(view), _plan(view)]
    return document(f"{view.data}: curation", head=_head(view), sections=sections)


def _head(view: CurationView) -> Html:
    answer = f"{view.kept:,} of {view.rows:,} rows stay"
    about = f"{view.data}, by the plan {view.plan}" + (f": {view.description}" if view.description else "")
    return Html(
        '<p class="over">frugalclip curation</p>'
        f'<h1 class="answer">{escape(answer)}</h1><p class="lead" dir="auto">{escape(about)}</p>{_bars(view)}'
    )


def _bars(view: CurationView) -> str:
    every = max(view.rows, 1)
    read = view.rows - sum(view.unread.values())
    bars = [Bar("as read", 100 * read / every)]
    bars += [Bar(f"after {one.name}", 100 * one.rows_out / every) for one in view.stages]
    bars.append(Bar("kept", 100 * view.kept / every, "model"))
    drawing = at_both_widths(
        lambda width: bar_comparison(
            bars, title="Rows after each stage", axis_label="percent of the rows met", width=width
        ),
        wide=760,
    )
    return f'<div class="headline plain"><div><h2>Rows after each stage</h2>{drawing}</div></div>'


def _flow(view: CurationView) -> ReportSection:
    columns = [
        Column("stage"),
        *(Column(title, numeric=True) for title in ("rows in", "rows out", "dropped")),
        Column("for"),
    ]
    read = view.rows - sum(view.unread.values())
    why = ", ".join(f"{count:,} {reason}" for reason, count in view.unread.items())
    rows = [("reading", f"{view.rows:,}", f"{read:,}", f"{view.rows - read:,}", why)] if view.unread else []
    for one in view.stages:
        why = ", ".join(f"{count:,} {reason}" for reason, _, count, _ in one.reasons)
        name = f"{one.name} (taken back)" if one.taken_back else one.name
        dropped = f"{one.rows_in - one.rows_out:,}"
        rows.append((name, f"{one.rows_in:,}", f"{one.rows_out:,}", dropped, why))
    body = table(columns, rows, caption="rows in and out of every stage", stacked=True)
    return ReportSection("flow", "Flow of rows", body, "Every row has one fate in ledger.parquet.")


def _stage(view: StageView) -> ReportSection:
    parts = [_reasons(view)] if view.reasons else []
    notes = "".join(f'<li dir="auto">{escape(note)}</li>' for note in view.notes)
    parts += [f'<ul class="advice apart">{notes}</ul>'] if notes else []
    if view.histograms:
        charts = "".join(
            chart(one.title, lambda width, one=one: histogram_chart(one, width=width))
            for one in view.histograms
        )
        parts.append(f'<div class="charts apart">{charts}</div>')
    if view.groups:
        shown = f"{len(view.groups):,} of {counted(view.groups_in_all, 'group')}"
        parts.append(f"<h3>Duplicates: {escape(shown)}</h3>{''.join(map(_group, view.groups))}")
    if view.dropped:
        parts.append(f"<h3>Dropped, drawn at random</h3>{_row_grid(view.dropped)}")
    dropped = view.rows_in - view.rows_out
    intro = f"{view.rows_in:,} rows in, {dropped:,} dropped." + (
        " The stage was taken back: its rows are in again." if view.taken_back else ""
    )
    return ReportSection(f"stage-{view.name}", view.name, Html("".join(parts)), intro)


def _reasons(view: StageView) -> Html:
    columns = [
        Column("reason"),
        Column("rows", numeric=True),
        Column("threshold", numeric=True),
        Column("meaning"),
    ]
    rows = [
        (code, f"{count:,}", None if threshold is None else number(threshold), meaning)
        for code, meaning, count, threshold in view.reasons
    ]
    return table(columns, rows, caption="why rows were dropped", stacked=True)


def _row_grid(rows: Sequence[ShownRow]) -> str:
    return f'<ul class="pairs">{"".join(map(_row, rows))}</ul>'


def _row(row: ShownRow) -> str:
    text, note = escape(row.text[:LONGEST]), escape(row.note)
    caption = f'<p class="clamp" dir="auto" title="{text}">{text}</p>'
    return f'<li>{tile(row.thumbnail)}{caption}<p class="clamp"><small title="{note}">{note}</small></p></li>'


def _group(group: DuplicateGroup) -> str:
    more = f'<p class="foot">and {group.more:,} more</p>' if group.more else ""
    return _row_grid([group.keeper, *group.dropped]) + more


def _coverage(view: CoverageView) -> ReportSection:
    answer = (
        f"Of {counted(view.words, 'word')}, {view.common:,} stand in the captions of at least {view.least} "
        f"rows before. Of these, {view.fallen_in_all:,} fall below {view.least} rows. In all, "
        f"{view.lost:,} are in no row that stays."
    )
    parts = [f'<p class="apart">{escape(answer)}</p>']
    if view.fallen:
        shown = f"words that fall below {view.least} rows, {len(view.fallen):,} of {view.fallen_in_all:,}"
        parts.append(_before_after(view.fallen, name="word", unit="rows", caption=shown))
    if view.languages:
        about = "languages of captions; detected in a sample where the data names none"
        parts.append(_before_after(view.languages, name="language", unit="captions", caption=about))
    intro = f"A word counts once a row; words are compared {view.about}."
    return ReportSection("coverage", "Words and languages", Html("".join(parts)), intro)


def _before_after(rows: Sequence[tuple[str, int, int]], *, name: str, unit: str, caption: str) -> Html:
    columns = [Column(name), *(Column(f"{unit} {when}", numeric=True) for when in ("before", "after"))]
    cells = [(word, f"{before:,}", f"{after:,}") for word, before, after in rows]
    return table(columns, cells, caption=caption, stacked=True)


def _next(view: CurationView) -> ReportSection:
    body = "".join(command(line, label=label) for label, line in view.commands)
    return ReportSection("next", "What to do next", Html(body))


def _plan(view: CurationView) -> ReportSection:
    return ReportSection("plan", "Plan", source(view.settings), "Every setting of every stage.")
