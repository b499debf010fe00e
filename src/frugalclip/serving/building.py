"""Makes indexes: embeds through a store, fits clusters, measures, and publishes.

`build` and `add` go through the same steps. Everything expensive lies in embedding stores, which a killed
command leaves and the next one goes on with; an index in use is not touched before the new head is written.
"""

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import pyarrow as pa

from frugalclip.core.errors import DataError
from frugalclip.core.locks import contents
from frugalclip.core.records import publish_folder
from frugalclip.data.manifest import Manifest, with_root
from frugalclip.features.backbone_stores import stored_features
from frugalclip.features.embed import embed_manifest
from frugalclip.features.format import canonical, digest, texts_digest
from frugalclip.features.store import Store
from frugalclip.features.vectors import Progress, StorableEncoder
from frugalclip.models import Model, load
from frugalclip.models.description import read_description
from frugalclip.serving.calibration import measured
from frugalclip.serving.dense import EXACT_ROWS, DenseSearch, VectorClusters, faiss_module
from frugalclip.serving.index import dense_search, open_stores, refuse_other_model, word_lists
from frugalclip.serving.layout import (
    HEAD,
    ClusterRecord,
    IndexedSource,
    IndexHead,
    IndexKind,
    QueryKind,
    has_index,
    model_folder,
    name_by_hash,
    publish,
    read_index_head,
    write_table,
)
from frugalclip.serving.measuring import ExampleQueries, example_queries, vector_pairs, word_pairs
from frugalclip.serving.rows import MAP, IndexRows, StoredVectors
from frugalclip.serving.word_vectors import WordVectors

WantedKind = Literal["auto", "exact", "ivf", "lexical"]
_TUNING = 128  # queries of a kind by which clusters are tuned
_TAIL = 0.2  # share of rows beside the clusters, or gone from them, above which they are made again


@dataclass(frozen=True)
class BuildOptions:
    """How an index is made."""

    kind: WantedKind = "auto"
    batch: int = 256  # images encoded at once
    progress: Progress | None = None


@final
class IndexWriter:
    """Writes one index; its folder is locked by the caller.

    Args:
        path: the folder.
        model: encodes images and queries.
        options: how it is made.

    Raises:
        DataError: if the folder holds something else.
    """

    def __init__(self, path: Path, model: Model, *, options: BuildOptions) -> None:
        if not has_index(path):
            _refuse_other_content(path)
        self.path, self.model, self.options = path, model, options
        self.fingerprint = model.fingerprint
        self.kind: IndexKind = self._kind()
        self.encoder: StorableEncoder = WordVectors(model) if self.kind == "lexical" else model

    def _kind(self) -> IndexKind:
        wanted = self.options.kind
        if wanted == "lexical" and self.model.lexicon is None:
            raise DataError(
                "the embedding of this model is not one of words; leave --kind out, or train a model with "
                "'frugalclip train words'."
            )
        if wanted == "auto":
            return "lexical" if self.model.lexicon is not None else "exact"  # clusters come with the rows
        return wanted

    def is_large(self, rows: int) -> bool:
        """Whether so many rows get clusters."""
        wanted = self.options.kind
        return wanted == "ivf" or (wanted == "auto" and self.kind != "lexical" and rows > EXACT_ROWS)

    def save_model(self) -> None:
        """What encodes queries, without what only training needs."""
        folder = self.path / model_folder(self.fingerprint)
        with contextlib.suppress(Exception):  # damaged, or cut short: written again
            if read_description(folder).fingerprint == self.fingerprint and load(folder):
                return
        with publish_folder(folder) as building:
            self.model.save(building)

    def embed(self, manifest: Manifest) -> str:
        """Embed the images of a data set, or go on with it; gives the name of the store."""
        name = self._store_name(manifest)
        known = _known_vectors(self.path / "stores", self.encoder, but=name)
        is_lexical = self.kind == "lexical"
        embed_manifest(
            self.encoder,
            manifest,
            self.path / "stores" / name,
            what="images",
            dtype="float32" if is_lexical else "float16",
            normalize=not is_lexical,
            batch=self.options.batch,
            known=known,
            features=stored_features(self.model.caches),
            progress=self.options.progress,
        )
        return name

    def _store_name(self, manifest: Manifest) -> str:
        """The same for a command that was killed; never that of a store that is in use."""
        key = {"rows": manifest.fingerprint(), "model": self.encoder.fingerprint, "in_use": ""}
        name = digest(canonical(key)).hex()[:16]
        if is_readable(self.path) and name in (head := read_index_head(self.path)).stores:
            return digest(canonical(key | {"in_use": head.checksum})).hex()[:16]
        return name

    def map_of(
        self, manifest: Manifest, store: str, *, number: int, source: int, first_serial: int
    ) -> pa.Table:
        """The row map of a data set that has just been embedded.

        Args:
            manifest: its rows.
            store: name of its store.
            number: of the store in the head.
            source: number of the data set in the head.
            first_serial: serial number of the first row.
        """
        rows, opened = len(manifest), Store.open(self.path / "stores" / store)
        columns: dict[str, Any] = {
            "serial": np.arange(first_serial, first_serial + rows),
            "source": np.full(rows, source, np.int16),
            "store": np.full(rows, number, np.int16),
            "store_row": np.arange(rows),
            "image_digest": opened.table["image_digest"],
            "text_digest": text_digests(manifest),
            "has_vector": ~opened.missing("image"),
        }
        return pa.table({name: pa.chunked_array(_chunks(values)) for name, values in columns.items()}).cast(
            MAP
        )

    def publish(self, head: IndexHead, table: pa.Table, row_map: pa.Table) -> IndexHead:
        """Measure what the rows give, write everything and make it the index.

        Args:
            head: with stores, sources and serials; the rest is filled in.
            table: the rows.
            row_map: where each one's vector lies.
        """
        rows = IndexRows(table, row_map, name=str(self.path))
        files = {
            **head.files,
            "rows": write_table(self.path, "rows", table),
            "map": write_table(self.path, "map", row_map),
        }
        head = head.model_copy(update={"files": files, "rows": len(rows.with_vector)})
        vectors = StoredVectors(open_stores(self.path, head), rows)
        head = (
            self._lexical(head, rows, vectors) if self.kind == "lexical" else self._dense(head, rows, vectors)
        )
        return publish(self.path, head)

    def _lexical(self, head: IndexHead, rows: IndexRows, vectors: StoredVectors) -> IndexHead:
        if not head.rows:
            return head.model_copy(update={"calibration": None})
        lists = word_lists(self.model, vectors, rows)
        return head.model_copy(update={"calibration": measured(word_pairs(self.model, lists, rows))})

    def _dense(self, head: IndexHead, rows: IndexRows, vectors: StoredVectors) -> IndexHead:
        kind: IndexKind = "ivf" if self.is_large(head.rows) and head.rows else "exact"
        kept = head.clusters if kind == "ivf" else None
        head = head.model_copy(update={"kind": kind, "clusters": kept, "dim": self.model.dim})
        is_first = kind == "ivf" and kept is None  # no scan of every vector, which would be read for nothing
        search = None if is_first else dense_search(self.path, head, rows, vectors)
        is_new = search is None or (kind == "ivf" and _is_stale(search))
        if search is None or is_new:
            head = head.model_copy(update={"clusters": self._fit(rows, vectors)})
            search = dense_search(self.path, head, rows, vectors)
        if not head.rows:
            return head.model_copy(update={"calibration": None, "recall": {}})
        queries = example_queries(self.model, rows, vectors)
        pairs = vector_pairs(queries, rows, vectors)
        head = head.model_copy(update={"calibration": measured(pairs)})
        return self._tuned(head, search, queries) if is_new or kind == "exact" else head

    @staticmethod
    def _tuned(
        head: IndexHead, search: DenseSearch, queries: Mapping[QueryKind, ExampleQueries]
    ) -> IndexHead:
        recall = search.tune({kind: own.vectors[:_TUNING] for kind, own in queries.items()})
        clusters = head.clusters
        if clusters is not None and search.clusters is not None:
            clusters = clusters.model_copy(update={"probes": search.clusters.probes})
        return head.model_copy(update={"recall": recall, "clusters": clusters})

    def _fit(self, rows: IndexRows, vectors: StoredVectors) -> ClusterRecord:
        usable = rows.with_vector
        clusters = VectorClusters.fit(vectors, usable, rows.serials[usable], dim=self.model.dim)
        temporary = self.path / f".clusters-{os.getpid()}.faiss"
        clusters.write(temporary)
        file = name_by_hash(self.path, temporary, "clusters")
        return ClusterRecord(file=file, rows=len(usable), lists=clusters.lists, probes=clusters.probes)


def remove_leftovers(path: Path, head: IndexHead) -> None:
    """Delete what a head does not name: older files, and stores and models of earlier builds."""
    kept = {HEAD, head.model_folder, *head.files.values()}
    kept |= {head.clusters.file} if head.clusters else set()
    ours = ("rows-*", "map-*", "removed-*", "clusters-*", ".clusters-*", "model-*", ".model-*")
    for entry in [entry for pattern in ours for entry in path.glob(pattern)]:
        if entry.name not in kept:
            _delete(entry)
    for entry in (path / "stores").glob("*"):
        if entry.name not in head.stores:
            _delete(entry)


def _delete(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            entry.unlink()


def _refuse_other_content(path: Path) -> None:
    ours = ("stores", "rows-", "map-", "removed-", "clusters-", "model-", ".")
    if path.is_file() or [entry.name for entry in contents(path) if not entry.name.startswith(ours)]:
        raise DataError(f"{path} is there and is not a search index; give an empty or new folder with --out.")


def _chunks(values: Any) -> list[pa.Array]:
    return values.chunks if isinstance(values, pa.ChunkedArray) else [pa.array(values)]


def text_digests(manifest: Manifest) -> list[bytes]:
    """Hashes of each row's captions and fields, by which a change is noticed."""
    fields = [manifest.field(name) for name in sorted(manifest.field_names)]
    captions = manifest.captions()
    return [
        texts_digest([*(own or []), *(repr(value) for value in values)])
        for own, *values in zip(captions, *fields, strict=True)
    ]


def absolute(manifest: Manifest) -> Manifest:
    """The same rows with absolute image paths, whose folder is the root of the file system."""
    moved = with_root(manifest, Path("/"))
    table = moved.table
    image = table["image"].combine_chunks()
    paths = pa.array([f"/{path}" for path in image.field("path").to_pylist()], pa.string())
    children = [
        paths if image.type.field(i).name == "path" else image.field(i) for i in range(image.type.num_fields)
    ]
    column = pa.StructArray.from_arrays(children, fields=list(image.type))
    position = table.column_names.index("image")
    return Manifest(table.set_column(position, "image", column), Path("/"), manifest.name)


def _known_vectors(stores: Path, encoder: StorableEncoder, *, but: str) -> Any:
    """Vectors that earlier builds and additions made of the same images."""
    found: dict[bytes, tuple[Store, int]] = {}
    for file in sorted(stores.glob("*/store.json")):
        with contextlib.suppress(DataError):  # unfinished, of another version, damaged
            store = Store.open(file.parent)
            if file.parent.name == but or store.head.encoder.model != encoder.fingerprint:
                continue
            present = np.flatnonzero(~store.missing("image"))
            digests = store.table["image_digest"].to_pylist()
            found |= {digests[row]: (store, row) for row in present.tolist()}

    def known(keys: Sequence[bytes], ids: Sequence[str]) -> list[np.ndarray | None]:
        return [None if (hit := found.get(key)) is None else _vector(*hit) for key in keys]

    return known


def _vector(store: Store, row: int) -> np.ndarray | None:
    """(1, dim) the vector of an image; None where its chunk is damaged, so that it is made again."""
    with contextlib.suppress(DataError):
        return store.vectors("image", [row]).numpy()
    return None


def _is_stale(search: DenseSearch) -> bool:
    """Whether too many rows lie beside the clusters, or are gone from them."""
    assert search.clusters is not None, "an index without clusters has none to replace"
    held = int(search.clusters.index.ntotal)
    return len(search.scan.rows) + held - len(search.clustered) > _TAIL * max(held, 1)


def build_index(
    path: Path, model: Model, manifest: Manifest, *, source: IndexedSource, named: str, options: BuildOptions
) -> IndexHead:
    """Make the index of a data set, in the place of an older one.

    Args:
        path: folder of the index, locked by the caller.
        model: encodes images and queries.
        manifest: the rows.
        source: where they come from.
        named: the model as the user wrote it, with absolute paths.
        options: how it is made.
    """
    writer = IndexWriter(path, model, options=options)
    if writer.is_large(len(manifest)):
        faiss_module()  # before anything is embedded
    manifest = absolute(manifest)
    writer.save_model()
    store = writer.embed(manifest)
    first = read_index_head(path).serials if is_readable(path) else 0
    row_map = writer.map_of(manifest, store, number=0, source=0, first_serial=first)
    head = IndexHead(
        kind=writer.kind,
        model=writer.fingerprint,
        named=named,
        dim=model.dim,
        rows=0,
        serials=first + len(manifest),
        sources=[source],
        stores=[store],
        files={},
    )
    head = writer.publish(head, manifest.table, row_map)
    remove_leftovers(path, head)
    return head


def is_readable(path: Path) -> bool:
    """Whether there is an index whose head can be read."""
    with contextlib.suppress(DataError):
        return bool(read_index_head(path))
    return False


def open_model(path: Path, head: IndexHead, *, device: Any = "cpu") -> Model:
    """The model of an index.

    Raises:
        ModelError: if its files hold another model.
    """
    model = load(path / head.model_folder, device=device)
    refuse_other_model(model, head, path)
    return model


def options_of(head: IndexHead, options: BuildOptions, model: Model) -> BuildOptions:
    """The options of a change: the kind stays, but an exact scan may grow into clusters."""
    grows = head.kind == "exact" and model.lexicon is None
    return replace(options, kind="auto" if grows else head.kind)
