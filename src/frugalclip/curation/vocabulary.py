"""Entries of a vocabulary in captions, and probabilities that balance how often each entry occurs.

Source: MetaCLIP (`metaclip1/substr_matching.py`, `indexing/balance_sampling.py`, `curation/curate.py`).
Matching gives the same entries as the authors' search for ` entry ` in the spaced text: the case counts, and
only `, . ; : ? !` and back-tick are split off words. Draws are numbers that the caller brings: theirs are a
sequence, ours are hashes of seed, id and entry, so that a row's fate does not depend on the shards.
"""

from collections.abc import Sequence
from typing import final

import numpy as np

_APART = str.maketrans({**{mark: f" {mark} " for mark in ",.;:?!`"}, **dict.fromkeys("\t\n\r", " ")})


@final
class PhraseMatcher:
    """Finds entries in texts.

    Args:
        entries: words or phrases, each once.
        fold_case: whether upper and lower case are one.
    """

    def __init__(self, entries: Sequence[str], *, fold_case: bool = False) -> None:
        self.entries = list(entries)
        self.fold_case = fold_case
        self._numbers: dict[tuple[str, ...], list[int]] = {}
        for number, entry in enumerate(self.entries):
            self._numbers.setdefault(tuple(self._folded(entry).split(" ")), []).append(number)
        self._lengths = sorted({len(words) for words in self._numbers})

    def _folded(self, text: str) -> str:
        return text.casefold() if self.fold_case else text

    def matches(self, text: str) -> list[int]:
        """Numbers of the entries in a text, each once, ascending."""
        words = f" {self._folded(text)} ".translate(_APART).split(" ")[1:-1]
        found: set[int] = set()
        for length in self._lengths:
            for start in range(len(words) - length + 1):
                found.update(self._numbers.get(tuple(words[start : start + length]), ()))
        return sorted(found)

    def index(self, captions: Sequence[Sequence[str]]) -> np.ndarray:
        """(matches, 2) int64: entry and row, rows ascending; an entry counts once a row."""
        pairs = [
            (entry, row)
            for row, texts in enumerate(captions)
            for entry in sorted({entry for text in texts for entry in self.matches(text)})
        ]
        return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def entry_counts(index: np.ndarray, entries: int) -> np.ndarray:
    """(entries,) int64 rows that each entry matches, of a (matches, 2) index."""
    return np.bincount(index[:, 0], minlength=entries)


def entry_probabilities(counts: np.ndarray, limit: float) -> np.ndarray:
    """(entries,) float64 with which a match of each entry is drawn: `min(1, limit / count)`."""
    return np.minimum(1.0, limit / np.maximum(counts, 1))


def keep_probabilities(index: np.ndarray, probabilities: np.ndarray, rows: int) -> np.ndarray:
    """(rows,) float64 with which a row stays: 1 - product of (1 - p) over its entries."""
    lost = np.ones(rows)
    np.multiply.at(lost, index[:, 1], 1 - probabilities[index[:, 0]])
    return 1 - lost


def drawn_rows(index: np.ndarray, probabilities: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(kept,) rows of which any entry is drawn, ascending.

    Args:
        index: (matches, 2) entry and row.
        probabilities: (entries,).
        draws: (matches,) uniform numbers in [0, 1).
    """
    return np.unique(index[draws < probabilities[index[:, 0]], 1])


def tail_share(counts: np.ndarray, limit: float) -> float:
    """Share of all matches that belong to entries with fewer than `limit`."""
    return float(counts[counts < limit].sum() / max(counts.sum(), 1))


def limit_of_share(counts: np.ndarray, share: float) -> int:
    """The count at which the ascending counts add up to a share of all matches as nearly as possible."""
    ascending = np.sort(counts)
    reached = np.cumsum(ascending) / max(counts.sum(), 1)
    return int(ascending[np.argmin(np.abs(reached - share))])
