"""The rows of an index, by columns: ids, places of images, captions, fields, and where their vectors lie."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from frugalclip.core.errors import DataError, known_names
from frugalclip.data.conditions import matching
from frugalclip.data.manifest import RESERVED, Manifest
from frugalclip.features.store import Store
from frugalclip.serving.layout import IndexHead, read_table

pc: Any = pyarrow.compute  # its functions are made at import, out of sight of type checkers
MAP = pa.schema(
    [
        ("serial", pa.int64()),  # never used twice, so that clusters know a row though others go
        ("source", pa.int16()),  # number in `sources` of the head
        ("store", pa.int16()),  # number in `stores` of the head
        ("store_row", pa.int64()),
        ("image_digest", pa.binary(16)),
        ("text_digest", pa.binary(16)),
        ("has_vector", pa.bool_()),  # false where the image could not be decoded
    ]
)
_CONDITIONS = 64  # whose rows are remembered
FEW_VALUES = 60  # of a field that is offered as a filter
_FEW_FIELDS = 12


@dataclass(frozen=True)
class FieldValues:
    """A field with few values, to filter by."""

    name: str
    values: list[tuple[str, int]]  # value as a condition writes it, rows


class IndexRows:
    """Rows and row map of an index, in one order.

    Args:
        table: columns of a manifest; image paths are absolute.
        row_map: columns of `MAP`.
        name: of the index, for messages.
    """

    def __init__(self, table: pa.Table, row_map: pa.Table, *, name: str) -> None:
        self.manifest = Manifest(table, Path("/"), name)
        self.row_map = row_map
        self._remembered: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def read(cls, path: Path, head: IndexHead) -> "IndexRows":
        """The rows that a head names."""
        return cls(read_table(path, head.files["rows"]), read_table(path, head.files["map"]), name=str(path))

    def __len__(self) -> int:
        return len(self.manifest)

    def column(self, name: str) -> np.ndarray:
        """(rows,) a column of numbers of the row map."""
        return self.row_map[name].to_numpy()

    @cached_property
    def serials(self) -> np.ndarray:
        """(rows,) int64 serial numbers, ascending."""
        return self.column("serial")

    @cached_property
    def with_vector(self) -> np.ndarray:
        """(n,) int64 rows that can be found."""
        return np.flatnonzero(self.row_map["has_vector"].to_numpy())

    def row_of(self, id: str) -> int | None:
        """The row of an id, or None."""
        row = pc.index(self.manifest.table["id"], pa.scalar(id, pa.string())).as_py()
        return None if row < 0 else row

    def rows_of(self, ids: Sequence[str]) -> dict[str, int]:
        """The rows of those ids that there are, found in one pass over all rows; in the order of `ids`."""
        places = pc.index_in(self.manifest.table["id"].combine_chunks(), value_set=pa.array(ids, pa.string()))
        found = np.flatnonzero(places.is_valid().to_numpy(zero_copy_only=False))
        rows = dict(zip(places.take(pa.array(found)).to_pylist(), found.tolist(), strict=True))
        return {id: rows[place] for place, id in enumerate(ids) if place in rows}

    def known_row(self, id: str) -> int:
        """The row of an id.

        Raises:
            DataError: if there is none, with like ids.
        """
        if (row := self.row_of(id)) is None:
            near = known_names(id, self.manifest.table["id"].slice(0, 20_000).to_pylist(), limit=6)
            raise DataError(f"{self.manifest.name} has no row '{id}'; {near}")
        return row

    def where(self, condition: str | None) -> np.ndarray | None:
        """(n,) ascending rows that meet a condition; None where there is no condition.

        Raises:
            DataError: for an unknown field, or when no row is left.
        """
        if not condition or not condition.strip():
            return None
        with self._lock:
            if condition in self._remembered:
                self._remembered.move_to_end(condition)
                return self._remembered[condition]
        rows = matching(self.manifest.table, condition, name=self.manifest.name)
        with self._lock:
            self._remembered[condition] = rows
            if len(self._remembered) > _CONDITIONS:
                self._remembered.popitem(last=False)
        return rows

    def filters(self) -> list[FieldValues]:
        """Fields with few values."""
        found = []
        for name in self.manifest.table.column_names:
            kind = self.manifest.table.schema.field(name).type
            is_plain = pa.types.is_string(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind)
            if name in RESERVED or not is_plain or len(found) == _FEW_FIELDS:
                continue
            counts = pc.value_counts(self.manifest.table[name].combine_chunks())
            if 1 < len(counts) <= FEW_VALUES:
                pairs = [(_written(one["values"]), one["counts"]) for one in counts.to_pylist()]
                found.append(FieldValues(name, sorted(pairs, key=lambda pair: (-pair[1], pair[0]))))
        return found


def _written(value: Any) -> str:
    """A value as a condition writes it."""
    if value is None:
        return "null"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return (
        f'"{text}"' if text == "null" or any(mark in text for mark in ',|"') or text != text.strip() else text
    )


def places(table: pa.Table) -> list[tuple[Any, ...]]:
    """What identifies the image of each row: file, and place within the file."""
    image = table["image"].combine_chunks()
    return list(
        zip(*(image.field(name).to_pylist() for name in ("path", "offset", "row", "column")), strict=True)
    )


class StoredVectors:
    """Vectors of rows, from the stores that hold them.

    Args:
        stores: in the order of the head.
        rows: rows and their places in the stores.
    """

    def __init__(self, stores: list[Store], rows: IndexRows) -> None:
        self.stores = stores
        self._store, self._row = rows.column("store"), rows.column("store_row")

    def __len__(self) -> int:
        return len(self._row)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """(n, dim) float32 vectors of (n,) rows."""
        dim = self.stores[0].shape("image")[0] if self.stores else 0
        result = np.zeros((len(rows), dim), dtype=np.float32)
        own = self._store[rows]
        for number in np.unique(own).tolist():
            here = own == number
            result[here] = self.stores[number].vectors("image", self._row[rows[here]]).numpy()
        return result
