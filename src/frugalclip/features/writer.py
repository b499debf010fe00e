"""Writes an embedding store, chunk by chunk, so that nothing finished is ever computed twice.

A chunk is `chunk_rows` consecutive rows of the manifest. Its name is the hash of everything that decides its
content: encoder, dtype, ids, and the bytes of images and captions. So a chunk found under its name is right,
whether it comes from a killed run or from a smaller version of the data set. Batches never cross a chunk, so
a resumed store has the bytes of an uninterrupted one.
"""

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save

from frugalclip.core.disk import full_disk_explained
from frugalclip.core.errors import DataError, FrugalclipError, ModelError
from frugalclip.core.finite import VectorOrigin, refuse_vectors
from frugalclip.core.paths import user_path
from frugalclip.core.records import write_atomically
from frugalclip.features.format import (
    VERSION,
    ChunkEntry,
    CosineError,
    EncoderRecord,
    Kind,
    KindSummary,
    MappedTensors,
    Origin,
    StoreDtype,
    StoreHeader,
    canonical,
    chunk_path,
    digest,
    id_hashes,
    payload_hash,
    read_head,
    read_side_file,
    write_head,
    write_side_file,
)
from frugalclip.features.rounding import cosine_errors, rounded
from frugalclip.features.store import Store

CHUNK_ROWS = 1024


@dataclass(frozen=True, slots=True)
class RowKey:
    """What identifies the content of one row."""

    id: str
    image: bytes | None = None  # (16 bytes) hash of the image's encoded bytes
    text: bytes | None = None  # (16 bytes) hash of its captions, `format.texts_digest`


@dataclass(frozen=True)
class Part:
    """The vectors of one kind for the rows of one chunk."""

    values: np.ndarray  # (vectors, dim) or (vectors, facets, dim) float32, row after row
    counts: np.ndarray  # (rows,) int64 vectors of each row; 0 where there is none
    causes: dict[int, str] = field(default_factory=dict)  # row of the chunk -> why it has no vector
    truncated: int = 0  # texts longer than the model's context


class VectorSource(Protocol):
    """Rows whose keys are cheap and whose vectors are expensive."""

    def keys(self, start: int, stop: int) -> list[RowKey]:
        """Identify the rows from start to stop."""
        ...

    def encode(self, start: int, stop: int) -> dict[Kind, Part]:
        """Embed them; the same rows must give the same bytes whatever was embedded before."""
        ...


@dataclass(frozen=True)
class Written:
    """What writing a store did."""

    store: Store
    computed: int  # chunks
    reused: int  # chunks


def means_digest(means: Mapping[Kind, np.ndarray]) -> str:
    """The name of the means in `EncoderRecord.centring`."""
    return payload_hash({str(kind): np.asarray(mean, np.float32) for kind, mean in means.items()}, {})


def write_store(
    path: str | Path,
    source: VectorSource,
    *,
    encoder: EncoderRecord,
    kinds: Sequence[Kind],
    origin: Origin,
    dtype: StoreDtype = "float16",
    chunk_rows: int | None = None,
    means: Mapping[Kind, np.ndarray] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Write a store, or go on with one.

    Args:
        path: the folder; empty, absent, or a store of the same encoder whose rows this data set begins with.
        source: rows and their vectors.
        encoder: what makes the vectors.
        kinds: which vectors.
        origin: the data set.
        dtype: of the stored vectors.
        chunk_rows: rows of a chunk, the unit that a killed run loses; None for the found store's, or 1,024.
        means: subtracted by the source, stored beside the vectors; `encoder.centring` is their digest.
        progress: called with rows done and rows in all.

    Raises:
        DataError: when the folder holds something else, naming what differs.
        ModelError: when a vector is not finite.
    """
    path = user_path(path)
    found = _found(path)
    head = StoreHeader(
        encoder=encoder,
        kinds=tuple(kinds),
        dtype=dtype,
        chunk_rows=chunk_rows or (found.chunk_rows if found else CHUNK_ROWS),
        origin=origin,
    )
    means = means or {}
    if (means_digest(means) if means else None) != encoder.centring:
        raise ValueError("encoder.centring must be the digest of the means")
    if found is not None:
        _refuse_other_encoder(path, found, head)
        if found.origin.fingerprint != origin.fingerprint:
            _refuse_other_rows(path, found, head, source)
    run = _Run(path, head, source, means)
    kept = "finished chunks are kept"
    with full_disk_explained(path, kept=kept, go_on="run the same 'frugalclip embed' again"):
        run.begin(replaces_finished=found is not None and found.complete)
        for start, stop in _ranges(head):
            run.chunk(start, stop)
            if progress:
                progress(stop, origin.rows)
        return run.finish()


def _found(path: Path) -> StoreHeader | None:
    """The head of what is already there; refuses a folder of anything else."""
    if (path / "store.json").is_file():
        return read_head(path)
    ours = (".", "means-", "ids-", "index-", "chunks")  # what is left where a damaged store.json was deleted
    visible = [p.name for p in path.iterdir() if not p.name.startswith(ours)] if path.is_dir() else []
    if path.is_file() or visible:
        raise DataError(f"{path} is there and is not a store; give an empty or new folder with --out.")
    return None


def _refuse_other_encoder(path: Path, found: StoreHeader, head: StoreHeader) -> None:
    flat = [
        {**h.encoder.identity(), "kinds": "+".join(h.kinds), "dtype": h.dtype, "chunk_rows": h.chunk_rows}
        for h in (found, head)
    ]
    differing = [line for key in flat[0] for line in _differences(key, flat[0][key], flat[1][key])]
    if differing:
        raise DataError(
            f"{path} was written with {_listed([(name, a) for name, a, _ in differing])}, "
            f"now requested is {_listed([(name, b) for name, _, b in differing])}; "
            f"give another folder, such as {path}-2, or delete {path}."
        )


def _differences(name: str, was: Any, now: Any) -> list[tuple[str, Any, Any]]:
    """Leaves that differ, by dotted name."""
    if isinstance(was, dict) and isinstance(now, dict):
        return [
            line
            for key in {**was, **now}
            for line in _differences(f"{name}.{key}", was.get(key), now.get(key))
        ]
    return [] if was == now else [(name, was, now)]


def _listed(pairs: Sequence[tuple[str, Any]]) -> str:
    return ", ".join(f"{name} {value if value is not None else 'none'}" for name, value in pairs)


def _refuse_other_rows(path: Path, found: StoreHeader, head: StoreHeader, source: VectorSource) -> None:
    """Refuse rows other than the stored ones and more at their end: stored rows would be lost."""
    advice = f"give another folder, such as {path}-2, or delete {path}."
    origin = (
        f"{path} was made from {found.origin.name} ({found.origin.rows:,} rows, "
        f"{found.origin.fingerprint}), not from {head.origin.name} "
        + (f"({head.origin.rows:,} rows, {head.origin.fingerprint})")
    )
    if not found.complete:
        names = {entry.stem for entry in (path / "chunks").glob("*.safetensors")}
        planned = {_chunk_name(head, source.keys(a, b)) for a, b in _ranges(head)[: len(names)]}
        if not names <= planned:
            raise DataError(f"{origin}, and is not finished; finish it with its own data first, or {advice}")
        return
    if found.origin.rows > head.origin.rows:
        raise DataError(f"{origin}, and writing fewer rows would lose some; {advice}")
    table = Store(path, found).table
    for start, stop in _ranges(head):
        old = table.slice(start, stop - start).to_pylist()
        for row, (was, key) in enumerate(
            zip(old, source.keys(start, start + len(old)), strict=True), start=start
        ):
            if fault := _other_sample(was, key):
                raise DataError(f"{origin}: row {row} ('{key.id}') {fault}; {advice}")


def _other_sample(was: dict[str, Any], key: RowKey) -> str | None:
    """How a row differs from what was embedded in its place."""
    if key.id != was["id"]:
        return f"stands where '{was['id']}' stood"
    if key.image != was.get("image_digest"):
        return "has another picture"
    return "has other captions" if key.text != was.get("text_digest") else None


def _ranges(head: StoreHeader) -> list[tuple[int, int]]:
    return [
        (start, min(start + head.chunk_rows, head.origin.rows))
        for start in range(0, head.origin.rows, head.chunk_rows)
    ]


def _chunk_name(head: StoreHeader, keys: Sequence[RowKey]) -> str:
    """32 hex digits over everything that decides the content of a chunk."""
    how = canonical(
        {"version": VERSION, "encoder": head.encoder.identity(), "kinds": head.kinds, "dtype": head.dtype}
    )
    rows = [part for key in keys for part in (key.id.encode(), key.image or b"", key.text or b"")]
    return digest(how, *rows).hex()


class _Run:
    """One pass over the chunks. It keeps little of each: ten million rows must fit in memory."""

    def __init__(
        self, path: Path, head: StoreHeader, source: VectorSource, means: Mapping[Kind, np.ndarray]
    ) -> None:
        self.path, self.head, self.source, self.means = path, head, source, means
        self.tables: list[pa.Table] = []
        self.entries: list[ChunkEntry] = []
        self.totals: dict[Kind, _Totals] = {kind: _Totals() for kind in head.kinds}
        self.computed = 0

    def begin(self, *, replaces_finished: bool) -> None:
        """Write the head before the first chunk; a finished store stays readable until the longer one is."""
        if self.means:
            self._write_means()
        if not replaces_finished:
            write_head(self.path, self.head)

    def chunk(self, start: int, stop: int) -> None:
        keys = self.source.keys(start, stop)
        name = _chunk_name(self.head, keys)
        chunk = self._finished(name)
        if chunk is None:
            chunk = self._compute(name, start, stop)
            self.computed += 1
        for kind, totals in self.totals.items():
            totals.add(chunk, kind)
        self.tables.append(_id_table(keys, chunk, self.head.kinds))
        self.entries.append(ChunkEntry(name=name, rows=stop - start, payload=chunk.notes["payload"]))

    def finish(self) -> Written:
        table = pa.concat_tables(self.tables).combine_chunks()
        files = {"ids": self._write_ids(table), "index": self._write_index(table["id"].to_pylist())}
        if self.means:
            files["means"] = self._write_means()
        causes = table["cause"].drop_null().to_pylist() if "cause" in table.column_names else []
        head = self.head.model_copy(
            update={
                "complete": True,
                "summary": {kind: totals.summary(kind) for kind, totals in self.totals.items()},
                "missing": {cause: causes.count(cause) for cause in sorted(set(causes))},
                "files": files,
                "chunks": tuple(self.entries),
            }
        )
        write_head(self.path, head)
        self._remove_leftovers(head)
        return Written(
            Store.open(self.path), computed=self.computed, reused=len(self.entries) - self.computed
        )

    def _finished(self, name: str) -> MappedTensors | None:
        """A chunk that is there, whole and unchanged; one that is not is made again."""
        with contextlib.suppress(DataError):
            return MappedTensors(chunk_path(self.path, name)).verified()
        return None

    def _compute(self, name: str, start: int, stop: int) -> MappedTensors:
        parts = self.source.encode(start, stop)
        tensors: dict[str, np.ndarray] = {}
        notes: dict[str, Any] = {"errors": {}, "truncated": {}, "causes": {}}
        for kind in self.head.kinds:
            part = parts[kind]
            assert (len(part.counts), len(part.values)) == (stop - start, part.counts.sum()), (
                f"{kind}: counts and vectors disagree"
            )
            self._refuse_useless(kind, part, start)
            stored, scales = rounded(part.values, self.head.dtype)
            exact = (
                stored.astype(np.float32) if scales is None else stored.astype(np.float32) * scales[..., None]
            )
            errors = cosine_errors(part.values, exact)
            tensors |= {f"{kind}.values": stored, f"{kind}.counts": part.counts.astype(np.int64)}
            tensors |= {f"{kind}.scales": scales} if scales is not None else {}
            notes["errors"][kind] = [float(errors.sum()), float(errors.max(initial=0.0)), errors.size]
            notes["truncated"][kind] = part.truncated
            notes["causes"] |= {str(row): cause for row, cause in sorted(part.causes.items())}
        notes["payload"] = payload_hash(tensors, notes)
        # one metadata key: the library writes several in any order, which would change the bytes
        write_atomically(
            chunk_path(self.path, name), save(tensors, metadata={"frugalclip": canonical(notes).decode()})
        )
        return MappedTensors(chunk_path(self.path, name))

    def _refuse_useless(self, kind: Kind, part: Part, start: int) -> None:
        rows = np.repeat(np.arange(len(part.counts)), part.counts)  # (vectors,) rows of the chunk
        ids = [key.id for key in self.source.keys(start, start + len(part.counts))]
        refuse_vectors(
            part.values,
            [ids[row] for row in rows.tolist()],
            origin=VectorOrigin("the model", kind),
            may_be_zero=kind == "text" or not self.head.encoder.normalize,  # of no known word
        )

    def _write_ids(self, table: pa.Table) -> str:
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        return write_side_file(self.path, "ids", "parquet", sink.getvalue())

    def _write_index(self, ids: list[str]) -> str:
        hashes = id_hashes(ids)
        order = np.argsort(hashes, kind="stable")
        for i in np.flatnonzero(hashes[order][1:] == hashes[order][:-1]):
            if ids[order[i]] == ids[order[i + 1]]:
                raise DataError(
                    f"the id '{ids[order[i]]}' occurs more than once in {self.head.origin.name}; "
                    "make ids unique and embed again."
                )
        return self._write_tensors("index", {"hashes": hashes[order], "rows": order.astype(np.int64)})

    def _write_means(self) -> str:
        return self._write_tensors(
            "means", {str(kind): np.asarray(mean, np.float32) for kind, mean in self.means.items()}
        )

    def _write_tensors(self, name: str, tensors: dict[str, np.ndarray]) -> str:
        notes = {"payload": payload_hash(tensors, {})}
        content = save(tensors, metadata={"frugalclip": canonical(notes).decode()})
        return write_side_file(self.path, name, "safetensors", content)

    def _remove_leftovers(self, head: StoreHeader) -> None:
        """Delete our files that `store.json` does not name, and temporary files of killed runs."""
        kept = {*head.files.values(), *(f"{entry.name}.safetensors" for entry in head.chunks)}
        side = [file for name in ("ids", "index", "means") for file in self.path.glob(f"{name}-*")]
        temporary = [
            file
            for name in ("store.json", "ids-", "index-", "means-")
            for file in self.path.glob(f".{name}*")
        ]
        for file in [*side, *temporary, *(self.path / "chunks").glob("*.safetensors*")]:
            if file.name not in kept:
                with contextlib.suppress(
                    OSError
                ):  # still mapped by a reader, on a system that forbids removal
                    file.unlink()


@dataclass
class _Totals:
    """The summary of one kind, added up chunk by chunk in order, so that a restart changes no sum."""

    shapes: set[tuple[int, ...]] = field(default_factory=set)
    vectors: int = 0
    rows_without: int = 0
    truncated: int = 0
    error_sum: float = 0.0
    error_max: float = 0.0
    errors: int = 0

    def add(self, chunk: MappedTensors, kind: Kind) -> None:
        values, counts = chunk.tensors[f"{kind}.values"], chunk.tensors[f"{kind}.counts"]
        error_sum, error_max, errors = chunk.notes["errors"][kind]
        self.shapes |= {values.shape[1:]} if len(values) else set()
        if len(self.shapes) > 1:
            raise ModelError(
                f"the {kind} vectors have the shapes {sorted(self.shapes)}; "
                "a store holds one, so embed with one model."
            )
        self.vectors += len(values)
        self.rows_without += int((counts == 0).sum())
        self.truncated += chunk.notes["truncated"][kind]
        self.error_sum, self.error_max, self.errors = (
            self.error_sum + error_sum,
            max(self.error_max, error_max),
            self.errors + errors,
        )

    def summary(self, kind: Kind) -> KindSummary:
        if not self.vectors:
            raise DataError(
                f"no {kind} of this data could be embedded; look at it with 'frugalclip data check PATH'."
            )
        error = CosineError(mean=self.error_sum / max(self.errors, 1), max=self.error_max)
        shape = next(iter(self.shapes))
        return KindSummary(
            shape=shape,
            vectors=self.vectors,
            rows_without=self.rows_without,
            truncated=self.truncated,
            error=error,
        )


def _id_table(keys: Sequence[RowKey], chunk: MappedTensors, kinds: Sequence[Kind]) -> pa.Table:
    """A chunk's rows of the ids file."""
    columns: dict[str, Any] = {"id": pa.array([key.id for key in keys], pa.string())}
    for kind in kinds:
        columns[kind] = pa.array(chunk.tensors[f"{kind}.counts"], pa.int32())
    if "image" in kinds:
        columns["image_digest"] = pa.array([key.image for key in keys], pa.binary(16))
        columns["cause"] = pa.array(
            [chunk.notes["causes"].get(str(row)) for row in range(len(keys))], pa.string()
        )
    if "text" in kinds:
        columns["text_digest"] = pa.array([key.text for key in keys], pa.binary(16))
    return pa.table(columns)


def store_means(path: str | Path) -> dict[Kind, np.ndarray] | None:
    """The means of a store, finished or not, so that resuming subtracts the same; None where it has none."""
    path = user_path(path)
    with contextlib.suppress(FrugalclipError):
        files = sorted(path.glob("means-*.safetensors"))
        if files:
            read_side_file(files[0])
            return {
                kind: array.copy()
                for kind in ("image", "text")
                if (array := MappedTensors(files[0]).tensors.get(kind)) is not None
            }
    return None
