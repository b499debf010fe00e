"""Pairs of texts that share most of their letters, by MinHash.

The measure is the Jaccard similarity of the sets of 5-character shingles, after case and white space are made
equal. Candidates share one of 20 bands of 6 minima (at a similarity of 0.8 all but 0.2 % do); for candidates
the similarity is exact.
"""

import unicodedata
from collections.abc import Sequence

import numpy as np

from frugalclip.core.random import stream_seed
from frugalclip.curation.keepers import search_keepers

LETTERS = 5  # characters of a shingle
BANDS, MINIMA = 20, 6
_IN_BUCKET = 16  # rows of a bucket that each of its rows is compared with
_ROWS = 20_000  # hashed at once
_BASE = np.uint64(0x9E3779B97F4A7C15)


def plain(texts: Sequence[str]) -> str:
    """The captions of a row as one text, without differences of form, case and white space."""
    return " ".join(unicodedata.normalize("NFKC", " ".join(texts)).casefold().split())


def near_text_keepers(
    texts: Sequence[str], order: np.ndarray, *, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which text stays for each text, see `search_keepers`.

    Args:
        texts: distinct, as `plain` gives them.
        order: (texts,) every text once, preferred ones first.
        least: similarity of two texts of which one goes.
    """
    pieces = [texts[start : start + _ROWS] for start in range(0, max(len(texts), 1), _ROWS)]
    signatures = np.concatenate([minima(*shingle_hashes(piece)) for piece in pieces])

    def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        rows = np.unique(np.concatenate([first, second]))  # sets of all texts would take gigabytes
        hashes, ends = shingle_hashes([texts[int(row)] for row in rows])
        parts = np.split(hashes, ends[:-1]) if len(rows) else []
        sets = {row: frozenset(part.tolist()) for row, part in zip(rows.tolist(), parts, strict=True)}
        pairs = zip(first.tolist(), second.tolist(), strict=True)
        return np.array([jaccard(sets[i], sets[j]) for i, j in pairs], dtype=np.float64)

    return search_keepers(order, [lambda rows: candidates(signatures[rows])], similarity, least=least)


def jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    """Shared members as a share of all."""
    shared = len(one & other)
    return shared / max(len(one) + len(other) - shared, 1)


def shingle_hashes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(shingles,) uint64 of all texts, and (texts,) where those of each text end; at least one a text."""
    padded = [f" {text} ".ljust(LETTERS) for text in texts]
    letters = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    counts = np.array([len(text) - LETTERS + 1 for text in padded], dtype=np.int64)
    if not len(counts):
        return np.zeros(0, dtype=np.uint64), counts
    starts = np.cumsum(counts + LETTERS - 1) - (counts + LETTERS - 1)
    ends = np.cumsum(counts)
    places = np.arange(ends[-1]) + np.repeat(starts - (ends - counts), counts)
    with np.errstate(over="ignore"):  # hashes rely on wrapping
        hashes = np.zeros(len(places), dtype=np.uint64)
        for letter in range(LETTERS):
            hashes = (hashes ^ letters[places + letter]) * _BASE
            hashes ^= hashes >> np.uint64(29)
    return hashes, ends


def minima(hashes: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(texts, 120) uint32 least value of each text's shingles under each of 120 hash functions."""
    random = np.random.default_rng(stream_seed(0, "curate/minhash"))
    factors = random.integers(0, 2**63, BANDS * MINIMA, dtype=np.uint64) | np.uint64(1)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    result = np.empty((len(ends), len(factors)), dtype=np.uint32)
    with np.errstate(over="ignore"):
        for column, factor in enumerate(factors if len(ends) else ()):
            result[:, column] = np.minimum.reduceat((hashes * factor) >> np.uint64(32), starts)
    return result


def candidates(signatures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(pairs,) first and (pairs,) second, above the first: rows that are equal in a band."""
    rows, codes = len(signatures), [np.zeros(0, dtype=np.int64)]
    weights = np.cumprod(np.full(MINIMA, _BASE))  # one number a band, by wrapping
    for band in range(BANDS):
        keys = signatures[:, band * MINIMA : (band + 1) * MINIMA].astype(np.uint64) @ weights
        order = np.argsort(keys, kind="stable")
        equal = np.flatnonzero(keys[order][1:] == keys[order][:-1]) + 1
        for shift in range(1, _IN_BUCKET + 1):
            low, high = order[equal - shift], order[equal]
            same = (equal >= shift) & (keys[low] == keys[high])
            if not same.any():
                break
            codes.append(np.minimum(low, high)[same] * rows + np.maximum(low, high)[same])
    found = np.unique(np.concatenate(codes))
    return found // max(rows, 1), found % max(rows, 1)
