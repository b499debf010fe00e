"""CSV, TSV and JSON lines as manifests, and what every table-like source shares.

`rows`, `parquet_tables` and `huggingface` read a file into a raw table, and `assemble` makes samples of its
rows. Rows that cannot be read go to the ledger with their line. What Arrow or one directory listing can check
for all rows is not checked row by row.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from frugalclip.core.errors import DataError
from frugalclip.data.images import UNREADABLE_EXTENSIONS
from frugalclip.data.ledger import Ledger
from frugalclip.data.manifest import Manifest, image_places, make_manifest
from frugalclip.data.tables import is_number
from frugalclip.sources.captions import read_all, readable_by_language
from frugalclip.sources.columns import Roles, captions_of, choose
from frugalclip.sources.rows import RawTable, read_csv_rows, read_json_rows, shown
from frugalclip.sources.values import typed

_LISTED = 64  # from so many files of one folder on, the folder is listed once instead of asking for each
_LONGEST_PATH, _LONGEST_NAME = 4095, 255  # bytes, of Linux


def table_manifest(
    path: Path, *, columns: Mapping[str, str] | None, ledger: Ledger, notes: list[str], mend: bool = False
) -> Manifest:
    """A CSV, TSV or JSON file as a manifest; faults go to the ledger, remarks to the notes.

    Raises:
        DataError: when columns are not recognised, or no row is a sample.
    """
    is_json = path.suffix.lower() in (".jsonl", ".ndjson", ".json")
    raw = (
        read_json_rows(path, ledger, mend=mend) if is_json else read_csv_rows(path, ledger, notes, mend=mend)
    )
    if not raw.table.num_rows:
        raise DataError(
            f"{path} has no usable row{_faults_in_words(ledger)}; expected a header such as image,caption "
            "and one row a sample."
        )
    return assemble(raw, choose(raw.table, columns, where=str(path)), path, ledger, notes)


def _captions(raw: RawTable, roles: Roles) -> tuple[list[list[str]], list[dict[str, list[str]]] | None]:
    """Readable captions of every row, and by language; causes of rows without any go to the raw table."""
    captions, by_language = captions_of(raw.table, roles)
    captions, causes = read_all(captions)
    raw.causes.update(
        {row: cause for row, cause in causes.items() if not captions[row] and row not in raw.causes}
    )
    return captions, by_language and [readable_by_language(languages) for languages in by_language]


def assemble(raw: RawTable, roles: Roles, file: Path, ledger: Ledger, notes: list[str]) -> Manifest:
    """Samples of rows that name image files.

    Args:
        raw: the rows.
        roles: which column is what.
        file: where the rows come from; relative paths start from its folder.
        ledger: gets the rows left out.
        notes: gets remarks.

    Raises:
        DataError: when no row is a sample.
    """
    captions, by_language = _captions(raw, roles)
    paths = [_clean(value) for value in raw.table[roles.image].to_pylist()]
    base = _base(paths, file, notes)
    reasons = path_faults(paths, base)
    ids = _ids(raw.table, roles, paths)
    owners = np.full(len(paths), -1)  # (rows,) the first row with the same image; -1: left out
    first: dict[str, int] = {}
    for row, (path, reason) in enumerate(zip(paths, reasons, strict=True)):
        line = f"line {raw.lines[row]}"
        if not captions[row] or row in raw.causes:
            reason = reason or raw.causes.get(row, "no-caption")
        if reason is not None:
            ledger.drop(shown(ids[row]) or line, reason, f"{line}: {shown(path or '')}")
            continue
        owners[row] = first.setdefault(path or "", row)
        if owners[row] != row:
            ledger.merge(ids[row], "same-image", f"{line}: {path}")
    keep = owners == np.arange(len(paths))
    if merged := _join_captions(owners, captions, by_language):
        notes.append(
            f"rows that share their image with an earlier row: {merged:,}; their captions are joined, "
            "other columns are the first row's"
        )
    if not keep.any():
        tried = (
            f" beside {file.name}, in its folders and in the current folder"
            if any(r == "missing-file" for r in reasons)
            else ""
        )
        found = f"{file} has {len(paths):,} rows and none is a sample{_faults_in_words(ledger)}"
        raise DataError(
            f"{found}; '{roles.image}' was searched for images{tried}; see the paths with: head {file}"
        )
    places = image_places([path or "" for path in paths])
    return _finish(raw, roles, file, places, ids, captions, by_language, keep, ledger, base, notes)


def _join_captions(
    owners: np.ndarray, captions: list[list[str]], by_language: list[dict[str, list[str]]] | None
) -> int:
    """Add captions of rows to the rows that own their image, each once; how many rows were added."""
    added = np.flatnonzero((owners >= 0) & (owners != np.arange(len(owners))))
    joined: dict[int, dict[str, None]] = {}  # captions as keys: one image may have very many
    for row in added.tolist():
        owner = int(owners[row])
        joined.setdefault(owner, dict.fromkeys(captions[owner])).update(dict.fromkeys(captions[row]))
        if by_language:
            for language, texts in by_language[row].items():
                known = by_language[owner].get(language, [])
                by_language[owner][language] = list(dict.fromkeys([*known, *texts]))
    for owner, texts in joined.items():
        captions[owner] = list(texts)
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
    captions, by_language = _captions(raw, roles)
    ids = _ids(raw.table, roles, None)
    keep = _keep(ids, captions, reasons, raw.causes, ledger)
    return _finish(raw, roles, file, places, ids, captions, by_language, keep, ledger, file.parent, notes)


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
    files = [_clean(paths[int(row)]) for row in lacking]
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
    captions: list[list[str]],
    by_language: list[dict[str, list[str]]] | None,
    keep: np.ndarray,
    ledger: Ledger,
    base: Path,
    notes: list[str],
) -> Manifest:
    if not keep.any():
        raise DataError(
            f"{file} has {len(ids):,} rows and none is a sample{_faults_in_words(ledger)}; "
            f"see frugalclip data check {file}."
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
        captions=[captions[row] for row in rows],
        captions_by_language=[list(by_language[row].items()) for row in rows] if by_language else None,
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


def _clean(value: Any) -> str | None:
    """A path as written in a table, with forward slashes and without `./`."""
    path = value.strip() if isinstance(value, str) else None
    if not path:
        return None
    if "\\" in path and "/" not in path:
        path = path.replace("\\", "/")  # written on Windows
    # which cuts at a NUL in some versions of Python
    return path if "://" in path or "\0" in path else os.path.normpath(path)


def _base(paths: Sequence[str | None], file: Path, notes: list[str]) -> Path:
    """The folder that paths start from: the file's own, else one inside it, else the current folder."""
    probes = [
        path
        for path in paths
        if path and not os.path.isabs(path) and "://" not in path and not path.startswith("..")
    ][:50]
    own = file.parent
    if not probes or any(
        os.path.exists(own / path) for path in probes
    ):  # Path.exists raises for names that are too long
        return own
    folders = sorted(entry for entry in own.iterdir() if entry.is_dir() and not entry.name.startswith("."))[
        :50
    ]
    for folder in [*folders, Path.cwd()]:
        if any(os.path.exists(folder / path) for path in probes):
            notes.append(f"image paths start from {folder}, not from {own}")
            return folder
    return own


def path_faults(paths: Sequence[str | None], base: Path) -> list[str | None]:
    """For each path why it cannot be an image file, or None. Folders with many paths are listed once."""
    reasons: list[str | None] = [None] * len(paths)
    folders: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        if path is None:
            reasons[row] = "no-image"
        elif "://" in path:
            reasons[row] = "is-url"
        elif "\0" in path or (len(path) > 60 and _is_too_long(path)):  # a character has at most four bytes
            reasons[row] = "not-a-path"
        elif path.split("/", 1)[0] == "..":
            reasons[row] = "outside-folder"
        elif path.lower().endswith(UNREADABLE_EXTENSIONS):
            reasons[row] = "unsupported-format"
        else:
            folders.setdefault(os.path.dirname(path), []).append(row)
    for folder, rows in folders.items():
        present = _files(base / folder) if len(rows) >= _LISTED else None
        for row in rows:
            path = paths[row] or ""
            there = os.path.basename(path) in present if present is not None else os.path.isfile(base / path)
            if not there:
                reasons[row] = "not-a-file" if os.path.exists(base / path) else "missing-file"
    return reasons


def _is_too_long(path: str) -> bool:
    return len(os.fsencode(path)) > _LONGEST_PATH or any(
        len(os.fsencode(part)) > _LONGEST_NAME for part in path.split("/")
    )


def _files(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if _is_file(entry)}
    except OSError:
        return set()


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself, or into a folder that may not be read
        return False


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


def _faults_in_words(ledger: Ledger) -> str:
    return f" ({ledger.in_words()})" if ledger.dropped else ""
