"""Rows of CSV and TSV files as Arrow tables of text.

A line that cannot be read goes to the ledger with its number.
"""

import contextlib
import csv
import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from frugalclip.core.errors import DataError
from frugalclip.data.images import EXTENSIONS
from frugalclip.data.ledger import Ledger
from frugalclip.sources.captions import mended
from frugalclip.sources.csv_layout import HEAD, CsvLayout, csv_layout
from frugalclip.sources.rows import RawTable, as_utf8, encoding_of, is_utf8, shown

_HEAD_ROWS = 100
_CHUNK = 50_000  # rows turned into Arrow at a time
_FIELD_LIMIT = 4 * 2**20


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
    encoding, errors = encoding_of(path)
    with path.open(encoding=encoding, errors=errors, newline="") as file:
        head = file.read(HEAD)
    if not head.strip():
        raise DataError(f"{path} is empty, expected a header such as image,caption and one row a sample.")
    layout = csv_layout(head, path.suffix.lower())
    notes.append(layout.in_words)
    tables: list[pa.Table] = []
    lines: list[int] = []
    limit = csv.field_size_limit(_FIELD_LIMIT)
    try:
        with path.open(encoding=encoding, errors=errors, newline="") as file:
            rows = _csv_rows(file, layout, ledger, mend)
            while chunk := list(itertools.islice(rows, _CHUNK)):
                lines += [line for line, _ in chunk]
                tables.append(_text_table(layout.names, [row for _, row in chunk]))
    finally:
        csv.field_size_limit(limit)
    table = pa.concat_tables(tables) if tables else _text_table(layout.names, [])
    return RawTable(table, np.array(lines, dtype=np.int64))


def csv_head(head: str, suffix: str) -> pa.Table:
    """The whole rows at the beginning of a file, every value as text.

    Args:
        head: not blank.
        suffix: of the file's name.
    """
    layout = csv_layout(head, suffix)
    lines = io.StringIO(head[: head.rfind("\n") + 1] or head, newline="")
    rows = itertools.islice(layout.reader(lines), layout.has_header + layout.is_declared, _HEAD_ROWS)
    with contextlib.suppress(csv.Error):  # a cell beyond all bounds
        whole = [row for row in rows if len(row) == len(layout.names) and is_utf8(row)]
        return _text_table(layout.names, whole)
    return _text_table(layout.names, [])


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
    file: Iterator[str], layout: CsvLayout, ledger: Ledger, mend: bool
) -> Iterator[tuple[int, list[str]]]:
    lines = _Lines(file)
    line, is_header, names = 1, layout.has_header, layout.names
    if layout.is_declared:
        line += 1
        next(lines)
    reader = layout.reader(lines)
    while True:
        lines.taken.clear()
        try:
            row = next(reader, None)
        except csv.Error:  # a cell beyond all bounds
            row = []
        if row is None:
            return
        here, spanned = line, len(lines.taken)
        if not is_header and spanned > 1 and (not row or _swallows_rows(lines.taken, layout)):
            lines.put_back()
            reader = layout.reader(lines)
            ledger.drop(f"line {here}", "open-quote", shown(as_utf8(lines.taken[0])))
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
            content = shown(as_utf8(layout.separator.join(row)))
            detail = f"{len(row)} cells{over}, the header has {len(names)}: {content}"
            ledger.drop(f"line {here}", "wrong-columns", detail)
        elif (text := _utf8_row(row, f"line {here}", layout.separator, ledger, mend)) is not None:
            yield here, text


def _swallows_rows(taken: list[str], layout: CsvLayout) -> bool:
    """True when a quoted cell holds lines that are rows themselves: as many cells, one of them an image."""
    for line in taken[1:1000]:
        try:
            cells = next(layout.reader([line]), [])
        except csv.Error:
            continue
        if len(cells) == len(layout.names) and any(
            cell.strip().lower().endswith(EXTENSIONS) for cell in cells
        ):
            return True
    return False


def _utf8_row(row: list[str], name: str, separator: str, ledger: Ledger, mend: bool) -> list[str] | None:
    """The row, or None with its fault in the ledger where it holds bytes that are no text."""
    if is_utf8(row):
        return row
    found = mended(separator.join(row).encode("utf-8", "surrogateescape")) if mend else None
    if found is not None and len(cells := found[0].split(separator)) == len(row):
        ledger.remark(name, "repaired", f"read as {found[1]}: {shown(found[0])}")
        return cells
    ledger.drop(name, "not-utf8", shown(as_utf8(separator.join(row))))
    return None


def _text_table(names: list[str], rows: list[list[str]]) -> pa.Table:
    cells = zip(*rows, strict=True) if rows else [()] * len(names)
    return pa.table({name: pa.array(values, pa.string()) for name, values in zip(names, cells, strict=True)})
