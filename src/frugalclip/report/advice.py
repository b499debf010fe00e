"""The page of advice: what is predicted of each route, what was run, and the data behind both."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frugalclip.core.progress import in_minutes
from frugalclip.core.records import write_atomically
from frugalclip.report.formats import Html, escape, number
from frugalclip.report.html import ReportSection, command, document
from frugalclip.report.rows import Column
from frugalclip.report.tables import table


def write_advice_report(path: Path, advice: Mapping[str, Any]) -> None:
    """Write the page, one file that needs no network."""
    write_atomically(path, advice_page(advice).encode("utf-8", "replace"))


def advice_page(advice: Mapping[str, Any]) -> str:
    """The page as text; `advice` is the content of `advice.json`."""
    profile, chosen = advice["profile"], advice["chosen"]
    first = next((one for one in advice["ranking"] if one["fits"]), None)
    answer = "No route ends within the time" if first is None else f"Start with {first['name']}"
    if chosen is not None:
        answer = f"{chosen['name']} reached {number(chosen['value'])} %"
    lead = f"{advice['data']}: {profile['pairs']:,} pairs, {advice['hours']:g} hours"
    head = Html(
        f'<p class="over">frugalclip advise</p><h1 class="answer">{escape(answer)}</h1>'
        f'<p class="lead" dir="auto">{escape(lead)}</p>'
    )
    sections = [_ranking(advice), _data(profile)]
    if advice["trials"]:
        sections.insert(0, _trials(advice))
    return document(f"{advice['data']}: advice", head=head, sections=sections)


def _ranking(advice: Mapping[str, Any]) -> ReportSection:
    columns = [
        Column("route"),
        Column(f"{advice['profile']['metric']}, %", numeric=True),
        Column("80 % interval", numeric=True),
        Column("time", numeric=True),
        Column("memory", numeric=True),
        Column("why"),
    ]
    rows = [
        (
            one["name"],
            "" if one["value"] is None else number(one["value"]),
            "" if one["interval"] is None else " to ".join(number(end) for end in one["interval"]),
            _time(one["seconds"]) + ("" if one["fits"] else ", too long"),
            f"{one['memory_gb']:.2f} GB",
            one["reason"],
        )
        for one in advice["ranking"]
    ]
    body = table(columns, rows, caption="routes, best prediction first", stacked=True)
    commands = "".join(command(one["command"], label=one["about"]) for one in advice["ranking"])
    intro = (
        f"Predicted from {advice['runs_behind_it']:,} runs on other data, and from what simple baselines "
        "reach on these."
    )
    return ReportSection("ranking", "Predicted", f"{body}{commands}", intro)


def _trials(advice: Mapping[str, Any]) -> ReportSection:
    predicted = {one["name"]: one["interval"] for one in advice["options"]}
    rows = []
    for one in advice["trials"]:
        interval = predicted.get(one["name"])
        rows.append(
            (
                one["name"],
                one["message"] if one["value"] is None else number(one["value"]),
                "" if interval is None else " to ".join(number(end) for end in interval),
                _time(one["seconds"]),
                one["run"],
            )
        )
    columns = [
        Column("run"),
        Column(f"{advice['profile']['metric']}, %", numeric=True),
        Column("predicted, 80 %", numeric=True),
        Column("time", numeric=True),
        Column("folder"),
    ]
    intro = "The best is chosen by the rows that it is measured on, so expect a little less on new pictures."
    return ReportSection("trials", "Run", table(columns, rows, caption="runs", stacked=True), intro)


def _data(profile: Mapping[str, Any]) -> ReportSection:
    rows = [
        ("pairs to train on", f"{profile['pairs']:,}"),
        ("rows to measure on", f"{profile['validation']:,}"),
        ("words in a caption, median", number(profile["words"])),
        ("captions that are distinct", f"{100 * profile['distinct']:.0f} %"),
        ("shorter side, median", f"{profile['side']:.0f} px"),
        ("chance", f"{number(profile['chance'])} %"),
        *((f"baseline {name}", f"{number(value)} %") for name, value in profile["baselines"].items()),
    ]
    body = table(
        [Column(""), Column("value", numeric=True)], rows, caption="measured without training", stacked=True
    )
    return ReportSection("data", "The data", body)


def _time(seconds: float | None) -> str:
    return "not known" if seconds is None else in_minutes(seconds)
