"""Samples of the rows of any table: images, captions, ids and fields, with a fate for every row.

Rows that cannot be used go to the ledger with their line. What Arrow or one directory listing can check for
all rows is not checked row by row.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from frugalclip.core.errors import DataError
from frugalclip.core.users_text import command_line
from frugalclip.data.ledger import Ledger
from frugalclip.data.manifest import Manifest, image_places, make_manifest
from frugalclip.data.tables import is_number
from frugalclip.sources.captions import read_all, readable_by_language
from frugalclip.sources.columns import Roles
from frugalclip.sources.folder_names import fields_of_folders
from frugalclip.sources.paths import ImagePaths, clean_path, find_images, path_faults
from frugalclip.sources.rows import RawTable, shown
from frugalclip.sources.table_captions import TableCaptions, captions_of
from frugalclip.sources.values import typed


def _captions(raw: RawTable, roles: Roles, file: Path) -> TableCaptions:
    """Readable captions of every row, and by language; causes of rows without any go to the raw table."""
    found = captions_of(raw.table, roles, where=str(file))
    found.texts, causes = read_all(found.texts)
    causes = dict.fromkeys(found.structured, "structured") | causes
    raw.causes.update(
        {row: cause for row, cause in causes.items() if not found.texts[row] and row not in raw.causes}
    )
    found.by_language = [readable_by_language(languages) for languages in found.by_language]
    return found


def assemble(
    raw: RawTable,
    roles: Roles,
    file: Path,
    ledger: Ledger,
    notes: list[str],
    *,
    root: Path | None = None,
) -> Manifest:
    """Samples of rows that name image files.

    Args:
        raw: the rows.
        roles: which column is what.
        file: where the rows come from; relative paths start from its folder.
        ledger: gets the rows left out.
        notes: gets remarks.
        root: the folder that the user named, where that is one above the file.

    Raises:
        DataError: when no row is a sample.
    """
    captions = _captions(raw, roles, file)
    images = find_images(raw.table[roles.image].to_pylist(), file, notes, root=root)
    ids = _ids(raw.table, roles, images.paths)
    owners = _owners(raw, captions, images, ids, ledger)
    keep = owners == np.arange(len(ids))
    if merged := _join_captions(owners, captions):
        notes.append(
            f"rows that share their image with an earlier row: {merged:,}; their captions are joined, "
            "other columns are the first row's"
        )
    if not keep.any():
        raise DataError(_no_samples(images, roles, file, ledger))
    kept = [images.paths[row] or "" for row in np.flatnonzero(keep)]
    for name, values in fields_of_folders(kept).items():
        raw.add_field(name, values, np.flatnonzero(keep))
    places = image_places([path or "" for path in images.paths])
    return _finish(raw, roles, file, places, ids, captions, keep, ledger, images.base, notes)


def _owners(
    raw: RawTable, captions: TableCaptions, images: ImagePaths, ids: Sequence[str], ledger: Ledger
) -> np.ndarray:
    """(rows,) the first row with the same image; -1 for rows that are left out, which the ledger gets."""
    owners = np.full(len(ids), -1)
    first: dict[str, int] = {}
    for row, (path, reason) in enumerate(zip(images.paths, images.faults, strict=True)):
        line = f"line {raw.lines[row]}"
        if not captions.texts[row] or row in raw.causes:
            cause = raw.causes.get(row, "no-caption")
            reason = cause if cause == "several-images" else reason or cause
        if reason is not None:
            ledger.drop(shown(ids[row]) or line, reason, f"{line}: {shown(path or '')}")
            continue
        owners[row] = first.setdefault(path or "", row)
        if owners[row] != row:
            ledger.merge(ids[row], "same-image", f"{line}: {path}")
    return owners


def _no_samples(images: ImagePaths, roles: Roles, file: Path, ledger: Ledger) -> str:
    """Why no row is a sample, and what to do."""
    found = f"{file} has {len(images.paths):,} rows and none is a sample{faults_in_words(ledger)}"
    outside = next(
        (p for p, f in zip(images.paths, images.faults, strict=True) if f == "outside-folder"), None
    )
    if outside is not None:
        above = (images.base / outside).resolve().parent
        above = Path(os.path.commonpath([above, file.parent.resolve()]))
        return (
            f"{found}; paths such as {outside} leave the folder of the table, which is not followed. "
            f"Give the folder that holds both: {command_line('data', 'check', above)}; "
            "or write absolute paths."
        )
    tried = (
        f" beside {file.name}, in its folders and in the current folder"
        if "missing-file" in images.faults
        else ""
    )
    return f"{found}; '{roles.image}' was searched for images{tried}; see the paths with: head {file}"


def _join_captions(owners: np.ndarray, captions: TableCaptions) -> int:
    """Add captions of rows to the rows that own their image, each once; how many rows were added."""
    added = np.flatnonzero((owners >= 0) & (owners != np.arange(len(owners))))
    joined: dict[int, dict[str, None]] = {}  # captions as keys: one image may have very many
    for row in added.tolist():
        owner = int(owners[row])
        joined.setdefault(owner, dict.fromkeys(captions.texts[owner])).update(
            dict.fromkeys(captions.texts[row])
        )
        for language, texts in captions.by_language[row].items():
            known = captions.by_language[owner].get(language, [])
            captions.by_language[owner][language] = list(dict.fromkeys([*known, *texts]))
    for owner, texts in joined.items():
        captions.texts[owner] = list(texts)
    return len(added)


def inside_manifest(
    raw: RawTable,
    roles: Roles,
    file: Path,
    places: pa.StructArray,
    reasons: Sequence[str | None],
    ledger: Ledger,
    notes: list[str],
) -> Manifest:
    """Samples of rows whose images lie inside a file.

    Args:
        raw: the rows without their images.
        roles: which column is what.
        file: where the rows come from; relative paths start from its folder.
        places: (rows,) the `image` column.
        reasons: (rows,) why a row has no image, or None.
        ledger: gets the rows left out.
        notes: gets remarks.

    Raises:
        DataError: when no row is a sample.
    """
    captions = _captions(raw, roles, file)
    ids = _ids(raw.table, roles, None)
    keep = _keep(ids, captions.texts, reasons, raw.causes, ledger)
    return _finish(raw, roles, file, places, ids, captions, keep, ledger, file.parent, notes)


def with_paths(
    places: pa.StructArray, held: np.ndarray, paths: Sequence[str | None], folder: Path
) -> tuple[pa.StructArray, list[str | None]]:
    """Places of which some are files instead.

    Args:
        places: (rows,) the `image` column.
        held: (rows,) whether the bytes are there.
        paths: (rows,) for the other rows the image's file, where it has one.
        folder: where relative paths start.

    Returns:
        (rows,) the `image` column, and for each row why it has no image, or None.
    """
    reasons: list[str | None] = [None] * len(held)
    lacking = np.flatnonzero(~held)
    if not len(lacking):
        return places, reasons
    files = [clean_path(paths[int(row)]) for row in lacking]
    for row, reason in zip(lacking, path_faults(files, folder), strict=True):
        reasons[row] = reason
    rows = np.where(held, np.arange(len(held)), len(places) + np.cumsum(~held) - 1)
    both: Any = pa.concat_arrays([places, image_places([file or "" for file in files])])
    return both.take(pa.array(rows)), reasons


def _finish(
    raw: RawTable,
    roles: Roles,
    file: Path,
    places: pa.StructArray,
    ids: list[str],
    captions: TableCaptions,
    keep: np.ndarray,
    ledger: Ledger,
    base: Path,
    notes: list[str],
) -> Manifest:
    if not keep.any():
        raise DataError(
            f"{file} has {len(ids):,} rows and none is a sample{faults_in_words(ledger)}; "
            f"see: {command_line('data', 'check', file)}"
        )
    rows = np.flatnonzero(keep)
    table = raw.table.take(pa.array(rows))
    fields = {name: typed(table[name]) for name in table.column_names if name not in roles.consumed}
    final = _distinct([ids[row] for row in rows])
    if len({ids[row] for row in rows}) < len(rows):
        notes.append("ids occur more than once: they got a number, as in ID#1, ID#2")
    for row, name in zip(rows, final, strict=True):
        if ledger.remarks and (remark := ledger.remarks.pop(f"line {raw.lines[row]}", None)):
            ledger.remark(name, remark.reason, remark.detail)
    weights = fields.pop("weight") if "weight" in fields and is_number(fields["weight"].type) else None
    return make_manifest(
        ids=final,
        images=places.take(pa.array(rows)),
        captions=[captions.texts[row] for row in rows],
        captions_by_language=[list(captions.by_language[row].items()) for row in rows]
        if any(captions.by_language)
        else None,
        fields=fields,
        weights=weights,
        root=base,
        name=str(file),
    )


def _keep(
    ids: list[str],
    captions: list[list[str]],
    reasons: Sequence[str | None],
    causes: dict[int, str],
    ledger: Ledger,
) -> np.ndarray:
    keep = np.ones(len(ids), dtype=bool)
    for row, name in enumerate(ids):
        reason = reasons[row] or (
            causes.get(row, "no-caption") if not captions[row] or row in causes else None
        )
        if reason:
            ledger.drop(name, reason, f"row {row + 1}")
            keep[row] = False
    return keep


def _ids(table: pa.Table, roles: Roles, paths: Sequence[str | None] | None) -> list[str]:
    """The id column where it is complete, else the image's path without extension, else the row's number."""
    if roles.id is not None and not table[roles.id].null_count:
        values = [str(value).strip() for value in table[roles.id].to_pylist()]
        if all(values) and (paths is not None or len(set(values)) == len(values)):
            return values
    if paths is None:
        width = len(str(max(table.num_rows - 1, 0)))
        return [str(row).zfill(width) for row in range(table.num_rows)]
    return [os.path.splitext(path.lstrip("/"))[0] if path and path != "." else "" for path in paths]


def _distinct(ids: list[str]) -> list[str]:
    """Ids told apart by a number where they are equal."""
    seen: Counter[str] = Counter(ids)
    if len(seen) == len(ids):
        return ids
    taken, result, numbers = set(seen), [], Counter[str]()
    for name in ids:
        if seen[name] > 1:
            numbers[name] += 1
            while f"{name}#{numbers[name]}" in taken:
                numbers[name] += 1
            name = f"{name}#{numbers[name]}"
            taken.add(name)
        result.append(name)
    return result


def faults_in_words(ledger: Ledger) -> str:
    """Why rows were left out, in brackets; empty where none was."""
    return f" ({ledger.in_words()})" if ledger.dropped else ""
