"""The evaluation tasks by name, with the options that have an effect on each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
