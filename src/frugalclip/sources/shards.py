"""Shards that frugalclip writes: WebDataset tars, or Parquet that Hugging Face's `datasets` opens too.

Reading a shard gives back what was written: ids, captions, languages, weights, fields, and the picture's
bytes. The same input gives the same bytes: tars hold no time and no owner.
"""

import hashlib
import io
import json
import math
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pydantic import Field

from frugalclip.core.config import Settings
from frugalclip.core.images import orientation_of
from frugalclip.data.images import decode, open_image, upright_size
from frugalclip.data.manifest import CAPTIONS, SHARD_KEY, Manifest
from frugalclip.sources.sidecars import ID_KEY

SHARD_VERSION = b"1"
_EXTENSIONS = {
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tiff",
    "PPM": ".ppm",
    "AVIF": ".avif",
}
_ENCODED: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "PNG": {},
}
# pixels that a JPEG kept as it is has to decode to: every byte is read, few are turned into colours
_VERIFIED = 32
_GROUP_BYTES = 2**20  # of pictures in a row group: what one random read costs
_GROUP_ROWS = 128
_LONGEST_KEY = 180  # file systems take 255 bytes for a name, and an extension follows


class ImageSettings(Settings):
    """How pictures are written."""

    size: int | None = Field(
        None, ge=1, description="pixels of the shorter side; larger pictures are shrunk, smaller ones stay"
    )
    format: Literal["keep", "jpeg", "webp", "png"] = Field(
        "keep", description="keep: as it is, or where it is shrunk its own format, else PNG"
    )

    def written(self, data: bytes) -> tuple[bytes, str]:
        """A picture as it goes into a shard.

        An image that is small enough and of the chosen format keeps its bytes; others become upright RGB
        on white.

        Args:
            data: a whole encoded file.

        Returns:
            The encoded file and its extension.

        Raises:
            BadImage: when it does not decode, whether it is written anew or not.
        """
        image = open_image(data)
        kind = image.format or "PNG"
        shorter = min(upright_size(image))
        shrinks = self.size is not None and shorter > self.size
        wanted = kind if self.format == "keep" else self.format.upper()
        if not shrinks and (self.format == "keep" or (kind == wanted and _is_plain(image))):
            decode(data, at_least=_VERIFIED)
            return data, _EXTENSIONS.get(kind, ".png")
        source = decode(data, at_least=2 * self.size if self.size is not None and shrinks else None)
        if self.size is not None and shrinks:
            width, height = (max(1, round(side * self.size / min(source.size))) for side in source.size)
            source = source.resize((width, height), Image.Resampling.BICUBIC)
        wanted = "JPEG" if wanted == "MPO" else wanted if wanted in _ENCODED else "PNG"
        buffer = io.BytesIO()
        source.save(buffer, wanted, **_ENCODED[wanted])
        return buffer.getvalue(), _EXTENSIONS[wanted]


def _is_plain(image: Image.Image) -> bool:
    """Whether other programs see the picture as we do: RGB or gray, upright, opaque, without a profile."""
    return (
        image.mode in ("RGB", "L")
        and orientation_of(image) == 1
        and not any(image.info.get(name) for name in ("transparency", "icc_profile"))
    )


class Sample(NamedTuple):
    """One row of a manifest with its picture."""

    row: int
    data: bytes
    extension: str  # with its dot


def safe_key(id: str) -> str:
    """An id as the name of files in a tar.

    Letters, digits, `-`, `_` and `/` stay, other bytes become % and two digits, long ids are cut and hashed.
    A dot would end the key for WebDataset, and names such as `../a` leave the folder.
    """
    parts = id.split("/")
    keep = r"[^A-Za-z0-9_\-/]" if all(parts) else r"[^A-Za-z0-9_\-]"
    key = re.sub(
        keep, lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass")), id
    )
    key = key.replace("__MACOSX", "%5F_MACOSX")
    if len(key) <= _LONGEST_KEY:
        return key
    digest = hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{key[: _LONGEST_KEY - 17].rstrip('%/')}-{digest}"


def write_tar(path: Path, manifest: Manifest, samples: Iterable[Sample]) -> None:
    """Write a WebDataset tar: an image, a `.txt` with the first caption, a `.json` with everything else.

    Args:
        path: the file.
        manifest: the data set.
        samples: rows of it, in the order to write.
    """
    rows = _Records(manifest)
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as file:
        for sample in samples:
            record = rows.record(sample.row)
            key = safe_key(record[ID_KEY])
            text = json.dumps(record, ensure_ascii=False, default=str)
            for extension, content in (
                (sample.extension, sample.data),
                (".txt", record["captions"][0].encode()),
                (".json", text.encode()),
            ):
                member = tarfile.TarInfo(
                    key + extension
                )  # no time, no owner: the same input gives the same bytes
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))


class _Records:
    """Rows of a manifest as JSON objects."""

    def __init__(self, manifest: Manifest) -> None:
        self.table = manifest.table.drop(["image", *unwritten_fields(manifest)])

    def record(self, row: int) -> dict[str, Any]:
        values = self.table.slice(row, 1).to_pylist()[0]
        record = {ID_KEY: values.pop("id"), "captions": values.pop("captions")}
        if "captions_by_language" in values:
            record["captions_by_language"] = dict(values.pop("captions_by_language") or ())
        return record | {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    """A value without what JSON has no word for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return [_plain(item) for item in value] if isinstance(value, list) else value


def unwritten_fields(manifest: Manifest) -> list[str]:
    """Fields that hold bytes, which JSON cannot: a tar goes without them."""
    return [name for name in manifest.field_names if _holds_bytes(manifest.table.schema.field(name).type)]


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_holds_bytes(kind.field(i).type) for i in range(kind.num_fields))
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def write_parquet(path: Path, manifest: Manifest, samples: Iterable[Sample]) -> None:
    """Write a Parquet shard that Hugging Face's `datasets` opens, in small row groups.

    Its columns are `id`, `image` (bytes and a name), captions, weight and fields. Captions by language are a
    struct with a list of texts for each language, since `datasets` reads no maps.

    Args:
        path: the file.
        manifest: the data set; its types and languages are those of every shard.
        samples: rows of it, in the order to write.
    """
    languages = manifest.languages
    schema = _schema(manifest, languages)
    leaves = [
        leaf for leaf in _leaves(schema) if leaf != "image.bytes"
    ]  # encoded pictures only grow by being packed again
    options: dict[str, Any] = {
        "compression": {**dict.fromkeys(leaves, "zstd"), "image.bytes": "none"},
        "use_dictionary": leaves,
    }
    with pq.ParquetWriter(path, schema, **options) as writer:
        for group in _groups(samples):
            writer.write_table(_table(manifest, group, schema, languages), row_group_size=len(group))


def _leaves(schema: pa.Schema) -> list[str]:
    """Names of the columns that Parquet makes of a schema, such as `captions.list.element`."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    found = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    return [found.column(i).path for i in range(len(found))]


def _groups(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    group: list[Sample] = []
    size = 0
    for sample in samples:
        group.append(sample)
        size += len(sample.data)
        if size >= _GROUP_BYTES or len(group) >= _GROUP_ROWS:
            yield group
            group, size = [], 0
    if group:
        yield group


def _schema(manifest: Manifest, languages: Sequence[str]) -> pa.Schema:
    fields = [
        pa.field("id", pa.string()),
        pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        pa.field("captions", CAPTIONS),
    ]
    if languages:
        fields.append(
            pa.field("captions_by_language", pa.struct([(language, CAPTIONS) for language in languages]))
        )
    fields += [
        field.with_metadata(None)
        for field in manifest.table.schema
        if field.name not in ("id", "image", "captions", "captions_by_language")
    ]
    features = {"info": {"features": {"image": {"_type": "Image"}}}}
    return pa.schema(
        fields, metadata={SHARD_KEY: SHARD_VERSION, b"huggingface": json.dumps(features).encode()}
    )


def _table(
    manifest: Manifest, group: Sequence[Sample], schema: pa.Schema, languages: Sequence[str]
) -> pa.Table:
    part = manifest.table.take(pa.array([sample.row for sample in group]))
    ids = part["id"].to_pylist()
    images = [
        {"bytes": sample.data, "path": safe_key(id) + sample.extension}
        for id, sample in zip(ids, group, strict=True)
    ]
    columns: dict[str, Any] = {
        name: part[name] for name in schema.names if name not in ("image", "captions_by_language")
    }
    columns["image"] = pa.array(images, schema.field("image").type)
    if languages:
        values = [
            None if value is None else dict(value) for value in part["captions_by_language"].to_pylist()
        ]
        columns["captions_by_language"] = pa.array(values, schema.field("captions_by_language").type)
    return pa.table([columns[name] for name in schema.names], schema=schema)
