"""Results of an evaluation that are more than a table of metrics: a suite of tests, and altered copies of the same pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

from frugalclip.report.formats import Html, escape, is_interval, number, percent, shorten, span
from frugalclip.report.html import folded
from frugalclip.report.plots import interval_strip
from frugalclip.report.tables import (
    Column,
    baselines_of,
    chance_of,
    evaluation_notes,
    evaluation_table,
    interval_of,
    level,
    metric_name,
    table,
    words,
)


def evaluation_block(result: Mapping[str, Any]) -> Html:
    """Everything a report says of one evaluation: its table, what belongs to it, and what its figures depend on."""
    if result.get("task") == "suite" and isinstance(result.get("tests"), Mapping):
        shown = suite_table(result) + _missing(result)
    else:
        shown = evaluation_table(result) + robustness_table(result)
    return Html(
        f'<div class="evaluation">{shown}{folded("What these numeric depend on", evaluation_notes(result))}</div>'
    )


def suite_table(result: Mapping[str, Any]) -> Html:
    """One row a test: the probe with its interval, nearest neighbours, chance and floors.

    Args:
        result: of `frugalclip evaluate --task suite`.
    """
    baselines = [
        name for name in result.get("baselines", {}) if isinstance(result["baselines"][name], Mapping)
    ]
    suite, tests = result.get("suite") or {}, result["tests"]
    columns = [
        Column("Test"),
        Column("Linear probe", numeric=True, note=level(result)),
        Column("0 to 100 %", kind="strip-column"),
    ]
    columns += [Column("Neighbours", numeric=True), Column("Chance", numeric=True)]
    columns += [Column(words(name).capitalize(), numeric=True, note="baseline") for name in baselines]
    rows = [
        _suite_row(result, name, value, tests.get(name), baselines)
        for name, value in result["metrics"].items()
    ]
    caption = f"Suite {suite.get('name', '')}: linear probes on the {suite.get('features', 'features')}, mean over classes"
    return table(columns, rows, caption=caption, stacked=True)


def _suite_row(
    result: Mapping[str, Any],
    name: str,
    value: float,
    test: Mapping[str, Any] | None,
    baselines: Sequence[str],
) -> list[Any]:
    interval, found, chance = interval_of(result, name), baselines_of(result, name), chance_of(result, name)
    reach = f"<small>{escape(span(interval))}</small>" if interval else ""
    about = f"<small>{escape(_described(test))}</small>" if test else ""
    title = words(name).capitalize() if test else f"Mean of {len(result['tests'])} tests"
    marks = [*found.values(), *([chance] if chance is not None else [])]
    strip = interval_strip(
        float(value),
        interval=interval,
        baselines=marks,
        maximum=100.0,
        label=f"{title}: {percent(value)} on a scale from 0 to 100 %",
    )
    knn = (result.get("knn") or {}).get(name)
    shares = [
        None if x is None else percent(x)
        for x in (knn, chance, *(found.get(baseline) for baseline in baselines))
    ]
    return [Html(f"{escape(title)}{about}"), Html(f"<b>{escape(percent(value))}</b>{reach}"), strip, *shares]


def _described(test: Mapping[str, Any]) -> str:
    """The question of a test, and how many classes and pictures it has."""
    trained = f", {number(test['trained_on'])} of them trained on" if test.get("trained_on") else ""
    question = shorten(test.get("about", ""), 160).rstrip(".")
    return f"{question}. {number(test.get('classes'))} classes, {number(test.get('samples'))} pictures judged{trained}."


def _missing(result: Mapping[str, Any]) -> str:
    missing = result.get("missing") or {}
    return "".join(
        f'<p class="foot" dir="auto">{escape(f"{name} did not run: {why}.")}</p>'
        for name, why in missing.items()
    )


def robustness_table(result: Mapping[str, Any]) -> Html:
    """What each alteration of the pictures costs, for the metrics that stand first; nothing where none was judged.

    Args:
        result: of `frugalclip evaluate --robustness`.
    """
    found = result.get("robustness")
    if not isinstance(found, Mapping) or not found:
        return Html("")
    metrics = [name for name in result["metrics"] if "median" not in name][:3]
    columns = [Column("The same pictures")] + [
        Column(metric_name(name), numeric=True, note="difference") for name in metrics
    ]
    rows: list[list[Any]] = [["as they are", *(percent(result["metrics"][name]) for name in metrics)]]
    for kind, entry in found.items():
        cells = [_difference(entry, name) for name in metrics]
        rows.append([Html(f"{escape(words(kind))}<small>{escape(entry.get('about', ''))}</small>"), *cells])
    return table(columns, rows, caption="The same pictures, altered")


def _difference(entry: Mapping[str, Any], name: str) -> Html:
    value, change, interval = (
        entry["metrics"][name],
        entry["difference"][name],
        entry.get("interval", {}).get(name),
    )
    reach = f", {span(interval)}" if is_interval(interval) else ""
    sign = "+" if change > 0 else ""
    return Html(
        f"<b>{escape(percent(value))}</b><small>{escape(f'{sign}{percent(change, unit=False)}{reach}')}</small>"
    )
