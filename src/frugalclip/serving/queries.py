"""What a user wants to find, as vectors or as weighted words."""

import math
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.errors import DataError
from frugalclip.data.words import split_words
from frugalclip.functional import unit
from frugalclip.models import ImageLike, Model
from frugalclip.serving.dense import DenseSearch, FoundRows, RowVectors
from frugalclip.serving.layout import QueryKind
from frugalclip.serving.lexical import Reason, WordLists
from frugalclip.serving.rows import IndexRows

_TEXTS = 1024  # whose vectors are remembered
_OPPOSED = 0.5  # share of what is not wanted that is subtracted from a dense query
MOST_CHARACTERS = 10_000  # of a text


@dataclass(frozen=True)
class SearchRequest:
    """A query, as the command line and HTTP give it."""

    text: str | None = None
    image: ImageLike | None = None
    like: str | None = None  # id of a stored row
    without: str | None = None  # words that are not wanted
    weight: float = 0.5  # of the text, where there is an image too
    boost: Mapping[str, float] = field(default_factory=dict)  # word -> factor, for indexes of words
    k: int = 10
    offset: int = 0  # hits before the first one that is given
    where: str | None = None
    max_false_hits: float | None = None

    def check(self) -> None:
        """Refuse what no index can answer.

        Raises:
            DataError: naming the value.
        """
        if not (self.text or "").strip() and self.image is None and self.like is None:
            raise DataError("the query is empty; give a text, --image FILE or --like ID.")
        if self.image is not None and self.like is not None:
            raise DataError("--image and --like are both given, expected one of them; leave one out.")
        if len(self.text or "") + len(self.without or "") > MOST_CHARACTERS:
            raise DataError(f"the text has more than {MOST_CHARACTERS:,} characters; shorten it.")
        if self.k < 1 or self.offset < 0:
            raise DataError(f"k is {self.k} and offset {self.offset}; expected at least 1 and 0.")
        if not 0 <= self.weight <= 1:
            raise DataError(f"weight is {self.weight:g}, expected the text's share of the query, 0 to 1.")
        if wrong := [word for word, factor in self.boost.items() if not 0 < factor < math.inf]:
            raise DataError(f"boost of '{wrong[0]}' is {self.boost[wrong[0]]:g}, expected more than 0.")

    @property
    def kind(self) -> QueryKind:
        """What it is made of."""
        has_image = self.image is not None or self.like is not None
        if (self.text or "").strip():
            return "both" if has_image else "text"
        return "image"


@final
class QueryEncoder:
    """A model that encodes one query at a time and remembers texts.

    Args:
        model: of the index.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._texts: OrderedDict[str, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def text(self, text: str) -> Tensor:
        """(dim,) unit embedding of a text.

        Raises:
            DataError: if the model encodes no texts.
        """
        if self.model.reads != "both":
            raise DataError("the model of this index encodes images alone; give --image FILE or --like ID.")
        with self._lock:
            if text not in self._texts:
                self._texts[text] = self.model.encode_text([text])[0]
                if len(self._texts) > _TEXTS:
                    self._texts.popitem(last=False)
            self._texts.move_to_end(text)
            return self._texts[text]

    def image(self, image: ImageLike) -> Tensor:
        """(dim,) unit embedding of an image."""
        with self._lock:
            return self.model.encode_image(image)[0]


class PreparedQuery(ABC):
    """A request in the terms of an index."""

    @abstractmethod
    def search(self, *, k: int, among: np.ndarray | None) -> FoundRows:
        """The k best rows among (m,) ascending rows, or all."""

    @abstractmethod
    def scores(self, rows: np.ndarray) -> np.ndarray:
        """(n,) scores of (n,) rows."""

    @abstractmethod
    def reasons(self, row: int) -> list[Reason]:
        """The words for which a row was found."""


class QueryEngine(ABC):
    """Prepares requests for one kind of index."""

    @abstractmethod
    def prepare(self, request: SearchRequest, like: int | None) -> PreparedQuery:
        """A request as a query; `like` is the row that it names."""


@final
@dataclass(frozen=True)
class VectorQuery(PreparedQuery):
    """A query of one vector."""

    dense: DenseSearch
    vectors: RowVectors
    vector: np.ndarray  # (dim,) of length one

    def search(self, *, k: int, among: np.ndarray | None) -> FoundRows:
        return self.dense.search(self.vector, k=k, among=among)

    def scores(self, rows: np.ndarray) -> np.ndarray:
        return self.vectors.read(rows) @ self.vector

    def reasons(self, row: int) -> list[Reason]:
        return []


@final
@dataclass(frozen=True)
class VectorEngine(QueryEngine):
    """Prepares queries of an index of vectors."""

    encoder: QueryEncoder
    dense: DenseSearch
    vectors: RowVectors

    def prepare(self, request: SearchRequest, like: int | None) -> VectorQuery:
        if request.boost:
            raise DataError(
                "this index has no words to boost; build one with a model that 'frugalclip train words' made."
            )
        parts: list[tuple[float, Tensor]] = []
        weight = request.weight if request.kind == "both" else 1.0
        if request.kind != "image":
            parts.append((weight, self.encoder.text(request.text or "")))
        if request.kind != "text":
            share = 1 - request.weight if request.kind == "both" else 1.0
            parts.append((share, self._image(request, like)))
        vector = unit(torch.stack([share * part for share, part in parts]).sum(dim=0))
        if request.without and request.without.strip():
            vector = unit(vector - _OPPOSED * self.encoder.text(request.without))
        return VectorQuery(self.dense, self.vectors, vector.numpy())

    def _image(self, request: SearchRequest, like: int | None) -> Tensor:
        if like is None:
            assert request.image is not None, "the request has neither an image nor an id"
            return self.encoder.image(request.image)
        return unit(torch.from_numpy(self.vectors.read(np.array([like])))[0])


@final
@dataclass(frozen=True)
class WordQuery(PreparedQuery):
    """A query of weighted words."""

    lists: WordLists
    rows: IndexRows
    words: Mapping[int, float]
    excluded: tuple[int, ...]

    def search(self, *, k: int, among: np.ndarray | None) -> FoundRows:
        if self.excluded:
            among = self.rows.with_vector if among is None else among
            among = np.setdiff1d(among, self.lists.having(self.excluded), assume_unique=True)
        return self.lists.search(self.words, k=k, among=among)

    def scores(self, rows: np.ndarray) -> np.ndarray:
        return self.lists.sums(self.words, rows)

    def reasons(self, row: int) -> list[Reason]:
        return self.lists.reasons(self.words, row)


@final
@dataclass(frozen=True)
class WordEngine(QueryEngine):
    """Prepares queries of an index of words."""

    encoder: QueryEncoder
    lists: WordLists
    rows: IndexRows

    def prepare(self, request: SearchRequest, like: int | None) -> WordQuery:
        words: dict[int, float] = {}
        weight = request.weight if request.kind == "both" else 1.0
        if request.kind != "image":
            own = self.lists.query(self.encoder.text(request.text or ""))
            words = {word: weight * value for word, value in own.items()}
        if request.kind != "text":
            share = 1 - request.weight if request.kind == "both" else 1.0
            for word, value in self._image(request, like).items():
                words[word] = words.get(word, 0.0) + share * value
        largest = max(words.values(), default=1.0)
        for word, factor in request.boost.items():
            number = self.lists.number(word)  # a word that the query lacks counts like its largest
            words[number] = factor * words.get(number, largest)
        excluded = tuple(self.lists.number(word) for word in split_words(request.without or ""))
        kept = {word: value for word, value in words.items() if word not in excluded and value > 0}
        return WordQuery(self.lists, self.rows, kept, excluded)

    def _image(self, request: SearchRequest, like: int | None) -> dict[int, float]:
        if like is not None:
            return self.lists.of_row(like)
        assert request.image is not None, "the request has neither an image nor an id"
        return self.lists.query(self.encoder.image(request.image))
