"""A run as it is trained, on a terminal or in a log."""

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from frugalclip.core.progress import SILENCE
from frugalclip.core.terminal import styled
from frugalclip.report.formats import percent
from frugalclip.training.recommendation import warning
from frugalclip.training.run import Run
from frugalclip.training.stage import count_parameters

SHOWN = ("zeroshot/top1", "retrieval/t2i_r1")  # metrics printed at evaluation points
_MEASURED = (("evaluation", "chance", ""), ("guard", "guard_chance", "guard: "))
_TASK = "{task.description}"


class ConsoleListener:
    """Prints a line at each evaluation point, and shows a progress bar where there is a terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress: Progress | None = None
        self.steps = 0
        self._printed = time.monotonic(), 0  # when the last line came, and after which step

    def started(self, run: Run) -> None:
        """Print what is trained, and start the bar."""
        size = f"{count_parameters(run.model.network) / 1e6:.1f}M parameters"
        stages = f" in {len(run.recipe.stages)} stages" if run.recipe.stages else ""
        self.console.print(
            styled(
                f"[bold]{{name}}[/]: {size}, {len(run.data.training):,} pairs, {run.steps:,} steps of "
                f"{run.recipe.batch}{stages}, {run.precision} on {run.model.device}",
                name=run.recipe.name,
            )
        )
        if unsuited := warning(run.recipe, len(run.data.training)):
            self._advise(unsuited)
        self.steps, self._printed = run.steps, (time.monotonic(), run.step)
        if not self.console.is_terminal:
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=self.console)
        self.progress.add_task("training", total=run.steps, completed=run.step)
        self.progress.start()

    def row(self, row: dict[str, Any]) -> None:
        """Move the bar; print evaluation points and advice."""
        if self.progress is not None:
            task = self.progress.task_ids[0]
            self.progress.update(task, completed=row["step"], description=f"loss {row['loss']:.3f}")
        if "evaluation" in row or "guard" in row:
            self._printed = time.monotonic(), row["step"]
            metrics = "  ".join(_metrics(row, *names) for names in _MEASURED if names[0] in row)
            self.console.print(
                f"step {row['step']:>6,}  {row['seconds']:>7.1f} s  loss {row['loss']:.3f}  {metrics}",
                highlight=False,
                soft_wrap=True,
            )
        elif self.progress is None and self._is_due(row["step"]):
            self._printed = time.monotonic(), row["step"]
            self.console.print(
                f"step {row['step']:>6,}  {row['seconds']:>7.1f} s  loss {row['loss']:.3f}  "
                f"of {self.steps:,} steps",
                highlight=False,
                soft_wrap=True,
            )
        for sentence in row.get("advice", []):
            self._advise(sentence)

    def _is_due(self, step: int) -> bool:
        """Whether a log without a bar has been silent for long: half a minute, or a tenth of the run."""
        when, after = self._printed
        return step < self.steps and (
            time.monotonic() - when >= SILENCE or step - after >= max(self.steps / 10, 1)
        )

    def _advise(self, sentence: str) -> None:
        self.console.print(Text.assemble(("advice:", "yellow"), f" {sentence}"), soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a remark without breaking its lines: it may hold a command."""
        self.console.print(Text(text, style="dim"), soft_wrap=True)

    def close(self) -> None:
        """Remove the bar."""
        if self.progress is not None:
            self.progress.stop()


def _metrics(row: dict[str, Any], measured: str, guessed: str, title: str) -> str:
    found, chance = row[measured], row.get(guessed, {})
    return title + ", ".join(
        f"{name} {found[name]:.1f}\N{NO-BREAK SPACE}%{_chance(chance, name)}"
        for name in SHOWN
        if name in found
    )


def _chance(chance: dict[str, Any], name: str) -> str:
    value = chance.get(name)
    return "" if value is None else f" (chance {percent(value, unit=False)})"


def validation_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The first, last and best value of each metric on the validation set.

    Args:
        rows: of `metrics.jsonl` that have an `evaluation`, oldest first, at least one.
    """
    table = Table("metric", "chance", "first", "last", "best (at step)", title="validation set, percent")
    chance = rows[-1].get("chance", {})
    for name in rows[-1]["evaluation"]:
        if name.endswith(("top1", "top5", "_r1", "_r5")):
            best = max(rows, key=lambda row: row["evaluation"].get(name, 0.0))
            ends = [f"{row['evaluation'][name]:.1f}" for row in (rows[0], rows[-1])]
            guessed = percent(chance[name], unit=False) if name in chance else ""
            table.add_row(name, guessed, *ends, f"{best['evaluation'][name]:.1f} ({best['step']:,})")
    return table
