"""The way from the start of a fine-tuning to its end: a chart, a table, and what was chosen."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from frugalclip.report.curves import line_name
from frugalclip.report.formats import Html, is_finite, number, percent
from frugalclip.report.html import ReportSection, chart
from frugalclip.report.plots import Reference, Series, line_chart
from frugalclip.report.rows import Column
from frugalclip.report.tables import table

_SIDES = ("guard", "target")


def _sides(content: Mapping[str, Any]) -> list[str]:
    """The sides that were measured."""
    return [side for side in _SIDES if isinstance(content.get(side), Mapping)]


def _name(content: Mapping[str, Any], side: str) -> str:
    headline = str(content[side].get("headline"))
    metric = "mean R@1" if headline.endswith("mean_r1") else line_name(headline)
    return f"{side}, {metric}"


def _values(content: Mapping[str, Any], side: str) -> list[float]:
    name = content[side].get("headline")
    return [point[side][name] for point in content["points"]]


def curve_titles(content: Mapping[str, Any]) -> list[str]:
    """Titles of `curve_rows`."""
    return ["alpha", *(_name(content, side) for side in _sides(content)), ""]


def curve_rows(content: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """(alpha, metric of the guard, metric of the target, mark of the chosen one), then chance."""
    values = [_values(content, side) for side in _sides(content)]
    marks = {0.0: "start", 1.0: "end"}
    chosen = content["alpha"]
    marks[chosen] = f"{marks[chosen]}, chosen" if chosen in marks else "chosen"
    rows = [
        (f"{alpha:.2f}", *(percent(one[place], unit=False) for one in values), marks.get(alpha, ""))
        for place, alpha in enumerate(point["alpha"] for point in content["points"])
    ]
    chance = [content[side]["chance"].get(content[side]["headline"]) for side in _sides(content)]
    return [*rows, ("chance", *(percent(one, unit=False) for one in chance), "")]


def sentence(content: Mapping[str, Any]) -> str:
    """What was chosen, and what it costs and keeps."""
    place = next(i for i, point in enumerate(content["points"]) if point["alpha"] == content["alpha"])
    parts = []
    for side in _sides(content):
        values = _values(content, side)
        change = values[place] - values[0]
        parts.append(f"the {side} {'gains' if change >= 0 else 'loses'} {abs(change):.1f} points")
    end = ""
    if "target" in _sides(content):
        values = _values(content, "target")
        whole = values[-1] - values[0]
        if whole > 0:
            end = f", {(values[place] - values[0]) / whole:.0%} of what the end gains"
    else:
        end = "; the data has no validation rows, so the farthest point within the limit was taken"
    limit = f"The guard may lose {number(content['max_loss'])}"
    stopped = f" The run ended early: {content['stopped']}." if content.get("stopped") else ""
    return f"alpha {content['alpha']:.2f}: {', '.join(parts)}{end}. {limit} (guard.max_loss).{stopped}"


def arm_rows(arms: Sequence[Mapping[str, Any]], content: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """(name, guard, target, what it is) of every arm, and of the chosen model behind them."""
    place = [point["alpha"] for point in content["points"]].index(content["alpha"])
    own = {side: _values(content, side)[place] for side in _sides(content)}
    chosen = {"name": "finetune", "about": "the weights that keep the guard", **own}
    return [
        (row["name"], *(_percent(row.get(side)) for side in _SIDES), row["about"]) for row in (*arms, chosen)
    ]


def _percent(value: Any) -> str:
    return percent(value, unit=False) if is_finite(value) else ""


def interpolation_section(
    content: Mapping[str, Any], arms: Sequence[Mapping[str, Any]] = ()
) -> ReportSection | None:
    """The section of the report, or None for a run without a guard.

    Args:
        content: `interpolation` of `metrics.json`.
        arms: `arms` of it, of a comparison.
    """
    if not isinstance(content.get("points"), list) or not _sides(content):
        return None
    alphas = [point["alpha"] for point in content["points"]]
    series = [
        Series(_name(content, side), list(zip(alphas, _values(content, side), strict=True)), marks=True)
        for side in _sides(content)
    ]
    guard = _values(content, "guard")
    least = guard[0] - content["max_loss"]
    references = [Reference(least, f"limit of the guard: {percent(least)}")] if is_finite(least) else []
    title = "Between start and end"
    draw = partial(_draw, series, references=references, title=title)
    columns = [Column(one, numeric=one != "") for one in curve_titles(content)]
    rows = [list(row) for row in curve_rows(content)]
    body = chart(title, draw) + table(columns, rows, caption="Weights between start and end")
    if arms:
        titles = [
            Column("arm"),
            Column("guard", numeric=True),
            Column("target", numeric=True),
            Column("what"),
        ]
        body += table(titles, arm_rows(arms, content), caption="Other ways to train it further, percent")
    return ReportSection("interpolation", title, Html(body), sentence(content))


def _draw(series: list[Series], width: int, *, references: list[Reference], title: str) -> Html:
    return line_chart(
        series,
        x_label="alpha: 0 is the start, 1 the end",
        y_label="score (%)",
        title=title,
        width=width,
        height=300 if width >= 460 else 260,
        references=references,
        counts=False,
    )
