"""`frugalclip audit leakage`: which test rows the training data holds, and a training set without them."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from frugalclip.core.locks import writing_file
from frugalclip.core.paths import user_path
from frugalclip.core.records import write_json
from frugalclip.core.terminal import Terminal
from frugalclip.core.users_text import command_line
from frugalclip.curation.leakage import (
    CAPTION_SIMILARITY,
    IMAGE_KINDS,
    SIMILARITY,
    Leak,
    caption_leaks,
    image_leaks,
    measured_images,
    summary_of,
)
from frugalclip.curation.measures import ImageMeasures
from frugalclip.data.manifest import Manifest
from frugalclip.sources.open import open_data
from frugalclip.verbs.data_terminal import progress_bar, show_lines, show_next

_SHOWN = 10  # pairs in the terminal


def audit_leakage(
    train: str | Path,
    test: str | Path,
    *,
    where: str | None = None,
    test_where: str | None = None,
    similarity: float = SIMILARITY,
    caption_similarity: float = CAPTION_SIMILARITY,
    repair: str | Path | None = None,
    captions: bool = False,
    json: str | Path | None = None,
) -> dict[str, Any]:
    """Find rows that two data sets share: pictures, also saved anew, cropped, turned, mirrored; and captions.

    Args:
        train: the training data.
        test: the data that a model is evaluated on.
        where: a condition over the training rows.
        test_where: a condition over the test rows.
        similarity: of two pictures that count as one.
        caption_similarity: of two captions; 1 counts equal ones only.
        repair: manifest to write, of the training rows whose picture is in no test row.
        captions: the manifest also leaves out rows that share a specific caption.
        json: file to write the result to.

    Returns:
        `pairs`: [train id, test id, kind, similarity] and what docs/formats.md lists beside it.

    Raises:
        DataError: when a path holds no data set.
    """
    sides = open_data(train, where=where), open_data(test, where=test_where)
    with tempfile.TemporaryDirectory(prefix="frugalclip-leakage-") as folder:
        measures = [_measured(one, Path(folder) / str(place)) for place, one in enumerate(sides)]
        leaks = image_leaks(measures[0], measures[1], least=similarity)
    texts = caption_leaks(sides[0].captions(), sides[1].captions(), least=caption_similarity)
    result = _result(sides[0], sides[1], leaks, texts.leaks, texts.common)
    result["unread_images"] = [sum(fault is not None for fault in one.faults) for one in measures]
    if repair is not None:
        dropped = {leak.train for leak in [*leaks, *(texts.leaks if captions else [])]}
        kept = np.array([row for row in range(len(sides[0])) if row not in dropped], dtype=np.int64)
        target = user_path(repair)
        with writing_file(target):
            sides[0].take(kept).write(target)
        result["repaired"] = {"path": str(target), "rows": len(kept), "dropped": len(dropped)}
    if json is not None:
        write_json(user_path(json), result)
    return result


def _measured(manifest: Manifest, folder: Path) -> ImageMeasures:
    with progress_bar(f"measuring {manifest.name}", len(manifest)) as progress:
        return measured_images(manifest, folder, threads=2, progress=progress)


def _result(
    train: Manifest, test: Manifest, leaks: list[Leak], texts: list[Leak], common: int
) -> dict[str, Any]:
    seen = {(leak.train, leak.test) for leak in leaks}
    every = [*leaks, *(leak for leak in texts if (leak.train, leak.test) not in seen)]
    own, others = train.ids, test.ids
    return {
        "pairs": [[own[leak.train], others[leak.test], leak.kind, leak.similarity] for leak in every],
        "train": train.name,
        "test": test.name,
        "train_rows": len(train),
        "test_rows": len(test),
        "leaking_test_rows": summary_of(every),
        "leaking_images": len({leak.test for leak in leaks}),
        "common_captions": common,
        "repaired": None,
    }


def show(result: dict[str, Any], console: Console | None = None) -> None:
    """Print how many test rows leak in which way, some pairs, and the next command."""
    console = console or Terminal(markup=True)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("kind", "train", "test", "similarity"):
        table.add_column(title, justify="right" if title == "similarity" else "left", overflow="fold")
    for train, test, kind, similarity in result["pairs"][:_SHOWN]:
        table.add_row(kind, escape(train), escape(test), f"{similarity:.3f}")
    if result["pairs"]:
        console.print(table)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in result["leaking_test_rows"].items())
    images, rows = result["leaking_images"], result["test_rows"]
    lines = [
        f"{images:,} of {rows:,} test pictures are in {escape(result['train'])}.",
        f"Test rows by kind: {kinds or 'none leaks'}. Pairs in all: {len(result['pairs']):,}.",
    ]
    if result["common_captions"]:
        lines.append(
            f"{result['common_captions']:,} captions of both are short or shared by many rows; none counts."
        )
    show_lines(lines, console)
    _show_repair(result, console)


def _show_repair(result: dict[str, Any], console: Console) -> None:
    if repaired := result["repaired"]:
        line = f"Wrote {repaired['path']}: {repaired['rows']:,} rows, {repaired['dropped']:,} left out."
        show_lines([escape(line)], console)
    elif any(pair[2] in IMAGE_KINDS for pair in result["pairs"]):
        command = command_line(
            "audit", "leakage", result["train"], result["test"], "--repair", "clean.parquet"
        )
        show_next(command, console)
