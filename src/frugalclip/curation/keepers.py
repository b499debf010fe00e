"""Which rows of pairs that are alike stay.

Rows are met in the order in which they are preferred. A row stays unless it is alike to one that stays, which
is then its keeper. So the rows that stay are unlike each other, a second call drops nothing, and a chain of
likenesses never drops a row that is unlike its keeper.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias, final

import numpy as np

# (pairs,) first and (pairs,) second of pairs worth comparing among some rows, ascending, by their places.
Search: TypeAlias = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class Pairs(NamedTuple):
    """Rows that are alike, each pair once."""

    first: np.ndarray  # (pairs,) int64
    second: np.ndarray  # (pairs,) int64
    similarity: np.ndarray  # (pairs,) float64, larger is more alike


def choose_keepers(pairs: Pairs, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which row stays for each row.

    Args:
        pairs: rows that are alike.
        order: (rows,) every row once, preferred ones first.

    Returns:
        (rows,) the most similar row that stays, a row itself where it stays, and (rows,) float64 the
        similarity to it, NaN where the row stays.
    """
    rows = len(order)
    rank = np.empty(rows, dtype=np.int64)
    rank[order] = np.arange(rows)
    ends = np.concatenate([pairs.first, pairs.second])
    others = np.concatenate([pairs.second, pairs.first])
    similarity = np.concatenate([pairs.similarity, pairs.similarity])
    by_rank = np.lexsort((rank[others], rank[ends]))
    ends, others, similarity = ends[by_rank], others[by_rank], similarity[by_rank]
    starts = np.flatnonzero(np.r_[True, ends[1:] != ends[:-1]]) if len(ends) else np.zeros(0, np.int64)
    keepers, found = np.arange(rows), np.full(rows, np.nan)
    for start, end in zip(starts, np.r_[starts[1:], len(ends)][: len(starts)], strict=True):
        row, near = ends[start], others[start:end]
        stays = (rank[near] < rank[row]) & (keepers[near] == near)
        if stays.any():
            values = np.where(stays, similarity[start:end], -np.inf)
            best = int(np.argmax(values))
            keepers[row], found[row] = near[best], values[best]
    return keepers, found


def search_keepers(
    order: np.ndarray,
    searches: Sequence[Search],
    similarity_of: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    least: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Which row stays for each row, as `choose_keepers`, where a search finds only some of the pairs.

    In a dense group the neighbours of a row are only some of those like it. So what stays is searched again
    until no pair is found, with the pairs of all searches. No pair is compared twice.

    Args:
        order: (rows,) every row once, preferred ones first.
        searches: cheap ones first; a later one is called where those before find no more.
        similarity_of: (pairs,) similarities of given rows.
        least: similarity of two rows of which one goes.
    """
    nothing = np.zeros(0, dtype=np.int64)
    compared, pairs = _Compared(similarity_of, len(order)), Pairs(nothing, nothing, np.zeros(0))
    while True:
        keepers, similarity = choose_keepers(pairs, order)
        stays = np.flatnonzero(keepers == np.arange(len(order)))
        for search in searches:
            found = compared.near(*(stays[ends] for ends in search(stays)), least=least)
            if len(found.first):
                pairs = Pairs(*(np.concatenate(both) for both in zip(pairs, found, strict=True)))
                break
        else:
            return keepers, similarity


@final
class _Compared:
    """The pairs that were compared, so that none is compared twice.

    Args:
        similarity_of: (pairs,) similarities of given rows.
        rows: how many there are.
    """

    def __init__(self, similarity_of: Callable[[np.ndarray, np.ndarray], np.ndarray], rows: int) -> None:
        self.similarity_of, self.rows = similarity_of, rows
        self.codes = np.zeros(0, dtype=np.int64)

    def near(self, first: np.ndarray, second: np.ndarray, *, least: float) -> Pairs:
        """Those pairs, not compared before, that are at least so similar."""
        codes = first * self.rows + second
        is_new = ~np.isin(codes, self.codes)
        self.codes = np.concatenate([self.codes, codes[is_new]])
        first, second = first[is_new], second[is_new]
        values = self.similarity_of(first, second)
        near = values >= least
        return Pairs(first[near], second[near], values[near])
