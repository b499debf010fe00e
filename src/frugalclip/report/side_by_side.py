"""The table of several models on the same rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from frugalclip.core.terminal import Terminal
from frugalclip.evaluation.metrics import BY_IMPORTANCE, in_percent, metric_name
from frugalclip.report.formats import counted, difference
from frugalclip.report.rows import Column, Label, Measure, ReportTable
from frugalclip.report.terminal import print_table

MOST_METRICS = 3  # in the table


def models_table(result: Mapping[str, Any]) -> ReportTable:
    """Models in rows, their most important metrics with intervals in columns, and chance last.

    Args:
        result: of `evaluation.side_by_side`.
    """
    models = result["models"]
    first = models[result["against"]]
    shared = [name for name in first["metrics"] if all(name in one["metrics"] for one in models.values())]
    order = {name: place for place, name in enumerate(BY_IMPORTANCE)}
    names = sorted(shared, key=lambda name: order.get(name, len(order)))[:MOST_METRICS]
    columns = [Column("Model"), *(Column(metric_name(name, short=True), numeric=True) for name in names)]
    tails = distinct_tails(list(models))
    rows = [
        [Label(name, short=tails[name]), *(_measure(one, metric) for metric in names)]
        for name, one in models.items()
    ]
    chance = first.get("chance") or {}
    if any(name in chance for name in names):
        guessed = [Measure(chance[n], in_percent=in_percent(n)) if n in chance else None for n in names]
        rows.append([Label("chance"), *guessed])
    caption = f"{result['task']}, percent: {counted(first['samples'], 'sample')}"
    return ReportTable(caption, columns, rows)


def distinct_tails(names: Sequence[str]) -> dict[str, str]:
    """Each name by as many of its last folders as tell it from the others."""
    most = max(name.count("/") for name in names) + 1
    for length in range(1, most + 1):
        tails = ["/".join(name.rstrip("/").split("/")[-length:]) for name in names]
        if len(set(tails)) == len(names):
            return dict(zip(names, tails, strict=True))
    return dict(zip(names, names, strict=True))


def _measure(result: Mapping[str, Any], metric: str) -> Measure:
    found = result["interval"].get(metric)
    interval = (found[0], found[1]) if found else None
    return Measure(result["metrics"][metric], interval, in_percent=in_percent(metric))


def print_side_by_side(result: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the table, and each difference to the first model in words."""
    console = console or Terminal()
    if not console.is_terminal:  # a file has room for wide rows
        console = Terminal(width=max(console.width, 132), file=console.file)
    print_table(models_table(result), console)
    for name, found in result["compared"].items():
        low, high = (difference(bound) for bound in found["interval"])
        console.print(
            Text(
                f"{name} is {found['verdict']}{_than(found['verdict'])} {result['against']}: "
                f"{difference(found['difference'])} points of {metric_name(found['metric'], short=True)}, "
                f"95 % interval {low} to {high}, paired over {counted(found['samples'], 'sample')}."
            ),
            soft_wrap=True,
        )
    if not result["compared"]:
        console.print(Text(f"--task {result['task']} has no paired interval.", style="dim"), soft_wrap=True)


def _than(verdict: str) -> str:
    return " from" if verdict == "not distinguishable" else " than"
