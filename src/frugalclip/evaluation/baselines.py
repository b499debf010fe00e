"""What a method must beat before it has learned anything: copying the most similar training picture's words.

A floor finds the nearest training pictures and lets their captions vote for the candidate whose words are most alike. For a name seen in
training this is copying a label; for an unseen name it is a guess by shared words. Floors differ in how pictures are looked at: squashed to
16x16 RGB (pixel), by shape and colour (see `descriptors`), or by a frozen encoder's features.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.numerics import top_k
from frugalclip.data.images import decode_all
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.classes import key
from frugalclip.evaluation.ranking import Scores

SIDE = 16  # pixels of a thumbnail
VOTERS = (1, 10)
MOST_ROWS = 100_000  # training pictures looked at; more are thinned evenly, and the number is reported
MOST_DESCRIBED = 20_000  # by shape and colour or a frozen encoder, which is slower
ALMOST_EQUAL = 0.999  # the most that texts with the same words in another order may score
NEAR_DUPLICATE = 4.0  # mean absolute difference of thumbnails, of 255


class WordSimilarity:
    """Cosine of word counts weighted by rarity (TF-IDF); equal texts score exactly 1.

    Words are runs of letters and digits, so a text in a script without spaces is one word and only equal texts meet.

    Args:
        corpus: texts whose words' rarity is counted; each distinct text counts once.
    """

    def __init__(self, corpus: Iterable[str]) -> None:
        distinct = {key(text) for text in corpus}
        self.texts = len(distinct)
        self.found_in = Counter(word for text in distinct for word in set(_words(text)))

    def rarity(self, word: str) -> float:
        """Log of how many texts there are for each that holds the word, smoothed so that no word weighs nothing."""
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
        shared = sorted(
            {w for text in left for w in _words(text)} & {w for text in right for w in _words(text)}
        )
        columns = {word: i for i, word in enumerate(shared)}
        similarity = torch.sparse.mm(
            self._vectors(left, columns), self._vectors(right, columns).to_dense().T
        ).clamp(max=ALMOST_EQUAL)
        place = {text: i for i, text in enumerate(right)}
        equal = [(i, place[text]) for i, text in enumerate(left) if text in place]
        if equal:
            i, j = torch.tensor(equal).T
            similarity[i, j] = 1.0
        return _best(_best(similarity, first, left).T, second, right).T

    def _vectors(self, texts: Sequence[str], columns: dict[str, int]) -> Tensor:
        """(texts, columns) sparse; each row has length one over all its words, also those without a column."""
        rows, places, values = [], [], []
        for row, text in enumerate(texts):
            weights = {word: count * self.rarity(word) for word, count in Counter(_words(text)).items()}
            length = math.sqrt(sum(w * w for w in weights.values()))
            known = [(columns[word], weight / length) for word, weight in weights.items() if word in columns]
            rows += [row] * len(known)
            places += [place for place, _ in known]
            values += [value for _, value in known]
        indices = torch.tensor([rows, places], dtype=torch.int64).reshape(2, -1)
        with (
            torch.sparse.check_sparse_tensor_invariants()
        ):  # said once for both steps: some versions warn where nothing is said
            return torch.sparse_coo_tensor(
                indices, torch.tensor(values, dtype=torch.float32), (len(texts), len(columns))
            ).coalesce()


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _distinct(entries: Sequence[Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(key(text) for entry in entries for text in entry))


def _best(similarity: Tensor, entries: Sequence[Sequence[str]], texts: list[str]) -> Tensor:
    """(texts, other) -> (entries, other): the best alternative of each entry; 0 for an entry without any."""
    place = {text: i for i, text in enumerate(texts)}
    owners = torch.tensor([i for i, entry in enumerate(entries) for _ in entry], dtype=torch.int64)
    sources = torch.tensor([place[key(text)] for entry in entries for text in entry], dtype=torch.int64)
    result = torch.zeros(len(entries), similarity.shape[1])
    return result.scatter_reduce_(0, owners[:, None].expand(-1, result.shape[1]), similarity[sources], "amax")


Look = Callable[
    [Manifest], tuple[Tensor, np.ndarray]
]  # pictures -> (kept, width) numbers whose distances mean something, and the rows kept


@dataclass(frozen=True)
class Neighbours:
    """Training pictures as they are looked at, and what they are called."""

    features: Tensor  # (training, width) float32
    names: list[list[str]]  # (training,) texts of each
    of: int  # training pictures before thinning

    def nearest(self, features: Tensor, *, k: int = max(VOTERS), chunk: int = 256) -> tuple[Tensor, Tensor]:
        """The training pictures nearest to each picture, by Euclidean distance.

        Args:
            features: (pictures, width).
            k: how many, nearest first; of equally near ones the first in the training data.
            chunk: pictures at a time.

        Returns:
            (pictures, k) int64 places, and (pictures,) mean absolute difference of the numbers of a picture and its nearest.
        """
        lengths = self.features.square().sum(1)  # (training,)
        parts = []
        for part in features.split(chunk):
            distances = (
                lengths - 2 * part @ self.features.T
            )  # (chunk, training) squared, up to a constant of the row; exact for thumbnails
            parts.append(top_k(-distances, k)[1])
        places = torch.cat(parts) if parts else torch.zeros(0, min(k, len(self.names)), dtype=torch.int64)
        return places, (features - self.features[places[:, 0]]).abs().mean(1)

    def scores(self, places: Tensor, candidates: Sequence[Sequence[str]]) -> Scores:
        """Votes of the neighbours for candidates: the mean similarity of their words.

        Args:
            places: (pictures, k) int64 training pictures, from `nearest`.
            candidates: texts of each candidate.

        Returns:
            a function that gives (rows, candidates) in [0, 1] for some of the pictures.
        """
        alike = WordSimilarity(text for row in self.names for text in row)

        def scores(rows: Tensor) -> Tensor:
            voters, inverse = places[rows].unique(return_inverse=True)  # (voters,), (rows, k)
            votes = alike([self.names[i] for i in voters.tolist()], candidates)  # (voters, candidates)
            total = torch.zeros(len(rows), len(candidates))
            for column in inverse.T:  # one voter at a time, so that (rows, k, candidates) never exists
                total += votes[column]
            return total / places.shape[1]

        return scores


def thumbnails(manifest: Manifest, *, workers: int | None = None) -> tuple[Tensor, np.ndarray]:
    """Squash every picture of a data set to 16x16.

    Returns:
        (kept, 768) float32 from 0 to 255, and (kept,) int64 rows whose picture could be read.
    """
    decoded = decode_all(manifest, SIDE, workers)
    broken = {row for row, _ in decoded.faults}
    kept = np.array([row for row in range(len(manifest)) if row not in broken], dtype=np.int64)
    return decoded.pixels[torch.from_numpy(kept)].flatten(1).float(), kept


def find_neighbours(training: Manifest, names: Sequence[list[str]], look: Look, *, most: int) -> Neighbours:
    """The training pictures that have a name, looked at.

    Args:
        training: what the model was trained on.
        names: (rows,) texts of each row; rows without any are left out.
        look: how pictures become numbers.
        most: pictures at most; more are thinned evenly.
    """
    named = [row for row, texts in enumerate(names) if texts]
    step = max(1, math.ceil(len(named) / most))
    chosen = np.array(named[::step], dtype=np.int64)
    features, kept = look(training.take(chosen))
    return Neighbours(features, [names[row] for row in chosen[kept].tolist()], len(named))
