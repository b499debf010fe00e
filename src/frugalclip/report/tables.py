"""Tables and the words around figures: what a metric is called, what it is compared with, and what may be said about it.

Reads evaluation results as `frugalclip evaluate --json` writes them; percentages stay percentages.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from frugalclip.report.formats import (
    NBSP,
    Html,
    cell,
    escape,
    is_finite,
    is_interval,
    number,
    percent,
    shorten,
    span,
    times,
)
from frugalclip.report.plots import Bar, interval_strip

TASKS = {
    "zeroshot": "Zero-shot naming",
    "retrieval": "Retrieval",
    "probe": "Linear probe",
    "fewshot": "Few-shot probe",
    "knn": "Nearest neighbours",
    "suite": "Suite of probes",
    "words": "Words of pictures",
}
_METRICS = {
    "mean_per_class": "Mean over classes",
    "words_hit": "Pictures with a hit among the top words",
    "words_precision": "Top words that are hits",
    "most_used_word": "Pictures that hold the commonest top word",
    "non_zeros": "Words above zero in a picture",
}
_POOLS = {"generalised_": "all names"}  # prefix of a metric -> what it ranks among
_DIRECTIONS = {"i2t": "Picture → text", "t2i": "Text → picture"}
_PRIMARY = ("top1", "t2i_r1", "accuracy", "mean_per_class", "mean")
_SHOTS = re.compile(r"(\d+)shot_(.+)")
FEWER = re.compile(r"(.+_r\d+)_(\d+)_words")  # a recall with so many words of either side
_NEIGHBOURS = re.compile(r"(.+)_nn_(\d+)")


@dataclass(frozen=True)
class Column:
    """A column of a table; figures are set right and in tabular numerals."""

    title: str
    numeric: bool = False
    note: str = ""  # shown small below the title
    kind: str = ""  # class of its cells, for the style sheet


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Any]],
    *,
    caption: str,
    sortable: bool = False,
    stacked: bool = False,
) -> Html:
    """A table whose first column names the rows, in a frame that scrolls sideways on a narrow screen.

    Args:
        columns: titles, in order.
        rows: cells; `Html` is put in as it is, anything else is escaped.
        caption: what the table holds; read out, and shown above it.
        sortable: let the reader sort by a click on a title (with script only).
        stacked: on a phone, the first cell of a row stands above the others.
    """
    heads = "".join(map(_head, columns))
    body = "".join(
        f'<tr role="row">{"".join(map(_cell, columns, row, [True] + [False] * len(row)))}</tr>'
        for row in rows
    )
    kinds = " ".join(k for k, given in (("sortable", sortable), ("stacked", stacked)) if given)
    shown = sum(not column.kind for column in columns[1:])
    inner = (  # roles are said although tables have them: a browser may drop them where the style sheet stacks cells
        f'<table role="table" class="{kinds}" style="--columns: {shown}"><caption>{escape(caption)}</caption>'
        f'<thead role="rowgroup"><tr role="row">{heads}</tr></thead><tbody role="rowgroup">{body}</tbody></table>'
    )
    return Html(f'<div class="frame" tabindex="0" role="region" aria-label="{escape(caption)}">{inner}</div>')


def _kinds(column: Column) -> str:
    kinds = " ".join(k for k in ("metrics" if column.numeric else "", column.kind) if k)
    return f' class="{kinds}"' if kinds else ""


def _head(column: Column) -> str:
    note = f"<small>{escape(column.note)}</small>" if column.note else ""
    return f'<th scope="col" role="columnheader"{_kinds(column)}>{escape(column.title)}{note}</th>'


def _cell(column: Column, value: Any, is_first: bool) -> str:
    if is_first:
        return f'<th scope="row" role="rowheader" dir="auto"{_kinds(column)}>{cell(value)}</th>'
    direction = "" if column.numeric else ' dir="auto"'
    return f'<td role="cell"{_kinds(column)}{direction}>{cell(value)}</td>'


def definitions(pairs: Sequence[tuple[str, Any]], *, kind: str = "facts") -> Html:
    """Names with their values, as a definition list; pairs whose value is None or empty are left out."""
    shown = [(name, value) for name, value in pairs if value not in (None, "", [], {})]
    items = "".join(
        f'<div><dt>{escape(name)}</dt><dd dir="auto">{cell(value)}</dd></div>' for name, value in shown
    )
    return Html(f'<dl class="{kind}">{items}</dl>' if items else "")


def words(name: str) -> str:
    """An identifier as words: `pixel_nn_1` becomes `pixel nearest neighbour`, `pixel_nn_10` `10 pixel nearest neighbours`."""
    if found := _NEIGHBOURS.fullmatch(str(name)):
        kind, count = words(found[1]), int(found[2])
        return f"{kind} nearest neighbour" if count == 1 else f"{count} {kind} nearest neighbours"
    return " ".join(str(name).replace("_", " ").replace("/", " / ").split())


def task_name(task: Any) -> str:
    """`zeroshot` as `Zero-shot naming`; an unknown task as it was written."""
    return TASKS.get(str(task), words(str(task)))


def metric_name(metric: str) -> str:
    """`t2i_r5` as `Text → picture, recall at 5`; `generalised_top1` as `Top-1 accuracy, all names`."""
    for prefix, pool in _POOLS.items():
        if metric.startswith(prefix):
            return f"{metric_name(metric.removeprefix(prefix))}, {pool}"
    if found := FEWER.fullmatch(metric):
        return f"{metric_name(found[1])}, {found[2]} words of each"
    if found := _SHOTS.fullmatch(metric):
        return f"{metric_name(found[2])}, {found[1]} shot{'' if found[1] == '1' else 's'}"
    direction, _, rest = metric.partition("_")
    if direction in _DIRECTIONS and rest:
        depth = rest.removeprefix("r")
        return f"{_DIRECTIONS[direction]}, {f'recall at {depth}' if depth.isdigit() else words(rest)}"
    if metric.startswith("top") and metric[3:].isdigit():
        return f"Top-{metric[3:]} accuracy"
    return _METRICS.get(metric, words(metric)[:1].upper() + words(metric)[1:])


def in_percent(metric: str) -> bool:
    """False for the metrics that count places and distances, which have no percent sign."""
    return not any(
        part in metric.lower() for part in ("rank", "loss", "seconds", "count", "nats", "non_zeros")
    )


def metric_text(metric: str, value: Any) -> str:
    """A metric's value with its unit."""
    return percent(value) if in_percent(metric) else number(value)


def primary_metric(result: Mapping[str, Any]) -> str | None:
    """The metric that speaks for an evaluation: top-1, else text to picture at 1, else the first with a value."""
    values = {name: value for name, value in _mapping(result.get("metrics")).items() if is_finite(value)}
    return next((name for name in _PRIMARY if name in values), next(iter(values), None))


def baselines_of(result: Mapping[str, Any], metric: str) -> dict[str, float]:
    """The floors of one metric: floor name -> value in the metric's unit."""
    baselines = _mapping(result.get("baselines"))
    return {
        str(name): float(content[metric])
        for name, content in baselines.items()
        if is_finite(_mapping(content).get(metric))
    }


def interval_of(result: Mapping[str, Any], metric: str) -> tuple[float, float] | None:
    """The interval of one metric, or None where there is none."""
    pair = _mapping(result.get("interval")).get(metric)
    return (float(pair[0]), float(pair[1])) if is_interval(pair) else None


def chance_of(result: Mapping[str, Any], metric: str) -> float | None:
    """What guessing scores in one metric, or None where it is not known."""
    value = _mapping(result.get("chance")).get(metric)
    return float(value) if is_finite(value) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def subject(result: Mapping[str, Any], *, limit: int = 120) -> str:
    """What an evaluation looked at: data and condition."""
    where = result.get("where")
    parts = [result.get("data"), f"where {where}" if where and "=" in str(where) else where]
    return shorten(", ".join(plain(p) for p in parts if p), limit)


def plain(value: Any, *, most: int = 3) -> str:
    """Lists and mappings in one line: the first few, and how many more."""
    if isinstance(value, Mapping):
        value = [f"{words(key)}: {plain(content)}" for key, content in value.items()]
    if isinstance(value, (list, tuple)):
        head = " · ".join(plain(v) for v in value[:most])
        return head + (f" and {len(value) - most:,} more" if len(value) > most else "")
    return number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def bars(result: Mapping[str, Any], metric: str, *, name: str) -> list[Bar]:
    """The model, then its floors from the strongest down, then chance."""
    value = result["metrics"][metric]
    baselines = sorted(baselines_of(result, metric).items(), key=lambda item: -item[1])
    chance = chance_of(result, metric)
    rows = [Bar(name, float(value), "model", interval_of(result, metric))]
    rows += [Bar(words(baseline), level, "baseline") for baseline, level in baselines]
    return rows + ([Bar("chance", chance, "chance")] if chance is not None else [])


def verdict(result: Mapping[str, Any], metric: str) -> list[str]:
    """What may be said of a figure against chance and the strongest floor, in sentences; never more than its interval allows."""
    value, interval = float(result["metrics"][metric]), interval_of(result, metric)
    chance, baselines = chance_of(result, metric), baselines_of(result, metric)
    sentences = []
    if chance:
        beaten = interval is None or interval[0] > chance
        ratio = f"{times(value / chance)} chance ({percent(chance)})"
        sentences.append(
            f"{ratio}."
            if beaten
            else f"{ratio}, but chance lies inside the interval: not distinguishable from guessing."
        )
    if baselines:
        name, level = max(baselines.items(), key=lambda item: item[1])
        against = f"the strongest floor, {words(name)} ({percent(level)}, no training)"
        if interval is None:
            sentences.append(
                f"{_points(abs(value - level))} {'above' if value >= level else 'below'} {against}; no interval was computed."
            )
        elif interval[0] <= level <= interval[1]:
            sentences.append(f"Not distinguishable from {against}: it lies inside the interval.")
        else:
            sentences.append(
                f"{_points(abs(value - level))} {'above' if value > level else 'below'} {against}, which lies outside the interval."
            )
    elif "baselines" in result:
        sentences.append("No floor was computed for this figure; evaluate with --baselines to get one.")
    return sentences


def _points(difference: float) -> str:
    return f"{difference:.1f} points"


def evaluation_table(result: Mapping[str, Any]) -> Html:
    """All metrics of one evaluation: value with interval, the same on a scale, chance, and every floor."""
    metrics = _mapping(result.get("metrics"))
    floor_names = list(dict.fromkeys(name for metric in metrics for name in baselines_of(result, metric)))
    columns = [
        Column("Metric"),
        Column("This model", numeric=True, note=level(result)),
        Column("0 to 100 %", kind="strip-column"),
    ]
    columns += [Column("Chance", numeric=True)] + [
        Column(words(name).capitalize(), numeric=True, note="baseline") for name in floor_names
    ]
    rows = []
    for metric, value in metrics.items():
        interval, baselines, chance = (
            interval_of(result, metric),
            baselines_of(result, metric),
            chance_of(result, metric),
        )
        reach = f"<small>{escape(span(interval, in_percent=in_percent(metric)))}</small>" if interval else ""
        row: list[Any] = [
            metric_name(metric),
            Html(f"<b>{escape(metric_text(metric, value))}</b>{reach}"),
            _strip(metric, value, interval, baselines, chance),
        ]
        row += [None if chance is None else metric_text(metric, chance)] + [
            None if n not in baselines else metric_text(metric, baselines[n]) for n in floor_names
        ]
        rows.append(row)
    return table(
        columns,
        rows,
        caption=f"{task_name(result.get('task'))}: {subject(result) or 'all metrics'}",
        stacked=True,
    )


def _strip(
    metric: str,
    value: Any,
    interval: tuple[float, float] | None,
    baselines: Mapping[str, float],
    chance: float | None,
) -> Html:
    if not in_percent(metric) or not is_finite(value):
        return Html("")
    marks = [*baselines.values(), *([chance] if chance is not None else [])]
    label = f"{metric_name(metric)}: {percent(value)} on a scale from 0 to 100 %"
    return interval_strip(float(value), interval=interval, baselines=marks, maximum=100.0, label=label)


def level(result: Mapping[str, Any]) -> str:
    """`95 % interval`, or whatever level the bootstrap had."""
    return f"{number(_mapping(result.get('bootstrap')).get('level', 95))}{NBSP}% interval"


def evaluation_notes(result: Mapping[str, Any]) -> Html:
    """How the figures of an evaluation came about: everything they depend on besides the model."""
    prompts, baselines, bootstrap = (
        _mapping(result.get(name)) for name in ("prompts", "baselines_about", "bootstrap")
    )
    lost = {reason: count for reason, count in _mapping(result.get("left_out")).items() if count}
    templates = prompts.get("templates") or result.get("prompts")
    return definitions(
        [
            ("samples judged", result.get("samples")),
            ("left out", plain(lost) if lost else None),
            ("data", result.get("data")),
            ("condition", result.get("where")),
            ("split hash", result.get("split_hash")),
            ("pool", result.get("pool")),
            ("classes", plain(result["classes"]) if result.get("classes") else None),
            ("names from", result.get("names")),
            (
                "prompts",
                shorten((f"{prompts['set']}: " if prompts.get("set") else "") + plain(templates), 240)
                if templates
                else None,
            ),
            (
                "interval",
                f"bootstrap, {number(bootstrap['draws'])} draws over {result.get('interval_over', 'samples')}"
                if bootstrap.get("draws")
                else None,
            ),
            ("ties", result.get("tie_rule")),
            (
                "pictures prepared by",
                shorten(plain(result["preprocess"], most=8), 240) if result.get("preprocess") else None,
            ),
            ("floors from", plain(baselines, most=8) if baselines else None),
            ("model", result.get("model")),
        ],
        kind="notes",
    )
