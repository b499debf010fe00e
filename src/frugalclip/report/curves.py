"""How training went, in a run's report: losses, evaluation points and whatever else was logged."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from frugalclip.evaluation.metrics import BY_IMPORTANCE, in_percent, metric_name, words
from frugalclip.report.formats import Html, counted, is_finite, number, percent
from frugalclip.report.headline import metric_text
from frugalclip.report.html import ReportSection, chart, folded
from frugalclip.report.plots import Reference, Series, line_chart, thin
from frugalclip.report.record import RunRecord
from frugalclip.report.rows import Column
from frugalclip.report.tables import table

_SEEN = "samples seen"
_CHARTED = {  # columns with a chart of their own; the others are folded away
    "lr": ("Learning rate", "learning rate"),
    "scale": ("Scale that multiplies the cosines", "logit scale, 1 / temperature"),
}
_LINES = 5  # in the chart of evaluation points


def curves_section(record: RunRecord) -> ReportSection:
    """Charts over the samples seen, and a table of the evaluation points."""
    title, columns = "How training went", record.columns()
    charts = [_loss_chart(record), *_evaluation_charts(record)]
    for key, (name, y_label) in _CHARTED.items():
        if key in columns:
            charts.append(_column_chart(record, key, title=name, y_label=y_label))
    shown = [c for c in charts if c]
    if not shown:
        nothing = "<p>metrics.jsonl holds no row: the run ended before its first step.</p>"
        return ReportSection("curves", title, nothing)
    body = f'<div class="charts">{"".join(shown)}</div>'
    # chance is a line in the chart of its loss
    left = [key for key in columns if key not in ("loss", *_CHARTED) and not key.endswith("/chance")]
    others = [c for key in left if (c := _column_chart(record, key, title=words(key).replace(" / ", ": ")))]
    if others:
        summary = f"{counted(len(others), 'more curve')}: logs of the objectives"
        body += folded(summary, f'<div class="charts">{"".join(others)}</div>')
    if points := record.points():
        body += folded(f"{counted(len(points), 'evaluation point')} as a table", _point_table(points))
    intro = "All curves are over samples seen, so that runs with different batch sizes compare."
    return ReportSection("curves", title, body, intro)


def _loss_chart(record: RunRecord) -> Html | None:
    seen, losses = record.series("loss")
    if not seen:
        return None
    series, group = thin(seen, losses, name="mean of the steps" if len(seen) > 160 else "loss")
    chance = record.chance_loss()
    references = [Reference(chance, f"guessing: {chance:.2f} nats")] if chance is not None else []
    notes = []
    if group > 1:
        notes.append(
            f"Each point is the mean of {group:,} steps; the band spans the lowest and the highest of them."
        )
    if chance is not None and (note := _final_loss(record, losses, chance)):
        notes.append(note)
    draw = partial(_draw, [series], title="Training loss", y_label="loss (nats)", references=references)
    return chart("Training loss", draw, note=" ".join(notes))


def _final_loss(record: RunRecord, losses: Sequence[float], chance: float) -> str:
    """The loss of the last twentieth of the run against that of guessing."""
    tail = [v for v in losses[-max(1, len(losses) // 20) :] if is_finite(v)]
    if not tail:
        return ""
    end = sum(tail) / len(tail)
    is_log = record.batch and abs(chance - math.log(record.batch)) < 0.02
    guessing = f"ln({number(record.batch)}), the loss of guessing" if is_log else "the loss of guessing"
    side = "below" if end < chance else "above"
    apart = abs(end - chance)
    against = f"{apart:.2f} {side} {guessing}" if apart >= 0.005 else f"no better than {guessing}"
    when = f"Over the last {counted(len(tail), 'step')}" if len(tail) > 1 else "At the last step"
    return f"{when} the loss is {end:.2f} nats, {against}."


def _draw(series: Sequence[Series], width: int, **how: Any) -> Html:
    return line_chart(series, x_label=_SEEN, width=width, height=300 if width >= 460 else 260, **how)


def _column_chart(record: RunRecord, key: str, *, title: str, y_label: str = "") -> Html | None:
    seen, values = record.series(key)
    if not seen:
        return None
    y_label = y_label or words(key)
    series, _ = thin(seen, values, name=y_label)
    references = []
    if key.endswith("/loss"):
        logged = record.series(key.removesuffix("loss") + "chance")[1]
        chance = [value for value in logged if is_finite(value)]
        references = [Reference(chance[-1], f"guessing: {chance[-1]:.2f}")] if chance else []
    lines = [Series(series.name, series.points)]
    return chart(title, partial(_draw, lines, title=title, y_label=y_label, references=references))


def ranked_metrics(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the metrics in percent at evaluation points, the most important first."""
    names = dict.fromkeys(
        name
        for row in points
        for name, value in row["evaluation"].items()
        if isinstance(value, (int, float)) and in_percent(name)
    )
    order = {metric: place for place, metric in enumerate(BY_IMPORTANCE)}
    return sorted(names, key=lambda name: order.get(name.rpartition("/")[2], len(order)))


def _evaluation_charts(record: RunRecord) -> list[Html]:
    points = record.points()
    ranked = ranked_metrics(points)
    if not ranked:
        return []
    series = [
        Series(
            line_name(name),
            [(row["samples_seen"], row["evaluation"].get(name, math.nan)) for row in points],
            marks=True,
        )
        for name in ranked[:_LINES]
    ]
    rest, title = len(ranked) - len(series), "Evaluation during training"
    note = f"{counted(rest, 'further metric')} in the table below." if rest else ""
    draw = partial(
        _draw,
        series,
        title=title,
        y_label="score on the validation set (%)",
        references=_chance(points[-1], ranked[0]),
        from_zero=True,
    )
    return [chart(title, draw, note=note)]


def _chance(row: Mapping[str, Any], name: str) -> list[Reference]:
    """What guessing gives on the first metric, as a line."""
    found = row.get("chance")
    value = found.get(name) if isinstance(found, Mapping) else None
    return [Reference(value, f"guessing {line_name(name)}: {percent(value)}")] if is_finite(value) else []


def line_name(name: str) -> str:
    """`retrieval/t2i_r1` as `text → image R@1`, for the end of a line."""
    task, _, metric = name.rpartition("/")
    short = metric_name(metric, short=True)
    text = short[:1].lower() + short[1:]
    return text if task in ("zeroshot", "retrieval", "") else f"{words(task)} {text}"


def _point_table(points: Sequence[Mapping[str, Any]]) -> Html:
    names = list(dict.fromkeys(name for row in points for name in row["evaluation"]))
    titles = ["Samples seen", "Step", "Loss", *map(line_name, names)]
    chance = points[-1].get("chance")
    guessed = chance if isinstance(chance, Mapping) else {}
    first = ["chance", None, None, *(metric_text(name, guessed.get(name)) for name in names)]
    rows = [first] if guessed else []
    rows += [
        [
            number(row["samples_seen"]),
            number(row.get("step")),
            number(row.get("loss")),
            *(metric_text(name, row["evaluation"].get(name)) for name in names),
        ]
        for row in points
    ]
    columns = [Column(title, numeric=True) for title in titles]
    return table(columns, rows, caption="Evaluation points", sortable=True)
