"""`frugalclip train`: from a recipe and a data set to a run directory."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from frugalclip.core import distributed
from frugalclip.core.config import read_yaml
from frugalclip.core.errors import RecipeError
from frugalclip.core.records import RunDirectory, write_atomically, write_json
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.retrieval import evaluate_retrieval
from frugalclip.evaluation.words import evaluate_words
from frugalclip.evaluation.zeroshot import evaluate_zeroshot
from frugalclip.report.gallery import Gallery, build_gallery
from frugalclip.report.kept import kept_images, selection_of
from frugalclip.report.run import write_run_report
from frugalclip.report.words import describe_images
from frugalclip.sources.open import read_source
from frugalclip.training.loop import train_run
from frugalclip.training.recipe import Recipe, load_recipe, validate_recipe
from frugalclip.training.run import Run, TrainingResult
from frugalclip.training.stage import count_parameters

WATCHED = ("zeroshot/top1", "retrieval/t2i_r1")  # figures shown while the run goes on


class ConsoleListener:
    """Live progress on a terminal, a line at each evaluation point elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress: Progress | None = None

    def started(self, run: Run) -> None:
        """Say what runs, then show a bar where there is a terminal."""
        parameters = count_parameters(run.model.network)
        words = (
            f"{parameters / 1e6:.1f}M parameters, {len(run.data.training):,} pairs, {run.steps:,} steps of "
            f"{run.recipe.batch}"
        )
        self.console.print(f"[bold]{run.recipe.name}[/]: {words}, {run.precision} on {run.model.device}")
        if self.console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
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
            self.progress.update(
                self.progress.task_ids[0], completed=row["step"], description=f"loss {row['loss']:.3f}"
            )
        if "evaluation" in row:
            metrics = ", ".join(
                f"{name} {row['evaluation'][name]:.1f} %" for name in WATCHED if name in row["evaluation"]
            )
            self.console.print(
                f"step {row['step']:>6,}  {row['seconds']:>7.1f} s  loss {row['loss']:.3f}  {metrics}",
                highlight=False,
            )
        for sentence in row.get("advice", []):
            self.console.print(f"[yellow]advice:[/] {sentence}", highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a remark of the trainer."""
        self.console.print(
            Text(text, style="dim"), soft_wrap=True
        )  # it may hold a command, which a line break would spoil

    def close(self) -> None:
        """Take the bar away."""
        if self.progress is not None:
            self.progress.stop()


def train(
    recipe: str, overrides: Sequence[str] = (), *, out: str | Path, resume: bool = False
) -> TrainingResult:
    """Train a recipe and write a run directory.

    Args:
        recipe: name of a recipe or path of one.
        overrides: `key=value` pairs, such as `data=my_folder` or `batch=512`.
        out: the run directory; empty or new, unless `resume`.
        resume: go on from the last checkpoint of `out`.

    Returns:
        The trained model, with where and how it was made.

    Raises:
        RecipeError, DataError, TrainingError: one sentence each, with the next command.
    """
    run = RunDirectory(out)
    resolved = _resolve(recipe, overrides, run=run, resume=resume)
    if resolved.data.path is None:
        raise RecipeError(
            f"recipe '{resolved.name}' names no data; add data=PATH, or data=sample for the pairs that ship with the package."
        )
    listener = ConsoleListener(Console())
    source = read_source(resolved.data.path, columns=resolved.data.columns or None)
    command = ("frugalclip", "train", recipe, *overrides)
    try:
        result = train_run(
            resolved,
            source.manifest,
            run,
            resume=resume,
            listener=listener,
            read=source.ledger,
            command=command,
        )
    finally:
        listener.close()
    if result.is_finished and distributed.is_main():
        finish(run, result, resolved, validation_evaluations(result, resolved))
    return result


def validation_evaluations(result: TrainingResult, recipe: Recipe) -> list[dict[str, Any]]:
    """Zero-shot, retrieval and, of a lexical model, words on the rows that watched the run; empty where nothing did."""
    if result.validation is None:
        return []
    watched = {"data": recipe.data.path, "where": "the run's validation rows"}
    evaluations = [
        evaluate_zeroshot(result.model, result.validation, label_field=recipe.evaluation.label_field),
        evaluate_retrieval(result.model, result.validation),
    ]
    if result.model.lexicon is not None:
        evaluations.append(
            evaluate_words(result.model, result.validation, label_field=recipe.evaluation.label_field)
        )
    return [one | watched for one in evaluations]


def finish(
    run: RunDirectory,
    result: TrainingResult,
    recipe: Recipe,
    evaluations: list[dict[str, Any]],
    *,
    shown: Manifest | None = None,
) -> None:
    """Write `metrics.json` and the report of a finished run.

    Args:
        run: the run directory.
        result: of the training.
        recipe: that was trained.
        evaluations: the primary one first.
        shown: rows of the first evaluation, for the report's pictures; by default the validation rows.
    """
    training = {
        "steps": result.steps,
        "samples_seen": result.samples_seen,
        "seconds": round(result.seconds, 3),
        "parameters": result.parameters,
        "samples_per_second": round(result.samples_seen / max(result.seconds, 1e-9), 1),
        "training_rows": len(result.training),
        "notes": result.notes,
        "left_out": result.left_out,
    }
    write_json(run.summary, {"evaluations": evaluations, "training": training})
    images = shown if shown is not None else result.validation
    gallery = Gallery()
    if images is not None and evaluations:
        gallery = build_gallery(result.model, images, evaluation=evaluations[0], training=result.training)
        if selection := selection_of(recipe.objectives):
            gallery = replace(gallery, kept=kept_images(result.model, images, selection))
        gallery = replace(gallery, words=describe_images(images, evaluations))
    write_run_report(run, gallery=gallery)


def _resolve(name: str, overrides: Sequence[str], *, run: RunDirectory, resume: bool) -> Recipe:
    """The recipe to run: as given for a new run, as recorded for one that goes on."""
    given = load_recipe(name, overrides)
    if not run.is_run():
        if run.path.is_dir() and any(
            path != run.ledger for path in run.path.iterdir()
        ):  # a run that bad data stopped leaves its ledger
            raise RecipeError(f"--out {run.path} is not empty and holds no run; choose a new folder.")
        if run.path.is_file():
            raise RecipeError(f"--out {run.path} is a file; choose a folder.")
        return given
    if not resume:
        raise RecipeError(
            f"--out {run.path} already holds a run; add --resume to go on with it, or choose another folder."
        )
    recorded = validate_recipe(read_yaml(run.recipe))
    if any(
        word.startswith("data.max_error_fraction=") for word in overrides
    ):  # how much bad data is put up with changes no number: it may change on the way
        recorded = recorded.model_copy(
            update={
                "data": recorded.data.model_copy(update={"max_error_fraction": given.data.max_error_fraction})
            }
        )
        write_atomically(run.recipe, recorded.to_yaml())
    taken = (
        {"model", "preprocess"} if recorded.init_from else set[str]()
    )  # from the model that the run began with
    old, new = (one.model_dump(mode="json", exclude=taken) for one in (recorded, given))
    changed = [key for key in old if old[key] != new[key]]
    if changed and set(overrides) - {
        word for word in overrides if word.startswith("data.max_error_fraction=")
    }:
        raise RecipeError(
            f"--out {run.path} was begun with another '{changed[0]}'; resume it without overrides, or train into a new folder."
        )
    if given.name != recorded.name:
        raise RecipeError(
            f"--out {run.path} is a run of '{recorded.name}', not of '{given.name}'; run frugalclip train {recorded.name} --out {run.path} --resume."
        )
    return recorded


def show(result: TrainingResult) -> None:
    """Print the end of a run: what was reached and what to do next."""
    console = Console()
    if not result.is_finished:
        return
    rows = [row for row in RunDirectory(result.run).rows() if "evaluation" in row]
    if rows:
        table = Table(
            "metric",
            "first point",
            "last point",
            "best (at step)",
            title="rows that watched the run, percent",
        )
        for name in rows[-1]["evaluation"]:
            if name.endswith(("top1", "top5", "_r1", "_r5")):
                best = max(rows, key=lambda r: r["evaluation"].get(name, 0.0))
                values = [f"{r['evaluation'][name]:.1f}" for r in (rows[0], rows[-1])]
                table.add_row(name, *values, f"{best['evaluation'][name]:.1f} ({best['step']:,})")
        console.print(table)
    speed = result.samples_seen / max(result.seconds, 1e-9)
    console.print(
        f"{result.samples_seen:,} samples in {result.seconds:.0f} s ({speed:.0f} a second).  Report: {result.run}/report.html",
        highlight=False,
    )
    console.print(
        f"Next: frugalclip evaluate {result.run} --data PATH --task zeroshot", highlight=False, soft_wrap=True
    )
