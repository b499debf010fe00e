"""A compressed model beside its teacher: sizes, metrics, and what was kept of each layer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from frugalclip.report.curves import line_name, ranked_metrics
from frugalclip.report.formats import Html, is_finite, number
from frugalclip.report.headline import metric_text
from frugalclip.report.html import ReportSection
from frugalclip.report.rows import Column
from frugalclip.report.tables import table

_SPEEDS = (
    ("pictures a second, one thread", "per_second", "image", 1.0),
    ("texts of full length a second, one thread", "per_second", "text", 1.0),
    ("megabytes while 8 pictures are encoded", "peak_bytes", "image", 1e-6),
    ("megabytes while 8 texts are encoded", "peak_bytes", "text", 1e-6),
)
_METRICS = 4  # of an evaluation point, the most important ones


def comparison_rows(comparison: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """(what, teacher, student): sizes, speeds, then the metrics that both have in percent."""
    teacher, student = (comparison[name] for name in ("teacher", "student"))

    def row(name: str, value: Callable[[Mapping[str, Any]], float]) -> tuple[str, float, float]:
        return name, float(value(teacher["size"])), float(value(student["size"]))

    rows = [
        row("parameters without token embedding", lambda size: size["towers"]),
        row("parameters with token embedding", lambda size: size["all"]),
    ]
    for part in ("image", "text", "token_embedding"):
        title = f"parameters: {part.replace('_', ' ')}"
        rows.append(row(title, lambda size, part=part: size["parameters"][part]))
    rows.append(row("tokens of the vocabulary", lambda size: size["tokens"]))
    rows.append(row("megabytes of weights", lambda size: size["bytes"] * 1e-6))
    for side, one in (("image", "picture"), ("text", "text")):
        rows.append(row(f"GFLOP forward, a {one}", lambda size, side=side: size["gflops"][side]))
    return (
        rows
        + [
            (title, teacher["speed"][kind][side] * unit, student["speed"][kind][side] * unit)
            for title, kind, side, unit in _SPEEDS
            if side in teacher["speed"][kind] and side in student["speed"][kind]
        ]
        + [
            (f"validation, {name}, %", teacher["metrics"][name], student["metrics"][name])
            for name in teacher["metrics"]
            if name in student["metrics"]
        ]
    )


def shown_number(value: float) -> str:
    """A count with separators, or a small number with three digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def shown_share(teacher: float, student: float) -> str:
    """The student's share of the teacher's value; empty where that is 0."""
    return f"{student / teacher:.1%}" if teacher else ""


def layer_rows(comparison: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """(tower, channels, heads of every layer, neurons of every layer) of teacher and student in turn."""
    rows = []
    for side in ("image", "text"):
        for name in ("teacher", "student"):
            layers = comparison[name]["size"]["layers"].get(side)
            if layers:
                heads, neurons = (" ".join(map(str, layers[kind])) for kind in ("heads", "neurons"))
                rows.append((f"{side} tower, {name}", str(layers["width"]), heads, neurons))
    return rows


def by_stage(points: Sequence[Mapping[str, Any]]) -> Html:
    """Size and metrics at every evaluation point of a run that changes the size; empty for another."""
    sized = [row for row in points if is_finite(row.get("towers"))]
    names = ranked_metrics(sized)[:_METRICS]
    rows = [
        [
            *(number(row.get(key)) for key in ("stage", "step", "towers")),
            *(metric_text(name, row["evaluation"].get(name)) for name in names),
        ]
        for row in sized
    ]
    titles = ("stage", "step", "parameters of both towers", *map(line_name, names))
    columns = [Column(title, numeric=True) for title in titles]
    return table(columns, rows, caption="size against metric, by stage", stacked=True) if rows else Html("")


def compression_section(
    comparison: Mapping[str, Any], points: Sequence[Mapping[str, Any]] = ()
) -> ReportSection | None:
    """The section of the report, or None for a run that compressed nothing.

    Args:
        comparison: of `metrics.json`.
        points: rows of `metrics.jsonl` at which the model was evaluated.
    """
    if not {"teacher", "student"} <= comparison.keys():
        return None
    titles = (Column("what"), *(Column(name, numeric=True) for name in ("teacher", "student", "share")))
    rows = [
        (name, shown_number(teacher), shown_number(student), shown_share(teacher, student))
        for name, teacher, student in comparison_rows(comparison)
    ]
    body = table(titles, rows, caption="sizes and metrics", stacked=True)
    columns = (Column("tower"), Column("channels", numeric=True), Column("heads"), Column("neurons"))
    kept = layer_rows(comparison)
    body += table(columns, kept, caption="what was kept, layer by layer", stacked=True) if kept else ""
    body += by_stage(points)
    intro = "The student starts from the teacher's weights; both were evaluated on the same validation rows."
    return ReportSection("compression", "Compression", Html(body), intro)
