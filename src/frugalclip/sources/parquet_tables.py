"""Parquet files as manifests: images inside, or as paths. Image bytes are not read to open one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from frugalclip.core.errors import DataError
from frugalclip.data.ledger import Ledger
from frugalclip.data.manifest import SHARD_KEY, Manifest, image_places, is_manifest, make_manifest
from frugalclip.data.parquet_images import FOLDER_VARIABLE, MEMORY_BYTES, cache_folder, leaf
from frugalclip.data.tables import plain_types
from frugalclip.sources.assembling import assemble, inside_manifest, with_paths
from frugalclip.sources.class_lists import with_class_names
from frugalclip.sources.column_values import holds_bytes
from frugalclip.sources.columns import choose
from frugalclip.sources.labels import features_of, label_names, named_labels
from frugalclip.sources.rows import RawTable, with_plain_images

pc: Any = pyarrow.compute  # its functions are made at import, out of sight of type checkers


def parquet_manifest(
    path: Path, *, columns: Mapping[str, str] | None, ledger: Ledger, notes: list[str]
) -> Manifest:
    """A Parquet file, with images inside or as paths, as a manifest; image bytes are not read.

    Raises:
        DataError: when the file is damaged, columns are not recognised, or no row is a sample.
    """
    try:
        file = pq.ParquetFile(path)
        if SHARD_KEY in (file.schema_arrow.metadata or {}):
            return _converted(file, path, ledger)
        features = features_of(file.schema_arrow)
        first, _ = valid_text(plain_types(file.read_row_group(0) if _is_small(file) else _first_rows(file)))
        first, listed = with_class_names(with_plain_images(named_labels(first, features)), path)
        labels = [*label_names(features), *listed]
        roles = choose(first, columns, where=str(path), labels=labels)
        inside = holds_bytes(file.schema_arrow.field(roles.image).type)
        names = [name for name in file.schema_arrow.names if inside is None or name != roles.image]
        table, broken = valid_text(named_labels(plain_types(file.read(columns=names)), features))
        table, _ = with_class_names(table, path)
        raw = RawTable(
            table,
            np.arange(1, file.metadata.num_rows + 1),
            {row: "not-utf8" for name in sorted(roles.columns & broken.keys()) for row in broken[name]},
        )
        raw.unpack_lists()
        if inside is None:
            return assemble(raw, roles, path, ledger, notes)
        places, reasons = _inside(file, path, *_leaves(file, roles.image, inside))
        if path.stat().st_size > MEMORY_BYTES:
            notes.append(
                "pictures lie in Parquet: read in random order, they are unpacked once into "
                f"{cache_folder()} (${FOLDER_VARIABLE})"
            )
    except (pa.ArrowException, OSError, KeyError) as error:
        raise DataError(
            f"{path} cannot be read as Parquet ({str(error).splitlines()[0]}); copy it again."
        ) from None
    return inside_manifest(raw, roles, path, places, reasons, ledger, notes)


def names_images(path: Path) -> bool:
    """Whether a Parquet file that is no manifest has a column of image files and one of captions."""
    try:
        file = pq.ParquetFile(path)
        if is_manifest(file.schema_arrow):
            return False
        table, labels = with_class_names(with_plain_images(plain_types(_first_rows(file))), path)
        roles = choose(table, None, where=path.name, labels=labels)
        return holds_bytes(file.schema_arrow.field(roles.image).type) is None
    except (pa.ArrowException, OSError, KeyError, DataError):
        return False


def _converted(file: pq.ParquetFile, path: Path, ledger: Ledger) -> Manifest:
    """A shard of `data convert`, whose columns are what they are called."""
    names = [name for name in file.schema_arrow.names if name != "image"]
    table = plain_types(file.read(columns=names))
    places, reasons = _inside(file, path, "image.bytes", "image.path")
    for id, reason in zip(table["id"].to_pylist(), reasons, strict=True):
        if reason:
            ledger.drop(id, reason, path.name)
    rows = pa.array([row for row, reason in enumerate(reasons) if not reason], pa.int64())
    table = table.take(rows)
    languages = table["captions_by_language"].to_pylist() if "captions_by_language" in names else None
    return make_manifest(
        ids=table["id"],
        images=places.take(rows),
        captions=table["captions"],
        captions_by_language=languages
        and [[(code, texts) for code, texts in (value or {}).items() if texts] for value in languages],
        weights=table["weight"] if "weight" in names else None,
        fields={
            name: table[name]
            for name in names
            if name not in ("id", "captions", "captions_by_language", "weight")
        },
        root=path.parent,
        name=str(path),
    )


def valid_text(table: pa.Table) -> tuple[pa.Table, dict[str, list[int]]]:
    """The table with valid UTF-8, and column -> rows where it was not. Arrow does not check when it reads."""
    broken: dict[str, list[int]] = {}
    for position, name in enumerate(table.column_names):
        column = table.column(position)
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            column = column.cast(_binary_like(column.type))
            column.validate(full=True)  # damaged offsets are no text of another encoding
            values = column.to_pylist()
            rows = [row for row, value in enumerate(values) if not _is_text(value)]
            broken[name] = rows
            texts = [None if not _is_text(value) else _as_text(value) for value in values]
            table = table.set_column(position, name, pa.array(texts, table.schema.field(position).type))
    return table, broken


def _binary_like(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(_binary_like(kind.value_type))
    return pa.binary() if pa.types.is_string(kind) else kind


def _is_text(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_text, value))
    try:
        return not isinstance(value, bytes) or value.decode() is not None
    except UnicodeDecodeError:
        return False


def _as_text(value: Any) -> Any:
    return (
        [_as_text(item) for item in value]
        if isinstance(value, list)
        else value.decode()
        if isinstance(value, bytes)
        else value
    )


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


def _leaves(file: pq.ParquetFile, image: str, inside: str) -> tuple[str, str | None]:
    """Dotted names of the columns of image bytes and of paths beside them."""
    names = [name for name in _leaf_names(file) if name == image or name.startswith(f"{image}.")]
    if not inside.endswith(".bytes"):
        return names[0], None
    bytes_column = next(name for name in names if name.endswith(".bytes"))
    beside = f"{bytes_column.removesuffix('.bytes')}.path"
    return bytes_column, beside if beside in names else None


def _leaf_names(file: pq.ParquetFile) -> list[str]:
    return [file.schema.column(i).path for i in range(len(file.schema))]


def _inside(
    file: pq.ParquetFile, path: Path, column: str, beside: str | None
) -> tuple[pa.StructArray, list[str | None]]:
    """Places of images in a Parquet file or of the files that it names, and why a row has none.

    Only row groups that may lack images are read, and of lists the paths, which tell how many there are.
    """
    rows, start = file.metadata.num_rows, 0
    held, counts = np.ones(rows, dtype=bool), np.ones(rows, dtype=np.int64)
    paths: list[str | None] = [None] * rows
    position, top = _leaf_names(file).index(column), column.split(".")[0]
    is_list = pa.types.is_nested(kind := file.schema_arrow.field(top).type) and not pa.types.is_struct(kind)
    for group in range(file.num_row_groups):
        chunk = file.metadata.row_group(group).column(position)
        here = slice(start, start := start + file.metadata.row_group(group).num_rows)
        lacks = chunk.statistics is None or not chunk.statistics.has_null_count or chunk.statistics.null_count
        if not (lacks or is_list):
            continue
        names = [beside] if beside and not lacks else [column, beside] if beside else [column]
        table = file.read_row_group(group, columns=names)
        if is_list:
            counts[here] = pc.fill_null(pc.list_value_length(table[top]), 0).to_numpy()
        held[here] = counts[here] == 1
        if column in names:
            held[here] &= leaf(table, column).is_valid().to_numpy(zero_copy_only=False)
            paths[here] = leaf(table, beside).to_pylist() if beside else paths[here]
    places = image_places([path.name] * rows, rows=np.arange(rows), column=column)
    places, reasons = with_paths(places, held, paths, path.parent)
    return places, ["several-images" if n > 1 else r for n, r in zip(counts, reasons, strict=True)]
