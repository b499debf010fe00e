"""Rows of a file before they become samples, and what readers of text share."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from frugalclip.sources.column_names import is_image_name


@dataclass
class RawTable:
    """Rows as they stand in a file, and the line each began on."""

    table: pa.Table
    lines: np.ndarray  # (rows,) int64, from 1
    causes: dict[int, str] = field(
        default_factory=dict
    )  # row -> why it is no sample, where that is known already

    def add_field(self, name: str, values: Sequence[str | None], rows: np.ndarray) -> None:
        """Add a column, unless there is one of this name; null but for some rows."""
        if name not in self.table.column_names:
            column: list[str | None] = [None] * self.table.num_rows
            for row, value in zip(rows.tolist(), values, strict=True):
                column[row] = value
            self.table = self.table.append_column(name, pa.array(column, pa.string()))

    def unpack_lists(self) -> None:
        """Make lists of one image path, under names of images, plain; rows of several are no samples."""
        for position, column in enumerate(self.table.schema):
            if not (is_image_name(column.name) and pa.types.is_list(column.type)):
                continue
            if not pa.types.is_string(column.type.value_type):
                continue
            values = self.table[column.name].to_pylist()
            self.causes |= {r: "several-images" for r, value in enumerate(values) if len(value or ()) > 1}
            single = [value[0] if value and len(value) == 1 else None for value in values]
            self.table = self.table.set_column(position, column.name, pa.array(single, pa.string()))


def with_plain_images(table: pa.Table) -> pa.Table:
    """The table with lists of one image path made plain."""
    raw = RawTable(table, np.arange(table.num_rows))
    raw.unpack_lists()
    return raw.table


def encoding_of(path: Path) -> tuple[str, str]:
    """Encoding by the byte order mark, and the error handler, whose traces show rows that do not decode."""
    with path.open("rb") as file:
        head = file.read(4)
    return (
        ("utf-16", "replace")
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        else ("utf-8-sig", "surrogateescape")
    )


def as_utf8(line: str) -> str:
    """Text that can be encoded, with a question mark where it could not."""
    return line.encode("utf-8", "replace").decode()


def is_utf8(row: list[str]) -> bool:
    """Whether cells were UTF-8 in their file."""
    whole = "".join(row)
    return whole.isascii() or ("\ufffd" not in whole and _encodes(whole))


def _encodes(whole: str) -> bool:
    try:
        whole.encode()
        return True
    except UnicodeEncodeError:
        return False


def shown(text: str, limit: int = 120) -> str:
    """Text on one line, cut to be shown in a ledger."""
    text = " ".join(text[: 20 * limit].replace("\0", "\ufffd").split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
