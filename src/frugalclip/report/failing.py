"""The report of classes that will probably fail, and how a prediction fared."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from frugalclip.core.records import write_atomically
from frugalclip.report.bars import Bar, bar_comparison, interval_strip
from frugalclip.report.formats import Html, escape, number
from frugalclip.report.html import ReportSection, chart, document
from frugalclip.report.rows import Column
from frugalclip.report.tables import table

_LISTED = 200  # classes of a table
_MEASURES = (("forecast", "forecast"), ("log_count", "count of pairs alone"), ("text_only", "names alone"))


def in_words(reason: Mapping[str, Any]) -> str:
    """A reason of `audit predict` as a phrase."""
    kind, value = reason["kind"], reason["value"]
    if kind == "rare":
        return f"rare ({value:,})"
    if kind == "unmentioned":
        return f"captions do not mention it ({value:.0%} do)"
    if kind == "confused":
        return f"confused with {reason['with']} ({value:.0%})"
    if kind == "looks_like":
        return f"images look like {reason['with']} ({value:.0%})"
    return "one style only"


def write_failing_report(path: Path, result: Mapping[str, Any]) -> None:
    """Write the page, one file that needs no network."""
    write_atomically(path, failing_page(result).encode("utf-8", "replace"))


def failing_page(result: Mapping[str, Any]) -> str:
    """The page as text.

    Args:
        result: of `audit predict`.
    """
    subject = result["data"]
    head = Html(
        '<p class="over">frugalclip audit</p><h1 class="answer">Classes that will probably fail</h1>'
        f'<p class="lead" dir="auto">{escape(subject)}: {len(result["classes"]):,} classes, '
        f"{result['samples']:,} pairs</p>"
    )
    sections = [_forecast(result)]
    if "check" in result:
        sections += [_check(result["check"])]
    return document(f"{subject}: failing classes", head=head, sections=sections)


def _forecast(result: Mapping[str, Any]) -> ReportSection:
    columns = [
        Column("class"),
        Column("pairs", numeric=True),
        Column("expected top 1", numeric=True),
        Column(f"80 % interval on {result['images']} images"),
        Column("why"),
        Column("more pairs", numeric=True),
    ]
    rows = [
        (
            one["name"],
            f"{one['count']:,}",
            number(one["accuracy"]),
            _strip(one["accuracy"], one["interval"]),
            "; ".join(in_words(reason) for reason in one["reasons"]),
            _more(one["pairs_needed"]),
        )
        for one in result["classes"][:_LISTED]
    ]
    goal = number(result["classes"][0]["pairs_target"])
    note = Html(
        f"<p>Rows show a class by: {escape(result['rows_found_by'])}. 'More pairs' is how many would "
        f"raise the class to {goal} % by the growth in runs of this kind.</p>"
    )
    body = Html(table(columns, rows, caption="the likeliest to fail first", stacked=True) + note)
    return ReportSection("forecast", "The likeliest to fail first", body)


def _strip(value: float, interval: Sequence[float]) -> Html:
    low, high = interval
    label = f"{low:.0f} to {high:.0f}"
    strip = interval_strip(value, interval=(low, high), marks=(), maximum=100, label=label)
    return Html(f"{strip} {escape(label)}")


def _more(pairs: int | None) -> str:
    return "no remedy" if pairs is None else f"{pairs:,}" if pairs else ""


def _check(checked: Mapping[str, Any]) -> ReportSection:
    bars = [
        Bar(title, 100 * checked["auroc"][key], "model" if key == "forecast" else "baseline")
        for key, title in _MEASURES
        if checked["auroc"][key] is not None
    ]
    drawing = chart(
        "Telling the lowest third",
        lambda width: bar_comparison(
            bars, title="AUROC of failing classes", axis_label="AUROC in percent; 50 is chance", width=width
        ),
        note=f"{checked['coverage']:.0%} of the measured accuracies lie in their interval of 80 %, which is "
        f"{100 * checked['width']:.0f} points wide in the mean.",
    )
    columns = [
        Column("class"),
        Column("expected", numeric=True),
        Column("80 % interval"),
        Column("measured", numeric=True),
        Column("images", numeric=True),
    ]
    rows = [
        (
            one["name"],
            number(one["expected"]),
            _strip(one["accuracy"], one["interval"]),
            number(one["accuracy"]),
            f"{one['images']:,}",
        )
        for one in sorted(checked["rows"], key=lambda one: (one["accuracy"], one["name"]))[:_LISTED]
    ]
    body = Html(
        f'<div class="charts apart">{drawing}</div>'
        + table(columns, rows, caption="expected and measured", stacked=True)
    )
    return ReportSection("check", "How the prediction fared", body)
