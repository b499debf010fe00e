"""`frugalclip curate`: choose the rows of a data set by a plan, with a ledger of every row's fate."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from frugalclip.core.errors import UsageError
from frugalclip.core.executors import local_executor
from frugalclip.core.locks import writing
from frugalclip.core.paths import user_path
from frugalclip.core.random import uniform
from frugalclip.core.terminal import Terminal
from frugalclip.core.users_text import command_line
from frugalclip.curation.outputs import MANIFEST, StageSummary, Summary, finish, stage_summary
from frugalclip.curation.page import write_page
from frugalclip.curation.plan import CurationPlan, read_plan
from frugalclip.curation.run import CurationRun
from frugalclip.data.manifest import Manifest
from frugalclip.sources.open import read_sources
from frugalclip.training.recommendation import train_command
from frugalclip.verbs.data_terminal import progress_bar, show_lines, show_next

DRAWN = 2_000  # rows that a dry run goes through
_MOST_WORKERS = 8


@dataclass(frozen=True)
class ExpectedStage:
    """Rows that a stage is expected to let through."""

    name: str
    rows_in: float
    rows_out: float
    at_most: bool  # duplicates of rows that were not drawn are not seen


@dataclass(frozen=True)
class DryRun:
    """What a plan is expected to do."""

    plan: CurationPlan
    data: str
    rows: int
    drawn: int  # rows that were gone through
    stages: list[ExpectedStage]


@dataclass(frozen=True)
class CurationResult:
    """A finished curation."""

    out: Path
    summary: Summary


def curate(
    paths: Sequence[str | Path] | str | Path,
    *,
    plan: str | Path,
    out: str | Path | None = None,
    dry_run: bool = False,
    resume: bool = False,
    where: str | None = None,
    workers: int | None = None,
    columns: Mapping[str, str] | None = None,
) -> CurationResult | DryRun:
    """Choose rows of a data set by a plan. Copies no image.

    Args:
        paths: data sets, read as one.
        plan: the name of a ready plan, or a YAML file.
        out: folder of the curation; may be left out for a dry run, which writes nothing.
        dry_run: only estimate how many rows each stage lets through, from 2,000 rows drawn by id.
        resume: go on in a folder where an earlier call was stopped.
        where: a condition over fields.
        workers: processes that measure images; None gives one a core, at most 8. They change no byte.
        columns: names of the columns `image`, `caption` and `id` where they are not recognised.

    Raises:
        RecipeError: for a plan that cannot be understood.
        DataError: when a path holds no data set, or `out` holds something else.
    """
    stages = read_plan(plan)
    source = read_sources(paths, columns=columns).where(where)
    workers = workers or min(os.cpu_count() or 1, _MOST_WORKERS)
    if dry_run:
        return _dry_run(source.manifest, stages, workers)
    if out is None:
        raise UsageError("curate writes into a folder; name one with --out DIR, or add --dry-run.")
    folder = user_path(out)
    with writing(folder):
        run = _run(folder, source.manifest, stages, workers)
        run.begin(resume=resume)
        summary = finish(run, source)
        write_page(folder, summary)
        return CurationResult(folder, summary)


def _run(
    folder: Path, manifest: Manifest, plan: CurationPlan, workers: int, *, share: float = 1.0
) -> CurationRun:
    processes = min(workers, max(len(manifest) // 2048, 1))  # few images do not wait for processes to start
    return CurationRun(
        folder,
        manifest,
        plan,
        executor=local_executor(processes),
        bar=progress_bar,
        threads=max(workers // processes, 1),
        share=share,
    )


def _dry_run(manifest: Manifest, plan: CurationPlan, workers: int) -> DryRun:
    codes = manifest.codes("id").view(np.uint64)
    order = np.argsort(uniform(plan.seed, "curate/dry-run", codes, 1)[:, 0], kind="stable")
    drawn = manifest.take(np.sort(order[:DRAWN]))
    share = len(drawn) / max(len(manifest), 1)
    with tempfile.TemporaryDirectory() as folder:
        run = _run(Path(folder), drawn, plan, workers, share=share)
        run.job.begin()
        summaries = [stage_summary(decided) for decided in run.stages()]
    compares = {planned.name: planned.stage.compares_rows for planned in plan.stages}
    return DryRun(plan, manifest.name, len(manifest), len(drawn), _expected(summaries, share, compares))


def _expected(
    summaries: Sequence[StageSummary], share: float, compares: Mapping[str, bool]
) -> list[ExpectedStage]:
    """Expected rows of each stage, from those of the rows that were drawn."""
    at_most, stages = False, []
    for one in summaries:
        at_most = at_most or (share < 1 and compares.get(one.name, False))
        stages.append(ExpectedStage(one.name, one.rows_in / share, one.rows_out / share, at_most))
    return stages


def show(result: CurationResult | DryRun, console: Console | None = None) -> None:
    """Print rows in and out of every stage, what was written, and the next command."""
    console = console or Terminal(markup=True)
    if isinstance(result, DryRun):
        _show_expected(result, console)
        return
    summary = result.summary
    console.print(stage_table(summary.stages))
    unread = f", {summary.unread:,} of them left out while reading" if summary.unread else ""
    show_lines(
        [
            f"Kept [bold]{summary.kept:,}[/] of {summary.rows:,} rows{unread}.",
            f"Wrote {escape(str(result.out))}: manifest.parquet, ledger.parquet, summary.json, report.html.",
        ],
        console,
    )
    show_next(train_command(result.out / MANIFEST, summary.kept), console)
    story = command_line("ledger", "explain", result.out, "ID")
    console.print(f"Why a row is in or out: {escape(story)}", soft_wrap=True)


def stage_table(stages: Sequence[StageSummary]) -> Table:
    """Rows in and out of every stage, with the reasons."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("stage", "rows in", "rows out", "dropped for"):
        table.add_column(title, justify="right" if title.startswith("rows") else "left")
    for one in stages:
        why = ", ".join(f"{count:,} {reason}" for reason, count in one.dropped.items())
        name = f"{one.name} (taken back)" if one.taken_back else one.name
        table.add_row(escape(name), f"{one.rows_in:,}", f"{one.rows_out:,}", escape(why) or "-")
    return table


def _show_expected(result: DryRun, console: Console) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("stage", "rows in", "rows out"):
        table.add_column(title, justify="right" if title.startswith("rows") else "left")
    for one in result.stages:
        sign = "at most " if one.at_most else ""
        table.add_row(escape(one.name), f"{one.rows_in:,.0f}", f"{sign}{one.rows_out:,.0f}")
    console.print(table)
    drawn = "all" if result.drawn == result.rows else f"{result.drawn:,} drawn by id"
    lines = [f"Expected of {result.rows:,} rows, from {drawn}; nothing was written."]
    if any(one.at_most for one in result.stages):
        lines.append("Duplicates of rows that were not drawn are not seen, so fewer rows may stay.")
    show_lines(lines, console)
