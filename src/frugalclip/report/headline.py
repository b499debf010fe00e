"""The top of a run's report: its primary metric beside baselines, conclusions, and its numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frugalclip.core.users_text import command_line
from frugalclip.evaluation.metrics import in_percent, larger_is_better, metric_name, primary_metric, words
from frugalclip.report.bars import Bar, bar_comparison
from frugalclip.report.evaluations import (
    baselines_of,
    chance_of,
    interval_of,
    level,
    mapping,
    subject,
    task_name,
)
from frugalclip.report.formats import (
    NBSP,
    Html,
    counted,
    duration,
    escape,
    is_finite,
    number,
    percent,
    short_count,
    span,
    times,
)
from frugalclip.report.html import at_both_widths, command
from frugalclip.report.record import RunRecord
from frugalclip.report.tables import definitions


def head(record: RunRecord) -> Html:
    """The name of the run, its headline and its numbers."""
    recipe, cut = record.recipe, record.cut_short()
    state = '<span class="state">finished</span>'
    if cut:
        state = f'<span class="state short">cut short at {escape(cut)}</span>'
    name = f"Recipe {recipe['name']}" if recipe.get("name") else "A recipe without a name"
    lead = f"{name}: {recipe['description']}" if recipe.get("description") else f"{name}."
    return Html(
        f'<p class="over">frugalclip run report</p><h1><bdi>{escape(record.name)}</bdi>{state}</h1>'
        f'<p class="lead" dir="auto">{escape(lead)}</p>{_headline(record)}{_tiles(record)}'
    )


def resume_command(record: RunRecord) -> str:
    """The command that continues a run."""
    recipe = Path(record.path) / "recipe.yaml"
    return command_line("train", recipe, "--out", record.path, "--resume")


def headline_metric(result: Mapping[str, Any]) -> str | None:
    """The metric that stands for an evaluation, among those with a value."""
    metrics = mapping(result.get("metrics"))
    return primary_metric({name: value for name, value in metrics.items() if is_finite(value)})


def _headline(record: RunRecord) -> str:
    result = next((e for e in record.evaluations if headline_metric(e)), None)
    if result is None:
        return f'<div class="headline plain"><div><h2>No result yet</h2>{_why_no_result(record)}</div></div>'
    metric = headline_metric(result) or ""
    name = metric_name(metric)
    title = f"{task_name(result.get('task'))}, {name[:1].lower()}{name[1:]}"
    conclusions = "".join(f"<li>{escape(sentence)}</li>" for sentence in conclusion_sentences(result, metric))
    text = (
        f'<h2>{escape(title)}</h2><p class="subject" dir="auto">{escape(_rows(result))}</p>'
        f'<p class="big">{escape(metric_text(metric, result["metrics"][metric]))}</p>'
        f'<p class="reach">{escape(_reach(result, metric))}</p><ul class="verdict">{conclusions}</ul>'
    )
    if not in_percent(metric):
        return f'<div class="headline plain"><div>{text}</div></div>'
    rows = bars(result, metric, name="this model")
    drawing = at_both_widths(
        lambda width: bar_comparison(rows, title=title, axis_label=f"{name} (%)", width=width), wide=600
    )
    return f'<div class="headline"><div>{text}</div><div>{drawing}</div></div>'


def metric_text(metric: str, value: Any) -> str:
    """The value of a metric with its unit."""
    return percent(value) if in_percent(metric) else number(value)


def _reach(result: Mapping[str, Any], metric: str) -> str:
    interval = interval_of(result, metric)
    if interval is None:
        return "No interval was computed"
    unit = f"{NBSP}%" if in_percent(metric) else ""
    return f"{level(result)} {span(interval, in_percent=in_percent(metric))}{unit}"


def _rows(result: Mapping[str, Any]) -> str:
    """The data of a metric, and how many names compete."""
    samples, names = result.get("samples"), mapping(result.get("classes")).get("restricted")
    parts = [
        subject(result),
        counted(samples, "image") if isinstance(samples, int) else "",
        f"{names:,} names to choose from" if isinstance(names, int) else "",
    ]
    return "; ".join(part for part in parts if part)


def _why_no_result(record: RunRecord) -> str:
    if cut := record.cut_short():
        label = f"The run stopped at {cut}, before its evaluation. Continue it with:"
        return command(resume_command(record), label=label)
    line = command_line("evaluate", record.path, "--data", "PATH", "--task", "zeroshot")
    return command(line, label="The run is finished, but metrics.json holds no evaluation. Make one with:")


def bars(result: Mapping[str, Any], metric: str, *, name: str) -> list[Bar]:
    """The model, then its baselines from the strongest down, then chance."""
    value, chance = result["metrics"][metric], chance_of(result, metric)
    rows = [Bar(name, float(value), "model", interval_of(result, metric))]
    rows += [Bar(words(baseline), one, "baseline") for baseline, one in _strongest_first(result, metric)]
    return rows + ([Bar("chance", chance, "chance")] if chance is not None else [])


def _strongest_first(result: Mapping[str, Any], metric: str) -> list[tuple[str, float]]:
    """Baselines with their values."""
    sign = -1 if larger_is_better(metric) else 1
    return sorted(baselines_of(result, metric).items(), key=lambda item: sign * item[1])


def conclusion_sentences(result: Mapping[str, Any], metric: str) -> list[str]:
    """Sentences on a metric against chance and the strongest baseline; no more than the interval allows."""
    sentences, chance = [], chance_of(result, metric)
    if chance:
        sentences.append(_against_chance(result, metric, chance))
    if baselines := _strongest_first(result, metric):
        sentences.append(_against_baseline(result, metric, *baselines[0]))
    elif "baselines" in result:
        sentences.append("No baseline was computed; evaluate with --baselines to get one.")
    return sentences


def _against_chance(result: Mapping[str, Any], metric: str, chance: float) -> str:
    interval = interval_of(result, metric)
    ratio = f"{times(float(result['metrics'][metric]) / chance)} chance ({percent(chance)})"
    if interval is None or interval[0] > chance:
        return f"{ratio}."
    return f"{ratio}, but chance lies inside the interval: not distinguishable from guessing."


def _against_baseline(result: Mapping[str, Any], metric: str, name: str, value: float) -> str:
    found, interval = float(result["metrics"][metric]), interval_of(result, metric)
    baseline = f"the strongest baseline, {words(name)} ({percent(value)}, no training)"
    if interval is not None and interval[0] <= value <= interval[1]:
        return f"Not distinguishable from {baseline}: it lies inside the interval."
    tail = "; no interval was computed" if interval is None else ", which lies outside the interval"
    side = "above" if found > value or (interval is None and found == value) else "below"
    return f"{abs(found - value):.1f} points {side} {baseline}{tail}."


def _tiles(record: RunRecord) -> Html:
    training, last = record.training, record.last
    seen = training.get("samples_seen", last.get("samples_seen"))
    seconds = training.get("seconds", last.get("seconds"))
    parameters = training.get("parameters")
    if isinstance(parameters, Mapping):  # by tower
        parameters = parameters.get("total", sum(v for v in parameters.values() if is_finite(v)))
    return definitions(
        [
            ("samples seen", short_count(seen) if seen is not None else None),
            ("steps", number(training.get("steps", last.get("step"))) if training or last else None),
            ("samples a step", number(record.batch) if record.batch else None),
            ("training time", duration(seconds) if seconds is not None else None),
            ("samples a second", _rate(training.get("samples_per_second"), seen, seconds)),
            ("parameters", short_count(parameters) if parameters is not None else None),
        ],
        kind="tiles",
    )


def _rate(rate: Any, seen: Any, seconds: Any) -> str | None:
    if rate is None and is_finite(seen) and is_finite(seconds) and seconds > 0:
        rate = seen / seconds
    if rate is None:
        return None
    return number(round(rate)) if is_finite(rate) and rate >= 10 else number(rate)
