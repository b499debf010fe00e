"""Rows of CSV, TSV and JSON files as Arrow tables, from which `tables` makes samples.

A line that cannot be read goes to the ledger with its number.
"""

import codecs
import csv
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from frugalclip.core.errors import DataError
from frugalclip.data.images import EXTENSIONS
from frugalclip.data.ledger import Ledger
from frugalclip.data.tables import concatenate_tables
from frugalclip.sources import columns as roles_of
from frugalclip.sources.captions import mended
from frugalclip.sources.values import as_text, rows_to_table

SEPARATORS = (",", "\t", ";", "|")
_CHUNK = 50_000  # rows turned into Arrow at a time
_FIELD_LIMIT = 4 * 2**20


@dataclass
class RawTable:
    """Rows as they stand in a file, and the line each began on."""

    table: pa.Table
    lines: np.ndarray  # (rows,) int64, from 1
    causes: dict[int, str] = field(
        default_factory=dict
    )  # row -> why it is no sample, where that is known already


def read_csv_rows(path: Path, ledger: Ledger, notes: list[str], *, mend: bool = False) -> RawTable:
    """Rows of a CSV or TSV file, every value as text.

    The separator is the one that divides the first lines most evenly; a first line that already names an
    image is taken as data. A quote that is never closed costs its own line, where the lines behind it can be
    told to be rows.

    Args:
        path: the file.
        ledger: gets the rows that cannot be read.
        notes: gets remarks.
        mend: read rows in another encoding than UTF-8 where there is one sensible way.

    Raises:
        DataError: when the file is empty.
    """
    encoding, errors = _encoding(path)
    with path.open(encoding=encoding, errors=errors, newline="") as file:
        head = file.read(2**16)
    if not head.strip():
        raise DataError(f"{path} is empty, expected a header such as image,caption and one row a sample.")
    separator = _separator(head, path.suffix.lower())
    first = next(csv.reader(io.StringIO(head, newline=""), delimiter=separator))
    header = (
        None
        if any(cell.strip().lower().endswith(EXTENSIONS) for cell in first)
        else _unique([cell.strip() for cell in first])
    )
    notes.append(
        f"separator {'TAB' if separator == chr(9) else repr(separator)}"
        + ("" if header else ", no header: columns are numbered")
    )
    names = header or [f"column_{number}" for number in range(1, len(first) + 1)]
    tables: list[pa.Table] = []
    lines: list[int] = []
    limit = csv.field_size_limit(_FIELD_LIMIT)
    try:
        with path.open(encoding=encoding, errors=errors, newline="") as file:
            rows = _csv_rows(file, separator, names, header is not None, ledger, mend)
            while chunk := list(itertools.islice(rows, _CHUNK)):
                lines += [line for line, _ in chunk]
                tables.append(_text_table(names, [row for _, row in chunk]))
    finally:
        csv.field_size_limit(limit)
    table = (
        pa.concat_tables(tables) if tables else pa.table({name: pa.array([], pa.string()) for name in names})
    )
    return RawTable(table, np.array(lines, dtype=np.int64))


class _Lines:
    """Lines of a file that remember those of the row under way, so that they can be read again."""

    def __init__(self, file: Iterator[str]) -> None:
        self.file, self.taken, self.again = file, list[str](), list[str]()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.again.pop() if self.again else next(self.file)
        self.taken.append(line)
        return line

    def put_back(self) -> None:
        """Read again what was taken behind the first line."""
        self.again += reversed(self.taken[1:])


def _csv_rows(
    file: Iterator[str], separator: str, names: list[str], has_header: bool, ledger: Ledger, mend: bool
) -> Iterator[tuple[int, list[str]]]:
    lines = _Lines(file)
    reader = csv.reader(lines, delimiter=separator)
    line, is_header = 1, has_header
    while True:
        lines.taken.clear()
        try:
            row = next(reader, None)
        except csv.Error:  # a cell beyond all bounds
            row = []
        if row is None:
            return
        here, spanned = line, len(lines.taken)
        if not is_header and spanned > 1 and (not row or _swallows_rows(lines.taken, separator, len(names))):
            lines.put_back()
            reader = csv.reader(lines, delimiter=separator)
            ledger.drop(f"line {here}", "open-quote", shown(_as_utf8(lines.taken[0])))
            line += 1
            continue
        line += spanned
        if (
            is_header
            or (not row and spanned == 1 and len(lines.taken[0]) < _FIELD_LIMIT)
            or (len(row) == 1 and not row[0].strip())
        ):
            is_header = False
        elif len(row) != len(names):
            over = f" over {spanned:,} lines" if spanned > 1 else ""
            detail = (
                f"{len(row)} cells{over}, the header has {len(names)}: {shown(_as_utf8(separator.join(row)))}"
            )
            ledger.drop(f"line {here}", "wrong-columns", detail)
        elif (text := _utf8_row(row, f"line {here}", separator, ledger, mend)) is not None:
            yield here, text


def _swallows_rows(taken: list[str], separator: str, columns: int) -> bool:
    """True when a quoted cell holds lines that are rows themselves: as many cells, one of them an image."""
    for line in taken[1:1000]:
        try:
            cells = next(csv.reader([line], delimiter=separator), [])
        except csv.Error:
            continue
        if len(cells) == columns and any(cell.strip().lower().endswith(EXTENSIONS) for cell in cells):
            return True
    return False


def _utf8_row(row: list[str], name: str, separator: str, ledger: Ledger, mend: bool) -> list[str] | None:
    """The row, or None with its fault in the ledger where it holds bytes that are no text."""
    if _is_utf8(row):
        return row
    found = mended(separator.join(row).encode("utf-8", "surrogateescape")) if mend else None
    if found is not None and len(cells := found[0].split(separator)) == len(row):
        ledger.remark(name, "repaired", f"read as {found[1]}: {shown(found[0])}")
        return cells
    ledger.drop(name, "not-utf8", shown(_as_utf8(separator.join(row))))
    return None


def _as_utf8(line: str) -> str:
    return line.encode("utf-8", "replace").decode()


def _is_utf8(row: list[str]) -> bool:
    whole = "".join(row)
    return whole.isascii() or ("\ufffd" not in whole and _encodes(whole))


def _encodes(whole: str) -> bool:
    try:
        whole.encode()
        return True
    except UnicodeEncodeError:
        return False


def _text_table(names: list[str], rows: list[list[str]]) -> pa.Table:
    cells = zip(*rows, strict=True)
    return pa.table({name: pa.array(values, pa.string()) for name, values in zip(names, cells, strict=True)})


def _encoding(path: Path) -> tuple[str, str]:
    """Encoding by the byte order mark, and the error handler, whose traces show rows that do not decode."""
    with path.open("rb") as file:
        head = file.read(4)
    return (
        ("utf-16", "replace")
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        else ("utf-8-sig", "surrogateescape")
    )


def _separator(head: str, suffix: str) -> str:
    """The separator whose rows agree best with the first one, then by known column names, then by suffix."""
    known = {*roles_of.IMAGE_NAMES, *roles_of.CAPTION_NAMES}
    whole = head if len(head) < 2**16 else head[: head.rfind("\n") + 1] or head

    def score(separator: str) -> tuple[float, ...]:
        rows = [
            row
            for row in itertools.islice(csv.reader(io.StringIO(whole, newline=""), delimiter=separator), 100)
            if row
        ]
        if not rows or len(rows[0]) < 2:
            return 0.0, 0.0, 0.0
        recognised = sum(
            re.sub(r"[\s_.\-]", "", cell).lower() in known or cell.strip().lower().endswith(EXTENSIONS)
            for cell in rows[0]
        )
        return (
            recognised,
            sum(len(row) == len(rows[0]) for row in rows) / len(rows),
            separator == "\t" and suffix == ".tsv",
        )

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


def _with_plain_images(row: dict[str, Any]) -> dict[str, Any]:
    """The row with text in columns of images, so that one odd value does not change a column's type."""
    odd = {
        key: value
        for key, value in row.items()
        if not isinstance(value, str) and value is not None and roles_of.is_image_name(key)
    }
    return (
        {**row, **{key: value[0] if _is_one_text(value) else as_text(value) for key, value in odd.items()}}
        if odd
        else row
    )


def _is_one_text(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 1 and isinstance(value[0], str)


def read_json_rows(path: Path, ledger: Ledger, *, mend: bool = False) -> RawTable:
    """Rows of a JSON lines file, or of one JSON list of objects.

    Args:
        path: the file.
        ledger: gets the lines that cannot be read.
        mend: read lines in another encoding than UTF-8 where there is one sensible way.

    Raises:
        DataError: when the file is empty, or holds one JSON value that is not a list of objects.
    """
    encoding, errors = _encoding(path)
    tables: list[pa.Table] = []
    lines: list[int] = []
    with path.open(encoding=encoding, errors=errors, newline="\n") as file:
        is_list = file.read(64).lstrip()[:1] == "["
    rows = _json_list(path, encoding) if is_list else _json_lines(path, encoding, errors, ledger, mend)
    while chunk := list(itertools.islice(rows, _CHUNK)):
        lines += [line for line, _ in chunk]
        tables.append(rows_to_table([_with_plain_images(row) for _, row in chunk]))
    if not tables:
        raise DataError(
            f'{path} holds no JSON object, expected lines such as {{"image": "a.jpg", "caption": "a dog"}}.'
        )
    return RawTable(concatenate_tables(tables), np.array(lines, dtype=np.int64))


def _json_lines(
    path: Path, encoding: str, errors: str, ledger: Ledger, mend: bool
) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding=encoding, errors=errors, newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            name = f"line {number}"
            if not _is_utf8([line]) and mend and (found := mended(line.encode("utf-8", "surrogateescape"))):
                ledger.remark(name, "repaired", f"read as {found[1]}: {shown(found[0])}")
                line = found[0]
            try:
                row = json.loads(line)
                json.dumps(
                    row, ensure_ascii=False
                ).encode()  # escapes such as \ud800 are valid JSON and no text
            except UnicodeEncodeError:
                ledger.drop(name, "not-utf8", shown(_as_utf8(line)))
            except (ValueError, RecursionError) as error:
                ledger.drop(name, "not-json", f"{error}: {shown(_as_utf8(line))}")
            else:
                if isinstance(row, dict):
                    yield number, row
                else:
                    ledger.drop(
                        name,
                        "not-json",
                        f"a {type(row).__name__}, expected an object: {shown(_as_utf8(line))}",
                    )


def _json_list(path: Path, encoding: str) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        content = json.loads(path.read_text(encoding=encoding))
        json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is not JSON ({error}); expected a list of objects, or one object a line."
        ) from None
    if not all(isinstance(row, dict) for row in content):
        raise DataError(
            f"{path} is a list of other things than objects, "
            'expected [{"image": "a.jpg", "caption": "a dog"}, ...].'
        )
    yield from enumerate(content, start=1)


def shown(text: str, limit: int = 120) -> str:
    """Text on one line, cut to be shown in a ledger."""
    text = " ".join(text[: 20 * limit].replace("\0", "\ufffd").split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
