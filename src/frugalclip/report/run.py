"""What the report of a run says, in the order in which a reader asks: how good, on what, how did it go, where does it fail, how do I repeat it."""

import math
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from frugalclip.core.records import RunDirectory, write_atomically
from frugalclip.report.evaluations import evaluation_block
from frugalclip.report.formats import (
    NBSP,
    Html,
    duration,
    escape,
    is_finite,
    number,
    percent,
    plural,
    short_count,
    shorten,
    span,
)
from frugalclip.report.gallery import Gallery, extremes
from frugalclip.report.html import (
    Section,
    at_both_widths,
    chart,
    class_columns,
    command,
    document,
    folded,
    found_images,
    found_names,
    pair_grid,
    rendered,
    source,
)
from frugalclip.report.plots import Reference, Series, bar_comparison, line_chart, thin
from frugalclip.report.record import RunRecord, read_run
from frugalclip.report.tables import (
    Column,
    bars,
    definitions,
    in_percent,
    interval_of,
    level,
    metric_name,
    metric_text,
    plain,
    primary_metric,
    subject,
    table,
    task_name,
    verdict,
    words,
)
from frugalclip.report.words import words_section

_SEEN = "samples seen"
_CHARTED = ("loss", "lr", "scale")  # columns with a chart of their own; the others are folded away
_WATCHED = 5  # lines in the chart of evaluation points
_ORDER = (
    "top1",
    "t2i_r1",
    "i2t_r1",
    "mean_per_class",
    "top5",
    "t2i_r5",
    "i2t_r5",
)  # which metrics get these lines
_LISTED = 500  # classes in the whole table at most


def write_run_report(run: RunDirectory, *, gallery: Gallery | None = None) -> Path:
    """Write `report.html` from the files of a run.

    Args:
        run: a directory with at least `recipe.yaml`; whatever else is missing is said to be missing.
        gallery: pictures to show, from `build_gallery`; default none.

    Returns:
        The page: one file that needs no network.

    Raises:
        ModelError: when the directory holds no run.
    """
    write_atomically(run.report, run_page(read_run(run), gallery or Gallery()).encode("utf-8", "replace"))
    return run.report


def refresh_evaluations(run: RunDirectory) -> Path:
    """Bring the evaluations of a report up to date with `metrics.json`; its pictures, which need the model and the data, stay as they are.

    Args:
        run: a directory as `write_run_report` takes it; without a report that has evaluations, a whole one without pictures is written.

    Raises:
        ModelError: when the directory holds no run.
    """
    section = _evaluations(read_run(run))
    page = run.report.read_text(encoding="utf-8") if run.report.is_file() else ""
    start = page.find('\n<section id="evaluations"')
    end = page.find("</section>", start)
    if section is None or min(start, end) < 0:
        return write_run_report(run)
    write_atomically(run.report, page[:start] + rendered(section) + page[end + len("</section>") :])
    return run.report


def run_page(record: RunRecord, gallery: Gallery) -> str:
    """The page as text."""
    sections = [
        _advice(record),
        _data(record, gallery),
        _curves(record),
        _evaluations(record),
        _classes(record, gallery),
        _retrieval(gallery),
        _naming(gallery),
        words_section(record.evaluations, gallery.words),
        _kept(gallery),
        _repeat(record),
    ]
    return document(f"{record.name}: run report", head=_head(record), sections=[s for s in sections if s])


def _head(record: RunRecord) -> Html:
    recipe, cut = record.recipe, record.cut_short()
    state = (
        f'<span class="state short">cut short at {escape(cut)}</span>'
        if cut
        else '<span class="state">finished</span>'
    )
    name = f"Recipe {recipe['name']}" if recipe.get("name") else "A recipe without a name"
    lead = f"{name}: {recipe['description']}" if recipe.get("description") else f"{name}."
    return Html(
        f'<p class="over">frugalclip run report</p><h1><bdi>{escape(record.name)}</bdi>{state}</h1><p class="lead" dir="auto">{escape(lead)}</p>'
        f"{_headline(record)}{_tiles(record)}"
    )


def _headline(record: RunRecord) -> str:
    result = next((e for e in record.evaluations if primary_metric(e)), None)
    if result is None:
        return f'<div class="headline plain"><div><h2>No result yet</h2>{_why_no_result(record)}</div></div>'
    metric = primary_metric(result) or ""
    interval = interval_of(result, metric)
    unit = f"{NBSP}%" if in_percent(metric) else ""
    reach = (
        f"{level(result)} {span(interval, in_percent=in_percent(metric))}{unit}"
        if interval
        else "No interval was computed"
    )
    title = f"{task_name(result.get('task'))}, {_inside(metric_name(metric))}"
    output = "".join(f"<li>{escape(sentence)}</li>" for sentence in verdict(result, metric))
    text = (
        f'<h2>{escape(title)}</h2><p class="subject" dir="auto">{escape(_judged(result))}</p>'
        f'<p class="big">{escape(metric_text(metric, result["metrics"][metric]))}</p><p class="reach">{escape(reach)}</p><ul class="verdict">{output}</ul>'
    )
    if not in_percent(metric):
        return f'<div class="headline plain"><div>{text}</div></div>'
    rows = bars(result, metric, name="this model")
    drawing = at_both_widths(
        lambda width: bar_comparison(rows, title=title, axis_label=f"{metric_name(metric)} (%)", width=width),
        wide=600,
    )
    return f'<div class="headline"><div>{text}</div><div>{drawing}</div></div>'


def _inside(name: str) -> str:
    """A name as it stands inside a sentence."""
    return name[:1].lower() + name[1:]


def _judged(result: Mapping[str, Any]) -> str:
    """On what a figure was measured, and among how many."""
    samples, classes = result.get("samples"), result.get("classes")
    names = classes.get("restricted") if isinstance(classes, Mapping) else None
    parts = [
        subject(result),
        plural(samples, "image") if isinstance(samples, int) else "",
        f"{names:,} names to choose from" if isinstance(names, int) else "",
    ]
    return "; ".join(part for part in parts if part)


def _why_no_result(record: RunRecord) -> str:
    if cut := record.cut_short():
        return command(_resume(record), label=f"The run stopped at {cut}, before its evaluation. Go on with:")
    line = f"frugalclip evaluate {shlex.quote(record.path)} --data PATH --task zeroshot"
    return command(line, label="The run is finished, but metrics.json holds no evaluation. Make one with:")


def _resume(record: RunRecord) -> str:
    folder = shlex.quote(record.path)
    return f"frugalclip train {shlex.quote(str(Path(record.path) / 'recipe.yaml'))} --out {folder} --resume"


def _tiles(record: RunRecord) -> Html:
    training, last = record.training, record.last
    seen, seconds = (
        training.get("samples_seen", last.get("samples_seen")),
        training.get("seconds", last.get("seconds")),
    )
    rate = training.get("samples_per_second")
    rate = seen / seconds if rate is None and is_finite(seen) and is_finite(seconds) and seconds > 0 else rate
    parameters = training.get("parameters")
    if isinstance(parameters, Mapping):  # by tower
        parameters = parameters.get("total", sum(v for v in parameters.values() if is_finite(v)))
    return definitions(
        [
            ("samples seen", short_count(seen) if seen is not None else None),
            ("steps", number(training.get("steps", last.get("step"))) if training or last else None),
            ("samples a step", number(record.batch) if record.batch else None),
            ("training time", duration(seconds) if seconds is not None else None),
            (
                "samples a second",
                number(round(rate))
                if is_finite(rate) and rate >= 10
                else number(rate)
                if rate is not None
                else None,
            ),
            ("parameters", short_count(parameters) if parameters is not None else None),
        ],
        kind="tiles",
    )


def _advice(record: RunRecord) -> Section | None:
    notes = [
        (f"first at step {number(step)}" if is_finite(step) else "", sentence)
        for step, sentence in record.advice()
    ]
    bad = [row for row in record.rows if "loss" in row and not is_finite(row["loss"])]
    if bad:
        first, share = bad[0].get("step"), f"{len(bad):,} of {len(record.rows):,} steps"
        notes.insert(
            0,
            (
                f"{share}, first at step {number(first)}",
                "The loss was not a finite number. Lower optimizer.lr, or train with precision=fp32.",
            ),
        )
    notes += [("", fault) for fault in record.faults]
    if not notes:
        return None
    items = "".join(
        f'<li dir="auto">{escape(text)}{f"<small>{escape(when)}</small>" if when else ""}</li>'
        for when, text in notes
    )
    return Section(
        "advice", "Advice", f'<ul class="advice">{items}</ul>', "What the trainer noticed while it ran."
    )


def _data(record: RunRecord, gallery: Gallery) -> Section:
    data = record.recipe.get("data")
    data = data if isinstance(data, Mapping) else {"path": data} if data else {}
    known: dict[str, Any] = {
        "data": data.get("path"),
        "condition": data.get("where"),
        **{words(k): shorten(plain(v), 240) for k, v in gallery.data.items()},
    }
    seen, count = record.last.get("samples_seen"), record.training.get("training_rows")
    known |= {"pairs": known.get("pairs") or count}
    known |= (
        {"passes over the data": f"{seen / count:.1f}"}
        if is_finite(seen) and is_finite(count) and count > 0
        else {}
    )
    known |= {"objectives": plain(_objectives(record), most=8)}
    body = definitions(list(known.items()))
    notes = record.training.get("notes")
    if isinstance(notes, list) and notes:
        body += f'<p class="foot" dir="auto">{escape(shorten("; ".join(map(str, notes)), 600))}.</p>'
    if gallery.pairs:
        body += f"<h3>{plural(len(gallery.pairs), 'pair')}, drawn at random</h3>{pair_grid(gallery.pairs)}"
    return Section("data", "What it was trained on", body or "<p>The recipe names no data.</p>")


def _objectives(record: RunRecord) -> list[str]:
    found = record.recipe.get("objectives")
    found = found if isinstance(found, Mapping) else {}
    return [
        f"{words(name)}, weight {plain(o.get('weight', 1) if isinstance(o, Mapping) else 1 if o is None else o)}"
        for name, o in found.items()
    ]


def _curves(record: RunRecord) -> Section:
    columns = record.columns()
    charts = [_loss_chart(record), *_evaluation_charts(record)]
    if "lr" in columns:
        charts.append(_column_chart(record, "lr", title="Learning rate", y_label="learning rate"))
    if "scale" in columns:
        charts.append(
            _column_chart(
                record,
                "scale",
                title="Scale that multiplies the cosines",
                y_label="logit scale, 1 / temperature",
            )
        )
    shown = [c for c in charts if c]
    if not shown:
        return Section(
            "curves",
            "How training went",
            "<p>metrics.jsonl holds no row: the run ended before its first step.</p>",
        )
    body = f'<div class="charts">{"".join(shown)}</div>'
    left = [
        key for key in columns if key not in _CHARTED and not key.endswith("/chance")
    ]  # chance is a line in the chart of its loss
    others = [c for key in left if (c := _column_chart(record, key, title=words(key).replace(" / ", ": ")))]
    if others:
        body += folded(
            f"{plural(len(others), 'more curve')}: logs of the objectives",
            f'<div class="charts">{"".join(others)}</div>',
        )
    if points := record.points():
        body += folded(f"{plural(len(points), 'evaluation point')} as a table", _point_table(points))
    return Section(
        "curves",
        "How training went",
        body,
        "All curves over samples seen, so that runs of another batch size compare.",
    )


def _loss_chart(record: RunRecord) -> Html | None:
    seen, losses = record.series("loss")
    if not seen:
        return None
    series, group = thin(seen, losses, name="mean of the steps" if len(seen) > 160 else "loss")
    guess = record.loss_of_guessing()
    references = [Reference(guess, f"guessing: {guess:.2f} nats")] if guess is not None else []
    notes = (
        [f"Each point is the mean of {group:,} steps; the band spans the lowest and the highest of them."]
        if group > 1
        else []
    )
    tail = [v for v in losses[-max(1, len(losses) // 20) :] if is_finite(v)]
    if tail and guess is not None:
        end = sum(tail) / len(tail)
        is_log = record.batch and abs(guess - math.log(record.batch)) < 0.02
        guessing = f"ln({number(record.batch)}), the loss of guessing" if is_log else "the loss of guessing"
        against = (
            f"{abs(end - guess):.2f} {'below' if end < guess else 'above'} {guessing}"
            if abs(end - guess) >= 0.005
            else f"no better than {guessing}"
        )
        when = f"Over the last {plural(len(tail), 'step')}" if len(tail) > 1 else "At the last step"
        notes.append(f"{when} the loss is {end:.2f} nats, {against}.")
    draw = partial(_draw, [series], title="Training loss", y_label="loss (nats)", references=references)
    return chart("Training loss", draw, note=" ".join(notes))


def _draw(series: Sequence[Series], width: int, **how: Any) -> Html:
    return line_chart(series, x_label=_SEEN, width=width, height=300 if width >= 460 else 260, **how)


def _column_chart(record: RunRecord, key: str, *, title: str, y_label: str = "") -> Html | None:
    seen, values = record.series(key)
    if not seen:
        return None
    series, _ = thin(seen, values, name=y_label or words(key))
    chance = (
        [v for v in record.series(key.removesuffix("loss") + "chance")[1] if is_finite(v)]
        if key.endswith("/loss")
        else []
    )
    references = [Reference(chance[-1], f"guessing: {chance[-1]:.2f}")] if chance else []
    return chart(
        title,
        partial(
            _draw,
            [Series(series.name, series.points)],
            title=title,
            y_label=y_label or words(key),
            references=references,
        ),
    )


def _evaluation_charts(record: RunRecord) -> list[Html]:
    points = record.points()
    names = list(
        dict.fromkeys(
            name
            for row in points
            for name, value in row["evaluation"].items()
            if isinstance(value, (int, float))
        )
    )
    order = {metric: place for place, metric in enumerate(_ORDER)}
    shares = sorted(
        (n for n in names if in_percent(n)), key=lambda n: order.get(n.rpartition("/")[2], len(order))
    )
    if not shares:
        return []
    first, rest = shares[:_WATCHED], shares[_WATCHED:]
    series = [
        Series(
            _short_metric(n),
            [(row["samples_seen"], row["evaluation"].get(n, float("nan"))) for row in points],
            marks=True,
        )
        for n in first
    ]
    note = f"{plural(len(rest), 'further metric')} in the table below." if rest else ""
    draw = partial(
        _draw,
        series,
        title="Evaluation during training",
        y_label="score on the validation rows (%)",
        from_zero=True,
    )
    return [chart("Evaluation during training", draw, note=note)]


def _short_metric(name: str) -> str:
    """`retrieval/t2i_r1` as `text → picture R@1`, for the end of a line."""
    task, _, metric = name.rpartition("/")
    text = _inside(metric_name(metric).replace(", recall at ", " R@").replace(" accuracy", ""))
    return text if task in ("zeroshot", "retrieval", "") else f"{words(task)} {text}"


def _point_table(points: Sequence[Mapping[str, Any]]) -> Html:
    names = list(dict.fromkeys(name for row in points for name in row["evaluation"]))
    columns = [
        Column("Samples seen", numeric=True),
        Column("Step", numeric=True),
        Column("Loss", numeric=True),
    ]
    columns += [Column(_short_metric(n), numeric=True) for n in names]
    rows = [
        [
            number(r["samples_seen"]),
            number(r.get("step")),
            number(r.get("loss")),
            *(metric_text(n, r["evaluation"].get(n)) for n in names),
        ]
        for r in points
    ]
    return table(columns, rows, caption="Evaluation points", sortable=True)


def _evaluations(record: RunRecord) -> Section | None:
    shown = [e for e in record.evaluations if isinstance(e.get("metrics"), Mapping) and e["metrics"]]
    if not shown:
        return None  # the head of the page says so, and what to do
    parts = map(evaluation_block, shown)
    intro = (
        "Chance is what guessing scores. A floor needs no training of ours; a model that does not pass it has learned nothing that counts. "
        "On the scale, the dot is the model, the bar its interval, grey strokes are chance and floors."
    )
    return Section("evaluations", "Evaluations", "".join(parts), intro)


def _classes(record: RunRecord, gallery: Gallery) -> Section | None:
    result = next((e for e in record.evaluations if e.get("per_class")), None)
    if result is None:
        return None
    best, worst = (
        (list(gallery.best), list(gallery.worst)) if gallery.best or gallery.worst else extremes(result)
    )
    entries = [e for e in result["per_class"] if isinstance(e, Mapping) and is_finite(e.get("top1"))]
    if not entries or not (best or worst):
        return None
    full, none = sum(e["top1"] == 100 for e in entries), sum(e["top1"] == 0 for e in entries)
    intro = (
        f"Of {plural(len(entries), 'class', 'classes')}, {full:,} are always named right and {none:,} never. "
        "Where several are equal, those shown were drawn by seed."
    )
    columns = [
        Column("Class"),
        Column("Top-1", numeric=True),
        Column("Pictures", numeric=True),
        Column("Most often taken for"),
    ]
    rows = [
        [
            shorten(e.get("name"), 120),
            percent(e["top1"]),
            e.get("samples"),
            shorten(e.get("mistaken_for") or "", 120),
        ]
        for e in entries[:_LISTED]
    ]
    cut = f" (first {_LISTED:,} of {len(entries):,})" if len(entries) > _LISTED else ""
    whole = folded(
        f"All classes as a table{cut}", table(columns, rows, caption="Every class, best first", sortable=True)
    )
    return Section("classes", "Best and worst classes", class_columns(best, worst) + whole, intro)


def _retrieval(gallery: Gallery) -> Section | None:
    if not gallery.text_to_images:
        return (
            Section("retrieval", "Retrieval examples", f"<p>{escape(gallery.note)}</p>")
            if gallery.note
            else None
        )
    intro = f"For each caption the five pictures that came first, with their cosines; a right one is framed and ticked. {gallery.note}"
    return Section("retrieval", "Finding pictures by words", found_images(gallery.text_to_images), intro)


def _naming(gallery: Gallery) -> Section | None:
    if not gallery.image_to_names:
        return None
    return Section(
        "naming",
        "Naming pictures",
        found_names(gallery.image_to_names),
        f"For each picture the five nearest names, with their cosines. {gallery.note}",
    )


def _kept(gallery: Gallery) -> Section | None:
    if not gallery.kept:
        return None
    lead = "Whole pictures, drawn at random, with the patches faded that the tower's [CLS] attends to least; training kept as many of every view."
    return Section("kept", "What it looks at", pair_grid(gallery.kept), lead)


def _repeat(record: RunRecord) -> Section:
    recipe = shlex.quote(str(Path(record.path) / "recipe.yaml"))
    again = shlex.quote(f"{record.path.rstrip('/')}-again")
    body = command(f"frugalclip train {recipe} --out {again}", label="Train again from the resolved recipe:")
    if record.cut_short():
        body += command(_resume(record), label="Go on where this run stopped:")
    if record.environment.get("command"):
        body += command(str(record.environment["command"]), label="As it was started:")
    if record.environment.get("commit"):
        body += command(
            f"git checkout {shlex.quote(str(record.environment['commit']))}", label="The code it ran with:"
        )
    body += f"<h3>Environment</h3>{_environment(record)}"
    return Section(
        "repeat", "Repeat it", body + folded("The resolved recipe, recipe.yaml", source(record.recipe_text))
    )


def _environment(record: RunRecord) -> str:
    content = {k: v for k, v in record.environment.items() if k not in ("command", "commit", "versions")}
    versions = record.environment.get("versions")
    pairs = [(words(name), plain(value)) for name, value in content.items() if value is not None]
    pairs += (
        [(str(name), str(value)) for name, value in versions.items()] if isinstance(versions, Mapping) else []
    )
    return (
        definitions(pairs)
        or "<p>environment.json is missing, so the figures cannot be tied to a machine and versions.</p>"
    )
