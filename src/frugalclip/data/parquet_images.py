"""Encoded images out of Parquet files, in any order.

A Parquet column is read a row group at a time: with images of 20 kB in groups of 1,000, one random read costs
20 MB. So groups are kept, in memory up to a limit, and past it unpacked on disk, as Arrow files that are
mapped. Every group is decoded once: worker processes and later runs find what another one has unpacked. A
folder unused for a month is deleted by the next run that makes one. Where the disk is full or may not be
written, the least recently used group in memory gives way.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from frugalclip.core.paths import user_path

pc: Any = pyarrow.compute  # its functions are made at import, out of sight of type checkers

FOLDER_VARIABLE = "FRUGALCLIP_CACHE"
MEMORY_BYTES = 256 * 2**20  # of groups that a reader keeps in memory
_UNUSED_DAYS = 30
_SPARE_BYTES = 2**30  # of the disk, never taken


def cache_folder() -> Path:
    """`$FRUGALCLIP_CACHE`, else `frugalclip` in `$XDG_CACHE_HOME` or `~/.cache`."""
    if given := os.environ.get(FOLDER_VARIABLE):
        return user_path(given)
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "frugalclip"


class ParquetImages:
    """Values of binary columns by file, column and row.

    It serves one thread at a time, and one process: make another one after a fork.

    Args:
        memory_bytes: groups are kept in memory until they need so many, from then on they are unpacked to
            disk.
        open_files: Parquet files, and unpacked groups, that are open at once.
    """

    def __init__(self, *, memory_bytes: int = MEMORY_BYTES, open_files: int = 64) -> None:
        self.memory_bytes, self.open_files = memory_bytes, open_files
        self._files: OrderedDict[str, tuple[pq.ParquetFile, np.ndarray]] = OrderedDict()
        self._held: OrderedDict[tuple[str, str, int], pa.Array] = OrderedDict()
        self._mapped: OrderedDict[tuple[str, str, int], pa.Array] = OrderedDict()
        self._held_bytes = 0
        self._folders: dict[tuple[str, str], Path | None] = {}  # None: nothing can be unpacked

    def value(self, path: str, column: str, row: int) -> bytes | None:
        """One value, or None where it is null.

        Args:
            path: of the Parquet file.
            column: dotted name of a column of bytes, such as `image.bytes`.
            row: of the file.

        Raises:
            OSError, pyarrow.ArrowException: when the file cannot be read.
        """
        file, starts = self._file(path)
        if not 0 <= row < starts[-1]:
            raise pa.lib.ArrowIndexError(f"it has {starts[-1]:,} rows, and row {row:,} is not among them")
        group = int(np.searchsorted(starts, row, side="right")) - 1
        return self._values(file, (path, column, group))[row - int(starts[group])].as_py()

    def _file(self, path: str) -> tuple[pq.ParquetFile, np.ndarray]:
        """An open file, and the first row of each of its groups."""
        found = self._files.get(path)
        if found is None:
            file = pq.ParquetFile(path)
            counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            found = self._files[path] = file, np.concatenate([[0], np.cumsum(counts)])
            _shorten(self._files, self.open_files)
        self._files.move_to_end(path)
        return found

    def _values(self, file: pq.ParquetFile, key: tuple[str, str, int]) -> pa.Array:
        for kept in (self._held, self._mapped):
            if key in kept:
                kept.move_to_end(key)
                return kept[key]
        path, column, group = key
        size = _column_bytes(file, column, group)
        place = self._place(path, column, group) if self._held_bytes + size > self.memory_bytes else None
        values = _map(place) if place else None
        if values is None:
            values = leaf(file.read_row_group(group, columns=[column], use_threads=False), column).cast(
                pa.large_binary()
            )
            if place and _unpack(values, place):
                values = _map(place) or values
            else:
                return self._hold(key, values)
        self._mapped[key] = values
        _shorten(self._mapped, 8 * self.open_files)
        return values

    def _hold(self, key: tuple[str, str, int], values: pa.Array) -> pa.Array:
        self._held[key] = values
        self._held_bytes += values.nbytes
        while len(self._held) > 1 and self._held_bytes > self.memory_bytes:
            self._held_bytes -= self._held.popitem(last=False)[1].nbytes
        return values

    def _place(self, path: str, column: str, group: int) -> Path | None:
        """Where a group is unpacked to, or None where nothing can be."""
        if (path, column) not in self._folders:
            self._folders[path, column] = _folder_of(path, column)
        folder = self._folders[path, column]
        return folder / f"{group}.arrow" if folder else None


def _shorten(kept: OrderedDict[Any, Any], limit: int) -> None:
    while len(kept) > limit:
        kept.popitem(last=False)


def _column_bytes(file: pq.ParquetFile, column: str, group: int) -> int:
    names = [file.schema.column(i).path for i in range(len(file.schema))]
    return (
        file.metadata.row_group(group).column(names.index(column)).total_uncompressed_size
        if column in names
        else 0
    )


def leaf(table: pa.Table, column: str) -> pa.Array:
    """A column by its dotted name in Parquet, as one array with a value a row.

    Of lists (`images.list.element.bytes`) a row has a value where its list has one item, else null.
    """
    first, *rest = column.split(".")
    if first not in table.column_names:
        raise pa.lib.ArrowKeyError(f"it has no column '{column}'")
    values: Any = table[first].combine_chunks()
    items: pa.Array | None = None  # (rows,) where in the values of a list each row's only item is
    for part in rest:
        if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
            if part != "list":  # the level of Parquet above the items, which Arrow has not
                items = single_items(values)
                values = values.values
        else:
            values = values.field(part)
    return values if items is None else values.take(items)


def single_items(lists: pa.Array) -> pa.Array:
    """(rows,) int64 positions of each list's only item in `lists.values`; null for no item, or several."""
    starts = lists.offsets.slice(0, len(lists)).cast(pa.int64())
    return pc.if_else(pc.equal(pc.list_value_length(lists), 1), starts, pa.scalar(None, pa.int64()))


def _folder_of(path: str, column: str) -> Path | None:
    """The folder for one column of one file as it is now: a file that is written again gets another one."""
    status = os.stat(path)
    identity = f"{os.path.realpath(path)}\0{column}\0{status.st_size}\0{status.st_mtime_ns}"
    folder = (
        cache_folder()
        / "parquet"
        / hashlib.blake2b(identity.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
    )
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            _delete_unused(folder.parent)
        os.utime(folder)  # the time of its last use
    except OSError:
        return None
    return folder


def _delete_unused(parent: Path) -> None:
    oldest = time.time() - _UNUSED_DAYS * 24 * 3600
    with contextlib.suppress(OSError):
        for folder in parent.iterdir():
            if folder.stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)


def _unpack(values: pa.Array, place: Path) -> bool:
    """Write a group to disk, whole or not at all; False where that cannot be."""
    try:
        if shutil.disk_usage(place.parent).free < values.nbytes + _SPARE_BYTES:
            return False
        handle, temporary = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    except OSError:
        return False
    batch = pa.record_batch([values], names=["values"])
    try:
        with os.fdopen(handle, "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        os.replace(temporary, place)
        return True
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        return False


def _map(place: Path) -> pa.Array | None:
    """An unpacked group without reading it, or None where it is not there or damaged."""
    try:
        return pa.ipc.open_file(pa.memory_map(str(place))).get_batch(0).column(0)
    except (OSError, pa.ArrowException):
        return None
