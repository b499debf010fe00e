"""The evaluation tasks by name, with the options that have an effect on each."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from frugalclip.core.errors import DataError, UsageError, known_names
from frugalclip.evaluation.encoding import Layer
from frugalclip.evaluation.fewshot import evaluate_fewshot
from frugalclip.evaluation.grouping import evaluate_grouping
from frugalclip.evaluation.probes import evaluate_knn, evaluate_probe
from frugalclip.evaluation.retrieval import evaluate_retrieval
from frugalclip.evaluation.suite_run import evaluate_suite
from frugalclip.evaluation.words import evaluate_words
from frugalclip.evaluation.zeroshot import evaluate_zeroshot


@dataclass(frozen=True)
class EvaluationTask:
    """A task that can be requested by name."""

    run: Callable[..., dict[str, Any]]
    options: frozenset[str]  # of `frugalclip evaluate`, those that have an effect
    needs_texts: bool = False  # so that an image-only model cannot take it
    has_outcome: bool = False  # takes `with_outcome`, so that models are compared sample by sample


_DATA = frozenset({"where", "group", "language"})
_LABELS = _DATA | {"label_field", "features"}
_BESIDE = frozenset({"baselines", "robustness"})
TASKS = {
    "zeroshot": EvaluationTask(
        evaluate_zeroshot,
        _DATA | _BESIDE | {"label_field", "classes", "prompts"},
        needs_texts=True,
        has_outcome=True,
    ),
    "retrieval": EvaluationTask(evaluate_retrieval, _DATA | _BESIDE, needs_texts=True, has_outcome=True),
    "probe": EvaluationTask(evaluate_probe, _LABELS),
    "knn": EvaluationTask(evaluate_knn, _LABELS),
    "fewshot": EvaluationTask(evaluate_fewshot, _LABELS),
    "grouping": EvaluationTask(evaluate_grouping, _LABELS),
    "words": EvaluationTask(evaluate_words, _DATA | {"label_field"}, needs_texts=True),  # of lexical heads
    "suite": EvaluationTask(evaluate_suite, frozenset({"features", "suite"})),  # on its own data
}
_ARGUMENTS = {"features": "layer", "robustness": "with_robustness"}  # option -> argument of the task


def effective_options(task: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that have an effect, as arguments of the task; the others warn.

    Args:
        task: its name.
        given: option -> value; None was not given.

    Raises:
        UsageError: for an unknown task or layer of features.
    """
    if task not in TASKS:
        raise UsageError(f"'{task}' is not a task; {known_names(task, TASKS)}")
    given = {name: value for name, value in given.items() if value is not None}
    layer = given.get("features")
    if layer is not None and layer not in get_args(Layer):
        raise UsageError(f"--features {layer} is not understood; {known_names(layer, get_args(Layer))}")
    for name in sorted(given.keys() - TASKS[task].options):
        warnings.warn(f"--{name.replace('_', '-')} has no effect on --task {task}.", stacklevel=3)
    return {_ARGUMENTS.get(name, name): value for name, value in given.items() if name in TASKS[task].options}


def check_texts(task: str, *, encodes_texts: bool, model: str) -> None:
    """Refuse a model without texts where the task needs them.

    Args:
        task: its name.
        encodes_texts: whether the model does.
        model: its name, for the message.

    Raises:
        DataError: naming the tasks that the model can take.
    """
    if TASKS[task].needs_texts and not encodes_texts:
        others = ", ".join(name for name, one in TASKS.items() if not one.needs_texts)
        raise DataError(
            f"{model} encodes images only, and --task {task} needs texts; choose another task ({others}), or "
            "a model with two towers."
        )
