"""`frugalclip ledger`: one row's story, a stage taken back, and the rows that stay described for others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from rich.console import Console
from rich.markup import escape

from frugalclip.core.errors import DataError, known_names
from frugalclip.core.locks import writes_into
from frugalclip.core.paths import user_path
from frugalclip.core.records import write_json
from frugalclip.core.terminal import Terminal
from frugalclip.curation.croissant import CROISSANT, Published, describe_as_croissant, missing
from frugalclip.curation.ledger import read_ledger, reason_meanings
from frugalclip.curation.outputs import LEDGER, MANIFEST, Summary, known_rows
from frugalclip.curation.outputs import undo as take_back
from frugalclip.curation.page import write_page
from frugalclip.curation.run import ADVICE, stage_files
from frugalclip.data.manifest import Manifest
from frugalclip.data.tables import read_parquet
from frugalclip.training.recommendation import train_command
from frugalclip.verbs.curate import stage_table
from frugalclip.verbs.data_terminal import show_lines, show_next

pc: Any = pyarrow.compute  # its functions are made at import, out of sight of type checkers


@dataclass(frozen=True)
class Passed:
    """What a stage decided about the row."""

    stage: str
    reason: str | None  # None: the row stayed
    value: float | None
    threshold: float | None


@dataclass(frozen=True)
class Story:
    """What became of one row."""

    id: str
    fate: str
    stage: str | None
    reason: str | None
    meaning: str  # of the reason
    value: float | None
    threshold: float | None
    keeper: str | None
    detail: str | None
    image: Path | None  # the file that holds its image
    captions: list[str]
    keeper_image: Path | None
    keeper_captions: list[str]
    stages: list[Passed]  # that it went through


def explain(folder: str | Path, id: str) -> Story:
    """Why a row of a curation is in or out.

    Args:
        folder: of the curation.
        id: of the row.

    Raises:
        DataError: when there is no finished curation, or no such row.
    """
    place = user_path(folder)
    ledger = read_ledger(place / LEDGER)
    found = np.flatnonzero(pc.equal(ledger["id"], id).to_numpy(zero_copy_only=False))
    if not len(found):
        raise DataError(f"'{id}' is no row of {place}; {_near(id, ledger['id'])}")
    row = ledger.slice(int(found[0]), 1).to_pylist()[0]
    manifests = known_rows(place)
    image, captions = _pair(manifests[:1], id)
    keeper_image, keeper_captions = _pair(manifests, row["keeper"])
    meaning = reason_meanings(ledger).get(row["stage"] or "", {}).get(row["reason"] or "", "")
    return Story(
        **row,
        meaning=meaning,
        image=image,
        captions=captions,
        keeper_image=keeper_image,
        keeper_captions=keeper_captions,
        stages=list(_passed(place, id)),
    )


def _near(id: str, ids: pa.ChunkedArray) -> str:
    ending = [one for one in ids.to_pylist() if one.endswith(id) or Path(one).stem == id][:5]
    return known_names(id, ending or ids.slice(0, 5).to_pylist(), near=ending[0] if ending else "")


def _pair(manifests: Sequence[Manifest], id: str | None) -> tuple[Path | None, list[str]]:
    """The file of a row's image, and its captions, from the first manifest that has the row."""
    for rows in manifests if id is not None else ():
        found = np.flatnonzero(pc.equal(rows.table["id"], id).to_numpy(zero_copy_only=False))
        if len(found):
            one = rows.take(found[:1])
            return one.image_files(one.ids)[0], one.captions()[0]
    return None, []


def _passed(folder: Path, id: str) -> Sequence[Passed]:
    """The decisions of the stages that the row reached, in order."""
    return [
        Passed(name, row["reason"], row["value"], row["threshold"])
        for name, path in stage_files(folder).items()
        for row in read_parquet(path, advice=ADVICE, id=id).to_pylist()
    ]


@writes_into("folder")
def undo(folder: str | Path, stage: str) -> Summary:
    """Take a stage of a curation back: the rows that it dropped are in again. No stage runs.

    Args:
        folder: of the curation.
        stage: its name.

    Raises:
        DataError: when there is no finished curation, or no such stage.
    """
    place = user_path(folder)
    summary = take_back(place, stage)
    write_page(place, summary)
    return summary


@writes_into("folder")
def croissant(
    folder: str | Path,
    *,
    name: str | None = None,
    license: str | None = None,
    creator: str | None = None,
    url: str | None = None,
) -> tuple[Path, list[str]]:
    """Describe the rows that stay by Croissant 1.1, in `croissant.json` beside the manifest.

    Args:
        folder: of the curation.
        name: of the data set; None gives that of the data and the plan.
        license: address or SPDX name; None gives the licences of the rows, where all rows name one.
        creator: who publishes it.
        url: of its page.

    Returns:
        The file, and the properties that the specification requires and that it lacks.

    Raises:
        DataError: when there is no finished curation.
    """
    place = user_path(folder)
    found = describe_as_croissant(place, Published(name, license, creator, url))
    write_json(place / CROISSANT, found)
    return place / CROISSANT, missing(found)


def show_croissant(written: tuple[Path, list[str]], console: Console | None = None) -> None:
    """Print what was written, and what is missing."""
    console = console or Terminal(markup=True)
    path, lacking = written
    lines = [f"Wrote {escape(str(path))}."]
    if lacking:
        options = ", ".join(f"--{key}" for key in lacking)
        lines.append(f"Croissant also requires {', '.join(lacking)}; give {options} before you publish it.")
    show_lines(lines, console)


def show_story(story: Story, console: Console | None = None) -> None:
    """Print one row's story."""
    console = console or Terminal(markup=True)
    lines = [f"[bold]{escape(story.id)}[/] is [bold]{story.fate}[/]."]
    if story.stage:
        lines.append(f"  {escape(story.stage)}: {escape(story.reason or '')}, {escape(story.meaning)}.")
        lines += [f"  {escape(story.detail)}"] if story.detail else []
        lines += [f"  value {_numbers(story.value, story.threshold)}"] if story.value is not None else []
    lines += _shown_pair("  ", story.image, story.captions)
    if story.keeper:
        lines.append(f"In its place stays [bold]{escape(story.keeper)}[/].")
        lines += _shown_pair("  ", story.keeper_image, story.keeper_captions)
    lines += [
        f"  {escape(one.stage)}: {escape(one.reason or 'stayed')}"
        + (f", value {_numbers(one.value, one.threshold)}" if one.value is not None else "")
        for one in story.stages
    ]
    show_lines(lines, console)


def _numbers(value: float | None, threshold: float | None) -> str:
    return f"{value:.4g}" + (f", threshold {threshold:.4g}" if threshold is not None else "")


def _shown_pair(indent: str, image: Path | None, captions: Sequence[str]) -> list[str]:
    place = [f"{indent}{escape(str(image))}"] if image else []
    return [*place, *(f"{indent}“{escape(text)}”" for text in captions)]


def show_undo(summary: Summary, folder: str | Path, console: Console | None = None) -> None:
    """Print rows in and out after a stage was taken back."""
    console = console or Terminal(markup=True)
    console.print(stage_table(summary.stages))
    show_lines([f"Kept [bold]{summary.kept:,}[/] of {summary.rows:,} rows now."], console)
    show_next(train_command(user_path(folder) / MANIFEST, summary.kept), console)
