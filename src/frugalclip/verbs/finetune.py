"""`frugalclip finetune`: train a finished model further without making it forget."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from frugalclip.adaptation.arms import ARMS, arm_words, train_arms
from frugalclip.core.errors import RecipeError
from frugalclip.core.locks import writes_into
from frugalclip.core.overrides import as_pairs
from frugalclip.core.processes import refuse_processes
from frugalclip.core.records import RunDirectory, read_json
from frugalclip.core.terminal import Terminal
from frugalclip.models import load
from frugalclip.report.interpolation import arm_rows, curve_rows, curve_titles, sentence
from frugalclip.training.optim import finetuning_rate
from frugalclip.training.recipe import load_recipe
from frugalclip.training.resume import resolve_recipe
from frugalclip.training.run import TrainingResult
from frugalclip.verbs import train as training

RECIPE = "finetune"


@dataclass(frozen=True)
class FinetuneResult:
    """A finished or interrupted run, and the way from its start to its end."""

    trained: TrainingResult
    interpolation: dict[str, Any]  # see docs/formats.md; empty while it is not finished
    arms: list[dict[str, Any]]  # name, about, guard and target in percent; empty without a comparison


def finetune(
    model: str | Path,
    overrides: Sequence[str] = (),
    *,
    guard: str | Path,
    out: str | Path,
    recipe: str = RECIPE,
    resume: bool = False,
    compare: bool = False,
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
        compare: also train plain and cheap arms, each in `arms/NAME` of the run, and put all into one table.
        settings: settings of the recipe, as `train` takes them: `data="stamps/"`, `guard__replay=0.3`.

    Raises:
        RecipeError, DataError, ModelError, TrainingError: one sentence each, with the next command.
    """
    if compare:
        refuse_processes("finetune --compare")
    given = [*overrides, *as_pairs(settings)]
    own: dict[str, Any] = {"init_from": str(model), "guard.path": str(guard)}
    if recipe == RECIPE and not any(word.startswith(("optimizer.lr=", "optimizer=")) for word in given):
        own["optimizer.lr"] = finetuning_rate(load(str(model)).network)
    return _finetune(recipe, [*as_pairs(own), *given], out=out, resume=resume, compare=compare)


@writes_into("out")
def _finetune(
    recipe: str, words: Sequence[str], *, out: str | Path, resume: bool, compare: bool
) -> FinetuneResult:
    run = RunDirectory(out)
    resolved = resolve_recipe(recipe, words, run, resume=resume)
    if resolved.data.path is None:
        raise RecipeError(
            f"recipe '{resolved.name}' names no data; add data=PATH, the pairs to train the model on."
        )
    command = ("frugalclip", "train", recipe, *words)

    def arms(result: TrainingResult, evaluations: list[dict[str, Any]]) -> dict[str, Any]:
        rate = resolved.optimizer.lr
        recipes = {arm.name: load_recipe(recipe, [*words, *arm_words(arm, rate=rate)]) for arm in ARMS}
        return {"arms": [asdict(row) for row in train_arms(recipes, run, result)]}

    more = {"more": arms} if compare else {}
    result = training.train_resolved(resolved, run, resume=resume, command=command, **more)
    summary = read_json(run.summary) if result.is_finished else {}
    return FinetuneResult(result, summary.get("interpolation", {}), summary.get("arms", []))


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
    if result.arms:
        arms = Table("", "guard", "target", "", title="arms, percent")
        for row in arm_rows(result.arms, result.interpolation):
            arms.add_row(*row)
        console.print(arms)
    training.show(result.trained)
