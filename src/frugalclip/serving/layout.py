"""The files of a search index: `index.json`, rows and row map as Arrow, and clusters of faiss.

`index.json` is written last and names every other file, whose name ends in a hash of its content. So a reader
sees the old index or the new one, and a kill leaves the old one. `docs/formats-index.md` has the format.
"""

import io
import os
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import Field

from frugalclip.core.checksums import checksum
from frugalclip.core.errors import DataError
from frugalclip.core.guard import reading
from frugalclip.core.stored import StoredRecord, typed
from frugalclip.features.format import HeadFile, read_side_file, write_side_file

IndexKind = Literal["exact", "ivf", "lexical"]
QueryKind = Literal["text", "image", "both"]
FORMAT, VERSION, HEAD = "frugalclip.index", 1, "index.json"
REBUILD = "run the same 'frugalclip search build' again, which embeds nothing twice"
_HEAD = HeadFile(HEAD, FORMAT, VERSION, "a search index", "search build", REBUILD)


class IndexedSource(StoredRecord):
    """A data set whose rows are in the index."""

    path: str = Field(description="absolute, or as the user wrote it where it is no path")
    where: str | None = None


class ClusterRecord(StoredRecord):
    """The clusters that a large index is searched by."""

    file: str
    rows: int = Field(ge=1, description="of the index when they were made")
    lists: int = Field(ge=1)
    probes: int = Field(ge=1, description="lists of a query, measured to give the recall")


class Calibration(StoredRecord):
    """How high pairs of a random query and a random image score."""

    pairs: dict[str, int] = Field(description="kind of query -> pairs measured")
    shares: list[float] = Field(description="of random pairs, falling")
    scores: dict[str, list[float]] = Field(description="kind of query -> score that each share reaches")


class IndexHead(StoredRecord):
    """The content of `index.json`."""

    format: Literal["frugalclip.index"] = FORMAT
    version: Literal[1] = VERSION
    kind: IndexKind
    model: str = Field(description="fingerprint of the model, which lies in model-FINGERPRINT/")
    named: str = Field(description="the model as the user wrote it, with absolute paths")
    dim: int = Field(description="numbers of an embedding")
    rows: int = Field(ge=0, description="that can be found")
    serials: int = Field(ge=0, description="rows ever added; the serial number of the next one")
    sources: list[IndexedSource]
    stores: list[str] = Field(description="folders of the embedding stores in stores/")
    files: dict[str, str] = Field(description="rows, map, removed -> file name, which ends in its hash")
    clusters: ClusterRecord | None = None
    recall: dict[str, float] = Field(
        default_factory=dict, description="kind of query -> recall@10 against an exact scan, measured"
    )
    calibration: Calibration | None = None
    checksum: str = Field(default="", description="of all the others")

    @property
    def model_folder(self) -> str:
        """Name of the folder of the model."""
        return model_folder(self.model)


def model_folder(fingerprint: str) -> str:
    """Name of the folder of a model within an index."""
    return f"model-{fingerprint}"


def has_index(path: Path) -> bool:
    """Whether a folder holds a finished index."""
    return (path / HEAD).is_file()


def read_index_head(path: Path) -> IndexHead:
    """The head of an index.

    Raises:
        DataError: when there is none, it is damaged, or of another version.
    """
    content = _HEAD.read(path)
    return typed(content, IndexHead, path=path / HEAD, error=DataError, advice=REBUILD)


def publish(path: Path, head: IndexHead) -> IndexHead:
    """Make a head the index, with its checksum; what it names must be there."""
    return IndexHead.model_validate(_HEAD.write(path, head.model_dump(mode="json")))


def write_table(path: Path, name: str, table: pa.Table) -> str:
    """Write an Arrow file beside the head; gives its file name."""
    sink = io.BytesIO()
    whole = table.combine_chunks()
    with pa.ipc.new_file(sink, whole.schema) as writer:
        writer.write_table(whole)
    return write_side_file(path, name, "arrow", sink.getvalue())


def read_table(path: Path, file: str) -> pa.Table:
    """What `write_table` wrote; its columns are views of the file's bytes.

    Raises:
        DataError: when it is absent or was changed.
    """
    content = read_side_file(path / file, advice=REBUILD)
    with reading(path / file, advice=REBUILD):
        return pa.ipc.open_file(pa.BufferReader(content)).read_all()


def name_by_hash(path: Path, file: Path, name: str) -> str:
    """Move a finished file into an index under the name that ends in its hash; gives that name."""
    target = f"{name}-{checksum(file).sha256[:32]}{file.suffix}"
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
    file.replace(path / target)
    return target


def hashed(file: Path) -> Path:
    """A file that `name_by_hash` named, if its content is what its name says.

    Raises:
        DataError: when it is absent or was changed.
    """
    with reading(file, advice=REBUILD):
        if checksum(file).sha256[:32] != file.stem.rpartition("-")[2]:
            raise ValueError("it does not have the hash that its name ends in")
    return file
