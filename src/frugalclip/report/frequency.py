"""The report of accuracy against concept frequency."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugalclip.core.records import write_atomically
from frugalclip.report.formats import Html, escape, number
from frugalclip.report.html import ReportSection, chart, document
from frugalclip.report.rows import Column
from frugalclip.report.scatter import Dot, log_scatter
from frugalclip.report.tables import table

_LISTED = 20  # concepts of a table


@dataclass(frozen=True)
class FrequencyView:
    """What the page shows of one kind of count and one metric."""

    kind: str  # text, image or both
    metric: str
    names: Sequence[str]
    counts: Sequence[int]
    accuracies: Sequence[float]
    numbers: Mapping[str, Any]  # of `audit frequency`


def write_frequency_report(path: Path, views: Sequence[FrequencyView], *, subject: str) -> None:
    """Write the page, one file that needs no network."""
    write_atomically(path, frequency_page(views, subject=subject).encode("utf-8", "replace"))


def frequency_page(views: Sequence[FrequencyView], *, subject: str) -> str:
    """The page as text."""
    head = Html(
        '<p class="over">frugalclip audit</p><h1 class="answer">Accuracy and concept frequency</h1>'
        f'<p class="lead" dir="auto">{escape(subject)}</p>'
    )
    sections = [section for view in views for section in (_drawing(view), _rarest(view))]
    return document(f"{subject}: concept frequency", head=head, sections=sections)


def _drawing(view: FrequencyView) -> ReportSection:
    found = view.numbers
    dots = [
        Dot(count, value, name)
        for name, count, value in zip(view.names, view.counts, view.accuracies, strict=True)
    ]
    bins = found["bins"]
    means = [
        Dot(edge, mean)
        for edge, mean in zip(bins["upper_edges"], bins["means"], strict=True)
        if mean is not None
    ]
    drawing = chart(
        f"{view.metric} of each concept",
        lambda width: log_scatter(
            dots,
            means,
            slope=found["slope_per_decade"],
            intercept=found["intercept"],
            x_label=f"rows with the concept ({view.kind})",
            y_label=view.metric,
            title=f"{view.metric} against frequency",
            width=width,
        ),
        note="Points are concepts, joined marks are means of bins; the straight line is fitted to the "
        "concepts that occur.",
    )
    name = f"{view.kind}-{view.metric}".replace(" ", "-")
    body = Html(f'<div class="charts apart">{drawing}</div>{_numbers(found)}')
    return ReportSection(name, f"{view.metric}, counts: {view.kind}", body)


def _numbers(found: Mapping[str, Any]) -> Html:
    rows = [("r of bin means, as published", _value(found["binned"]["r"]), "")]
    for key, title in (
        ("r", "r over concepts, zeros as one"),
        ("r_found", "r over concepts that occur"),
        ("spearman", "Spearman over concepts"),
        ("slope_per_decade", "points for ten times as many"),
    ):
        interval = found["interval"].get(key)
        span = f"{_value(interval[0])} to {_value(interval[1])}" if interval else ""
        rows.append((title, _value(found[key]), span))
    if found["within"]:
        rows.append(
            (
                "points for ten times as many, within data sets",
                _value(found["within"]["slope_per_decade"]),
                "",
            )
        )
    zeros = found["zeros"]
    rows.append(
        (f"mean of {zeros['concepts']:,} concepts that never occur", _value(zeros["mean_accuracy"]), "")
    )
    columns = [Column(""), Column("value", numeric=True), Column("95 % interval", numeric=True)]
    return table(columns, rows, caption="frequency and accuracy", stacked=True)


def _value(value: float | None) -> str:
    return "" if value is None else number(value)


def _rarest(view: FrequencyView) -> ReportSection:
    order = sorted(range(len(view.names)), key=lambda i: (view.counts[i], view.names[i]))[:_LISTED]
    rows = [(view.names[i], f"{view.counts[i]:,}", number(view.accuracies[i])) for i in order]
    columns = [Column("concept"), Column("rows", numeric=True), Column(view.metric, numeric=True)]
    body = table(columns, rows, caption="the rarest concepts", stacked=True)
    name = f"rare-{view.kind}-{view.metric}".replace(" ", "-")
    return ReportSection(name, "The rarest concepts", body)
