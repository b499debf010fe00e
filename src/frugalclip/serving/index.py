"""`SearchIndex`: an index on disk, opened to answer queries."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np

from frugalclip.core.devices import pick_device
from frugalclip.core.errors import DataError, ModelError
from frugalclip.core.paths import user_path
from frugalclip.data.image_reader import ImageReader
from frugalclip.features.store import Store
from frugalclip.models import ImageLike, Model, load
from frugalclip.serving.calibration import check_share, false_hits
from frugalclip.serving.dense import DenseSearch, ExactScan, VectorClusters
from frugalclip.serving.layout import HEAD, REBUILD, IndexHead, hashed, read_index_head
from frugalclip.serving.lexical import STORED, Reason, WordLists, unpacked
from frugalclip.serving.queries import QueryEncoder, QueryEngine, SearchRequest, VectorEngine, WordEngine
from frugalclip.serving.rows import FieldValues, IndexRows, StoredVectors

_TRIES = 3  # to open an index that is replaced at that moment


@final
@dataclass(frozen=True)
class SearchHit:
    """One row that was found."""

    id: str
    score: float  # cosine; of an index of words, the sum of its reasons
    path: str  # of the file that holds the image
    captions: list[str]
    reasons: list[Reason]
    false_hits: float | None = None  # share of random pairs that score as high

    def as_json(self) -> dict[str, Any]:
        """As the verb and the server give it."""
        content = asdict(self)
        if self.false_hits is None:
            del content["false_hits"]
        return content


@final
class SearchIndex:
    """Answers queries. Several threads may use it; `open_index` makes one.

    Args:
        path: its folder.
        head: its description.
        rows: ids, captions, fields.
        encoder: encodes queries.
        engine: searches its kind of index.
    """

    def __init__(
        self, path: Path, head: IndexHead, rows: IndexRows, encoder: QueryEncoder, engine: QueryEngine
    ) -> None:
        self.path, self.head, self.rows, self.encoder, self.engine = path, head, rows, encoder, engine

    def __len__(self) -> int:
        return self.head.rows

    @cached_property
    def images(self) -> ImageReader:
        """The encoded images of the rows."""
        return ImageReader(self.rows.manifest)

    @cached_property
    def fields(self) -> list[FieldValues]:
        """Fields with few values, to filter by."""
        return self.rows.filters()

    def query(
        self,
        text: str | None = None,
        *,
        image: ImageLike | None = None,
        like: str | None = None,
        without: str | None = None,
        weight: float = 0.5,
        boost: Mapping[str, float] | None = None,
        k: int = 10,
        where: str | None = None,
        max_false_hits: float | None = None,
    ) -> dict[str, Any]:
        """Find images, as `frugalclip search query --json` gives them.

        Args:
            text: what they show.
            image: one that is like them: a path, a PIL image, an array or a tensor.
            like: id of a row that is like them; it is not among the hits.
            without: words that are not wanted. An index of words leaves out whatever has one of them.
            weight: of the text, where there is an image too; 0 to 1.
            boost: word -> factor of its weight, for indexes of words.
            k: hits at most.
            where: a condition over fields, applied before anything is scored.
            max_false_hits: leave out what a larger share of random pairs reaches, such as 0.001.

        Returns:
            `hits`, best first, and `index` with rows, kind and model.

        Raises:
            DataError: for an empty query, an unknown id, field or word, or a value out of its range.
        """
        return self.answer(
            SearchRequest(
                text=text,
                image=image,
                like=like,
                without=without,
                weight=weight,
                boost=boost or {},
                k=k,
                where=where,
                max_false_hits=max_false_hits,
            )
        )

    def answer(self, request: SearchRequest) -> dict[str, Any]:
        """As `query`, of a request."""
        hits = [hit.as_json() for hit in self.hits(request)]
        return {"hits": hits, "index": self.about()}

    def about(self) -> dict[str, Any]:
        """Rows that can be found, kind, and fingerprint of the model."""
        return {"rows": self.head.rows, "kind": self.head.kind, "model": self.head.model}

    def hits(self, request: SearchRequest) -> list[SearchHit]:
        """What a request finds, best first."""
        request.check()
        calibration = self.head.calibration
        if request.max_false_hits is not None:
            check_share(calibration, request.max_false_hits)
        among = self.rows.where(request.where)
        like = self.row_like(request)
        query = self.engine.prepare(request, like)
        wanted = min(request.offset + request.k, len(self.rows))
        found = query.search(k=wanted + (like is not None), among=among)
        pairs = [
            (row, score)
            for row, score in zip(found.rows.tolist(), found.scores.tolist(), strict=True)
            if row != like
        ][request.offset : wanted]
        shares = [
            false_hits(calibration, request.kind, score) if calibration and request.max_false_hits else None
            for _, score in pairs
        ]
        return [
            self.hit(row, score, query.reasons(row), share)
            for (row, score), share in zip(pairs, shares, strict=True)
            if share is None or share <= (request.max_false_hits or 1)
        ]

    def row_like(self, request: SearchRequest) -> int | None:
        """The row that a request names as its example.

        Raises:
            DataError: if there is none, or it has no vector.
        """
        if (id := request.like) is None:
            return None
        row = self.rows.known_row(id)
        if not self.rows.row_map["has_vector"][row].as_py():
            raise DataError(f"'{id}' has no vector, since its image cannot be decoded; give another id.")
        return row

    def hit(self, row: int, score: float, reasons: list[Reason], share: float | None = None) -> SearchHit:
        """A row as a hit."""
        table = self.rows.manifest.table
        return SearchHit(
            table["id"][row].as_py(),
            score,
            table["image"][row]["path"].as_py(),
            table["captions"][row].as_py() or [],
            reasons,
            share,
        )


def open_index(path: str | Path, *, model: Model | None = None, device: str = "auto") -> SearchIndex:
    """Open an index.

    Args:
        path: its folder.
        model: one that is open already; by default that of the index is loaded.
        device: where queries are encoded.

    Raises:
        DataError: if there is no index, or a file of it is damaged.
        ModelError: if the model is not the one that the index was built with.
        MissingExtra: without faiss or scipy.
    """
    path = user_path(path).absolute()
    for last in range(1, _TRIES + 1):
        head = read_index_head(path)
        try:
            rows = IndexRows.read(path, head)
            found = model or load(path / head.model_folder, device=pick_device(device))
            refuse_other_model(found, head, path)
            encoder = QueryEncoder(found)
            return SearchIndex(path, head, rows, encoder, _engine(path, head, rows, encoder))
        except (DataError, ModelError, OSError):
            is_same = last == _TRIES or read_index_head(path) == head
            if is_same:  # else it was replaced while it was being read
                raise
    raise AssertionError("the last try raises")


def refuse_other_model(model: Model, head: IndexHead, path: Path) -> None:
    """Refuse a model whose vectors an index does not hold.

    Raises:
        ModelError: with both fingerprints.
    """
    if (found := model.fingerprint) != head.model:
        raise ModelError(
            f"{path} was built with the model {head.model} ({head.named}), this one is {found}; {REBUILD}, "
            "with the model that is meant."
        )


def open_stores(path: Path, head: IndexHead) -> list[Store]:
    """The embedding stores of an index, in the order of its head."""
    return [Store.open(path / "stores" / name) for name in head.stores]


def _engine(path: Path, head: IndexHead, rows: IndexRows, encoder: QueryEncoder) -> QueryEngine:
    vectors = StoredVectors(open_stores(path, head), rows)
    if head.kind == "lexical":
        return WordEngine(encoder, word_lists(encoder.model, vectors, rows), rows)
    return VectorEngine(encoder, dense_search(path, head, rows, vectors), vectors)


def word_lists(model: Model, vectors: StoredVectors, rows: IndexRows) -> WordLists:
    """The inverted index of the stored words.

    Raises:
        ModelError: if the model has no words.
    """
    if model.lexicon is None:
        raise ModelError("the model of this index has no words; build the index again.")
    top = min(STORED, model.dim)
    stored = np.zeros((len(rows), 2 * top), dtype=np.float32)
    stored[rows.with_vector] = vectors.read(rows.with_vector)
    return WordLists(*unpacked(stored), model.lexicon)


def dense_search(path: Path, head: IndexHead, rows: IndexRows, vectors: StoredVectors) -> DenseSearch:
    """VectorClusters of a large index, and a scan of what they do not hold."""
    usable, clusters = rows.with_vector, None
    clustered = np.zeros(0, dtype=np.int64)
    if head.clusters is not None:
        file = hashed(path / head.clusters.file)
        clusters = VectorClusters.read(file, probes=head.clusters.probes)
        clustered = usable[np.isin(rows.serials[usable], clusters.serials(), assume_unique=True)]
    rest = np.setdiff1d(usable, clustered, assume_unique=True)
    return DenseSearch(
        ExactScan(vectors, rest, dim=head.dim), clusters, serials=rows.serials, clustered=clustered
    )


def stamp(path: Path) -> tuple[int, int]:
    """Changes when the index at a path is replaced."""
    status = (path / HEAD).stat()
    return status.st_mtime_ns, status.st_ino
