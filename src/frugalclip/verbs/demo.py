"""`frugalclip demo`: from nothing to a model and a report, on the pairs that ship with the package.

It trains on two drawing styles. The primary metric is the hardest that this data allows: unseen concepts in
the third style, which is unseen too. Seen concepts of the unseen style follow; there, copying the nearest
picture is a strong baseline.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from frugalclip.core.errors import RecipeError
from frugalclip.core.locks import writes_into
from frugalclip.core.records import RunDirectory
from frugalclip.core.terminal import Terminal
from frugalclip.core.users_text import command_line
from frugalclip.core.yaml_text import parse_yaml, read_yaml
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.baselines import Baselines
from frugalclip.evaluation.retrieval import evaluate_retrieval
from frugalclip.evaluation.zeroshot import evaluate_zeroshot
from frugalclip.report.gallery import Answer
from frugalclip.report.progress import ConsoleListener
from frugalclip.report.queries import answer_queries
from frugalclip.serving.building import BuildOptions, build_index
from frugalclip.serving.index import SearchIndex, open_index
from frugalclip.serving.layout import IndexedSource
from frugalclip.sources.open import open_data
from frugalclip.training.loop import train_run
from frugalclip.training.recipe import load_recipe
from frugalclip.training.resume import check_empty
from frugalclip.training.run import TrainingResult
from frugalclip.verbs import evaluate as evaluating
from frugalclip.verbs.train import finish

QUERIES = ("smiling face", "red fruit", "musical instrument")
UNSEEN = "style=twemoji,split=test,is_flag=false"
SEEN = "style=twemoji,split=train,is_flag=false"
SEARCHED = {  # in words -> condition; two searches, since the photos would rarely come before the drawings
    "in drawings of the unseen style": "style=twemoji,is_flag=false",
    "in photos, of which it was shown none": "pack=photos",
}
INDEX, INDEXED = "index", "style=twemoji|photo,is_flag!=true"  # in the run directory: what is searched
SAME_IN_PYTHON = """
The same in Python:
  import frugalclip
  for hit in frugalclip.search("{index}").query("smiling face", k=6, where="pack=photos")["hits"]:
      print(hit["captions"], hit["path"])
"""
LABEL, FAMILY = "name", "family"


@dataclass(frozen=True)
class DemoResult:
    """What the demo leaves behind."""

    run: Path
    evaluations: list[dict[str, Any]]  # the primary one first
    seconds: float
    answers: tuple[Answer, ...] = ()  # to text queries


@writes_into("out")
def demo(out: str | Path = "runs/demo") -> DemoResult:
    """Train the demo recipe on the shipped pairs, evaluate, and write the report.

    Args:
        out: the run directory; an interrupted demo goes on there, and a finished one is evaluated again.
    """
    begun = time.monotonic()
    run, recipe = RunDirectory(out), load_recipe("demo")
    if run.is_run() and read_yaml(run.recipe) != parse_yaml(recipe.to_yaml(), where="recipe"):
        raise RecipeError(f"{run.path} holds another run; delete it, or choose another folder with --out.")
    if not run.is_run():
        check_empty(run)
    everything = open_data("sample")
    listener = ConsoleListener(Terminal())
    try:
        result = train_run(recipe, everything, run, resume=True, listener=listener)
    finally:
        listener.close()
    if not result.is_finished:
        return DemoResult(run.path, [], time.monotonic() - begun)
    evaluations = evaluate_demo(result, everything)
    answers = answer_demo(search_index(result, run))
    finish(run, result, recipe, evaluations, shown=everything.where(UNSEEN), answers=answers)
    return DemoResult(run.path, evaluations, time.monotonic() - begun, answers)


def evaluate_demo(result: TrainingResult, everything: Manifest) -> list[dict[str, Any]]:
    """Evaluate in the unseen style: zero-shot on unseen and on seen concepts, retrieval on unseen ones."""
    baselines = Baselines(result.training)  # one fit for all three evaluations
    evaluations = []
    for where in (UNSEEN, SEEN):
        rows = everything.where(where)
        found = evaluate_zeroshot(
            result.model,
            rows,
            everything=everything.where("pack=emoji"),
            where=where,
            label_field=LABEL,
            group=FAMILY,
            baselines=baselines,
        )
        evaluations.append(found | {"data": "sample"})
    unseen = everything.where(UNSEEN)
    evaluations.append(
        evaluate_retrieval(result.model, unseen, where=UNSEEN, group=FAMILY, baselines=baselines)
        | {"data": "sample"}
    )
    return evaluations


def search_index(result: TrainingResult, run: RunDirectory) -> SearchIndex:
    """The index of what the demo searches, in its run directory."""
    path = run.path / INDEX
    source = IndexedSource(path="sample", where=INDEXED)
    rows = open_data("sample", where=INDEXED)
    named = str(run.path.absolute())
    build_index(path, result.model, rows, source=source, named=named, options=BuildOptions())
    return open_index(path, model=result.model)


def answer_demo(index: SearchIndex) -> tuple[Answer, ...]:
    """Answers to the queries, query by query: from the drawings of the unseen style, then from the photos."""
    searches = [answer_queries(index, QUERIES, where=where, among=among) for among, where in SEARCHED.items()]
    return tuple(answer for of_query in zip(*searches, strict=True) for answer in of_query)


def show(result: DemoResult) -> None:
    """Print the evaluations and where to go next."""
    console = Terminal()
    for found in result.evaluations:
        evaluating.show(found)
    for answer in result.answers:
        captions = ", ".join(found.text for found in answer.found)
        console.print(Text(f"{answer.query}, {answer.among}: {captions}"), soft_wrap=True)
    if result.evaluations:
        for line in (SAME_IN_PYTHON.format(index=f"{result.run}/{INDEX}"), *_next_lines(result)):
            console.print(Text(line), soft_wrap=True)


def _next_lines(result: DemoResult) -> list[str]:
    return [
        f"{result.seconds:.0f} s in all.  Open {result.run}/report.html",
        f"A page to search it: {command_line('serve', f'{result.run}/{INDEX}')}",
        "Your own pictures: frugalclip data check FOLDER says what they are and what to do next.",
    ]
