"""`frugalclip audit groups`: a metric by the values of any field, with intervals and a test of the gap."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from frugalclip.auditing.subgroups import subgroup_report
from frugalclip.core.devices import pick_device
from frugalclip.core.paths import user_path
from frugalclip.core.progress import progress_lines
from frugalclip.core.records import write_json
from frugalclip.core.terminal import Terminal, show_remark
from frugalclip.data.manifest import Manifest
from frugalclip.data.words import normalise
from frugalclip.evaluation.tasks import TASKS
from frugalclip.models import Model, load
from frugalclip.sources.open import open_data
from frugalclip.verbs.data_terminal import show_lines


def audit_groups(
    model: str | Path | Model,
    *,
    data: str | Path | Manifest,
    field: str,
    task: Literal["zeroshot", "retrieval"] = "zeroshot",
    where: str | None = None,
    label_field: str | None = None,
    least: int = 10,
    draws: int = 1000,
    json: str | Path | None = None,
) -> dict[str, Any]:
    """Evaluate a model, and take its metric apart by a field.

    Args:
        model: MODEL.
        data: what it is evaluated on.
        field: field whose values are the groups.
        task: `zeroshot` (top1 of each picture) or `retrieval` (recall@1 of each caption).
        where: a condition over fields.
        label_field: field with the class of a row, for zeroshot.
        least: samples of a group.
        draws: of the bootstrap.
        json: file to write the result to.

    Returns:
        `groups`, `gap`, `left_out` of docs/formats.md, with `metric` and `field`.

    Raises:
        DataError: for an unknown field, or fewer than two groups of enough samples.
    """
    everything = data if isinstance(data, Manifest) else open_data(data)
    rows = everything.where(where)
    values = _values(rows, field, task)
    loaded = model if isinstance(model, Model) else load(model, device=pick_device("auto"))
    options: dict[str, Any] = {"label_field": label_field} if task == "zeroshot" else {}
    with progress_lines(show_remark):
        run = TASKS[task].run
        outcome = run(loaded, rows, everything=everything, with_outcome=True, draws=0, **options)["outcome"]
    found = subgroup_report(
        np.array(outcome["hits"]),
        [values.get(id if task == "zeroshot" else normalise(id)) for id in outcome["ids"]],
        np.array(outcome["groups"]),
        least=least,
        draws=draws,
    )
    result = {"metric": outcome["metric"], "field": field, "data": everything.name, **found}
    if json is not None:
        write_json(user_path(json), result)
    return result


def _values(manifest: Manifest, field: str, task: str) -> dict[str, str | None]:
    """Id of a row, or caption, -> its value; a caption of several rows has that of the first."""
    values = [None if value is None else str(value) for value in manifest.field(field)]
    if task == "zeroshot":
        return dict(zip(manifest.ids, values, strict=True))
    found: dict[str, str | None] = {}
    for texts, value in zip(manifest.captions(), values, strict=True):
        for text in texts or ():
            found.setdefault(normalise(text), value)
    return found


def show(result: dict[str, Any], console: Console | None = None) -> None:
    """Print the metric of every group, and the gap with its test."""
    console = console or Terminal(markup=True)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in (result["field"], "samples", result["metric"], "95 % interval"):
        table.add_column(
            escape(title), justify="left" if title == result["field"] else "right", overflow="fold"
        )
    for one in result["groups"]:
        low, high = one["interval"]
        table.add_row(
            escape(one["value"]), f"{one['samples']:,}", f"{one['metric']:.1f}", f"{low:.1f}–{high:.1f}"
        )
    console.print(table)
    gap = result["gap"]
    low, high = gap["interval"]
    line = (
        f"{gap['best']} less {gap['worst']}: {gap['points']:.1f} points ({low:.1f} to {high:.1f}); as large "
        f"a gap by chance in {gap['p']:.1%} of dealings."
    )
    show_lines([escape(line)], console)
