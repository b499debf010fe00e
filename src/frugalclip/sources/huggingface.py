"""Data sets saved by Hugging Face's `datasets`: Arrow files, read in place.

`save_to_disk` writes a folder with `state.json` (files and their order), `dataset_info.json` and Arrow
streams. A `DatasetDict` is a folder of these, one a split, with `dataset_dict.json`. The library's cache has
the same files without `state.json`. Arrow files are not compressed, so each image is a range of bytes of its
file. A manifest names the range: nothing is copied, and random access costs as much as in tars.

Source: the files that `datasets` 5.2 writes; `_indices_data_files`, a selection of rows, as saved by versions
before 1.5.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from frugalclip.core.errors import DataError
from frugalclip.data.images import EXTENSIONS
from frugalclip.data.ledger import Ledger
from frugalclip.data.manifest import Manifest, concatenate, image_places
from frugalclip.data.parquet_images import single_items
from frugalclip.data.tables import plain_types
from frugalclip.sources.assembling import assemble, inside_manifest, with_paths
from frugalclip.sources.column_values import holds_bytes
from frugalclip.sources.columns import Roles, choose
from frugalclip.sources.folder_names import SPLITS
from frugalclip.sources.labels import features_of, label_names, named_labels
from frugalclip.sources.parquet_tables import valid_text
from frugalclip.sources.reading import READING
from frugalclip.sources.rows import RawTable, with_plain_images

pc: Any = pyarrow.compute  # its functions are made at import, out of sight of type checkers

_PROBED = 256  # rows from which columns are recognised
_CACHED = re.compile(r"(?:.*-)?(train|validation|valid|val|dev|test|testing)(?:-\d+-of-\d+)?")


def is_saved_dataset(folder: Path) -> bool:
    """Whether `save_to_disk` wrote a folder, or it is a data set in the cache of `datasets`."""
    if (folder / "dataset_dict.json").is_file():
        return True
    return any((folder / name).is_file() for name in ("state.json", "dataset_info.json")) and any(
        folder.glob("*.arrow")
    )


def split_of(path: Path) -> str | None:
    """The split in a file name of the hub, such as `train-00000-of-00012.parquet`."""
    found = re.fullmatch(r"(\w+)-\d+-of-\d+", path.stem)
    return found[1] if found and found[1].lower() in SPLITS else None


def hub_files(folder: Path) -> list[tuple[Path, str | None]]:
    """Parquet files in folders as on the Hugging Face hub, with their splits; none beside images.

    The layouts are `data/train-00000-of-00003.parquet`, `CONFIG/train-00000-of-00001.parquet` and
    `CONFIG/train/0000.parquet`.

    Raises:
        DataError: when there are several configurations, whose tables differ; names them.
    """
    found: dict[tuple[str, ...], list[tuple[Path, str | None]]] = {}
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if any(name.lower().endswith(EXTENSIONS) for name in names):
            return []
        parts = Path(place).relative_to(folder).parts
        split = next((part for part in parts if part.lower() in SPLITS), None)
        files = [
            Path(place) / name
            for name in sorted(names)
            if name.endswith(".parquet") and not name.startswith(".")
        ]
        if files:
            configuration = tuple(part for part in parts if part != split and part not in ("data", "default"))
            found.setdefault(configuration, []).extend(
                (path, split or split_of(path)) for path in files if not path.name.endswith(".ledger.parquet")
            )
    if len(found) > 1:
        names = [str(Path(folder, *configuration)) for configuration in found]
        raise DataError(
            f"{folder} holds {len(found):,} configurations ({', '.join(names[:5])}); give the one meant."
        )
    return next(iter(found.values()), [])


def arrow_manifest(
    paths: Sequence[Path], *, name: str, columns: Mapping[str, str] | None, ledger: Ledger, notes: list[str]
) -> Manifest:
    """Arrow files of one folder, streams or files, one behind the other.

    Raises:
        DataError: as `saved_manifest`, and when they lie in several folders.
    """
    folders = {path.parent for path in paths}
    if len(folders) > 1:
        raise DataError(
            f"{name} stands for Arrow files of {len(folders):,} folders; give one folder, "
            "or write a manifest of each."
        )
    manifest = _read(folders.pop(), paths, {}, columns, ledger, notes)
    return Manifest(manifest.table, manifest.root, name)


def saved_manifest(
    folder: Path, *, columns: Mapping[str, str] | None, ledger: Ledger, notes: list[str]
) -> Manifest:
    """A saved data set as a manifest; several splits become one, with the field `split`.

    Raises:
        DataError: when files are missing, damaged or compressed, or no row is a sample.
    """
    if not (folder / "dataset_dict.json").is_file():
        return _one_folder(folder, columns, ledger, notes)
    splits = _json(folder / "dataset_dict.json").get("splits")
    if (
        not isinstance(splits, list)
        or not splits
        or not all(isinstance(split, str) and Path(split).name == split for split in splits)
    ):
        raise DataError(
            f'{folder / "dataset_dict.json"} names no splits, expected {{"splits": ["train", ...]}}; '
            "save the data set again."
        )
    parts: list[Manifest] = []
    for split in splits:
        if not (folder / split).is_dir():
            raise DataError(
                f"{folder} has no folder '{split}', which its dataset_dict.json names; "
                "copy the data set again."
            )
        own = Ledger(READING)
        parts.append(with_split(_one_folder(folder / split, columns, own, notes), split))
        ledger.extend(entry._replace(id=f"{split}/{entry.id}") for entry in own.entries)
    return concatenate(parts, name=str(folder))


def with_split(manifest: Manifest, split: str) -> Manifest:
    """The manifest with a field `split`, unless it has one."""
    if "split" in manifest.table.column_names:
        return manifest
    table = manifest.table.append_column("split", pa.repeat(pa.scalar(split), len(manifest)))
    return Manifest(table, manifest.root, manifest.name)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); save the data set again.") from None
    return content if isinstance(content, dict) else {}


def _one_folder(
    folder: Path, columns: Mapping[str, str] | None, ledger: Ledger, notes: list[str]
) -> Manifest:
    """One data set: what its state names, or the files of each split that lie in the cache."""
    state = _json(folder / "state.json")
    if "_data_files" in state:
        return _read(folder, _listed(folder, state["_data_files"]), state, columns, ledger, notes)
    by_split: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.arrow")):
        if not path.name.startswith(("cache-", "tmp", "indices")):  # of `map` and `filter`, not data
            found = _CACHED.fullmatch(path.stem)
            by_split.setdefault(found[1] if found else "", []).append(path)
    if not by_split:
        raise DataError(
            f"{folder} holds no Arrow file of a data set, expected data-00000-of-00001.arrow; "
            "save the data set again."
        )
    parts = [(split, _read(folder, paths, {}, columns, ledger, notes)) for split, paths in by_split.items()]
    return concatenate(
        [with_split(part, split) if split else part for split, part in parts], name=str(folder)
    )


def _listed(folder: Path, entries: Any) -> list[Path]:
    """Files that a state names; they lie beside it, whatever folder they were written in."""
    names = [entry.get("filename") if isinstance(entry, dict) else entry for entry in entries or ()]
    if not all(isinstance(name, str) and name for name in names):
        raise DataError(f"{folder / 'state.json'} does not name its files; save the data set again.")
    paths = [folder / Path(str(name)).name for name in names]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"{missing[0]} is not there, which state.json names ({len(missing):,} of {len(paths):,} are "
            "missing); copy the data set again."
        )
    return paths


def _read(
    folder: Path,
    paths: Sequence[Path],
    state: Mapping[str, Any],
    columns: Mapping[str, str] | None,
    ledger: Ledger,
    notes: list[str],
) -> Manifest:
    files = [_ArrowFile(path) for path in paths]
    schema = files[0].table.schema
    features = features_of(schema) or _json(folder / "dataset_info.json").get("features") or {}
    roles = _roles(files[0].table.slice(0, _PROBED), features, columns, folder)
    inside = holds_bytes(schema.field(roles.image).type)
    kept = [name for name in schema.names if inside is None or name != roles.image]
    table, broken = valid_text(
        named_labels(plain_types(pa.concat_tables([file.table.select(kept) for file in files])), features)
    )
    rows = _selected(folder, state, sum(len(file.table) for file in files), notes)
    causes = {row: "not-utf8" for name in sorted(roles.columns & broken.keys()) for row in broken[name]}
    if rows is not None:
        table = table.take(pa.array(rows))
        causes = {place: causes[row] for place, row in enumerate(rows.tolist()) if row in causes}
    raw = RawTable(table, np.arange(1, len(table) + 1), causes)
    raw.unpack_lists()
    if inside is None:
        return _named(assemble(raw, roles, folder / paths[0].name, ledger, notes), folder)
    places, reasons = _image_places(files, roles.image, inside, folder)
    if rows is not None:
        places, reasons = places.take(pa.array(rows)), [reasons[row] for row in rows]
    return _named(inside_manifest(raw, roles, folder / paths[0].name, places, reasons, ledger, notes), folder)


def _roles(
    first: pa.Table, features: Mapping[str, Any], columns: Mapping[str, str] | None, folder: Path
) -> Roles:
    """Which column is what, from the first rows without the bytes of images."""
    light = {
        field.name: first[field.name] if holds_bytes(field.type) is None else pa.nulls(len(first), field.type)
        for field in first.schema
    }
    named, _ = valid_text(plain_types(pa.table(light)))
    named = with_plain_images(named_labels(named, features))
    return choose(named, columns, where=str(folder), labels=label_names(features))


def _image_places(
    files: Sequence["_ArrowFile"], column: str, inside: str, folder: Path
) -> tuple[pa.StructArray, list[str | None]]:
    """(rows,) the `image` column: ranges of the Arrow files, or files beside; and why a row has no image."""
    ranges = [file.ranges(column) for file in files]
    offsets, lengths, held = (np.concatenate([part[i] for part in ranges]) for i in range(3))
    beside: list[str | None] = [None] * len(held)
    if not held.all():
        beside = [path for file in files for path in file.paths(column, inside)]
    owners = np.repeat(np.arange(len(files)), [len(part[0]) for part in ranges])
    names = pa.array([file.path.name for file in files]).take(pa.array(owners))
    places = image_places(names, offsets=offsets, lengths=lengths)
    return with_paths(places, held, beside, folder)


def _named(manifest: Manifest, folder: Path) -> Manifest:
    return Manifest(manifest.table, manifest.root, str(folder))


def _selected(folder: Path, state: Mapping[str, Any], count: int, notes: list[str]) -> np.ndarray | None:
    """Rows that a selection keeps, in its order, or None where the data set is whole.

    Args:
        folder: the data set.
        state: its `state.json`.
        count: rows of its files.
        notes: gets a remark.
    """
    entries = state.get("_indices_data_files") or state.get("_indices_files")
    if not entries:
        return None
    tables = [_ArrowFile(path).table for path in _listed(folder, entries)]
    rows = np.concatenate([table.column(0).to_numpy() for table in tables]).astype(np.int64)
    if len(rows) and not (rows.min() >= 0 and rows.max() < count):
        raise DataError(
            f"{folder} selects row {rows.max():,} of {count:,}; its indices belong to other files, "
            "so save the data set again."
        )
    notes.append(f"the data set selects {len(rows):,} of {count:,} rows, in an order of its own")
    return rows


class _ArrowFile:
    """One mapped Arrow file, and where in it its bytes lie."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.buffer = pa.memory_map(str(path)).read_buffer()
            is_file = self.buffer.slice(0, 6).to_pybytes() == b"ARROW1"
            self.table: pa.Table = (pa.ipc.open_file if is_file else pa.ipc.open_stream)(
                self.buffer
            ).read_all()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(
                f"{path} cannot be read as Arrow ({(str(error).splitlines() or ['no detail'])[0]}); "
                "copy the data set again."
            ) from None

    def ranges(self, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where the values of a column of bytes, or of structs with bytes, lie.

        Returns:
            (rows,) int64 offsets in the file, (rows,) int64 lengths, (rows,) bool whether there is a value.

        Raises:
            DataError: when the file is compressed.
        """
        parts = [self._range(chunk) for chunk in self.table[column].chunks]
        empty = np.zeros(0, dtype=np.int64)
        offsets, lengths, held = (
            zip(*parts, strict=True) if parts else ([empty], [empty], [empty.astype(bool)])
        )
        return np.concatenate(offsets), np.concatenate(lengths), np.concatenate(held)

    def _range(self, chunk: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        held = chunk.is_valid()
        if pa.types.is_list(chunk.type) or pa.types.is_large_list(chunk.type):
            items = single_items(chunk)
            has_one = items.is_valid().to_numpy(zero_copy_only=False)
            rows = pc.fill_null(items, 0).to_numpy()
            if not len(chunk.values):
                return np.zeros(len(chunk), np.int64), np.zeros(len(chunk), np.int64), has_one
            offsets, lengths, inner = self._range(chunk.values)
            return offsets[rows], lengths[rows], inner[rows] & has_one
        if pa.types.is_struct(chunk.type):
            chunk = chunk.field("bytes")
            held = pc.and_(held, chunk.is_valid())
        _, ends, data = chunk.buffers()
        kind = np.int64 if pa.types.is_large_binary(chunk.type) else np.int32
        bounds = np.frombuffer(ends, dtype=kind)[chunk.offset : chunk.offset + len(chunk) + 1].astype(
            np.int64
        )
        start = data.address - self.buffer.address if data is not None and data.size else 0
        if not 0 <= start <= self.buffer.size:  # unpacked into memory: the file holds something else
            raise DataError(
                f"{self.path} is compressed, so that pictures cannot be read at random; write it with: "
                "dataset.save_to_disk(FOLDER)"
            )
        return bounds[:-1] + start, np.diff(bounds), held.to_numpy(zero_copy_only=False)

    def paths(self, column: str, inside: str) -> list[str | None]:
        """For a column of structs with bytes and path, its paths."""
        if not inside.endswith(".bytes"):
            return [None] * len(self.table)
        paths: list[str | None] = []
        for chunk in self.table[column].chunks:
            is_list = inside.startswith("[]")
            values = chunk.values.take(single_items(chunk)) if is_list else chunk
            has_path = "path" in [child.name for child in values.type]
            paths += values.field("path").to_pylist() if has_path else [None] * len(chunk)
        return paths
