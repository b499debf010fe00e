"""The report of a comparison: the answer first, then the evidence, the cost, and how to repeat it."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from frugalclip.core.records import write_atomically
from frugalclip.core.yaml_text import dump_yaml
from frugalclip.evaluation.metrics import words
from frugalclip.report.bars import Bar, bar_comparison
from frugalclip.report.compare_tables import (
    ComparisonTable,
    arm_names,
    baseline_table,
    cost_table,
    curve_table,
    data_efficiency_table,
    fold_table,
    metrics_table,
    primary_name,
    unfinished,
    verdict_table,
)
from frugalclip.report.formats import Html, counted, escape, is_finite, number, percent, plain
from frugalclip.report.html import ReportSection, at_both_widths, chart, command, document, folded, source
from frugalclip.report.plots import Reference, Series, line_chart
from frugalclip.report.rows import Column
from frugalclip.report.tables import definitions, table

BANDS = 2  # arms up to which the chart also shows the lowest and highest run


def write_comparison_report(path: Path, result: Mapping[str, Any]) -> Path:
    """Write the page of a comparison, one file that needs no network.

    Args:
        path: of the page.
        result: the content of `compare.json`.
    """
    write_atomically(path, comparison_page(result).encode("utf-8", "replace"))
    return path


def comparison_page(result: Mapping[str, Any]) -> str:
    """The page as text."""
    names = arm_names(result)
    sections = [
        _verdicts(result),
        _metrics(result),
        _curves(result),
        _data_efficiency(result),
        _costs(result),
        _trials(result),
        _method(result),
    ]
    arms = f"{names[1]} against {names[0]}" if len(names) == 2 else counted(len(names), "arm")
    return document(f"{arms}: comparison", head=_head(result), sections=[s for s in sections if s])


def _head(result: Mapping[str, Any]) -> Html:
    left = unfinished(result["trials"])
    state = (
        f'<span class="state short">{escape(left)}</span>' if left else '<span class="state">finished</span>'
    )
    names = arm_names(result)
    folds = f", {counted(len(result['folds']), 'fold')}" if len(result["folds"]) > 1 else ""
    lead = f"{', '.join(names)}; {counted(result['seeds'], 'seed')}{folds}; {result['data']['path']}."
    return Html(
        '<p class="over">frugalclip comparison</p>'
        f'<h1 class="answer" dir="auto">{escape(result["answer"])}</h1>'
        f'<p class="lead" dir="auto">{escape(lead)} {state}</p>{_bars(result)}'
    )


def _bars(result: Mapping[str, Any]) -> str:
    metric = result["metrics"][result["primary"]]
    bars = []
    for name in arm_names(result):
        own = metric["arms"][name]
        if is_finite(own["value"]):
            bars.append(Bar(name, own["value"], "model", tuple(own["interval"]) if own["interval"] else None))
    bars += [
        Bar(words(name), value, "baseline")
        for name, value in sorted(metric["baselines"].items(), key=lambda item: -item[1])
    ]
    bars += [Bar("chance", metric["chance"], "chance")] if is_finite(metric["chance"]) else []
    title = primary_name(result)
    about = (
        f'<p class="subject" dir="auto">{escape(metric["description"])}</p>'
        if metric.get("description")
        else ""
    )
    drawing = at_both_widths(
        lambda width: bar_comparison(bars, title=title, axis_label="percent, 95 % interval", width=width),
        wide=760,
    )
    heading = escape(title[:1].upper() + title[1:])
    return f'<div class="headline plain"><div><h2>{heading}</h2>{about}{drawing}</div></div>'


def _table(found: ComparisonTable, *, stacked: bool = False) -> Html:
    """A table of the page; the second line of a cell is small, and wide tables scroll on a phone."""
    columns = [
        Column(title, numeric=place > 0 and title != "Verdict") for place, title in enumerate(found.columns)
    ]
    rows = [[row[0], *map(_cell, row[1:])] for row in found.rows]
    foot = f'<p class="foot">{escape(found.foot)}</p>' if found.foot else ""
    return Html(table(columns, rows, caption=found.caption, stacked=stacked) + foot)


def _cell(value: Any) -> Any:
    first, newline, second = str(value).partition("\n")
    return Html(f"{escape(first)}<small>{escape(second)}</small>") if newline else Html(escape(first))


def _verdicts(result: Mapping[str, Any]) -> ReportSection:
    notes = "".join(f'<li dir="auto">{escape(note)}</li>' for note in result["notes"])
    baselines = baseline_table(result)
    body = (
        _table(verdict_table(result), stacked=True)
        + (f'<ul class="advice apart">{notes}</ul>' if notes else "")
        + (f'<div class="apart">{_table(baselines)}</div>' if baselines else "")
    )
    return ReportSection(
        "verdicts",
        "Verdicts",
        body,
        "Arms that lose keep their row. Baselines need no training.",
    )


def _metrics(result: Mapping[str, Any]) -> ReportSection:
    described = [(name, f["description"]) for name, f in result["metrics"].items()]
    by_fold = fold_table(result)
    body = (
        _table(metrics_table(result))
        + definitions(described, kind="notes")
        + (f'<div class="apart">{_table(by_fold)}</div>' if by_fold else "")
    )
    return ReportSection("metrics", "All metrics", body)


def _curves(result: Mapping[str, Any]) -> ReportSection | None:
    curves, found = result["curves"], curve_table(result)
    if found is None:
        return None
    seconds = "processor seconds" if curves["clock"] == "cpu" else "seconds"
    charts = [
        chart(
            f"Over {label}",
            partial(_chart, result, axis, label),
            note="Means over runs" + (", with the lowest and highest run." if _has_bands(result) else "."),
        )
        for axis, label in (("samples", "samples seen"), ("seconds", seconds))
    ]
    return ReportSection(
        "curves",
        "During training",
        f'<div class="charts">{"".join(charts)}</div><div class="apart">{_table(found)}</div>',
    )


def _has_bands(result: Mapping[str, Any]) -> bool:
    return len(result["arms"]) <= BANDS and result["seeds"] > 1


def _chart(result: Mapping[str, Any], axis: str, label: str, width: int) -> Html:
    series = []
    for name in arm_names(result):
        own = result["curves"]["arms"][name].get(axis)
        if own:
            band = list(zip(own["lowest"], own["highest"], strict=True)) if _has_bands(result) else ()
            series.append(Series(name, list(zip(own["x"], own["mean"], strict=True)), band))
    title = f"{result['curves']['metric']} over {label}"
    height = 300 if width >= 460 else 260
    return line_chart(
        series,
        x_label=label,
        y_label="validation set (%)",
        title=title,
        width=width,
        height=height,
        from_zero=True,
        counts=axis == "samples",
    )


def _data_efficiency(result: Mapping[str, Any]) -> ReportSection | None:
    found = data_efficiency_table(result)
    if found is None:
        return None
    efficiency = result["data_efficiency"]
    series = [
        Series(n, [(f["pairs"], f["value"]) for f in own["fractions"]], marks=True)
        for n in arm_names(result)
        if (own := efficiency["arms"][n])
    ]
    reference, metric = efficiency["reference"], efficiency["metric"]
    target = result["metrics"][metric]["arms"][reference]["value"]
    known = is_finite(target)
    references = [Reference(target, f"{reference} on all pairs: {percent(target)}")] if known else []
    draw = partial(_efficiency_chart, series, references, metric)
    body = f'{chart("By number of pairs", draw)}<div class="apart">{_table(found)}</div>'
    return ReportSection("pairs", "Data efficiency", body)


def _efficiency_chart(
    series: Sequence[Series], references: Sequence[Reference], metric: str, width: int
) -> Html:
    return line_chart(
        series,
        x_label="training pairs",
        y_label=f"{metric} (%)",
        title=f"{metric} over training pairs",
        width=width,
        references=references,
        from_zero=True,
    )


def _costs(result: Mapping[str, Any]) -> ReportSection:
    return ReportSection("cost", "What it costs", _table(cost_table(result)))


def _trials(result: Mapping[str, Any]) -> ReportSection:
    columns = [
        Column("Folder"),
        Column("State"),
        Column(result["primary"], numeric=True),
        Column("Seconds", numeric=True),
        Column("Message"),
    ]
    rows = [
        [
            t["folder"],
            t["status"],
            percent(t["values"][result["primary"]]) if "values" in t else None,
            number(t["training"]["seconds"]) if "training" in t else None,
            t.get("message", ""),
        ]
        for t in result["trials"]
    ]
    failed = [row for row, t in zip(rows, result["trials"], strict=True) if t["status"] == "failed"]
    body = table(columns, failed, caption="Trials that failed") if failed else ""
    return ReportSection(
        "trials",
        "Trials",
        body
        + folded(
            f"All {counted(len(rows), 'trial')}", table(columns, rows, caption="Every trial", sortable=True)
        ),
    )


def _method(result: Mapping[str, Any]) -> ReportSection:
    test = next(iter(result["tests"]), {})
    length = "each arm's own length"
    if result["samples"]:
        length = f"{result['samples']:,} samples"
    elif result["seconds"]:
        length = f"{number(result['seconds'])} seconds"
    seeds = "independent" if result["independent_seeds"] else "shared by the arms"
    settings = definitions(
        [
            (
                "data",
                f"{result['data']['path']}, {result['data']['rows']:,} rows, hash {result['data']['hash']}",
            ),
            ("reference", result["reference"]),
            ("length of a run", length),
            ("seeds", f"{result['seeds']}, {seeds}"),
            ("clock", "processor time" if result["clock"] == "cpu" else "wall time"),
            ("trials at a time", result["jobs"]),
            (
                "variance of the difference",
                plain({k: v for k, v in test.get("variance", {}).items() if is_finite(v)}) or None,
            ),
            ("bootstrap interval", plain(test["pigeonhole"]) if test.get("pigeonhole") else None),
            ("machine", result["environment"].get("device")),
            ("commit", result["environment"].get("commit")),
        ]
    )
    arms = "".join(
        folded(f"{arm['name']}: {arm['description'] or arm['kind']}", source(dump_yaml(arm)))
        for arm in result["arms"]
    )
    body = settings + command(
        str(result["environment"].get("command")),
        label="The command; it resumes or repeats the comparison:",
    )
    return ReportSection(
        "method",
        "How it was compared",
        body + folded("The protocol", source(dump_yaml(result["protocol"]))) + arms,
    )
