"""`frugalclip audit frequency`: accuracy or recall of concepts against their frequency in training data."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from frugalclip.auditing.accuracies import accuracies_of, model_recalls, read_accuracies
from frugalclip.auditing.fits import EDGES
from frugalclip.auditing.frequency import FrequencyTable, frequency_report
from frugalclip.auditing.released import KINDS, read_counts
from frugalclip.core.devices import pick_device
from frugalclip.core.errors import UsageError
from frugalclip.core.paths import user_path
from frugalclip.core.progress import progress_lines
from frugalclip.core.records import write_json
from frugalclip.core.terminal import Terminal, show_remark
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
    other_counts: Sequence[str | Path] = (),
    model: str | Path | Model | None = None,
    data: str | Path | None = None,
    task: Task = "zeroshot",
    where: str | None = None,
    label_field: str | None = None,
    prompts: Sequence[str | Path] = (),
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
        other_counts: the same data counted otherwise, such as with another threshold for images.
        model: MODEL to evaluate here, in place of results.
        data: what it is evaluated on.
        task: `zeroshot` gives top1 of classes, `retrieval` recall@`depth` of the concepts in captions.
        where: a condition over the rows of `data`.
        label_field: field with the class of a row, for zeroshot.
        prompts: prompt sets of zeroshot, as `evaluate` takes them; default `plain`.
        depth: k of recall@k.
        least: samples that a concept needs.
        edges: bins of the published fit.
        draws: of the bootstrap.
        report: page to write, with plots.
        json: file to write the result to.

    Returns:
        `relations`: for each kind of count and each metric the numbers of docs/formats.md, by the first
        counts and prompts. `variants`: the relation by every file of counts and every prompt set.

    Raises:
        DataError: when files cannot be used, or too few concepts are in both.
    """
    counted = {str(path): read_counts(path) for path in (counts, *other_counts)}
    if bool(results) == (model is not None):
        raise UsageError("name result files of evaluate, or --model MODEL and --data PATH to evaluate here.")
    if prompts and (model is None or task != "zeroshot"):
        raise UsageError("--prompts needs --model MODEL and --task zeroshot, which take prompts.")
    evaluated: dict[str | None, Results]
    if model is None:
        evaluated = {None: {"top1": [read_accuracies(path, least=least) for path in results]}}
    elif data is None:
        raise UsageError("--model needs --data PATH, on which it is evaluated.")
    elif task == "zeroshot":
        chosen = list(prompts) or ["plain"]
        with progress_lines(show_remark):
            evaluated = _accuracies(model, data, where, label_field, least, chosen)
    else:
        names = list(dict.fromkeys(name for known in counted.values() for name in known))
        with progress_lines(show_remark):
            rows = open_data(data, where=where)
            evaluated = {None: model_recalls(_loaded(model), rows, names, depth=depth, least=least)}
    each = {
        (name, prompt): list(_views(known, found, edges, draws))
        for name, known in counted.items()
        for prompt, found in evaluated.items()
    }
    views = next(iter(each.values()))
    variants = [_variant(view, *which) for which, own in each.items() for view in own]
    result = {
        "counts": str(counts),
        "relations": [_relation(view) for view in views],
        "variants": variants if len(each) > 1 else [],
    }
    if report is not None:
        write_frequency_report(user_path(report), views, subject=str(counts))
    if json is not None:
        write_json(user_path(json), result)
    return result


def _accuracies(
    model: str | Path | Model,
    data: str | Path,
    where: str | None,
    label_field: str | None,
    least: int,
    prompts: Sequence[str | Path],
) -> dict[str | None, Results]:
    """Top 1 of classes by each prompt set."""
    loaded = _loaded(model)
    found: dict[str | None, Results] = {}
    for one in prompts:
        result = evaluate(loaded, data=data, where=where, label_field=label_field, prompts=one)
        found[str(one)] = {"top1": [accuracies_of(result, least=least)]}
    return found


def _loaded(model: str | Path | Model) -> Model:
    return model if isinstance(model, Model) else load(model, device=pick_device("auto"))


def _views(
    known: Mapping[str, Mapping[str, int | None]], found: Results, edges: int, draws: int
) -> Iterator[FrequencyView]:
    """One of each kind of count that there is and each metric."""
    for kind in KINDS:
        counts = {name: values[kind] for name, values in known.items()}
        if all(count is None for count in counts.values()):
            continue
        for metric, results in found.items():
            table = FrequencyTable.joined(counts, results)
            numbers = frequency_report(table, edges=edges, draws=draws)
            values = table.counts.tolist(), table.accuracies.tolist()
            yield FrequencyView(kind, metric, table.names, *values, numbers)


def _variant(view: FrequencyView, counts: str, prompts: str | None) -> dict[str, Any]:
    numbers = view.numbers
    return {
        "counts": counts,
        "prompts": prompts,
        "kind": view.kind,
        "metric": view.metric,
        "concepts": numbers["concepts"],
        "binned_r": numbers["binned"]["r"],
        **{name: numbers[name] for name in ("r_found", "spearman", "slope_per_decade")},
        "interval": numbers["interval"],
    }


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
    if result["variants"]:
        _show_variants(result["variants"], console)


def _show_variants(variants: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print the relation by every way of counting and every prompt set."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("counts", "prompts", "kind", "metric", "points for ten times", "95 %", "Spearman"):
        table.add_column(name, justify="left" if name in ("counts", "prompts", "kind", "metric") else "right")
    for one in variants:
        low, high = one["interval"]["slope_per_decade"] or (None, None)
        table.add_row(
            escape(Path(one["counts"]).name),
            escape(one["prompts"] or ""),
            one["kind"],
            one["metric"],
            _value(one["slope_per_decade"]),
            f"{_value(low)} to {_value(high)}",
            _value(one["spearman"]),
        )
    console.print(table)


def _value(value: float | None) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.2f}"
