"""A manifest is the data set: a Parquet file with one row a sample.

Reserved columns: `id`, `image` (where the bytes are), `captions` (what training reads), and optionally
`captions_by_language` and `weight`. Every other column is a field. Nothing here opens an image. Schema and
version: `docs/formats.md`.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from frugalclip.core.disk import replacing
from frugalclip.core.errors import DataError, known_names, shortened
from frugalclip.core.guard import reading
from frugalclip.core.paths import user_path
from frugalclip.data.conditions import matching
from frugalclip.data.tables import concatenate_tables, is_number, plain_types

pc: Any = pyarrow.compute  # its functions are made at import, out of sight of type checkers

VERSION = b"1"
VERSION_KEY = b"frugalclip.manifest"
SHARD_KEY = b"frugalclip.shard"  # in the schema of a Parquet file that `data convert` wrote
RESERVED = ("id", "image", "captions", "captions_by_language", "weight")

IMAGE = pa.struct(
    [
        ("path", pa.string()),  # relative to the manifest's folder, or absolute
        ("offset", pa.int64()),  # with length: a byte range of the file, such as a member of a tar
        ("length", pa.int64()),
        ("row", pa.int64()),  # with column: a row of a Parquet file that holds the bytes
        ("column", pa.string()),
    ]
)
CAPTIONS = pa.list_(pa.string())
CAPTIONS_BY_LANGUAGE = pa.map_(pa.string(), CAPTIONS)


@dataclass(frozen=True, eq=False)
class Manifest:
    """A data set: a table of samples and the folder its image paths start from."""

    table: pa.Table
    root: Path
    name: str  # as the user wrote the path

    def __len__(self) -> int:
        return self.table.num_rows

    def __repr__(self) -> str:
        return (
            f"Manifest({self.name!r}, {len(self):,} samples, fields: {', '.join(self.field_names) or 'none'})"
        )

    @cached_property
    def ids(self) -> list[str]:
        """Unique names of the samples, in row order."""
        return self.table["id"].to_pylist()

    @property
    def field_names(self) -> list[str]:
        """Columns that are not reserved."""
        return [name for name in self.table.column_names if name not in RESERVED]

    @property
    def languages(self) -> list[str]:
        """Languages that any sample has a caption in, sorted; empty where captions have no language."""
        if "captions_by_language" not in self.table.column_names:
            return []
        keys = [chunk.keys.slice(*_span(chunk)) for chunk in self.table["captions_by_language"].chunks]
        return sorted({key for part in keys for key in pc.unique(part).to_pylist()})

    def where(self, condition: str | None) -> "Manifest":
        """The samples that meet a condition over fields.

        Args:
            condition: such as `split=train,skin_tone=null,category=a|b,style!=noto`: comma is and, `|` is or;
                a list field matches when it contains the value; quotes keep a comma or the word null literal.
                None or empty keeps everything.

        Raises:
            DataError: for an unknown field, a value that the field's type cannot hold, or when no sample is
                left.
        """
        if not condition or not condition.strip():
            return self
        return self.take(matching(self.table, condition, name=self.name))

    def take(self, rows: Sequence[int] | np.ndarray) -> "Manifest":
        """The given rows, in the given order."""
        indices = pa.array(np.asarray(rows, dtype=np.int64))
        return Manifest(self.table.take(indices), self.root, self.name)

    def image_files(self, ids: Sequence[str]) -> list[Path]:
        """The file that holds the image of each id: its own, or the tar or table that it lies in.

        Raises:
            DataError: naming the first id that is not here.
        """
        rows = {id: row for row, id in enumerate(self.ids)}
        if absent := [id for id in ids if id not in rows]:
            raise DataError(
                f"'{absent[0]}' ({len(absent):,} of {len(ids):,} ids) is not in {self.name}; give ids of "
                "this data set, such as those of a store of it."
            )
        places = self.take([rows[id] for id in ids]).table["image"]
        return [self.root / place["path"] for place in places.to_pylist()]

    def captions(self, *, language: str | None = None) -> list[list[str]]:
        """Captions of every sample.

        Args:
            language: a code such as `de`; None gives what training reads. Samples without a caption in the
                language give an empty list.

        Raises:
            DataError: when no sample has a caption in the language.
        """
        if language is None:
            return self.table["captions"].to_pylist()
        if language not in (known := self.languages):
            raise DataError(
                f"{self.name} has no captions in '{language}'; {known_names(language, known, limit=80)}"
            )
        found = pc.map_lookup(self.table["captions_by_language"], pa.scalar(language), "first")
        return [captions or [] for captions in found.to_pylist()]

    def field(self, name: str) -> list[Any]:
        """Values of any column, null as None.

        Raises:
            DataError: when there is no such column.
        """
        return self._column(name).to_pylist()

    def _column(self, name: str) -> pa.ChunkedArray:
        if name not in self.table.column_names:
            known = [column for column in self.table.column_names if column != "image"]
            raise DataError(f"{self.name} has no field '{name}'; {known_names(name, known, limit=40)}")
        return self.table[name]

    def weights(self, name: str = "weight") -> np.ndarray:
        """How often to draw each sample, relative to the others.

        Args:
            name: any column that holds numbers. In the column `weight` a null counts as 1, elsewhere it is
                refused.

        Returns:
            (samples,) float64, finite and at least 0.

        Raises:
            DataError: when there is no such column, or a value is not a weight; names the first one.
        """
        column = self._column(name)
        if not (is_number(column.type) or pa.types.is_null(column.type)):
            raise DataError(
                f"'{name}' of {self.name} holds {column.type}, expected numbers; "
                "name another field with data.weights=FIELD, or none."
            )
        column = column.cast(pa.float64())
        values = pc.fill_null(column, 1.0 if name == "weight" else math.nan).to_numpy()
        if len(wrong := np.flatnonzero(~(np.isfinite(values) & (values >= 0)))):
            value = "null" if column[wrong[0]].as_py() is None else f"{values[wrong[0]]:g}"
            raise DataError(
                f"'{name}' of {self.name} cannot weigh its samples: {self.ids[wrong[0]]} has {value}, "
                "expected a finite number of at least 0 "
                f"({len(wrong):,} are not); correct them, or set data.weights=none."
            )
        return values

    def codes(self, name: str) -> np.ndarray:
        """Numbers that are equal exactly where values of a field are, on all machines and in all data sets.

        Args:
            name: any column. List values are equal when they hold the same items in the same order.

        Returns:
            (samples,) int64; a null is unlike every other row, nulls included.
        """
        column = self._column(name)
        if pa.types.is_nested(column.type):
            values, positions = column.to_pylist(), np.arange(len(self))
        else:
            encoded = pa.chunked_array(column).combine_chunks().dictionary_encode("encode")
            encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
            values, positions = encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False)
        hashes = np.array([0 if value is None else value_code(value) for value in values], dtype=np.int64)
        codes = hashes[positions] if len(hashes) else np.zeros(len(self), dtype=np.int64)
        for row in np.flatnonzero(column.is_null().to_numpy()):
            codes[row] = value_code(["null", name, self.ids[row]])
        return codes

    def fingerprint(self) -> str:
        """16 hex digits over ids, captions and image places, in row order; the same on every machine.

        Only the last part of an image's path counts, so that moving the folder does not change it.
        """
        image = self.table["image"].combine_chunks()
        names = _dictionary_map(image.field("path"), os.path.basename)
        digest = hashlib.blake2b(digest_size=8)
        captions = self.table["captions"].combine_chunks()
        counts = pc.fill_null(pc.list_value_length(captions), 0)
        for part in (self.table["id"], names, pc.list_flatten(captions)):
            _update(digest, part)
        for part in (counts, *(image.field(name) for name in ("offset", "length", "row"))):
            digest.update(pc.fill_null(part.cast(pa.int64()), -1).to_numpy(zero_copy_only=False).tobytes())
        return digest.hexdigest()

    def digest(self) -> str:
        """16 hex digits over all columns in row order, except the bytes of the images."""
        digest = hashlib.blake2b(self.fingerprint().encode(), digest_size=8)
        table = self.table.drop_columns(["image"]).combine_chunks()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=65_536)
        digest.update(sink.getvalue())
        return digest.hexdigest()

    def write(self, path: Path | str) -> None:
        """Write the manifest. Image paths beneath its folder become relative to it, others absolute.

        Raises:
            DataError: when a weight is negative or not finite.
        """
        path = user_path(path)
        if "weight" in self.table.column_names:
            self.weights()
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = path.parent.resolve()
        with replacing(path) as temporary:
            pq.write_table(with_root(self, folder).table, temporary, compression="zstd")

    @staticmethod
    def read(path: Path | str) -> "Manifest":
        """Read a manifest.

        Raises:
            DataError: when the file is not a manifest of this version.
        """
        path = user_path(path)
        with reading(path, advice="write a manifest with: frugalclip data manifest PATH --out FILE"):
            table = pq.ParquetFile(path).read()
            table.validate(full=True)  # text that is no UTF-8 would be met by the first who reads it
            manifest = Manifest(_checked(table, path), path.parent, str(path))
        if "weight" in manifest.table.column_names:
            manifest.weights()
        return manifest


def is_manifest(schema: pa.Schema) -> bool:
    """Whether a Parquet schema is that of a manifest, of any version."""
    return VERSION_KEY in (schema.metadata or {})


def make_manifest(
    *,
    ids: Sequence[str] | pa.Array | pa.ChunkedArray,
    images: pa.Array | pa.ChunkedArray,
    captions: Sequence[Sequence[str]] | pa.Array | pa.ChunkedArray,
    fields: Mapping[str, Any] | None = None,
    captions_by_language: Any = None,
    weights: Any = None,
    root: Path,
    name: str,
) -> Manifest:
    """Put columns together as a manifest. A field whose name is reserved gets an underscore behind it."""
    columns: dict[str, Any] = {
        "id": _array(ids, pa.string()),
        "image": images,
        "captions": _array(captions, CAPTIONS),
    }
    if captions_by_language is not None:
        columns["captions_by_language"] = _array(captions_by_language, CAPTIONS_BY_LANGUAGE)
    if weights is not None:
        columns["weight"] = _array(weights, pa.float64())
    for field_name, values in (fields or {}).items():
        columns[f"{field_name}_" if field_name in columns or field_name in RESERVED else field_name] = values
    table = plain_types(pa.table(columns)).replace_schema_metadata({VERSION_KEY: VERSION})
    return Manifest(table, root, name)


def image_places(
    paths: Sequence[str] | pa.Array,
    *,
    offsets: Any = None,
    lengths: Any = None,
    rows: Any = None,
    column: str | None = None,
) -> pa.StructArray:
    """The `image` column: files, byte ranges (offsets and lengths) or Parquet rows (rows and column)."""
    path = _array(paths, pa.string())
    path = path.combine_chunks() if isinstance(path, pa.ChunkedArray) else path
    nothing = pa.nulls(len(path), pa.int64())
    numbers = [nothing if part is None else pa.array(part, pa.int64()) for part in (offsets, lengths, rows)]
    columns = pa.nulls(len(path), pa.string()) if column is None else pa.repeat(pa.scalar(column), len(path))
    return pa.StructArray.from_arrays([path, *numbers, columns], fields=list(IMAGE))


def concatenate(manifests: Sequence[Manifest], *, name: str | None = None) -> Manifest:
    """One manifest of several.

    Fields that some lack are null there. Ids that clash get their manifest's name or number as prefix.
    """
    if len(manifests) == 1:
        return manifests[0]
    roots = [manifest.root.resolve() for manifest in manifests]
    root = Path(os.path.commonpath(roots)) if roots else Path()
    tables = [with_root(manifest, root).table for manifest in manifests]
    every = pa.concat_arrays([chunk for table in tables for chunk in table["id"].chunks])
    if len(pc.unique(every)) < len(every):
        tables = [
            _prefixed(table, prefix) for table, prefix in zip(tables, _prefixes(manifests), strict=True)
        ]
    table = concatenate_tables(tables).replace_schema_metadata({VERSION_KEY: VERSION})
    return Manifest(
        table, root, name if name is not None else " + ".join(manifest.name for manifest in manifests)
    )


def with_root(manifest: Manifest, root: Path) -> Manifest:
    """The same manifest with image paths relative to `root` where they lie beneath it, else absolute."""
    old, new = manifest.root.resolve(), root.resolve()
    if old == new:
        return Manifest(manifest.table, new, manifest.name)

    def moved(path: str) -> str:
        whole = os.path.normpath(os.path.join(old, path))
        beneath = os.path.relpath(whole, new)
        return whole if beneath.split(os.sep)[0] == os.pardir else Path(beneath).as_posix()

    image = manifest.table["image"].combine_chunks()
    children = [
        _dictionary_map(image.field("path"), moved),
        *(image.field(child.name) for child in IMAGE if child.name != "path"),
    ]
    position = manifest.table.column_names.index("image")
    table = manifest.table.set_column(
        position, "image", pa.StructArray.from_arrays(children, fields=list(IMAGE))
    )
    return Manifest(table, new, manifest.name)


def value_code(value: Any) -> int:
    """A 63-bit code, equal for equal values on every machine; 1 and 1.0 are equal, 1 and true are not."""
    text = json.dumps(_plain(value), ensure_ascii=True, sort_keys=True, separators=(",", ":"), default=str)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return {str(key): _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def _array(values: Any, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values if values.type == kind else values.cast(kind)
    return pa.array(values, kind)


def _span(chunk: pa.MapArray) -> tuple[int, int]:
    """Where a slice's entries start in its keys, and how many they are."""
    start, end = chunk.offsets[0].as_py(), chunk.offsets[len(chunk)].as_py()
    return start, end - start


def _dictionary_map(strings: pa.Array, change: Any) -> pa.Array:
    """Apply a function to every distinct string."""
    encoded = strings.dictionary_encode()
    changed = pa.array(
        [None if text is None else change(text) for text in encoded.dictionary.to_pylist()], pa.string()
    )
    return changed.take(encoded.indices)


def _update(digest: Any, strings: pa.Array | pa.ChunkedArray) -> None:
    """Feed strings to a digest: lengths and bytes, so that no two lists of strings look alike."""
    column = pa.chunked_array([strings]) if isinstance(strings, pa.Array) else strings
    lengths = pc.fill_null(pc.binary_length(column).cast(pa.int64()), -1)
    digest.update(lengths.to_numpy().tobytes())
    for chunk in column.chunks:
        digest.update("".join(text or "" for text in chunk.to_pylist()).encode("utf-8", "surrogatepass"))


def _prefixes(manifests: Sequence[Manifest]) -> list[str]:
    names = [Path(manifest.name).stem or manifest.name for manifest in manifests]
    return (
        names
        if len(set(names)) == len(names)
        else [f"{name}-{number}" for number, name in enumerate(names, start=1)]
    )


def _prefixed(table: pa.Table, prefix: str) -> pa.Table:
    ids = pc.binary_join_element_wise(pa.scalar(prefix), table["id"], "/")
    return table.set_column(table.column_names.index("id"), "id", ids)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _checked(table: pa.Table, path: Path) -> pa.Table:
    """A table read from a file, refused unless it is a manifest, with absent members of `image` added."""
    found = (table.schema.metadata or {}).get(VERSION_KEY)
    if found != VERSION:
        version = "" if found is None else shortened(found.decode("utf-8", "replace"), 40)
        what = f"is of version {version}" if version else "has no version"
        raise DataError(
            f"{path} {what} as a manifest, expected {VERSION.decode()}; write one with: "
            "frugalclip data manifest PATH --out FILE."
        )
    missing = [name for name in ("id", "image", "captions") if name not in table.column_names]
    if missing:
        raise DataError(
            f"{path} is a manifest without the column '{missing[0]}'; write it again with: "
            "frugalclip data manifest PATH --out FILE."
        )
    try:
        image = table["image"].combine_chunks()
        present = {child.name for child in image.type}
        children = [
            image.field(c.name).cast(c.type) if c.name in present else pa.nulls(len(image), c.type)
            for c in IMAGE
        ]
        table = table.set_column(
            table.column_names.index("image"),
            "image",
            pa.StructArray.from_arrays(children, fields=list(IMAGE)),
        )
        for name, kind in (("id", pa.string()), ("captions", CAPTIONS)):
            table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
        table = plain_types(table)
    except (pa.ArrowException, AttributeError) as error:
        raise DataError(
            f"{path} is a manifest with a column of the wrong type ({_first_line(error)}); "
            "docs/formats.md has the schema."
        ) from error
    ids = table["id"]
    if ids.null_count or len(pc.unique(ids)) < len(ids):
        raise DataError(
            f"{path} repeats an id or leaves one empty; ids must be unique, so write the manifest again."
        )
    return table.replace_schema_metadata({VERSION_KEY: VERSION})
