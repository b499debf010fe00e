"""CSV, TSV, JSON lines and Parquet as manifests.

A file becomes a raw table (`read_csv`, `read_json`, or Parquet's own) and `assemble` makes samples of its rows. Rows that cannot be read are
in the ledger with their line; nothing is checked row by row in Python that Arrow or one directory listing can do for all.
"""

import codecs
import csv
import io
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from frugalclip.core.errors import DataError
from frugalclip.data import columns as roles_of
from frugalclip.data.columns import Roles, captions_of, choose, holds_bytes, rows_to_table, typed
from frugalclip.data.images import EXTENSIONS, UNREADABLE_EXTENSIONS
from frugalclip.data.ledger import Ledger
from frugalclip.data.manifest import Manifest, concatenate_tables, image_places, make_manifest, plain_types

SEPARATORS = (",", "\t", ";", "|")
_CHUNK = 50_000  # rows turned into Arrow at a time
_LISTED = 64  # from so many files of one folder on, the folder is listed once instead of asking for each
_FIELD_LIMIT = 4 * 2**20


@dataclass
class Raw:
    """Rows as they stand in a file, and the line each began on."""

    table: pa.Table
    lines: np.ndarray  # (rows,) int64, from 1


def read_csv(path: Path, ledger: Ledger, notes: list[str]) -> Raw:
    """Rows of a CSV or TSV file, every value as text.

    The separator is the one that divides the first lines most evenly; a first line that already names an image is taken as data.

    Raises:
        DataError: when the file is empty or a quote is never closed.
    """
    encoding = _encoding(path)
    with path.open(encoding=encoding, errors="surrogateescape", newline="") as file:
        head = file.read(2**16)
    if not head.strip():
        raise DataError(f"{path} is empty, expected a header such as image,caption and one row a sample.")
    separator = _separator(head, path.suffix.lower())
    first = next(csv.reader(io.StringIO(head, newline=""), delimiter=separator))
    header = None if any(cell.strip().lower().endswith(EXTENSIONS) for cell in first) else _unique([cell.strip() for cell in first])
    notes.append(f"separator {'TAB' if separator == chr(9) else repr(separator)}" + ("" if header else ", no header: columns are numbered"))
    names = header or [f"column_{number}" for number in range(1, len(first) + 1)]
    tables: list[pa.Table] = []
    lines: list[int] = []
    with path.open(encoding=encoding, errors="surrogateescape", newline="") as file:
        limit = csv.field_size_limit(_FIELD_LIMIT)
        try:
            rows = _csv_rows(file, separator, names, header is not None, path, ledger)
            while chunk := list(itertools.islice(rows, _CHUNK)):
                lines += [line for line, _ in chunk]
                tables.append(_text_table(names, [row for _, row in chunk]))
        finally:
            csv.field_size_limit(limit)
    table = pa.concat_tables(tables) if tables else pa.table({name: pa.array([], pa.string()) for name in names})
    return Raw(table, np.array(lines, dtype=np.int64))


def _csv_rows(file: Any, separator: str, names: list[str], has_header: bool, path: Path, ledger: Ledger) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(file, delimiter=separator)
    line = 1
    try:
        for number, row in enumerate(reader):
            here, line = line, reader.line_num + 1
            if (number == 0 and has_header) or not row or (len(row) == 1 and not row[0].strip()):
                continue
            if len(row) != len(names):
                ledger.drop(f"line {here}", "wrong-columns", f"{len(row)} cells, the header has {len(names)}: {_shown(separator.join(row))}")
            elif not _is_utf8(row):
                ledger.drop(f"line {here}", "not-utf8", _shown(separator.join(row).encode("utf-8", "replace").decode()))
            else:
                yield here, row
    except csv.Error as error:
        raise DataError(f"{path} line {line}: a quote opens and is not closed ({error}); close it, or write it twice inside a quoted cell.") from None


def _is_utf8(row: list[str]) -> bool:
    try:
        "".join(row).encode()
        return True
    except UnicodeEncodeError:
        return False


def _text_table(names: list[str], rows: list[list[str]]) -> pa.Table:
    cells = zip(*rows, strict=True)
    return pa.table({name: pa.array(values, pa.string()) for name, values in zip(names, cells, strict=True)})


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    return "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def _separator(head: str, suffix: str) -> str:
    """The separator whose rows agree best with the first one; known column names, then the suffix, decide between equals."""
    known = {*roles_of.IMAGE_NAMES, *roles_of.CAPTION_NAMES}
    whole = head if len(head) < 2**16 else head[: head.rfind("\n") + 1] or head

    def score(separator: str) -> tuple[float, ...]:
        rows = [row for row in itertools.islice(csv.reader(io.StringIO(whole, newline=""), delimiter=separator), 100) if row]
        if not rows or len(rows[0]) < 2:
            return 0.0, 0.0, 0.0
        recognised = sum(re.sub(r"[\s_.\-]", "", cell).lower() in known or cell.strip().lower().endswith(EXTENSIONS) for cell in rows[0])
        return recognised, sum(len(row) == len(rows[0]) for row in rows) / len(rows), separator == "\t" and suffix == ".tsv"

    return max(SEPARATORS, key=score)


def _unique(names: list[str]) -> list[str]:
    """Header cells as column names: empty ones numbered, repeated ones told apart."""
    seen: Counter[str] = Counter()
    result: list[str] = []
    for number, name in enumerate(names, start=1):
        name = name or f"column_{number}"
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return result


def read_json(path: Path, ledger: Ledger) -> Raw:
    """Rows of a JSON lines file, or of one JSON list of objects.

    Raises:
        DataError: when the file is empty, or holds one JSON value that is not a list of objects.
    """
    encoding = _encoding(path)
    tables: list[pa.Table] = []
    lines: list[int] = []
    with path.open(encoding=encoding, errors="surrogateescape", newline="\n") as file:
        is_list = file.read(1) == "["
    rows = _json_list(path, encoding) if is_list else _json_lines(path, encoding, ledger)
    while chunk := list(itertools.islice(rows, _CHUNK)):
        lines += [line for line, _ in chunk]
        tables.append(rows_to_table([row for _, row in chunk]))
    if not tables:
        raise DataError(f'{path} holds no JSON object, expected lines such as {{"image": "a.jpg", "caption": "a dog"}}.')
    return Raw(concatenate_tables(tables), np.array(lines, dtype=np.int64))


def _json_lines(path: Path, encoding: str, ledger: Ledger) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding=encoding, errors="surrogateescape", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                json.dumps(row, ensure_ascii=False).encode()  # escapes such as \ud800 are valid JSON and no text
            except UnicodeEncodeError:
                ledger.drop(f"line {number}", "not-utf8", _shown(line.encode("utf-8", "replace").decode()))
            except (ValueError, RecursionError) as error:
                ledger.drop(f"line {number}", "not-json", f"{error}: {_shown(line.encode('utf-8', 'replace').decode())}")
            else:
                if isinstance(row, dict):
                    yield number, row
                else:
                    ledger.drop(f"line {number}", "not-json", f"a {type(row).__name__}, expected an object: {_shown(line)}")


def _json_list(path: Path, encoding: str) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        content = json.loads(path.read_text(encoding=encoding))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}); expected a list of objects, or one object a line.") from None
    if not all(isinstance(row, dict) for row in content):
        raise DataError(f'{path} is a list of other things than objects, expected [{{"image": "a.jpg", "caption": "a dog"}}, ...].')
    yield from enumerate(content, start=1)


def table_manifest(path: Path, *, columns: Mapping[str, str] | None, ledger: Ledger, notes: list[str]) -> Manifest:
    """A CSV, TSV or JSON file as a manifest; faults go to the ledger, remarks to the notes.

    Raises:
        DataError: when columns are not recognised, or no row is a sample.
    """
    raw = read_json(path, ledger) if path.suffix.lower() in (".jsonl", ".ndjson", ".json") else read_csv(path, ledger, notes)
    if not raw.table.num_rows:
        raise DataError(f"{path} has no usable row{_faults_in_words(ledger)}; expected a header such as image,caption and one row a sample.")
    return _assemble(raw, choose(raw.table, columns, where=str(path)), path, ledger, notes)


def parquet_manifest(path: Path, *, columns: Mapping[str, str] | None, ledger: Ledger, notes: list[str]) -> Manifest:
    """A Parquet file, with images inside or as paths, as a manifest; image bytes are not read.

    Raises:
        DataError: when the file is damaged, columns are not recognised, or no row is a sample.
    """
    try:
        file = pq.ParquetFile(path)
        roles = choose(plain_types(file.read_row_group(0) if _is_small(file) else _first_rows(file)), columns, where=str(path))
        inside = holds_bytes(file.schema_arrow.field(roles.image).type)
        names = [name for name in file.schema_arrow.names if inside is None or name != roles.image]
        table = _named_labels(plain_types(file.read(columns=names)), file.schema_arrow)
        raw = Raw(table, np.arange(1, file.metadata.num_rows + 1))
        if inside is None:
            return _assemble(raw, roles, path, ledger, notes)
        places, held = _inside(file, path, roles.image + inside, ledger)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet ({str(error).splitlines()[0]}); copy it again.") from None
    captions, by_language = captions_of(raw.table, roles)
    ids = _ids(raw.table, roles, None)
    keep = _keep(ids, captions, held, ledger)
    return _finish(raw, roles, path, places, ids, captions, by_language, keep, ledger, path.parent)


def _is_small(file: pq.ParquetFile) -> bool:
    return file.num_row_groups == 1 and file.metadata.row_group(0).total_byte_size < 2**20


def _first_rows(file: pq.ParquetFile) -> pa.Table:
    """The first rows, with columns of bytes left empty: their type is enough."""
    schema = file.schema_arrow
    light = [field.name for field in schema if holds_bytes(field.type) is None]
    batch = next(file.iter_batches(batch_size=256, columns=light), None) if light else None
    rows = batch.num_rows if batch is not None else 0
    values = {name: batch.column(name) for name in light} if batch is not None else {}
    return pa.table([values.get(field.name, pa.nulls(rows, field.type)) for field in schema], schema=schema)


def _inside(file: pq.ParquetFile, path: Path, column: str, ledger: Ledger) -> tuple[pa.StructArray, np.ndarray]:
    """Places of images inside a Parquet file, and which rows hold one; only row groups that may lack some are read."""
    rows = file.metadata.num_rows
    held = np.ones(rows, dtype=bool)
    leaf = file.schema_arrow.names and [file.schema.column(i).path for i in range(len(file.schema))].index(column)
    start = 0
    for group in range(file.num_row_groups):
        chunk = file.metadata.row_group(group).column(leaf)
        count = file.metadata.row_group(group).num_rows
        if chunk.statistics is None or not chunk.statistics.has_null_count or chunk.statistics.null_count:
            values: Any = file.read_row_group(group, columns=[column]).column(0).combine_chunks()
            for part in column.split(".")[1:]:
                values = values.field(part)
            held[start : start + count] = values.is_valid().to_numpy(zero_copy_only=False)
        start += count
    return image_places([path.name] * rows, rows=np.arange(rows), column=column), held


def _named_labels(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Hugging Face keeps class labels as numbers and their names in the schema: give the names."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    except (ValueError, AttributeError):
        return table
    for name, feature in features.items():
        labels = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
        if labels and name in table.column_names and pa.types.is_integer(table.schema.field(name).type):
            values = [labels[value] if value is not None and 0 <= value < len(labels) else None for value in table[name].to_pylist()]
            table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.string()))
    return table


def _assemble(raw: Raw, roles: Roles, file: Path, ledger: Ledger, notes: list[str]) -> Manifest:
    """Samples of rows that name image files."""
    captions, by_language = captions_of(raw.table, roles)
    paths = [_clean(value) for value in raw.table[roles.image].to_pylist()]
    base = _base(paths, file, notes)
    reasons = path_faults(paths, base)
    ids = _ids(raw.table, roles, paths)
    keep = np.zeros(len(paths), dtype=bool)
    first: dict[str, int] = {}
    merged = 0
    for row, (path, reason) in enumerate(zip(paths, reasons, strict=True)):
        if reason is None and not captions[row]:
            reason = "no-caption"
        if reason is not None:
            ledger.drop(ids[row] or f"line {raw.lines[row]}", reason, f"line {raw.lines[row]}: {_shown(path or '')}")
        elif (earlier := first.setdefault(path or "", row)) != row:
            captions[earlier] += [text for text in captions[row] if text not in captions[earlier]]
            if by_language:
                for language, texts in by_language[row].items():
                    by_language[earlier][language] = list(dict.fromkeys([*by_language[earlier].get(language, []), *texts]))
            ledger.merge(ids[row], "same-image", f"line {raw.lines[row]}: {path}")
            merged += 1
        else:
            keep[row] = True
    if merged:
        notes.append(f"rows that share their image with an earlier row: {merged:,}; their captions are joined, other columns are the first row's")
    if not keep.any():
        tried = f" beside {file.name}, in its folders and in the current folder" if any(r == "missing-file" for r in reasons) else ""
        found = f"{file} has {len(paths):,} rows and none is a sample{_faults_in_words(ledger)}"
        raise DataError(f"{found}; images were looked for in '{roles.image}'{tried}; see the paths with: head {file}")
    places = image_places([path or "" for path in paths])
    return _finish(raw, roles, file, places, ids, captions, by_language, keep, ledger, base)


def _finish(
    raw: Raw,
    roles: Roles,
    file: Path,
    places: pa.StructArray,
    ids: list[str],
    captions: list[list[str]],
    by_language: list[dict[str, list[str]]] | None,
    keep: np.ndarray,
    ledger: Ledger,
    base: Path,
) -> Manifest:
    if not keep.any():
        raise DataError(f"{file} has {len(ids):,} rows and none is a sample{_faults_in_words(ledger)}; see frugalclip data check {file}.")
    rows = np.flatnonzero(keep)
    table = raw.table.take(pa.array(rows))
    fields = {name: typed(table[name]) for name in table.column_names if name not in roles.consumed}
    weights = fields.pop("weight") if "weight" in fields and _is_number(fields["weight"].type) else None
    return make_manifest(
        ids=_distinct([ids[row] for row in rows]),
        images=places.take(pa.array(rows)),
        captions=[captions[row] for row in rows],
        captions_by_language=[list(by_language[row].items()) for row in rows] if by_language else None,
        fields=fields,
        weights=weights,
        root=base,
        name=str(file),
    )


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _keep(ids: list[str], captions: list[list[str]], held: np.ndarray, ledger: Ledger) -> np.ndarray:
    keep = np.ones(len(ids), dtype=bool)
    for row, name in enumerate(ids):
        reason = "no-image" if not held[row] else "no-caption" if not captions[row] else None
        if reason:
            ledger.drop(name, reason, f"row {row + 1}")
            keep[row] = False
    return keep


def _clean(value: Any) -> str | None:
    """A path as written in a table, with forward slashes and without `./`."""
    text = value.strip() if isinstance(value, str) else None
    if not text:
        return None
    if "\\" in text and "/" not in text:
        text = text.replace("\\", "/")  # written on Windows
    return text if "://" in text else os.path.normpath(text)


def _base(paths: Sequence[str | None], file: Path, notes: list[str]) -> Path:
    """The folder the paths start from: the file's own, else one of its folders or the current folder, whichever holds the first ones."""
    probes = [path for path in paths if path and not os.path.isabs(path) and "://" not in path and not path.startswith("..")][:50]
    own = file.parent
    if not probes or any((own / path).exists() for path in probes):
        return own
    folders = sorted(entry for entry in own.iterdir() if entry.is_dir() and not entry.name.startswith("."))[:50]
    for folder in [*folders, Path.cwd()]:
        if any((folder / path).exists() for path in probes):
            notes.append(f"image paths start from {folder}, not from {own}")
            return folder
    return own


def path_faults(paths: Sequence[str | None], base: Path) -> list[str | None]:
    """For each path the reason why it cannot be an image file, or None; folders with many paths are listed once."""
    reasons: list[str | None] = [None] * len(paths)
    folders: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        if path is None:
            reasons[row] = "no-image"
        elif "://" in path:
            reasons[row] = "is-url"
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
                reasons[row] = "not-a-file" if os.path.isdir(base / path) else "missing-file"
    return reasons


def _files(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:
        return set()


def _ids(table: pa.Table, roles: Roles, paths: Sequence[str | None] | None) -> list[str]:
    """The id column where it has a value in every row, else the image's path without its extension, else the row's number."""
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
    counts = ledger.counts()
    return " (" + ", ".join(f"{count:,} {reason}" for reason, count in counts.items()) + ")" if counts else ""


def _shown(text: str, limit: int = 120) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
