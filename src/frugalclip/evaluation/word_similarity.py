"""How alike two texts are by their words, weighted by rarity (TF-IDF)."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from frugalclip.data.words import normalise, split_words

ALMOST_EQUAL = 0.999  # the highest similarity of texts with the same words in another order


class WordSimilarity:
    """Cosine of word counts weighted by rarity (TF-IDF); equal texts score exactly 1.

    A text in a script without spaces is one word, so only equal texts match.

    Args:
        corpus: texts that define how rare a word is; each distinct text counts once.
    """

    def __init__(self, corpus: Iterable[str]) -> None:
        distinct = dict.fromkeys(map(normalise, corpus))  # in order: among equally frequent words it decides
        self.texts = len(distinct)
        self.found_in = Counter(word for text in distinct for word in dict.fromkeys(split_words(text)))

    def rarity(self, word: str) -> float:
        """Log of the inverse share of texts that hold the word, smoothed so that every word has a weight."""
        return math.log((1 + self.texts) / (1 + self.found_in[word])) + 1

    def __call__(self, first: Sequence[Sequence[str]], second: Sequence[Sequence[str]]) -> Tensor:
        """Similarity of the most similar texts of two entries.

        Args:
            first: entries, each with alternatives.
            second: likewise.

        Returns:
            (first, second) float32 in [0, 1].
        """
        left, right = _distinct(first), _distinct(second)
        shared = {w for text in left for w in split_words(text)} & {
            w for text in right for w in split_words(text)
        }
        columns = {word: i for i, word in enumerate(sorted(shared))}
        transposed = self.vectors(right, columns).to_dense().T
        similarity = torch.sparse.mm(self.vectors(left, columns), transposed).clamp(max=ALMOST_EQUAL)
        place = {text: i for i, text in enumerate(right)}
        equal = [(i, place[text]) for i, text in enumerate(left) if text in place]
        if equal:
            i, j = torch.tensor(equal).T
            similarity[i, j] = 1.0
        return _best(_best(similarity, first, left).T, second, right).T

    def vectors(self, texts: Sequence[str], columns: dict[str, int]) -> Tensor:
        """Weighted word counts.

        Args:
            texts: (texts,) in any letters; words are those of the corpus, so they are normalised alike.
            columns: word -> column.

        Returns:
            (texts, columns) sparse; a row has length one over all its words, also those without a column.
        """
        rows, places, values = [], [], []
        for row, text in enumerate(texts):
            counts = Counter(split_words(normalise(text)))
            weights = {word: count * self.rarity(word) for word, count in counts.items()}
            length = math.sqrt(sum(w * w for w in weights.values()))
            known = [(columns[word], weight / length) for word, weight in weights.items() if word in columns]
            rows += [row] * len(known)
            places += [place for place, _ in known]
            values += [value for _, value in known]
        indices = torch.tensor([rows, places], dtype=torch.int64).reshape(2, -1)
        with torch.sparse.check_sparse_tensor_invariants():  # some versions of torch warn where it is not set
            return torch.sparse_coo_tensor(
                indices, torch.tensor(values, dtype=torch.float32), (len(texts), len(columns))
            ).coalesce()


def _distinct(entries: Sequence[Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(normalise(text) for entry in entries for text in entry))


def _best(similarity: Tensor, entries: Sequence[Sequence[str]], texts: list[str]) -> Tensor:
    """(texts, other) -> (entries, other): the best alternative of each entry; 0 for an entry without any."""
    place = {text: i for i, text in enumerate(texts)}
    owners = torch.tensor([i for i, entry in enumerate(entries) for _ in entry], dtype=torch.int64)
    sources = torch.tensor([place[normalise(text)] for entry in entries for text in entry], dtype=torch.int64)
    result = torch.zeros(len(entries), similarity.shape[1])
    return result.scatter_reduce_(0, owners[:, None].expand(-1, result.shape[1]), similarity[sources], "amax")
