"""`frugalclip export`: a model in the format of another library, with a measured parity."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from frugalclip.core.errors import UsageError, known_names
from frugalclip.core.locks import writes_into
from frugalclip.core.paths import user_path
from frugalclip.core.records import write_json
from frugalclip.core.terminal import Terminal
from frugalclip.exporting.base import ExportSettings, ExportTarget, Precision
from frugalclip.exporting.card import write_card
from frugalclip.exporting.find import find_target
from frugalclip.exporting.folder import check_folder, replaced_contents
from frugalclip.exporting.parity import STEPS, measure, refuse_apart, sample_rows
from frugalclip.models import Model, load
from frugalclip.sources.open import open_data

PARITY = "parity.json"
_SAMPLE = "sample"  # rows that are compared where none are given


@dataclass(frozen=True)
class ExportResult:
    """A folder that another library reads."""

    folder: Path
    target: ExportTarget
    parity: dict[str, Any]  # what `parity.json` holds
    notes: list[str]  # what has no counterpart


@writes_into("out")
def export(
    model: str | Path | Model,
    *,
    to: str,
    out: str | Path,
    precision: Precision = "fp32",
    layout: str = "frugalclip",
    data: str | Path | None = None,
) -> ExportResult:
    """Write a model so that another library encodes with it, and measure how far its vectors are.

    Args:
        model: a MODEL as `load` takes it, or a loaded model.
        to: onnx, open_clip, huggingface or sentence_transformers.
        out: folder to make; an earlier export in it is replaced.
        precision: fp32; fp16 and int8 for ONNX.
        layout: names of files and tensors, for ONNX: frugalclip, transformers.js or immich.
        data: rows to compare on, and to calibrate int8 with; by default the sample.

    Raises:
        ModelError: for what the format has no counterpart for, or an export that gives other vectors.
        UsageError: for a target, precision or layout that is not known.
        MissingExtra: where a library is not installed.
    """
    target, folder = find_target(to), user_path(out)
    _check(target, "precision", precision, target.precisions)
    _check(target, "layout", layout, target.layouts)
    if precision == "int8" and data is None:
        raise UsageError(
            "int8 takes its ranges and its gate from your own rows; add --data PATH, such as the "
            "validation rows."
        )
    check_folder(folder)
    loaded = model if isinstance(model, Model) else load(model)
    target.check(loaded)
    rows = open_data(data or _SAMPLE)
    given = None if isinstance(model, Model) else str(model)
    settings = ExportSettings(given=given, precision=precision, layout=layout, data=rows)
    with replaced_contents(folder) as building:
        written = target.write(loaded, building, settings)
        back = target.read(building, settings)
        parity = measure(loaded, back, sample_rows(rows), engine=target.engine, folder=building)
        if precision == "fp32":
            refuse_apart(parity, has_steps=loaded.network.image.has_steps)
        parity |= written.measured
        write_json(building / PARITY, parity)
        write_card(building, target, loaded, settings, parity, place=folder)
    notes = [*written.notes, *([STEPS] if loaded.network.image.has_steps else [])]
    return ExportResult(folder, target, parity, notes)


def _check(target: ExportTarget, name: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise UsageError(f"--{name} {given} is not for --to {target.name}; {known_names(given, known)}")


def show(result: ExportResult) -> None:
    """Print what was written, how far its vectors are from the model's, and how to load it."""
    console, parity = Terminal(), result.parity
    title = f"{result.folder}: {parity['size_mb']:,.1f} MB, read by {parity['library']}"
    console.print(Text(title, style="bold"), soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("", "largest difference", "least cosine"):
        table.add_column(name, justify="left" if not name else "right")
    sides = {"image": "images", "text": "texts", "image_own_preprocessing": "images, its own preprocessing"}
    for side, label in sides.items():
        if found := parity.get(side):
            table.add_row(label, f"{found['max_abs']:.1e}", f"{found['min_cosine']:.6f}")
    console.print(table)
    speeds = ", ".join(f"{name} {speed:,.0f}" for name, speed in parity["images_per_second"].items())
    console.print(Text(f"images a second: {speeds}"), soft_wrap=True)
    for note in result.notes:
        console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)
    console.print(Text(f"use it:\n{result.target.example(result.folder)}"), soft_wrap=True)
