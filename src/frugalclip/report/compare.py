"""What the report of a comparison says: the answer first, then what it rests on, then what it cost and how to repeat it."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from frugalclip.core.config import dump_yaml
from frugalclip.core.records import write_atomically
from frugalclip.evaluation.metrics import words
from frugalclip.report.bars import Bar, bar_comparison
from frugalclip.report.compare_tables import (
    ComparisonTable,
    arm_names,
    baseline_table,
    cost_table,
    curve_table,
    metrics_table,
    primary_name,
    rotation_table,
    saved_table,
    unfinished,
    verdict_table,
)
from frugalclip.report.formats import Html, escape, is_finite, number, percent, plain, plural
from frugalclip.report.html import Section, at_both_widths, chart, command, document, folded, source
from frugalclip.report.plots import Reference, Series, line_chart
from frugalclip.report.rows import Column
from frugalclip.report.tables import definitions, table

BANDS = 2  # arms up to which the chart also shows the lowest and highest run


def write_comparison_report(path: Path, result: Mapping[str, Any]) -> Path:
    """Write the page of a comparison: one file that needs no network.

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
        _saved(result),
        _costs(result),
        _trials(result),
        _method(result),
    ]
    title = f"{' against '.join([*names[1:], names[0]]) if len(names) == 2 else plural(len(names), 'arm')}: comparison"
    return document(title, head=_head(result), sections=[s for s in sections if s])


def _head(result: Mapping[str, Any]) -> Html:
    left = unfinished(result["trials"])
    state = (
        f'<span class="state short">{escape(left)}</span>' if left else '<span class="state">finished</span>'
    )
    names = arm_names(result)
    rotations = f", {plural(len(result['rotations']), 'rotation')}" if len(result["rotations"]) > 1 else ""
    lead = f"{', '.join(names)}; {plural(result['seeds'], 'seed')}{rotations}; {result['data']['path']}."
    return Html(
        f'<p class="over">frugalclip comparison</p><h1 class="answer" dir="auto">{escape(result["answer"])}</h1><p class="lead" dir="auto">'
        f"{escape(lead)} {state}</p>{_bars(result)}"
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
    return f'<div class="headline plain"><div><h2>{escape(title[:1].upper() + title[1:])}</h2>{about}{drawing}</div></div>'


def _table(numeric: ComparisonTable, *, stacked: bool = False) -> Html:
    """A table of the page; the second line of a cell is small. Wide ones scroll sideways on a phone."""
    columns = [
        Column(title, numeric=place > 0 and title != "Verdict") for place, title in enumerate(numeric.columns)
    ]
    rows = [[row[0], *map(_cell, row[1:])] for row in numeric.rows]
    foot = f'<p class="foot">{escape(numeric.foot)}</p>' if numeric.foot else ""
    return Html(table(columns, rows, caption=numeric.caption, stacked=stacked) + foot)


def _cell(value: Any) -> Any:
    first, newline, second = str(value).partition("\n")
    return Html(f"{escape(first)}<small>{escape(second)}</small>") if newline else Html(escape(first))


def _verdicts(result: Mapping[str, Any]) -> Section:
    notes = "".join(f'<li dir="auto">{escape(note)}</li>' for note in result["notes"])
    baselines = baseline_table(result)
    body = (
        _table(verdict_table(result), stacked=True)
        + (f'<ul class="advice apart">{notes}</ul>' if notes else "")
        + (f'<div class="apart">{_table(baselines)}</div>' if baselines else "")
    )
    return Section(
        "verdicts",
        "Verdicts",
        body,
        "Arms that lose keep their row. A floor needs no training; an arm below it has learned nothing that counts.",
    )


def _metrics(result: Mapping[str, Any]) -> Section:
    described = [(name, f["description"]) for name, f in result["metrics"].items()]
    by_rotation = rotation_table(result)
    body = (
        _table(metrics_table(result))
        + definitions(described, kind="notes")
        + (f'<div class="apart">{_table(by_rotation)}</div>' if by_rotation else "")
    )
    return Section("metrics", "All figures", body)


def _curves(result: Mapping[str, Any]) -> Section | None:
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
    return Section(
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
        y_label="score on the watching rows (%)",
        title=title,
        width=width,
        height=height,
        from_zero=True,
        counts=axis == "samples",
    )


def _saved(result: Mapping[str, Any]) -> Section | None:
    found = saved_table(result)
    if found is None:
        return None
    saved = result["data_efficiency"]
    series = [
        Series(n, [(f["pairs"], f["value"]) for f in own["fractions"]], marks=True)
        for n in arm_names(result)
        if (own := saved["arms"][n])
    ]
    target = result["metrics"][saved["metric"]]["arms"][saved["reference"]]["value"]
    references = (
        [Reference(target, f"{saved['reference']} on all pairs: {percent(target)}")]
        if is_finite(target)
        else []
    )
    draw = lambda width: line_chart(  # noqa: E731
        series,
        x_label="pairs trained on",
        y_label=f"{saved['metric']} (%)",
        title="Figure over pairs",
        width=width,
        references=references,
        from_zero=True,
    )
    return Section(
        "pairs", "Pairs saved", f'{chart("By number of pairs", draw)}<div class="apart">{_table(found)}</div>'
    )


def _costs(result: Mapping[str, Any]) -> Section:
    return Section("cost", "What it costs", _table(cost_table(result)))


def _trials(result: Mapping[str, Any]) -> Section:
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
    return Section(
        "trials",
        "Trials",
        body
        + folded(
            f"All {plural(len(rows), 'trial')}", table(columns, rows, caption="Every trial", sortable=True)
        ),
    )


def _method(result: Mapping[str, Any]) -> Section:
    test = next(iter(result["tests"]), {})
    error_policy = (
        f"{result['samples']:,} samples"
        if result["samples"]
        else f"{number(result['seconds'])} seconds"
        if result["seconds"]
        else "each arm's own length"
    )
    facts = definitions(
        [
            (
                "data",
                f"{result['data']['path']}, {result['data']['rows']:,} rows, hash {result['data']['hash']}",
            ),
            ("reference", result["reference"]),
            ("length of a run", error_policy),
            (
                "seeds",
                f"{result['seeds']}, {'independent' if result['independent_seeds'] else 'shared by the arms'}",
            ),
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
    body = facts + command(
        str(result["environment"].get("command")),
        label="As it was started; the same line goes on or repeats it:",
    )
    return Section(
        "method",
        "How it was compared",
        body + folded("The protocol", source(dump_yaml(result["protocol"]))) + arms,
    )
