"""`frugalclip audit frequency`: accuracy or recall of concepts against their frequency in training data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.markup import escape

from frugalclip.auditing.accuracies import accuracies_of, concept_recalls, read_accuracies
from frugalclip.auditing.concepts import Concept
from frugalclip.auditing.fits import EDGES
from frugalclip.auditing.frequency import FrequencyTable, frequency_report
from frugalclip.auditing.released import KINDS, read_counts
from frugalclip.auditing.words import WordForms
from frugalclip.core.devices import pick_device
from frugalclip.core.errors import UsageError
from frugalclip.core.paths import user_path
from frugalclip.core.progress import progress_lines
from frugalclip.core.records import write_json
from frugalclip.core.terminal import Terminal, show_remark
from frugalclip.evaluation.encoding import encode_texts, image_features
from frugalclip.evaluation.retrieval import retrieval_task
from frugalclip.models import Model, load
from frugalclip.report.frequency import FrequencyView, write_frequency_report
from frugalclip.sources.open import open_data
from frugalclip.verbs.data_terminal import show_lines
from frugalclip.verbs.evaluate import evaluate

Task = Literal["zeroshot", "retrieval"]
Results = dict[str, list[dict[str, float]]]  # metric -> data set -> concept -> percent


def audit_frequency(
    counts: str | Path,
    results: Sequence[str | Path] = (),
    *,
    model: str | Path | Model | None = None,
    data: str | Path | None = None,
    task: Task = "zeroshot",
    where: str | None = None,
    label_field: str | None = None,
    depth: int = 1,
    least: int = 1,
    edges: int = EDGES,
    draws: int = 1000,
    report: str | Path | None = None,
    json: str | Path | None = None,
) -> dict[str, Any]:
    """Relate the accuracy of concepts to their frequency.

    Args:
        counts: what `audit concepts --json` wrote for the training data, or a published file of counts.
        results: JSON files of `evaluate --task zeroshot`, or published ones, one a data set.
        model: MODEL to evaluate here, in place of results.
        data: what it is evaluated on.
        task: `zeroshot` gives top1 of classes, `retrieval` recall@`depth` of the concepts in captions.
        where: a condition over the rows of `data`.
        label_field: field with the class of a row, for zeroshot.
        depth: k of recall@k.
        least: samples that a concept needs.
        edges: bins of the published fit.
        draws: of the bootstrap.
        report: page to write, with plots.
        json: file to write the result to.

    Returns:
        `relations`: for each kind of count and each metric the numbers of docs/formats.md.

    Raises:
        DataError: when files cannot be used, or too few concepts are in both.
    """
    known = read_counts(counts)
    if bool(results) == (model is not None):
        raise UsageError("name result files of evaluate, or --model MODEL and --data PATH to evaluate here.")
    if model is None:
        found: Results = {"top1": [read_accuracies(path, least=least) for path in results]}
    elif data is None:
        raise UsageError("--model needs --data PATH, on which it is evaluated.")
    else:
        with progress_lines(show_remark):
            found = _evaluated(model, data, task, where, label_field, depth, least, list(known))
    views = [
        view
        for kind in KINDS
        if any(values[kind] is not None for values in known.values())
        for view in _views(kind, {name: values[kind] for name, values in known.items()}, found, edges, draws)
    ]
    result = {"counts": str(counts), "relations": [_relation(view) for view in views]}
    if report is not None:
        write_frequency_report(user_path(report), views, subject=str(counts))
    if json is not None:
        write_json(user_path(json), result)
    return result


def _evaluated(
    model: str | Path | Model,
    data: str | Path,
    task: Task,
    where: str | None,
    label_field: str | None,
    depth: int,
    least: int,
    names: Sequence[str],
) -> Results:
    loaded = model if isinstance(model, Model) else load(model, device=pick_device("auto"))
    if task == "zeroshot":
        result = evaluate(loaded, data=data, where=where, label_field=label_field)
        return {"top1": [accuracies_of(result, least=least)]}
    manifest = open_data(data, where=where)
    pairs = retrieval_task(manifest)
    images, kept, faults = image_features(loaded, manifest, pairs.rows)
    pairs = pairs.only(kept) if faults else pairs
    recalls = concept_recalls(
        pairs,
        images,
        encode_texts(loaded, pairs.texts),
        [Concept([name]) for name in names],
        forms=WordForms(),
        depth=depth,
        least=least,
    )
    return {f"{way}_r{depth}": [one] for way, one in recalls.items()}


def _views(
    kind: str, counts: Mapping[str, int | None], found: Results, edges: int, draws: int
) -> list[FrequencyView]:
    views = []
    for metric, results in found.items():
        table = FrequencyTable.joined(counts, results)
        numbers = frequency_report(table, edges=edges, draws=draws)
        counts_, accuracies = table.counts.tolist(), table.accuracies.tolist()
        views.append(FrequencyView(kind, metric, table.names, counts_, accuracies, numbers))
    return views


def _relation(view: FrequencyView) -> dict[str, Any]:
    rows = zip(view.names, view.counts, view.accuracies, strict=True)
    concepts = [{"name": name, "count": count, "accuracy": value} for name, count, value in rows]
    return {"kind": view.kind, "metric": view.metric, **view.numbers, "rows": concepts}


def show(result: dict[str, Any], console: Console | None = None) -> None:
    """Print the published fit beside the correlations over concepts."""
    console = console or Terminal(markup=True)
    for one in result["relations"]:
        lines = [
            f"[bold]{escape(one['metric'])}[/] against counts in {one['kind']}, {one['concepts']:,} concepts:"
        ]
        lines.append(f"  r of bin means, as published: {_value(one['binned']['r'])}")
        for key, title in (
            ("r_found", "r over concepts that occur"),
            ("spearman", "Spearman over concepts"),
            ("slope_per_decade", "points for ten times as many rows"),
        ):
            low, high = one["interval"][key] or (None, None)
            lines.append(f"  {title}: {_value(one[key])} ({_value(low)} to {_value(high)})")
        zeros = one["zeros"]
        lines.append(f"  {zeros['concepts']:,} concepts never occur; mean {_value(zeros['mean_accuracy'])}")
        show_lines(lines, console)


def _value(value: float | None) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.2f}"
