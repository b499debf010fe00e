"""Adds rows to an index, removes some, and finds what has changed since they were indexed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from frugalclip.core.checksums import verify_checksums
from frugalclip.core.errors import FrugalclipError
from frugalclip.data.image_faults import BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.manifest import Manifest
from frugalclip.data.tables import concatenate_tables
from frugalclip.features.format import digest
from frugalclip.features.store import Store
from frugalclip.models import FILES
from frugalclip.serving.building import (
    BuildOptions,
    IndexWriter,
    absolute,
    open_model,
    options_of,
    remove_leftovers,
    text_digests,
)
from frugalclip.serving.layout import (
    IndexedSource,
    IndexHead,
    hashed,
    publish,
    read_index_head,
    read_table,
    write_table,
)
from frugalclip.serving.rows import IndexRows, places


@dataclass(frozen=True)
class IndexChange:
    """What an addition or a removal did."""

    head: IndexHead
    added: int = 0
    replaced: int = 0  # rows whose image, captions or fields have changed
    unchanged: int = 0
    removed: int = 0
    absent: tuple[str, ...] = ()  # ids that had been removed before


@dataclass(frozen=True)
class Drift:
    """How an index differs from the data that it was made of."""

    new: tuple[str, ...]  # ids of rows that are not in the index
    changed: tuple[str, ...]  # other image bytes, captions or fields
    gone: tuple[str, ...]
    removed: int  # rows of the data that were removed from the index on purpose
    damaged: tuple[str, ...]  # sentences about the index's own files
    unread: tuple[str, ...] = ()  # sentences about data sets that cannot be read any more

    @property
    def is_none(self) -> bool:
        """Whether index, data and files agree."""
        return not (self.new or self.changed or self.gone or self.damaged or self.unread)


@dataclass(frozen=True)
class _Compared:
    """Rows of a data set beside those of an index."""

    new: list[int]  # rows of the data set
    changed: list[tuple[int, int]]  # (row of the data set, row of the index)
    unchanged: list[int]  # rows of the index


def _compared(rows: IndexRows, manifest: Manifest) -> _Compared:
    """Compare every row of a data set with the row of the index that has the same image file."""
    known = {place: row for row, place in enumerate(places(rows.manifest.table))}
    reader, texts = ImageReader(manifest), text_digests(manifest)
    images, captions = rows.row_map["image_digest"], rows.row_map["text_digest"]
    found = _Compared([], [], [])
    for row, place in enumerate(places(manifest.table)):
        if (old := known.get(place)) is None:
            found.new.append(row)
        elif texts[row] == captions[old].as_py() and _image_digest(reader, row) == images[old].as_py():
            found.unchanged.append(old)
        else:
            found.changed.append((row, old))
    return found


def _image_digest(reader: ImageReader, row: int) -> bytes:
    try:
        return digest(reader.bytes(row))
    except BadImage as error:
        return digest(b"unreadable", error.cause.encode())


def add_rows(
    path: Path, manifest: Manifest, *, source: IndexedSource, options: BuildOptions, device: Any = "cpu"
) -> IndexChange:
    """Add the rows of a data set. Rows that are there already stay, and changed ones are replaced.

    Args:
        path: folder of the index, locked by the caller.
        manifest: the rows.
        source: where they come from.
        options: batch and progress.
        device: where images are encoded.
    """
    head = read_index_head(path)
    rows = IndexRows.read(path, head)
    manifest = absolute(manifest)
    compared = _compared(rows, manifest)
    replaced = dict(compared.changed)
    if not compared.new and not replaced:
        return IndexChange(head, unchanged=len(compared.unchanged))
    model = open_model(path, head, device=device)
    writer = IndexWriter(path, model, options=options_of(head, options, model))
    chosen = sorted([*compared.new, *replaced])
    part = _with_ids(manifest.take(chosen), [replaced.get(row) for row in chosen], rows)
    store = writer.embed(part)
    sources = head.sources if source in head.sources else [*head.sources, source]
    new_map = writer.map_of(
        part,
        store,
        number=len(head.stores),
        source=sources.index(source),
        first_serial=head.serials,
    )
    kept = np.setdiff1d(np.arange(len(rows)), np.array([*replaced.values()], dtype=np.int64))
    next_head = head.model_copy(
        update={
            "stores": [*head.stores, store],
            "sources": sources,
            "serials": head.serials + len(part),
            "files": _files(path, head, taken_back=set(part.ids)),
        }
    )
    table = concatenate_tables([rows.manifest.table.take(pa.array(kept)), part.table])
    row_map = pa.concat_tables([rows.row_map.take(pa.array(kept)), new_map])
    done = writer.publish(*_without_unused_stores(next_head, table, row_map))
    remove_leftovers(path, done)
    return IndexChange(
        done, added=len(compared.new), replaced=len(replaced), unchanged=len(compared.unchanged)
    )


def _with_ids(manifest: Manifest, old: Sequence[int | None], rows: IndexRows) -> Manifest:
    """Rows with the ids of those that they replace; a new one that is taken gets its folder or a number."""
    known = rows.manifest.table["id"]
    taken = set(known.to_pylist())
    ids = []
    for id, row, place in zip(manifest.ids, old, manifest.table["image"].to_pylist(), strict=True):
        if row is not None:
            ids.append(known[row].as_py())
            continue
        free = id
        if free in taken:
            free = f"{Path(place['path']).parent.name}/{id}"
        number = 2
        while free in taken:
            free, number = f"{Path(place['path']).parent.name}/{id}-{number}", number + 1
        taken.add(free)
        ids.append(free)
    position = manifest.table.column_names.index("id")
    table = manifest.table.set_column(position, "id", pa.array(ids, pa.string()))
    return Manifest(table, manifest.root, manifest.name)


def _without_unused_stores(
    head: IndexHead, table: pa.Table, row_map: pa.Table
) -> tuple[IndexHead, pa.Table, pa.Table]:
    """A head without the stores that no row needs any more."""
    numbers = row_map["store"].to_numpy()
    used = np.unique(numbers)
    position = row_map.column_names.index("store")
    renumbered = pa.array(np.searchsorted(used, numbers), pa.int16())
    stores = [head.stores[number] for number in used.tolist()]
    return (
        head.model_copy(update={"stores": stores}),
        table,
        row_map.set_column(position, "store", renumbered),
    )


def _removed_ids(path: Path, head: IndexHead) -> list[str]:
    file = head.files.get("removed")
    return [] if file is None else read_table(path, file)["id"].to_pylist()


def _files(
    path: Path, head: IndexHead, *, taken_back: set[str], removed: Sequence[str] = ()
) -> dict[str, str]:
    """The files of a head with another list of rows that were removed on purpose."""
    ids = [id for id in _removed_ids(path, head) if id not in taken_back and id not in removed]
    ids += removed
    files = {name: file for name, file in head.files.items() if name != "removed"}
    if ids:
        files["removed"] = write_table(path, "removed", pa.table({"id": pa.array(ids, pa.string())}))
    return files


def remove_rows(path: Path, ids: Sequence[str], *, device: Any = "cpu") -> IndexChange:
    """Remove rows. Those that were removed before are counted, unknown ones are refused.

    Args:
        path: folder of the index, locked by the caller.
        ids: of the rows.
        device: where the model works, should the clusters be made again.

    Raises:
        DataError: for an id that was never there; then nothing is removed.
    """
    head = read_index_head(path)
    rows, before = IndexRows.read(path, head), set(_removed_ids(path, head))
    wanted = list(dict.fromkeys(ids))
    there = rows.rows_of(wanted)
    absent = tuple(id for id in wanted if id not in there and id in before)
    for id in wanted:
        if id not in there and id not in before:
            rows.known_row(id)  # says that there is none, with like ids
    present, gone = list(there), np.array([*there.values()], dtype=np.int64)
    if not len(gone):
        return IndexChange(head, absent=absent)
    kept = pa.array(np.setdiff1d(np.arange(len(rows)), gone))
    table, row_map = rows.manifest.table.take(kept), rows.row_map.take(kept)
    head = head.model_copy(update={"files": _files(path, head, taken_back=set(), removed=present)})
    head, table, row_map = _without_unused_stores(head, table, row_map)
    left = IndexRows(table, row_map, name=str(path))
    files = {
        **head.files,
        "rows": write_table(path, "rows", table),
        "map": write_table(path, "map", row_map),
    }
    head = head.model_copy(update={"files": files, "rows": len(left.with_vector)})
    if head.clusters is not None and head.rows < 0.8 * head.clusters.rows:
        model = open_model(path, head, device=device)
        writer = IndexWriter(path, model, options=options_of(head, BuildOptions(), model))
        head = writer.publish(head.model_copy(update={"clusters": None}), table, row_map)
    else:
        head = publish(path, head)
    remove_leftovers(path, head)
    return IndexChange(head, removed=len(gone), absent=absent)


def find_drift(path: Path, data: Sequence[tuple[IndexedSource, Manifest | FrugalclipError]]) -> Drift:
    """Compare an index with the data sets that it was made of, and with its own checksums.

    Args:
        path: folder of the index.
        data: each source with its rows as they are now, or why they cannot be read.
    """
    head = read_index_head(path)
    damaged = _damage(path, head)
    try:
        rows, removed_before = IndexRows.read(path, head), set(_removed_ids(path, head))
    except FrugalclipError:  # which is among the damage; nothing can be compared with the data
        return Drift((), (), (), 0, damaged)
    seen = np.zeros(len(rows), dtype=bool)
    new: list[str] = []
    changed: list[str] = []
    unread: list[str] = []
    removed = 0
    sources = rows.column("source")
    for source, manifest in data:
        if isinstance(manifest, FrugalclipError):
            unread.append(str(manifest))
            seen |= sources == head.sources.index(source)
            continue
        compared = _compared(rows, absolute(manifest))
        old = [*(row for _, row in compared.changed), *compared.unchanged]
        seen[old] = True
        missing = _missing_files(manifest, [row for row, _ in compared.changed])
        changed += [rows.manifest.ids[old] for row, old in compared.changed if row not in missing]
        seen[[old for row, old in compared.changed if row in missing]] = False
        ids = [manifest.ids[row] for row in compared.new]
        new += [id for id in ids if id not in removed_before]
        removed += sum(id in removed_before for id in ids)
    gone = [rows.manifest.ids[row] for row in np.flatnonzero(~seen).tolist()]
    return Drift(
        new=tuple(dict.fromkeys(new)),
        changed=tuple(dict.fromkeys(changed)),
        gone=tuple(gone),
        removed=removed,
        damaged=damaged,
        unread=tuple(unread),
    )


def _missing_files(manifest: Manifest, chosen: Sequence[int]) -> set[int]:
    """Those of the rows whose image file is not there."""
    reader = ImageReader(manifest)
    return {row for row in chosen if not reader.path(row).exists()}


def _damage(path: Path, head: IndexHead) -> tuple[str, ...]:
    """A sentence for each of the index's own files that is not what was written."""
    faults: list[str] = []
    checks: list[Callable[[], object]] = [
        *(lambda file=file: read_table(path, file) for file in head.files.values()),
        lambda: verify_checksums(path / head.model_folder, FILES),
    ]
    if head.clusters is not None:
        file = path / head.clusters.file
        checks.append(lambda: hashed(file))
    for check in checks:
        try:
            check()
        except FrugalclipError as error:
            faults.append(str(error))
    for name in head.stores:
        try:
            faults += Store.open(path / "stores" / name).verify()
        except FrugalclipError as error:
            faults.append(str(error))
    return tuple(faults)
