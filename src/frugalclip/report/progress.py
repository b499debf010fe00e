"""A run as it is trained, on a terminal or in a log."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from frugalclip.training.recommendation import warning
from frugalclip.training.run import Run
from frugalclip.training.stage import count_parameters

SHOWN = ("zeroshot/top1", "retrieval/t2i_r1")  # metrics printed at evaluation points


class ConsoleListener:
    """Prints a line at each evaluation point, and shows a progress bar where there is a terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress: Progress | None = None

    def started(self, run: Run) -> None:
        """Print what is trained, and start the bar."""
        size = f"{count_parameters(run.model.network) / 1e6:.1f}M parameters"
        stages = f" in {len(run.recipe.stages)} stages" if run.recipe.stages else ""
        self.console.print(
            f"[bold]{run.recipe.name}[/]: {size}, {len(run.data.training):,} pairs, {run.steps:,} steps of "
            f"{run.recipe.batch}{stages}, {run.precision} on {run.model.device}"
        )
        if unsuited := warning(run.recipe, len(run.data.training)):
            self._advise(unsuited)
        if not self.console.is_terminal:
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=self.console)
        self.progress.add_task("training", total=run.steps, completed=run.step)
        self.progress.start()

    def row(self, row: dict[str, Any]) -> None:
        """Move the bar; print evaluation points and advice."""
        if self.progress is not None:
            task = self.progress.task_ids[0]
            self.progress.update(task, completed=row["step"], description=f"loss {row['loss']:.3f}")
        if "evaluation" in row:
            values = [(name, row["evaluation"][name]) for name in SHOWN if name in row["evaluation"]]
            metrics = ", ".join(f"{name} {value:.1f} %" for name, value in values)
            self.console.print(
                f"step {row['step']:>6,}  {row['seconds']:>7.1f} s  loss {row['loss']:.3f}  {metrics}",
                highlight=False,
            )
        for sentence in row.get("advice", []):
            self._advise(sentence)

    def _advise(self, sentence: str) -> None:
        self.console.print(Text.assemble(("advice:", "yellow"), f" {sentence}"), soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a remark without breaking its lines: it may hold a command."""
        self.console.print(Text(text, style="dim"), soft_wrap=True)

    def close(self) -> None:
        """Remove the bar."""
        if self.progress is not None:
            self.progress.stop()


def validation_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The first, last and best value of each metric on the validation set.

    Args:
        rows: of `metrics.jsonl` that have an `evaluation`, oldest first, at least one.
    """
    table = Table("metric", "first", "last", "best (at step)", title="validation set, percent")
    for name in rows[-1]["evaluation"]:
        if name.endswith(("top1", "top5", "_r1", "_r5")):
            best = max(rows, key=lambda row: row["evaluation"].get(name, 0.0))
            ends = [f"{row['evaluation'][name]:.1f}" for row in (rows[0], rows[-1])]
            table.add_row(name, *ends, f"{best['evaluation'][name]:.1f} ({best['step']:,})")
    return table
