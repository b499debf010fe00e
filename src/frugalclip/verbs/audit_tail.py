"""`frugalclip audit tail`: a test set of the rarest classes, and models on it and on the commonest ones."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from frugalclip.auditing.released import KINDS, read_counts
from frugalclip.auditing.tail import LevelledClasses, extreme_classes
from frugalclip.core.errors import DataError, UsageError
from frugalclip.core.locks import writing_file
from frugalclip.core.paths import user_path
from frugalclip.core.records import write_json
from frugalclip.core.terminal import Terminal
from frugalclip.curation.leakage import SIMILARITY, measured_images
from frugalclip.curation.measures import ImageMeasures
from frugalclip.curation.near import near_keepers
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.classes import row_names
from frugalclip.models import Model, load
from frugalclip.sources.open import open_data
from frugalclip.verbs.data_terminal import progress_bar, show_lines
from frugalclip.verbs.evaluate import evaluate


def audit_tail(
    counts: str | Path,
    *,
    data: str | Path | Manifest,
    out: str | Path,
    models: Sequence[str | Path | Model] = (),
    label_field: str | None = None,
    where: str | None = None,
    classes: int = 20,
    least: int = 5,
    json: str | Path | None = None,
) -> dict[str, Any]:
    """Write a levelled test set of the rarest classes, and evaluate models on it and on the head.

    Args:
        counts: what `audit concepts --json` wrote for the training data.
        data: labelled test data.
        out: manifest of the tail to write.
        models: MODELs to evaluate.
        label_field: field with the class of a row; default `label`, else the first caption.
        where: a condition over the rows of `data`.
        classes: how many make the tail, and the head.
        least: images that a class needs, near duplicates left out.
        json: file to write the result to.

    Returns:
        `tail` and `head`: their classes and sizes; `models`: name -> accuracies and the gap in points.

    Raises:
        DataError: when too few classes have a count and images.
    """
    manifest = (data if isinstance(data, Manifest) else open_data(data)).where(where)
    known = read_counts(counts)
    kind = next((k for k in reversed(KINDS) if any(v[k] is not None for v in known.values())), None)
    if kind is None:
        raise DataError(f"{counts} holds no count; write it with audit concepts --json.")
    if classes < 2:
        raise UsageError("--classes must be 2 or more, since classes compete.")
    names, _ = row_names(manifest, label_field=label_field)
    labels = [own[0] if own else None for own in names]
    own_counts = {name: values[kind] for name, values in known.items()}
    measures = _measured(manifest)
    sides = {
        side: extreme_classes(
            labels,
            own_counts,
            manifest.codes("id").view(np.uint64),
            classes=classes,
            least=least,
            rarest=side == "tail",
            distinct=lambda rows: _distinct(measures, rows),
        )
        for side in ("tail", "head")
    }
    target = user_path(out)
    with writing_file(target):
        manifest.take(sides["tail"].rows).write(target)
    result: dict[str, Any] = {side: _described(one) for side, one in sides.items()}
    result |= {"counts": str(counts), "kind": kind, "written": str(target)}
    result["models"] = [_on_sides(model, manifest, sides, labels, label_field) for model in models]
    if json is not None:
        write_json(user_path(json), result)
    return result


def _measured(manifest: Manifest) -> ImageMeasures:
    with (
        tempfile.TemporaryDirectory(prefix="frugalclip-tail-") as folder,
        progress_bar(f"measuring {manifest.name}", len(manifest)) as progress,
    ):
        return measured_images(manifest, Path(folder), threads=2, progress=progress)


def _distinct(measures: ImageMeasures, rows: np.ndarray) -> np.ndarray:
    """Rows whose image is readable and repeats no earlier one."""
    faults = measures.faults
    rows = np.array([row for row in rows.tolist() if faults[row] is None], dtype=np.int64)
    if len(rows) < 2:
        return rows
    own = np.arange(len(rows))
    keepers, _ = near_keepers(measures.take(rows).thumbnails(), own, least=SIMILARITY)
    return rows[keepers == own]


def _described(one: LevelledClasses) -> dict[str, Any]:
    names = dict(zip(one.names, one.counts, strict=True))
    return {"classes": names, "images_of_each": one.each, "images": len(one.rows)}


def _on_sides(
    model: str | Path | Model,
    manifest: Manifest,
    sides: dict[str, LevelledClasses],
    labels: Sequence[str | None],
    label_field: str | None,
) -> dict[str, Any]:
    """Accuracy on tail and head, all classes of the data competing."""
    loaded = model if isinstance(model, Model) else load(model)
    names = sorted({label for label in labels if label is not None})
    found = {
        side: evaluate(loaded, data=manifest.take(one.rows), label_field=label_field, classes=names)
        for side, one in sides.items()
    }
    top1 = {side: one["metrics"]["generalised_top1"] for side, one in found.items()}
    name = str(model) if isinstance(model, (str, Path)) else loaded.fingerprint
    intervals = {f"{side}_interval": one["interval"]["generalised_top1"] for side, one in found.items()}
    return {"model": name, **top1, **intervals, "gap": top1["head"] - top1["tail"]}


def show(result: dict[str, Any], console: Console | None = None) -> None:
    """Print the rarest classes, and each model on head and tail."""
    console = console or Terminal(markup=True)
    lines = []
    for side in ("tail", "head"):
        one = result[side]
        listed = ", ".join(f"{name} {count:,}" for name, count in list(one["classes"].items())[:8])
        lines.append(
            escape(f"{side}: {len(one['classes'])} classes of {one['images_of_each']} images: {listed}")
        )
    show_lines([*lines, escape(f"Wrote {result['written']}.")], console)
    if not result["models"]:
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("model", "head", "tail", "gap"):
        table.add_column(title, justify="left" if title == "model" else "right", overflow="fold")
    for one in result["models"]:
        table.add_row(escape(one["model"]), *(f"{one[key]:.1f}" for key in ("head", "tail", "gap")))
    console.print(table)
