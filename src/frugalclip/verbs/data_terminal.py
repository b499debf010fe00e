"""What the verbs of data sets print alike: progress bars, faults, fields, counts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from frugalclip.core.progress import Ticker
from frugalclip.core.terminal import Terminal
from frugalclip.data.ledger import Entry, causes_of
from frugalclip.data.statistics import FieldStatistics, Spread

_FAULTS_SHOWN = 3  # of each cause
_TASK = "{task.description}"


@contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error, or lines in a log; gives a function that adds steps to it."""
    console = Terminal(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=total)
        tick = Ticker(description, lambda line: console.print(line, highlight=False, soft_wrap=True))

        def advance(done: int) -> None:
            bar.advance(task, done)
            if not console.is_terminal:
                tick(int(bar.tasks[0].completed), total)

        yield advance


@contextmanager
def progress_steps(description: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """As `progress_bar`; gives a function that takes the rows done so far and the rows in all."""
    before = 0
    with progress_bar(description, total) as advance:

        def progress(done: int, total: int) -> None:
            nonlocal before
            advance(done - before)
            before = done

        yield progress


def show_lines(lines: Sequence[str], console: Console) -> None:
    """Print lines of markup, however long they are."""
    for line in lines:
        console.print(line, soft_wrap=True)


def show_next(command: str, console: Console) -> None:
    """Print the command that comes next."""
    console.print(f"\nNext: [bold]{escape(command)}[/]", soft_wrap=True)


def show_faults(faults: Sequence[Entry], console: Console) -> None:
    """Print how often each reason occurs, with its first cases."""
    for cause in causes_of(faults, examples=_FAULTS_SHOWN):
        console.print(
            f"  {cause.count:>7,}  [bold]{cause.reason}[/]: {escape(cause.meaning)}", soft_wrap=True
        )
        for entry in cause.examples:
            text = short(f"{entry.id}: {entry.detail}", 140)
            console.print(f"           [dim]{escape(text)}[/]", soft_wrap=True)


def show_fields(fields: Sequence[FieldStatistics], console: Console) -> None:
    """Print a table of fields."""
    if not fields:
        console.print("Fields: none besides the captions.")
        return
    table = Table(
        "field",
        "type",
        "empty",
        "distinct",
        "frequent values",
        title="Fields, for where and --label-field",
        title_justify="left",
    )
    for one in fields:
        values = ", ".join(f"{short(value, 30)} ({count:,})" for value, count in one.values)
        table.add_row(
            escape(one.name),
            one.type,
            f"{one.nulls:,}",
            "" if one.distinct is None else f"{one.distinct:,}",
            escape(values),
        )
    console.print(table)


def spread_in_words(spread: Spread) -> str:
    """A distribution such as `3 to 9 (middle 5)`."""
    if spread.least == spread.most:
        return f"{spread.most:,.0f}"
    return f"{spread.least:,.0f} to {spread.most:,.0f} (middle {spread.middle:,.0f})"


def counts(of: Mapping[str, int], limit: int = 8) -> str:
    """Names with their counts, such as `PNG 6, JPEG 2 and 3 more`."""
    listed = [f"{escape(name)} {count:,}" for name, count in list(of.items())[:limit]]
    return ", ".join(listed) + (f" and {len(of) - limit} more" if len(of) > limit else "")


def short(text: str, limit: int) -> str:
    """A text on one line, cut to so many characters."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
