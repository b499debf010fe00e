"""The embedding store: vectors of a data set on disk, read through memory maps.

Vectors are tensors, as `encode_image` and `encode_text` give them; row numbers, counts and masks are arrays.

A store is a folder: `store.json` (data, encoder, exactness), content-addressed chunk files, ids in Parquet,
and an index of the ids. `store.json` is written last and names every other file, so an unfinished store is
recognised.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from frugalclip.core.errors import DataError, known_names
from frugalclip.core.finite import VectorOrigin, finite_rows, refuse_vectors
from frugalclip.core.guard import reading
from frugalclip.core.paths import user_path
from frugalclip.features.format import (
    ChunkEntry,
    Kind,
    MappedTensors,
    StoreHeader,
    canonical,
    chunk_path,
    digest,
    id_hashes,
    read_head,
    read_side_file,
    texts_digest,
)

if TYPE_CHECKING:  # asking what a store holds does not wait two seconds for torch
    from torch import Tensor

_OPEN_CHUNKS = 256  # a map holds a file handle, and systems allow about a thousand


def _tensor(array: np.ndarray) -> "Tensor":
    import torch

    return torch.from_numpy(array)


@dataclass(frozen=True)
class Ragged:
    """Several vectors a row, end to end."""

    values: "Tensor"  # (vectors, dim) or (vectors, facets, dim) float32
    offsets: np.ndarray  # (rows + 1,) int64; row i has values[offsets[i] : offsets[i + 1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> "Tensor":
        return self.values[self.offsets[row] : self.offsets[row + 1]]


class Store:
    """Reads one store. Opens files when they are needed; may be pickled, and used after a fork."""

    def __init__(self, path: Path, head: StoreHeader) -> None:
        self.path = path
        self.head = head
        self._open_chunks: OrderedDict[int, dict[str, np.ndarray]] = OrderedDict()
        self._verified: set[int] = set()  # chunks whose content had the hash of the head

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """Open a finished store.

        Raises:
            DataError: when it is not a store or was not finished.
        """
        path = user_path(path)
        head = read_head(path)
        if not head.complete:
            done, total = (
                len(list((path / "chunks").glob("*.safetensors"))),
                -(-head.origin.rows // head.chunk_rows),
            )
            raise DataError(
                f"{path} is not finished ({done} of {total} chunks); "
                "run the same 'frugalclip embed' again to go on."
            )
        return cls(path, head)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "head": self.head,
            "_open_chunks": OrderedDict(),
            "_verified": self._verified,
        }

    def __len__(self) -> int:
        return self.head.origin.rows

    @cached_property
    def table(self) -> pa.Table:
        """One row a sample: id, vectors of each kind, hashes of content, cause where the image is missing.

        Raises:
            DataError: if the file is damaged.
        """
        path = self.path / self.head.files["ids"]
        content = read_side_file(path)
        with reading(path):
            return pq.read_table(pa.BufferReader(content))

    @cached_property
    def ids(self) -> list[str]:
        return self.table["id"].to_pylist()

    @cached_property
    def _index(self) -> dict[str, np.ndarray]:
        path = self.path / self.head.files["index"]
        read_side_file(path)
        return MappedTensors(path).tensors

    def rows_of(self, ids: Sequence[str]) -> np.ndarray:
        """Rows by id.

        Returns:
            (ids,) int64.

        Raises:
            DataError: naming the first id that is not here.
        """
        hashes, rows = self._index["hashes"], self._index["rows"]
        wanted = id_hashes(ids)
        found = np.full(len(ids), -1, dtype=np.int64)
        names = self.ids
        for i, start in enumerate(np.searchsorted(hashes, wanted).tolist()):
            while (
                start < len(hashes) and hashes[start] == wanted[i]
            ):  # two ids with one hash stand side by side
                if names[rows[start]] == ids[i]:
                    found[i] = rows[start]
                    break
                start += 1
        if (found < 0).any():
            absent = [ids[i] for i in np.flatnonzero(found < 0).tolist()]
            such = f"such as '{names[0]}'" if names else "it is empty"
            raise DataError(
                f"{self.path} has no vectors of '{absent[0]}' ({len(absent):,} of {len(ids):,} requested ids "
                f"are not among its {len(self):,}, {such}); embed that data too with "
                "'frugalclip embed MODEL PATH --out STORE'."
            )
        return found

    def row_of(self, id: str) -> int:
        """The row of one id; DataError when it is not here."""
        return int(self.rows_of([id])[0])

    def counts(self, kind: Kind) -> np.ndarray:
        """(rows,) int64 vectors of a kind in each row."""
        return self._counts[self._known(kind)]

    def missing(self, kind: Kind) -> np.ndarray:
        """(rows,) bool, True where a row has no vector of the kind."""
        return self.counts(kind) == 0

    def causes(self) -> dict[str, str]:
        """Why an image has no vector: id -> cause."""
        if "cause" not in self.table.column_names:
            return {}
        kept = self.table.filter(pc.field("cause").is_valid())
        return dict(zip(kept["id"].to_pylist(), kept["cause"].to_pylist(), strict=True))

    def shape(self, kind: Kind) -> tuple[int, ...]:
        """(dim,) or (facets, dim) of one vector."""
        return self.head.summary[self._known(kind)].shape

    def mean(self, kind: Kind) -> "Tensor | None":
        """The mean (dim,) float32 that was subtracted before normalising, or None; centre queries too."""
        if "means" not in self.head.files:
            return None
        path = self.path / self.head.files["means"]
        read_side_file(path)
        found = MappedTensors(path).tensors.get(self._known(kind))
        return None if found is None else _tensor(found.copy())  # a map cannot be written

    @overload
    def vectors(
        self, kind: Literal["image"], rows: Any = None, *, view: int = 0, fill: float | None = None
    ) -> "Tensor": ...

    @overload
    def vectors(self, kind: Literal["text"], rows: Any = None) -> Ragged: ...
    def vectors(
        self, kind: Kind, rows: Any = None, *, view: int = 0, fill: float | None = None
    ) -> "Tensor | Ragged":
        """Vectors of some rows.

        Args:
            kind: `image` for one vector a row, `text` for all of each row.
            rows: (n,) integers; None for all.
            view: which of the row's image vectors.
            fill: the value of rows whose image is missing; None to refuse them.

        Returns:
            (n, dim) float32 for images, `Ragged` over n rows for texts.

        Raises:
            DataError: if an image is missing and `fill` is None.
        """
        if kind == "text":
            return self.ragged(kind, rows)
        rows = self._rows(rows)
        absent = self.counts(kind)[rows] <= view
        if absent.any() and fill is None:
            self._refuse_missing(rows[absent], view)
        result = np.full((len(rows), *self.shape(kind)), 0.0 if fill is None else fill, dtype=np.float32)
        present = rows[~absent]
        result[~absent] = self._gather(kind, present, np.full(len(present), view, dtype=np.int64))
        return _tensor(result)

    def ragged(self, kind: Kind, rows: Any = None) -> Ragged:
        """All vectors of some rows, end to end: captions of a sample, or its views."""
        rows = self._rows(rows)
        counts = self.counts(kind)[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        items = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        return Ragged(_tensor(self._gather(kind, np.repeat(rows, counts), items)), offsets)

    def chosen(self, kind: Kind, rows: np.ndarray, items: np.ndarray) -> "Tensor":
        """One vector of each row.

        Args:
            kind: of the vectors.
            rows: (batch,) rows of the store.
            items: (batch,) which vector of the row, below its count.

        Returns:
            (batch, dim) or (batch, facets, dim) float32.
        """
        return _tensor(self._gather(self._known(kind), self._rows(rows), items))

    def require(
        self, *, model: str | None = None, kinds: Sequence[Kind] = (), normalize: bool | None = None
    ) -> None:
        """Refuse a store of another model or kind than a recipe needs.

        Raises:
            DataError: naming what differs.
        """
        found = self.head.encoder
        for kind in kinds:
            self._known(kind)
        if model is not None and model != found.model:
            raise DataError(
                f"{self.path} holds vectors of model {found.model}, the recipe means {model}; "
                "embed again with that model and another --out."
            )
        if normalize is not None and normalize != found.normalize:
            form = "normalised" if found.normalize else "not normalised"
            raise DataError(
                f"the vectors of {self.path} are {form}, the recipe expects the contrary; "
                f"embed again with normalize={normalize}."
            )

    def rows_for(self, ids: Sequence[str], *, texts: Sequence[Sequence[str]] | None = None) -> np.ndarray:
        """Rows of a data set's samples, refused when their captions are not those that were embedded.

        Args:
            ids: of the samples.
            texts: the captions of each, when the text vectors are to stand for them.

        Returns:
            (ids,) int64.
        """
        rows = self.rows_of(ids)
        if texts is None:
            return rows
        self._known("text")
        stored = self.table["text_digest"].take(pa.array(rows)).to_pylist()
        changed = [i for i, own in enumerate(texts) if texts_digest(own) != stored[i]]
        if changed:
            raise DataError(
                f"{self.path} was embedded with other captions for {len(changed):,} of {len(ids):,} samples, "
                f"first '{ids[changed[0]]}'; embed the data again, with another --out."
            )
        return rows

    def fingerprint(self) -> str:
        """16 hex digits over the encoder and the vectors."""
        payloads = [chunk.payload for chunk in self.head.chunks]
        return digest(canonical(self.head.encoder.identity()), canonical(payloads), size=8).hex()

    def verify(self) -> list[str]:
        """Read every byte and compare hashes.

        Returns:
            One sentence for each file that is not what was written; empty when all is well.
        """
        faults = [
            fault for name in self.head.files.values() if (fault := self._side_file_fault(self.path / name))
        ]
        return faults + [fault for entry in self.head.chunks if (fault := self._chunk_fault(entry))]

    def _side_file_fault(self, path: Path) -> str | None:
        try:
            read_side_file(path)
        except DataError as error:
            return str(error)
        return None

    def _chunk_fault(self, entry: ChunkEntry) -> str | None:
        try:
            MappedTensors(chunk_path(self.path, entry.name)).verified(entry.payload)
        except DataError as error:
            return str(error)
        return None

    def _known(self, kind: Kind) -> Kind:
        if kind not in self.head.kinds:
            raise DataError(
                f"{self.path} holds no {kind} vectors; {known_names(kind, self.head.kinds)} "
                "Embed again with what='both' and another --out."
            )
        return kind

    def _rows(self, rows: Any) -> np.ndarray:
        rows = np.arange(len(self)) if rows is None else np.asarray(rows, dtype=np.int64)
        wrong = rows[(rows < 0) | (rows >= len(self))]
        if len(wrong):
            raise DataError(
                f"row {wrong[0]} is not in {self.path}, which has rows 0 to {len(self) - 1}; "
                "find rows by id with rows_of."
            )
        return rows

    def _refuse_missing(self, rows: np.ndarray, view: int) -> None:
        name = self.ids[rows[0]]
        cause = self.causes().get(name, f"it has no view {view}")
        raise DataError(
            f"{len(rows):,} of the requested rows have no image vector, first '{name}' ({cause}); "
            "leave out the rows of store.missing('image'), or give fill=0.0."
        )

    @cached_property
    def _counts(self) -> dict[Kind, np.ndarray]:
        counts: dict[Kind, np.ndarray] = {}
        for kind in self.head.kinds:
            counts[kind] = self.table[kind].to_numpy().astype(np.int64)
        return counts

    @cached_property
    def _starts(self) -> dict[Kind, np.ndarray]:
        """Kind -> (rows,) place of a row's first vector inside its chunk."""
        chunk_starts = (np.arange(len(self)) // self.head.chunk_rows) * self.head.chunk_rows
        starts: dict[Kind, np.ndarray] = {}
        for kind in self.head.kinds:
            before = np.cumsum(self._counts[kind]) - self._counts[kind]
            starts[kind] = before - before[chunk_starts]
        return starts

    def _gather(self, kind: Kind, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(n, *shape) float32: vector number `items[i]` of row `rows[i]`, each chunk visited once."""
        result = np.empty((len(rows), *self.shape(kind)), dtype=np.float32)
        places, chunks = self._starts[kind][rows] + items, rows // self.head.chunk_rows
        order = np.argsort(chunks, kind="stable")
        borders = np.flatnonzero(np.diff(chunks[order])) + 1
        for group in np.split(order, borders) if len(order) else []:
            tensors = self._chunk(int(chunks[group[0]]))
            values = tensors[f"{kind}.values"][places[group]].astype(np.float32)
            scales = tensors.get(f"{kind}.scales")
            result[group] = values if scales is None else values * scales[places[group]][..., None]
        if len(result) and not bool(finite_rows(result).all()):
            origin = VectorOrigin(str(self.path), kind, "embed the data again", DataError)
            refuse_vectors(result, [self.ids[row] for row in rows.tolist()], origin=origin)
        return result

    def _chunk(self, number: int) -> dict[str, np.ndarray]:
        if number not in self._open_chunks:
            entry = self.head.chunks[number]
            chunk = MappedTensors(chunk_path(self.path, entry.name))
            if number not in self._verified:  # once, since it reads the whole chunk
                chunk.verified(entry.payload)
                self._verified.add(number)
            self._open_chunks[number] = chunk.tensors
            if len(self._open_chunks) > _OPEN_CHUNKS:
                self._open_chunks.popitem(last=False)
        self._open_chunks.move_to_end(number)
        return self._open_chunks[number]
