"""The files of an embedding store: the content of `store.json`, and chunk files read through memory maps.

`docs/formats-store.md` describes the format; `store.py` reads a store and `writer.py` writes one.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
from pydantic import Field

from frugalclip.core.config import Settings, validated
from frugalclip.core.errors import DataError, shortened
from frugalclip.core.guard import parse_json, reading
from frugalclip.core.records import write_atomically, write_json
from frugalclip.core.stored import read_object
from frugalclip.core.users_text import command_line

Kind = Literal["image", "text"]
StoreDtype = Literal["float16", "float32", "int8"]
KINDS: tuple[Kind, ...] = ("image", "text")
FORMAT, VERSION = "frugalclip.store", 3  # 3: the head has a checksum
EMBED_AGAIN = "delete it and run the same 'frugalclip embed' again, which keeps the other chunks"
_NUMPY_DTYPES = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "I64": np.int64, "U64": np.uint64}


class EncoderRecord(Settings):
    """The model that made the vectors. All but description and scale goes into the names of the chunks."""

    model: str = Field(description="fingerprint of the weights")
    description: dict[str, Any] = Field(default_factory=dict, description="for people; not compared")
    preprocess: dict[str, Any] | None = Field(
        None, description="settings of the image preprocessing; null when no image was read"
    )
    tokenizer: str | None = Field(None, description="fingerprint; null when no text was read")
    normalize: bool = Field(True, description="vectors have length 1 before they are rounded")
    scale: float | None = Field(
        None,
        description="the model's own multiplier of cosines; null for an encoder without one; not compared",
    )
    centring: str | None = Field(None, description="hash of the means subtracted before normalising")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="whatever else changes a vector: layer, prompts, views"
    )

    def identity(self) -> dict[str, Any]:
        """What must agree for two vectors to be comparable."""
        return self.model_dump(mode="json", exclude={"description", "scale"})


class Origin(Settings):
    """The data set a store was made from."""

    name: str = Field(description="as the user wrote it")
    where: str | None = None
    fingerprint: str = Field(description="of the manifest: ids, captions, places of the pictures")
    rows: int = Field(ge=0)


class CosineError(Settings):
    """1 - cosine between stored vectors and the model's float32 vectors, over all vectors of a store."""

    mean: float = 0.0
    max: float = 0.0


class KindSummary(Settings):
    """One kind of vector over the whole store."""

    shape: tuple[int, ...] = Field(
        description="of one vector: (dim,), or (facets, dim) when an item has several"
    )
    vectors: int
    rows_without: int = Field(description="rows that have no vector of this kind")
    truncated: int = Field(
        0,
        description="texts longer than the model's context, whose end the vector does not cover",
    )
    error: CosineError


class ChunkEntry(Settings):
    """A chunk file: its name is the hash of what went in, its payload the hash of what came out."""

    name: str
    rows: int
    payload: str


class StoreHeader(Settings):
    """The content of `store.json`."""

    format: Literal["frugalclip.store"] = FORMAT
    version: Literal[3] = VERSION
    complete: bool = False
    encoder: EncoderRecord
    kinds: tuple[Kind, ...]
    dtype: StoreDtype
    chunk_rows: int = Field(gt=0)
    origin: Origin
    summary: dict[Kind, KindSummary] = Field(default_factory=dict)
    missing: dict[str, int] = Field(
        default_factory=dict, description="pictures without a vector, counted by cause"
    )
    files: dict[str, str] = Field(
        default_factory=dict, description="ids, index, means -> file name, which ends in its hash"
    )
    chunks: tuple[ChunkEntry, ...] = ()
    checksum: str = Field("", description="of all the others, as `format.head_checksum` computes it")


def digest(*parts: bytes, size: int = 16) -> bytes:
    """A hash of byte strings in which the borders between them count."""
    state = hashlib.blake2b(digest_size=size)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.digest()


def canonical(content: Any) -> bytes:
    """JSON that is the same for equal content on every machine."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "surrogatepass")  # damaged JSON may hold half of a character


def texts_digest(texts: Sequence[str]) -> bytes:
    """(16 bytes) the hash kept of a row's texts, by which a store notices that captions changed."""
    return digest(*(text.encode() for text in texts))


def id_hashes(ids: Sequence[str]) -> np.ndarray:
    """(rows,) uint64 hashes by which the index is sorted."""
    return np.frombuffer(
        b"".join(hashlib.blake2b(i.encode(), digest_size=8).digest() for i in ids), dtype="<u8"
    )


def payload_hash(tensors: Mapping[str, np.ndarray], notes: Mapping[str, Any]) -> str:
    """Hash of a chunk's content: names, types, shapes, bytes and notes."""
    parts = [canonical(dict(notes))]
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        parts += [f"{name} {array.dtype.str} {array.shape}".encode(), array.tobytes()]
    return digest(*parts).hex()


class MappedTensors:
    """A safetensors file seen through one memory map.

    Raises:
        DataError: when the file is absent, cut short or not ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path, advice=EMBED_AGAIN):
            size = path.stat().st_size
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if length > size:
                    raise ValueError(f"its head of {length:,} bytes is longer than the file")
                header: dict[str, Any] = parse_json(file.read(length))
            self.notes: dict[str, Any] = parse_json(header.pop("__metadata__")["frugalclip"])
            expected = 8 + length + max(entry["data_offsets"][1] for entry in header.values())
            if size != expected:
                raise ValueError(f"it has {size:,} bytes, expected {expected:,}")
            data = np.memmap(path, np.uint8, "r", offset=8 + length).view(np.ndarray)
            self.tensors = {name: self._tensor(data, entry) for name, entry in header.items()}

    @staticmethod
    def _tensor(data: np.ndarray, entry: dict[str, Any]) -> np.ndarray:
        start, stop = entry["data_offsets"]
        return data[start:stop].view(_NUMPY_DTYPES[entry["dtype"]]).reshape(entry["shape"])

    def verified(self, payload: str | None = None) -> "MappedTensors":
        """The same, if its content has the hash noted in the file; reads every byte.

        Args:
            payload: the hash that `store.json` has of it; None where only the file has one.

        Raises:
            DataError: if it has another.
        """
        with reading(self.path, advice=EMBED_AGAIN):
            notes = {key: value for key, value in self.notes.items() if key != "payload"}
            found = payload_hash(self.tensors, notes)
            if not found == self.notes["payload"] == (payload or found):
                raise ValueError("it does not have the hash it was written with")
        return self


def write_side_file(folder: Path, name: str, ending: str, content: bytes) -> str:
    """Write a file whose name ends in the hash of its content; gives the name.

    So a folder whose files are replaced keeps the old ones until its head names the new ones.
    """
    file = f"{name}-{digest(content).hex()}.{ending}"
    write_atomically(folder / file, content)
    return file


def read_side_file(
    path: Path, *, advice: str = "run the same 'frugalclip embed' again, which writes it anew"
) -> bytes:
    """The bytes of a file whose name ends in their hash.

    Args:
        path: the file.
        advice: what to do where it is damaged.

    Raises:
        DataError: when it is absent, or its content has another hash.
    """
    with reading(path, advice=advice):
        content = path.read_bytes()
        if path.stem.rpartition("-")[2] != digest(content).hex():
            raise ValueError("it does not have the hash that its name ends in")
    return content


@final
@dataclass(frozen=True)
class HeadFile:
    """The JSON file that describes a folder, with a format, a version and a checksum."""

    file: str
    format: str
    version: int
    kind: str  # of the folder, such as "an embedding store"
    verb: str  # that writes it
    again: str  # what to do where it is damaged

    def read(self, path: Path) -> dict[str, Any]:
        """The content of the head of a folder.

        Raises:
            DataError: when there is none, it is damaged, or of another version.
        """
        file = path / self.file
        if not file.is_file():
            raise DataError(
                f"{path} is not {self.kind} (no {self.file}); make one with: "
                f"{command_line(*self.verb.split(), 'MODEL', 'PATH', '--out', path)}"
            )
        content = read_object(file, error=DataError, advice=self.again)
        if content.get("format") != self.format:
            raise DataError(
                f"{file} does not describe {self.kind}; give the folder that 'frugalclip {self.verb}' wrote."
            )
        if content.get("version") != self.version:
            raise DataError(
                f"{path} is {self.kind} of version {shortened(content.get('version'), 40)}, this program "
                f"reads {self.version}; upgrade frugalclip, or {self.again}."
            )
        if content.get("checksum") != head_checksum(content):
            raise DataError(f"{file} has changed since it was written (its checksum differs); {self.again}.")
        return content

    def write(self, path: Path, content: dict[str, Any]) -> dict[str, Any]:
        """Write the content of a head with its checksum; gives both."""
        signed = content | {"checksum": head_checksum(content)}
        write_json(path / self.file, signed)
        return signed


STORE_HEAD = HeadFile("store.json", FORMAT, VERSION, "an embedding store", "embed", EMBED_AGAIN)


def read_head(path: Path) -> StoreHeader:
    """The head of a store, finished or not.

    Raises:
        DataError: when there is none, or it was written by a later version.
    """
    content = STORE_HEAD.read(path)
    return validated(StoreHeader, content, where=str(path / STORE_HEAD.file), error=DataError)


def write_head(path: Path, head: StoreHeader) -> None:
    """Write `store.json` with its checksum."""
    STORE_HEAD.write(path, head.model_dump(mode="json"))


def head_checksum(content: Mapping[str, Any]) -> str:
    """32 hex digits over the content of `store.json` without its checksum."""
    return digest(canonical({name: value for name, value in content.items() if name != "checksum"})).hex()


def chunk_path(store: Path, name: str) -> Path:
    """Where a chunk lies."""
    return store / "chunks" / f"{name}.safetensors"
