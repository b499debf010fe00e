"""`frugalclip finetune`: train a finished model further without making it forget."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from frugalclip.core.errors import RecipeError
from frugalclip.core.locks import writes_into
from frugalclip.core.overrides import as_pairs
from frugalclip.core.records import RunDirectory, read_json
from frugalclip.core.terminal import Terminal
from frugalclip.models import load
from frugalclip.report.interpolation import curve_rows, curve_titles, sentence
from frugalclip.training.resume import resolve_recipe
from frugalclip.training.run import TrainingResult
from frugalclip.verbs import train as training

RECIPE = "finetune"
_RATE = 0.02  # learning rate times width: 1e-4 at a width of 192, 2.6e-5 at 768


@dataclass(frozen=True)
class FinetuneResult:
    """A finished or interrupted run, and the way from its start to its end."""

    trained: TrainingResult
    interpolation: dict[str, Any]  # see docs/formats.md; empty while it is not finished


def finetune(
    model: str | Path,
    overrides: Sequence[str] = (),
    *,
    guard: str | Path,
    out: str | Path,
    recipe: str = RECIPE,
    resume: bool = False,
    **settings: Any,
) -> FinetuneResult:
    """Train a finished model further, and keep what it knew.

    Args:
        model: the MODEL to start from.
        overrides: `key=value` pairs, such as `data=stamps/` or `guard.replay=0.3`.
        guard: data that the model must not forget.
        out: the run directory; its model lies between start and end.
        recipe: how it is trained.
        resume: go on from the last checkpoint of `out`.
        settings: settings of the recipe, as `train` takes them: `data="stamps/"`, `guard__replay=0.3`.

    Raises:
        RecipeError, DataError, ModelError, TrainingError: one sentence each, with the next command.
    """
    given = [*overrides, *as_pairs(settings)]
    own: dict[str, Any] = {"init_from": str(model), "guard.path": str(guard)}
    if recipe == RECIPE and not any(word.startswith(("optimizer.lr=", "optimizer=")) for word in given):
        own["optimizer.lr"] = learning_rate(str(model))
    return _finetune(recipe, [*as_pairs(own), *given], out=out, resume=resume)


@writes_into("out")
def _finetune(recipe: str, words: Sequence[str], *, out: str | Path, resume: bool) -> FinetuneResult:
    run = RunDirectory(out)
    resolved = resolve_recipe(recipe, words, run, resume=resume)
    if resolved.data.path is None:
        raise RecipeError(
            f"recipe '{resolved.name}' names no data; add data=PATH, the pairs to train the model on."
        )
    command = ("frugalclip", "train", recipe, *words)
    result = training.train_resolved(resolved, run, resume=resume, command=command)
    content = read_json(run.summary)["interpolation"] if result.is_finished else {}
    return FinetuneResult(result, content)


def learning_rate(model: str) -> float:
    """The peak rate for a model, by the width of its wider tower: wide layers take smaller steps."""
    network = load(model).network
    width = max(network.config.image.width, network.config.text.width)
    return float(f"{_RATE / width:.2g}")


def show(result: FinetuneResult) -> None:
    """Print the way from start to end, and what was chosen."""
    if not result.interpolation:
        return
    console = Terminal()
    table = Table(*curve_titles(result.interpolation), title="between start and end, percent")
    for row in curve_rows(result.interpolation):
        table.add_row(*row)
    console.print(table)
    console.print(sentence(result.interpolation), highlight=False, soft_wrap=True)
    training.show(result.trained)
