"""`frugalclip train`: from a recipe and a data set to a run directory."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from frugalclip.adaptation.curve import WeightCurve
from frugalclip.adaptation.settle import settle
from frugalclip.core import distributed
from frugalclip.core.errors import RecipeError, UsageError
from frugalclip.core.locks import writes_into
from frugalclip.core.overrides import as_pairs
from frugalclip.core.records import RunDirectory, write_json
from frugalclip.core.terminal import Terminal
from frugalclip.core.users_text import command_line
from frugalclip.curation.data_description import describe_data
from frugalclip.curation.known_leakage import known_leakage
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.baselines import Baselines
from frugalclip.evaluation.retrieval import evaluate_retrieval
from frugalclip.evaluation.words import evaluate_words
from frugalclip.evaluation.zeroshot import evaluate_zeroshot
from frugalclip.report.card import write_run_card
from frugalclip.report.gallery import Answer, Gallery, build_gallery
from frugalclip.report.kept import kept_images, selection_of
from frugalclip.report.progress import ConsoleListener, validation_table
from frugalclip.report.run import write_run_report
from frugalclip.report.words import describe_images
from frugalclip.sources.open import read_source
from frugalclip.training.loop import train_run
from frugalclip.training.recipe import Recipe
from frugalclip.training.resume import resolve_recipe
from frugalclip.training.run import TrainingResult


def train(
    recipe: str,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    resume: bool = False,
    **settings: Any,
) -> TrainingResult:
    """Train a recipe and write a run directory.

    Args:
        recipe: name of a recipe or path of one.
        overrides: `key=value` pairs, such as `data=my_folder` or `batch=512`.
        out: the run directory; empty or new, unless `resume`. None: the next free one in `runs/`.
        resume: go on from the last checkpoint of `out`.
        settings: settings of the recipe, such as `data="shop/"` or `epochs=5`. Two underscores stand for a
            dot (`optimizer__lr=1e-3`), a mapping sets its keys, and None unsets.

    Returns:
        The trained model, with where and how it was made.

    Raises:
        RecipeError, DataError, TrainingError: one sentence each, with the next command.
    """
    if out is None and resume:
        raise UsageError("resume goes on with the run in out, and out is not given; add out='runs/NAME'.")
    return _train(recipe, [*overrides, *as_pairs(settings)], out=out or _free_folder(recipe), resume=resume)


def _free_folder(recipe: str) -> Path:
    """The first of runs/NAME, runs/NAME-2, ... that is not there."""
    first = Path("runs") / Path(recipe).stem
    places = itertools.chain([first], (first.with_name(f"{first.name}-{n}") for n in itertools.count(2)))
    return next(place for place in places if not place.exists())


@writes_into("out")
def _train(recipe: str, overrides: Sequence[str], *, out: str | Path, resume: bool) -> TrainingResult:
    run = RunDirectory(out)
    resolved = resolve_recipe(recipe, overrides, run, resume=resume)
    if resolved.data.path is None:
        raise RecipeError(
            f"recipe '{resolved.name}' names no data; add data=PATH, or data=sample for the pairs that ship "
            "with the package."
        )
    return train_resolved(resolved, run, resume=resume, command=("frugalclip", "train", recipe, *overrides))


def train_resolved(
    resolved: Recipe,
    run: RunDirectory,
    *,
    resume: bool,
    command: Sequence[str],
    more: Callable[[TrainingResult, list[dict[str, Any]]], Mapping[str, Any]] = lambda *_: {},
) -> TrainingResult:
    """Train a validated recipe, evaluate it on its validation set, and write metrics and report.

    Args:
        resolved: the recipe, with data.
        run: the run directory.
        resume: go on from its last checkpoint.
        command: words that started the run, for messages.
        more: further content of `metrics.json`, from the finished run and its evaluations.
    """
    listener = ConsoleListener(Terminal())
    assert resolved.data.path is not None, "the caller refuses a recipe without data"
    source = read_source(resolved.data.path, columns=resolved.data.columns or None)
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
    curve: WeightCurve | None = None
    if result.is_finished and resolved.guard.path is not None:
        result, curve = settle(result, resolved)
    if result.is_finished and distributed.is_main():
        baselines = Baselines(result.training) if resolved.evaluation.baselines else None
        evaluations = validation_evaluations(result, resolved, baselines)
        content = dict(more(result, evaluations))
        if curve is not None:
            evaluations += guard_evaluations(result, resolved, baselines)
            content["interpolation"] = interpolation(result, resolved, curve)
        finish(run, result, resolved, evaluations, more=content)
    return result


def guard_evaluations(
    result: TrainingResult, recipe: Recipe, baselines: Baselines | None
) -> list[dict[str, Any]]:
    """Zero-shot and retrieval on the measured rows of the guard."""
    assert result.guard is not None
    rows, labels = result.guard.validator.manifest, recipe.guard.label_field
    source = {"data": recipe.guard.path, "where": "the rows of the guard"}
    return [
        evaluate_zeroshot(result.model, rows, label_field=labels, baselines=baselines) | source,
        evaluate_retrieval(result.model, rows, baselines=baselines) | source,
    ]


def interpolation(result: TrainingResult, recipe: Recipe, curve: WeightCurve) -> dict[str, Any]:
    """The way from start to end as `metrics.json` holds it."""
    assert result.guard is not None and result.guard.state is not None
    about = {"start": recipe.init_from, "data": recipe.data.path, "kept": recipe.guard.path}
    return about | curve.to_json() | {"stopped": result.guard.state.stopped}


def validation_evaluations(
    result: TrainingResult, recipe: Recipe, baselines: Baselines | None = None
) -> list[dict[str, Any]]:
    """Zero-shot, retrieval and, for a lexical model, words on the validation set; empty without one."""
    rows, labels = result.validation, recipe.evaluation.label_field
    if rows is None:
        return []
    source = {"data": recipe.data.path, "where": "the run's validation rows"}
    evaluations = [
        evaluate_zeroshot(result.model, rows, label_field=labels, baselines=baselines),
        evaluate_retrieval(result.model, rows, baselines=baselines),
    ]
    if result.model.lexicon is not None:
        evaluations.append(evaluate_words(result.model, rows, label_field=labels))
    return [one | source for one in evaluations]


def finish(
    run: RunDirectory,
    result: TrainingResult,
    recipe: Recipe,
    evaluations: list[dict[str, Any]],
    *,
    shown: Manifest | None = None,
    answers: Sequence[Answer] = (),
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write `metrics.json` and the report of a finished run.

    Args:
        run: the run directory.
        result: of the training.
        recipe: the one that was trained.
        evaluations: the primary one first.
        shown: rows of the first evaluation, for the report's pictures; by default the validation set.
        answers: to queries, for the report.
        more: further content of `metrics.json`.
    """
    training = {
        "steps": result.steps,
        "samples_seen": result.samples_seen,
        "seconds": round(result.seconds, 3),
        "joules": None if result.joules is None else round(result.joules, 1),
        "parameters": result.parameters,
        "samples_per_second": round(result.samples_seen / max(result.seconds, 1e-9), 1),
        "training_rows": len(result.training),
        "notes": result.notes,
        "left_out": result.left_out,
        "data": describe_data(recipe.data.path, result.training),
    }
    if result.validation is not None:
        training["leakage"] = known_leakage(None, result.validation, training=result.training)
    write_json(run.summary, {"evaluations": evaluations, "training": training, **(more or {})})
    images = shown if shown is not None else result.validation
    gallery = Gallery()
    if images is not None and evaluations:
        gallery = build_gallery(result.model, images, evaluation=evaluations[0], training=result.training)
        if selection := selection_of(recipe.stage(-1).objectives):
            gallery = replace(gallery, kept=kept_images(result.model, images, selection))
        gallery = replace(gallery, words=describe_images(images, evaluations), answers=tuple(answers))
    write_run_report(run, gallery=gallery)
    write_run_card(run)


def show(result: TrainingResult) -> None:
    """Print what a finished run reached, and what to do next."""
    if not result.is_finished:
        return
    console = Terminal()
    rows = [row for row in RunDirectory(result.run).rows() if "evaluation" in row]
    if rows:
        console.print(validation_table(rows))
    speed = result.samples_seen / max(result.seconds, 1e-9)
    console.print(
        f"{result.samples_seen:,} samples in {result.seconds:.0f} s ({speed:.0f} a second).  "
        f"Report: {result.run}/report.html",
        highlight=False,
    )
    for line in next_lines(result):
        console.print(line, highlight=False, soft_wrap=True)


def next_lines(result: TrainingResult) -> list[str]:
    """The command that comes next, on the data of the run, and what it measures."""
    path = (result.model.training_data or {})["path"]
    words = ["evaluate", result.run, "--data", path]
    if result.evaluated_on is not None:
        return [f"Next: {command_line(*words, '--where', result.evaluated_on, '--baselines')}"]
    divide = command_line("data", "divide", path, "--out", "divided.parquet")
    return [
        f"Next: {command_line(*words, '--task', 'retrieval')}",
        f"That includes the pairs it was trained on; keep some apart first: {divide}",
    ]
