"""Rows of JSON files as Arrow tables: an object a line, or one list of objects.

A line that cannot be read goes to the ledger with its number.
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from frugalclip.core.errors import DataError
from frugalclip.data.ledger import Ledger
from frugalclip.data.tables import concatenate_tables
from frugalclip.sources.captions import mended
from frugalclip.sources.column_names import is_image_name
from frugalclip.sources.rows import RawTable, as_utf8, encoding_of, is_utf8, shown
from frugalclip.sources.values import as_text, rows_to_table

_CHUNK = 50_000  # rows turned into Arrow at a time


def read_json_rows(path: Path, ledger: Ledger, *, mend: bool = False) -> RawTable:
    """Rows of a JSON lines file, or of one JSON list of objects.

    Args:
        path: the file.
        ledger: gets the lines that cannot be read.
        mend: read lines in another encoding than UTF-8 where there is one sensible way.

    Raises:
        DataError: when the file is empty, or holds one JSON value that is not a list of objects.
    """
    encoding, errors = encoding_of(path)
    with path.open(encoding=encoding, errors=errors, newline="\n") as file:
        is_list = file.read(64).lstrip()[:1] == "["
    rows = _json_list(path, encoding) if is_list else _json_lines(path, encoding, errors, ledger, mend)
    raw = raw_table(rows, ledger)
    if raw is None:
        raise DataError(
            f'{path} holds no JSON object, expected lines such as {{"image": "a.jpg", "caption": "a dog"}}.'
        )
    return raw


def raw_table(rows: Iterator[tuple[int, dict[str, Any]]], ledger: Ledger) -> RawTable | None:
    """JSON objects as rows of a table of all their keys; None where there is no object.

    Args:
        rows: each with the line it began on.
        ledger: gets the rows that hold halves of characters.
    """
    tables: list[pa.Table] = []
    lines: list[int] = []
    causes: dict[int, str] = {}
    while chunk := list(itertools.islice(rows, _CHUNK)):
        chunk = [(line, row) for line, row in chunk if _is_whole_text(line, row, ledger)]
        for place, (_, row) in enumerate(chunk, start=len(lines)):
            if _has_several_images(row):
                causes[place] = "several-images"
        lines += [line for line, _ in chunk]
        tables += [rows_to_table([_with_plain_images(row) for _, row in chunk])] if chunk else []
    if not tables:
        return None
    return RawTable(concatenate_tables(tables), np.array(lines, dtype=np.int64), causes)


def _is_whole_text(line: int, row: dict[str, Any], ledger: Ledger) -> bool:
    """False for a row with half of a character, which is valid JSON as an escape and no text."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
        return True
    except UnicodeEncodeError:
        ledger.drop(f"line {line}", "not-utf8", shown(ascii(row)))
        return False


def _has_several_images(row: dict[str, Any]) -> bool:
    return any(isinstance(v, list) and len(v) > 1 and is_image_name(k) for k, v in row.items())


def _with_plain_images(row: dict[str, Any]) -> dict[str, Any]:
    """The row with text in columns of images, so that one odd value does not change a column's type."""
    return {key: _plain(value) if is_image_name(key) else value for key, value in row.items()}


def _plain(value: Any) -> str | None:
    if isinstance(value, list):
        return _plain(value[0]) if len(value) == 1 else None
    if isinstance(value, dict) and isinstance(value.get("path"), str):
        return value["path"]
    return as_text(value)


def _json_lines(
    path: Path, encoding: str, errors: str, ledger: Ledger, mend: bool
) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding=encoding, errors=errors, newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            name = f"line {number}"
            if not is_utf8([line]) and mend and (found := mended(line.encode("utf-8", "surrogateescape"))):
                ledger.remark(name, "repaired", f"read as {found[1]}: {shown(found[0])}")
                line = found[0]
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                ledger.drop(name, "not-json", f"{error}: {shown(as_utf8(line))}")
            else:
                if isinstance(row, dict):
                    yield number, row
                else:
                    ledger.drop(
                        name,
                        "not-json",
                        f"a {type(row).__name__}, expected an object: {shown(as_utf8(line))}",
                    )


def _json_list(path: Path, encoding: str) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        content = json.loads(path.read_text(encoding=encoding))
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
