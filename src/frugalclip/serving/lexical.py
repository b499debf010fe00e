"""Search by words: each image has a few weighted words, and each word a list of its images.

The score of an image is the sum, over the words that it shares with the query, of the product of both
weights; those products are the reasons of a hit. It equals the product of the sparse vectors.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.errors import DataError, known_names, require
from frugalclip.language_model import Lexicon
from frugalclip.serving.dense import FoundRows, reached_by

STORED = 64  # words of an image or a text
_ROUNDING = 1e-4  # of sums in single precision, relative; what may be among the best is summed again
Weights = Mapping[int, float]  # number of a word -> its weight


@dataclass(frozen=True)
class Reason:
    """A word that an image shares with a query."""

    word: str
    weight: float  # its share of the score


def top_words(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """The largest words of embeddings.

    Args:
        embeddings: (batch, vocab), of which only what is above zero counts.

    Returns:
        (batch, top) word numbers and (batch, top) weights, zero where there are no more words.
    """
    weights, words = embeddings.topk(min(STORED, embeddings.shape[1]), dim=1)
    return words, weights.clamp_min(0)


@final
class WordLists:
    """An inverted index: for each word the rows that have it.

    Args:
        words: (rows, top) word numbers.
        weights: (rows, top) their weights; zero for none.
        lexicon: names of the words.
    """

    def __init__(self, words: np.ndarray, weights: np.ndarray, lexicon: Lexicon) -> None:
        by_row = _sparse(words, weights, len(lexicon))
        self.by_row, self.lexicon = by_row, lexicon
        self._by_word = by_row.tocsc()
        self._numbers = {word: number for number, word in enumerate(lexicon.words)}

    def __len__(self) -> int:
        return self.by_row.shape[0]

    def number(self, word: str) -> int:
        """The number of a word.

        Raises:
            DataError: if the lexicon lacks it.
        """
        if (found := self._numbers.get(word.strip().casefold())) is None:
            near = known_names(word, [w for w in self.lexicon.words if w[:1] == word[:1].casefold()])
            raise DataError(f"'{word}' is not among the {len(self.lexicon):,} words of this index; {near}")
        return found

    def query(self, embedding: Tensor) -> dict[int, float]:
        """The words of a (vocab,) embedding, without those of weight zero."""
        words, weights = top_words(embedding[None].float())
        pairs = zip(words[0].tolist(), weights[0].tolist(), strict=True)
        return {word: weight for word, weight in pairs if weight > 0}

    def sparse_rows(self, embeddings: Tensor) -> Any:
        """(batch, vocab) embeddings as a sparse matrix of their top words."""
        words, weights = (part.numpy() for part in top_words(embeddings.float()))
        return _sparse(words, weights, len(self.lexicon))

    def of_row(self, row: int) -> dict[int, float]:
        """The words of a stored row."""
        start, stop = self.by_row.indptr[row : row + 2]
        words, weights = self.by_row.indices[start:stop], self.by_row.data[start:stop]
        return dict(zip(words.tolist(), weights.tolist(), strict=True))

    def having(self, words: Collection[int]) -> np.ndarray:
        """(n,) ascending rows that have any of the words."""
        return np.unique(self._by_word[:, list(words)].indices).astype(np.int64)

    def search(self, query: Weights, *, k: int, among: np.ndarray | None = None) -> FoundRows:
        """The k rows with the largest sums; only rows that share a word with the query.

        Args:
            query: weight of each word.
            k: rows wanted.
            among: (m,) ascending rows that compete; all by default.
        """
        if not query:
            return FoundRows(np.zeros(0, np.int64), np.zeros(0))
        words = np.array(list(query))
        # a product with the columns of these words alone, in scipy's compiled code
        sums = self._by_word[:, words] @ np.array([*query.values()], dtype=np.float32)
        own = sums if among is None else sums[among]
        least = max(reached_by(own, k) * (1 - _ROUNDING), np.finfo(np.float32).tiny)
        chosen = np.flatnonzero(own >= least)
        rows = chosen if among is None else among[chosen]
        return FoundRows.best(rows, self.sums(query, rows), k=k)

    def sums(self, query: Weights, rows: np.ndarray) -> np.ndarray:
        """(n,) sums of (n,) rows."""
        vector = np.zeros(len(self.lexicon))
        vector[list(query)] = list(query.values())
        return self.by_row[rows] @ vector

    def reasons(self, query: Weights, row: int) -> list[Reason]:
        """The words that a row shares with a query, the largest first; their weights sum to its score."""
        own = self.of_row(row)
        shared = [
            Reason(self.lexicon.words[word], weight * own[word])
            for word, weight in query.items()
            if word in own
        ]
        return sorted(shared, key=lambda reason: (-reason.weight, reason.word))


def _sparse(words: np.ndarray, weights: np.ndarray, vocabulary: int) -> Any:
    """(rows, vocab) sparse matrix of (rows, top) words and weights."""
    sparse = require("scipy.sparse", extra="search", purpose="searching by words")
    rows, top = words.shape
    starts = np.arange(rows + 1) * top
    flat = weights.astype(np.float32).ravel(), words.astype(np.int32).ravel(), starts
    matrix = sparse.csr_matrix(flat, shape=(rows, vocabulary))
    matrix.eliminate_zeros()
    return matrix


def packed(words: Tensor, weights: Tensor) -> Tensor:
    """(batch, 2 * top) of (batch, top) words and (batch, top) weights, as an embedding store keeps them.

    Word numbers are whole numbers below 2 ** 24, which float32 holds exactly.
    """
    return torch.cat([words.float(), weights.float()], dim=1)


def unpacked(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows, top) words and weights of (rows, 2 * top) stored numbers."""
    top = vectors.shape[1] // 2
    return vectors[:, :top].astype(np.int64), vectors[:, top:]
