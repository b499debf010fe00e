"""The ledger of a curation: one final fate for every row that was read, with its reason in numbers.

Columns: `id, fate, stage, reason, value, threshold, keeper, detail`. Rows that reading left out stand behind
the others, with the stage that left them out. See docs/formats.md.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from frugalclip.core.disk import replacing
from frugalclip.core.errors import DataError
from frugalclip.data.ledger import DROPPED, KEPT, Entry, check_content, check_version, ledger_meanings
from frugalclip.data.tables import read_parquet

pc: Any = pyarrow.compute  # its functions are made at import, out of sight of type checkers

VERSION = b"1"
VERSION_KEY, REASONS_KEY = b"frugalclip.curation", b"frugalclip.curation.reasons"
UNDONE = "undone"  # reason of a row that a stage had dropped before it was taken back
UNDONE_MEANING = "the stage was taken back, so the row is in again"
_TEXT, _NUMBER = pa.string(), pa.float64()
SCHEMA = pa.schema(
    [
        ("id", _TEXT),
        ("fate", _TEXT),
        ("stage", _TEXT),
        ("reason", _TEXT),
        ("value", _NUMBER),
        ("threshold", _NUMBER),
        ("keeper", _TEXT),
        ("detail", _TEXT),
    ]
)
_WORDS = ("stage", "reason", "keeper", "detail")


class Fates:
    """The fates of the rows of a data set while its stages are gone through.

    Args:
        ids: of the rows, sorted.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = np.array(ids, dtype=object)
        rows = len(self.ids)
        self.is_kept = np.ones(rows, dtype=bool)
        self._text = {name: np.full(rows, None, dtype=object) for name in _WORDS}
        self._numbers = {name: np.full(rows, np.nan) for name in ("value", "threshold")}

    @property
    def rows(self) -> np.ndarray:
        """(kept,) rows that are still in."""
        return np.flatnonzero(self.is_kept)

    def drop(self, stage: str, rows: np.ndarray, decided: Mapping[str, np.ndarray]) -> None:
        """Note which rows a stage dropped.

        Args:
            stage: its name.
            rows: (dropped,) which rows.
            decided: (dropped,) `reason, value, threshold, keeper, detail`.
        """
        for columns in (self._text, self._numbers):
            for name in columns.keys() & decided.keys():
                columns[name][rows] = decided[name]
        self._text["stage"][rows] = stage
        self.is_kept[rows] = False

    def table(self, order: np.ndarray, unread: Sequence[Entry], meanings: Mapping[str, Any]) -> pa.Table:
        """The ledger.

        Args:
            order: (rows,) positions of the data set's rows among the sorted ones.
            unread: what reading left out.
            meanings: stage -> reason -> plain words.
        """
        fates = np.where(self.is_kept, KEPT, DROPPED)
        columns = {"id": self.ids, "fate": fates, **self._text, **self._numbers}
        arrays = [pa.array(columns[f.name][order], f.type, from_pandas=True) for f in SCHEMA]
        tail = [
            {"id": e.id, "fate": e.status, "stage": e.stage.name, "reason": e.reason, "detail": e.detail}
            for e in unread
        ]
        whole = pa.concat_tables([pa.table(arrays, schema=SCHEMA), pa.Table.from_pylist(tail, SCHEMA)])
        metadata = {VERSION_KEY: VERSION, REASONS_KEY: json.dumps(meanings, sort_keys=True)}
        return whole.combine_chunks().replace_schema_metadata(metadata)


def write_ledger(table: pa.Table, path: Path) -> None:
    """Write a ledger as Parquet, whole or not at all."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_ledger(path: Path) -> pa.Table:
    """The ledger of a curation.

    Raises:
        DataError: when the file is none of this version.
    """
    advice = "write it with: frugalclip curate PATH --plan PLAN --out DIR"
    if not path.is_file():
        raise DataError(f"{path.parent} holds no ledger of a finished curation; {advice}.")
    table = read_parquet(path, advice=advice)
    what = "a ledger of a curation"
    check_version(table, path, key=VERSION_KEY, version=VERSION, what=what, advice=advice)
    check_content(table, path, schema=SCHEMA, key=REASONS_KEY, advice=advice)
    return table


def taken_back(table: pa.Table, stage: str) -> pa.Table:
    """The ledger with the rows that a stage dropped in again; what dropped them stays on record."""
    dropped = pc.and_(pc.equal(table["stage"], stage), pc.equal(table["fate"], DROPPED))
    dropped = pc.fill_null(dropped, False)
    changed = {
        "fate": pc.if_else(dropped, KEPT, table["fate"]),
        "detail": pc.if_else(dropped, table["reason"], table["detail"]),
        "reason": pc.if_else(dropped, UNDONE, table["reason"]),
    }
    meanings = reason_meanings(table)
    meanings[stage] = {**meanings.get(stage, {}), UNDONE: UNDONE_MEANING}
    for name, column in changed.items():
        table = table.set_column(table.column_names.index(name), name, column)
    metadata = {VERSION_KEY: VERSION, REASONS_KEY: json.dumps(meanings, sort_keys=True)}
    return table.replace_schema_metadata(metadata)


def reason_meanings(table: pa.Table) -> dict[str, dict[str, str]]:
    """Stage -> reason -> plain words, as the ledger explains its own rows."""
    return ledger_meanings(table, key=REASONS_KEY)
