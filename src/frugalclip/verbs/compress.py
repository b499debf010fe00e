"""`frugalclip compress`: a smaller model from a larger one, and what the step costs in quality."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from frugalclip.compression.sizes import network_size
from frugalclip.compression.speed import network_speed
from frugalclip.core.errors import RecipeError
from frugalclip.core.locks import writes_into
from frugalclip.core.records import RunDirectory
from frugalclip.core.terminal import Terminal
from frugalclip.core.yaml_text import read_yaml
from frugalclip.models import load
from frugalclip.report.compression import comparison_rows, shown_number, shown_share
from frugalclip.training.resume import resolve_recipe
from frugalclip.training.run import TrainingResult
from frugalclip.verbs import train as training

SAME_DATA = ("path", "where", "validation")  # of the model's own run, where no data is given


@dataclass(frozen=True)
class CompressionResult:
    """A finished or interrupted run, and both models beside each other."""

    trained: TrainingResult
    comparison: dict[str, Any]  # teacher, student -> size, speed and metrics; empty while it is not finished


@writes_into("out")
def compress(
    model: str,
    recipe: str = "tinyclip-manual",
    overrides: Sequence[str] = (),
    *,
    out: str | Path,
    resume: bool = False,
) -> CompressionResult:
    """Train a smaller model that starts from a larger one and learns from it.

    Args:
        model: the larger MODEL; it is the teacher of every stage.
        recipe: a recipe that takes `teacher`, such as tinyclip-manual or tinyclip-auto.
        overrides: `key=value` pairs, such as `keep=0.25`; without `data`, the data of the model's own run.
        out: the run directory.
        resume: go on from the last checkpoint of `out`.

    Raises:
        RecipeError, DataError, ModelError, TrainingError: one sentence each, with the next command.
    """
    words = [f"teacher={model}", *_same_data(model, overrides), *overrides]
    run = RunDirectory(out)
    resolved = resolve_recipe(recipe, words, run, resume=resume)
    if resolved.data.path is None:
        raise RecipeError(
            f"recipe '{resolved.name}' names no data, and {model} is no run that does; add data=PATH."
        )
    found: dict[str, Any] = {}

    def compared(result: TrainingResult, evaluations: list[dict[str, Any]]) -> dict[str, Any]:
        teacher = load(model)
        like_the_student = training.validation_evaluations(replace(result, model=teacher), resolved)
        both = (("teacher", teacher, like_the_student), ("student", result.model, evaluations))
        for name, one, own in both:
            network = one.network
            found[name] = {
                "size": network_size(network),
                "speed": network_speed(network),
                "metrics": _metrics(own),
            }
        return {"compression": found}

    command = ("frugalclip", "compress", model, "--recipe", recipe, *overrides)
    result = training.train_resolved(resolved, run, resume=resume, command=command, more=compared)
    return CompressionResult(result, found)


def _same_data(model: str, overrides: Sequence[str]) -> list[str]:
    """Overrides that name the data of the model's own run, unless some are given."""
    recipe = RunDirectory(model).recipe
    if any(word.startswith(("data=", "data.path=")) for word in overrides) or not recipe.is_file():
        return []
    data = read_yaml(recipe).get("data") or {}
    return [f"data.{key}={data[key]}" for key in SAME_DATA if data.get(key) is not None]


def _metrics(evaluations: list[dict[str, Any]]) -> dict[str, float]:
    """Metrics in percent, `<task> <metric>`."""
    return {
        f"{result['task']} {name}": value
        for result in evaluations
        for name, value in result["metrics"].items()
        if name in result["chance"] and not name.endswith("rank")
    }


def show(result: CompressionResult) -> None:
    """Print both models beside each other."""
    training.show(result.trained)
    if not result.comparison:
        return
    table = Table("", "teacher", "student", "share", title="compressed")
    for name, teacher, student in comparison_rows(result.comparison):
        cells = (shown_number(teacher), shown_number(student), shown_share(teacher, student))
        table.add_row(name, *cells)
    Terminal().print(table)
