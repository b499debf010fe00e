"""The report of a run, in the order in which a reader asks.

How good, on what data, how did it go, where does it fail, and how to repeat it.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frugalclip.core.errors import FrugalclipError
from frugalclip.core.records import RunDirectory, write_atomically, write_json
from frugalclip.core.stored import read_object
from frugalclip.core.users_text import command_line, shell_line
from frugalclip.evaluation.metrics import words
from frugalclip.report.compression import compression_section
from frugalclip.report.curves import curves_section
from frugalclip.report.formats import counted, escape, is_finite, number, percent, plain, shorten
from frugalclip.report.gallery import Gallery, extremes
from frugalclip.report.headline import head, resume_command
from frugalclip.report.html import (
    ReportSection,
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
from frugalclip.report.interpolation import interpolation_section
from frugalclip.report.queries import queries_section
from frugalclip.report.record import RunRecord, read_run
from frugalclip.report.rows import Column
from frugalclip.report.tables import definitions, evaluation_block, table
from frugalclip.report.words import words_section

_LISTED = 500  # classes in the whole table at most


def write_run_report(run: RunDirectory, *, gallery: Gallery | None = None) -> Path:
    """Write `report.html` from the files of a run.

    Args:
        run: a directory with at least `recipe.yaml`; whatever else is missing is said to be missing.
        gallery: images to show, from `build_gallery`; default none.

    Returns:
        The page: one file that needs no network.

    Raises:
        ModelError: when the directory holds no run.
    """
    write_atomically(run.report, run_page(read_run(run), gallery or Gallery()).encode("utf-8", "replace"))
    return run.report


def refresh_evaluations(run: RunDirectory) -> Path:
    """Bring the evaluations of a report up to date with `metrics.json`; its images stay as they are.

    Args:
        run: a directory as `write_run_report` takes it; without a report that has evaluations, a whole one
            without images is written.

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


def record_evaluation(run: RunDirectory, result: Mapping[str, Any]) -> None:
    """Put a result into the run's metrics and report, in the place of an older one of the same task and data.

    Args:
        run: where it is written; nothing happens if it is no run directory.
        result: of an evaluation.
    """
    if not run.is_run():
        return
    try:
        summary = read_object(run.summary) if run.summary.is_file() else {"evaluations": [], "training": {}}
        others = [one for one in summary.get("evaluations", []) if _kind(one) != _kind(result)]
        write_json(run.summary, summary | {"evaluations": [*others, result]})
        refresh_evaluations(run)
    except (OSError, FrugalclipError) as error:
        fault = error.strerror if isinstance(error, OSError) else error
        warnings.warn(
            f"{run.path} cannot be written ({fault}), so the result is not in its report; "
            "--json FILE keeps it.",
            stacklevel=4,
        )


def _kind(result: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells results apart: task, data, condition and features."""
    suite, clusters = result.get("suite") or {}, result.get("clusters") or {}
    if result.get("task") == "suite":
        return "suite", suite.get("name"), suite.get("features")
    rows = (result.get("data"), result.get("where"))
    return (result.get("task"), *rows, clusters.get("label_field"), clusters.get("features"))


def run_page(record: RunRecord, gallery: Gallery) -> str:
    """The page as text."""
    sections = [
        queries_section(gallery.answers),
        _advice(record),
        _data(record, gallery),
        curves_section(record),
        _evaluations(record),
        interpolation_section(record.interpolation, record.arms),
        compression_section(record.compression, record.points()),
        _classes(record, gallery),
        _retrieval(gallery),
        _naming(gallery),
        words_section(record.evaluations, gallery.words),
        _kept(gallery),
        _repeat(record),
    ]
    return document(f"{record.name}: run report", head=head(record), sections=[s for s in sections if s])


def _advice(record: RunRecord) -> ReportSection | None:
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
    return ReportSection(
        "advice", "Advice", f'<ul class="advice">{items}</ul>', "What the trainer noticed while it ran."
    )


def _data(record: RunRecord, gallery: Gallery) -> ReportSection:
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
        body += f"<h3>{counted(len(gallery.pairs), 'pair')}, drawn at random</h3>{pair_grid(gallery.pairs)}"
    return ReportSection("data", "What it was trained on", body or "<p>The recipe names no data.</p>")


def _objectives(record: RunRecord) -> list[str]:
    found = record.recipe.get("objectives")
    found = found if isinstance(found, Mapping) else {}
    weights = {
        name: o.get("weight", 1) if isinstance(o, Mapping) else 1 if o is None else o
        for name, o in found.items()
    }
    return [f"{words(name)}, weight {plain(weight)}" for name, weight in weights.items()]


def _evaluations(record: RunRecord) -> ReportSection | None:
    shown = [e for e in record.evaluations if isinstance(e.get("metrics"), Mapping) and e["metrics"]]
    if not shown:
        return None  # the head of the page says so, and what to do
    parts = map(evaluation_block, shown)
    intro = (
        "Chance is the score of guessing. A baseline needs no training of ours; a model that does not pass "
        "it has learned nothing that counts. On the scale, the dot is the model, the bar its interval; grey "
        "strokes are chance and baselines."
    )
    return ReportSection("evaluations", "Evaluations", "".join(parts), intro)


def _classes(record: RunRecord, gallery: Gallery) -> ReportSection | None:
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
    single = sum(e.get("samples") == 1 for e in entries)
    left = f" Those of one image ({single:,}) are in the table only." if 0 < single < len(entries) - 1 else ""
    intro = (
        f"Of {counted(len(entries), 'class', 'classes')}, {full:,} are always named right, {none:,} never. "
        f"Where several are equal, those shown were drawn by seed.{left}"
    )
    columns = [
        Column("Class"),
        Column("Top-1", numeric=True),
        Column("Images", numeric=True),
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
    return ReportSection("classes", "Best and worst classes", class_columns(best, worst) + whole, intro)


def _retrieval(gallery: Gallery) -> ReportSection | None:
    if not gallery.text_to_images:
        return (
            ReportSection("retrieval", "Retrieval examples", f"<p>{escape(gallery.note)}</p>")
            if gallery.note
            else None
        )
    intro = (
        "For each caption the five images that came first, with their cosines; a right one is framed. "
        + gallery.note
    )
    return ReportSection("retrieval", "Finding images by words", found_images(gallery.text_to_images), intro)


def _naming(gallery: Gallery) -> ReportSection | None:
    if not gallery.image_to_names:
        return None
    return ReportSection(
        "naming",
        "Naming images",
        found_names(gallery.image_to_names),
        f"For each image the five nearest names, with their cosines. {gallery.note}",
    )


def _kept(gallery: Gallery) -> ReportSection | None:
    if not gallery.kept:
        return None
    lead = (
        "Whole images, drawn at random. The patches that the tower's [CLS] attends to least are faded; "
        "training kept as many of every view."
    )
    return ReportSection("kept", "Where it attends", pair_grid(gallery.kept), lead)


def _repeat(record: RunRecord) -> ReportSection:
    recipe = Path(record.path) / "recipe.yaml"
    again = command_line("train", recipe, "--out", f"{record.path.rstrip('/')}-again")
    body = command(again, label="Train again from the resolved recipe:")
    if record.cut_short():
        body += command(resume_command(record), label="Continue where this run stopped:")
    if record.environment.get("command"):
        body += command(str(record.environment["command"]), label="As it was started:")
    if record.environment.get("commit"):
        checkout = shell_line("git", "checkout", record.environment["commit"])
        body += command(checkout, label="The code it ran with:")
    body += f"<h3>Environment</h3>{_environment(record)}"
    return ReportSection(
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
        or "<p>environment.json is missing, so the metrics cannot be tied to a machine and versions.</p>"
    )
