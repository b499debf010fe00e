"""Hashes of 128 bits that images share with their re-encoded, resized and cropped copies.

A bit is the sign of a random projection of the low frequencies of an image, luma and some colour. Signs of
single frequencies, as in pHash, are not stable: in a symmetric drawing half of them are nearly zero, and a
JPEG decides them. Each image is hashed 49 times: whole, and with each axis cropped in seven ways.

Two images are candidates where a hash of one, of any crop, differs from the whole hash of the other by at
most `RADIUS` bits. The search finds all of them: hashes that differ in 7 bits agree in one of their 8 words.
Projections are fixed, so no row changes whether two others are candidates.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import final

import numpy as np

from frugalclip.core.random import stream_seed

RADIUS, WORDS = 7, 8  # bits that may differ, and words of 16 bits: one is equal
EDGES = (
    (0.0, 0.0),
    (0.05, 0.0),
    (0.0, 0.05),
    (0.05, 0.05),
    (0.025, 0.025),
    (0.0125, 0.0375),
    (0.0375, 0.0125),
)
_SIDE = 32  # pixels of a thumbnail
_LUMA, _COLOUR = 7, 3  # highest frequency
_TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], dtype=np.float32)
_ROWS = 1024  # hashed at once
_ROWS_OF_CROPS = 2**17  # rows whose crops are searched with at once; 260 MB for each of some threads
_THREADS = 4
_PAIRS = 4_000_000  # compared at once
_MANY, _TILE = 4096, 256  # pairs of equal key that are compared as tiles of a table, and the side of a tile


@final
@dataclass(frozen=True)
class ImageHashes:
    """Hashes of some images."""

    whole: np.ndarray  # (images, 2) uint64
    crops: np.ndarray  # (images, 49, 2) uint64, the whole image among them

    def __len__(self) -> int:
        return len(self.whole)

    def take(self, rows: np.ndarray) -> "ImageHashes":
        """The given rows, in the given order."""
        return ImageHashes(self.whole[rows], self.crops[rows])


def image_hashes(thumbnails: np.ndarray) -> ImageHashes:
    """Hashes of (images, 3, 32, 32) uint8 thumbnails."""
    pieces = [_crop_hashes(thumbnails[start : start + _ROWS]) for start in range(0, len(thumbnails), _ROWS)]
    crops = np.concatenate([np.zeros((0, len(EDGES) ** 2, 2), np.uint64), *pieces])
    return ImageHashes(np.ascontiguousarray(crops[:, 0]), crops)


def cropping(edges: tuple[float, float]) -> np.ndarray:
    """(32, 32) float32 that resamples an axis cropped at both ends, between pixels linearly."""
    low, high = edges
    places = (low + (np.arange(_SIDE) + 0.5) / _SIDE * (1 - low - high)) * _SIDE - 0.5
    left = np.clip(np.floor(places).astype(np.int64), 0, _SIDE - 2)
    share = np.clip(places - left, 0, 1)
    result = np.zeros((_SIDE, _SIDE), dtype=np.float32)
    result[np.arange(_SIDE), left] = 1 - share
    result[np.arange(_SIDE), left + 1] += share
    return result


def cropped(images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Every image under every pair of crops, reduced along both axes.

    Args:
        images: (images, 3, 32, 32) float32.
        weights: (size, 32), applied to an axis after it is cropped.

    Returns:
        (images, 49, 3, size, size) float32.
    """
    every = np.concatenate([weights @ cropping(edges) for edges in EDGES])  # (5 * size, 32)
    size, count = len(weights), len(EDGES)
    found = every @ (images @ every.T)
    return (
        found.reshape(-1, 3, count, size, count, size)
        .transpose(0, 2, 4, 1, 3, 5)
        .reshape(-1, count**2, 3, size, size)
    )


def _crop_hashes(thumbnails: np.ndarray) -> np.ndarray:
    """(images, 49, 2) uint64."""
    colours = np.einsum("dc,nchw->ndhw", _TO_YCC, thumbnails.astype(np.float32))
    waves = cropped(colours, _cosines()).reshape(-1, 3 * (_LUMA + 1) ** 2)
    bits = waves @ _projection() > 0.5  # none of an image of one colour, which rounding leaves waves of 0.01
    packed = np.packbits(bits, axis=1).view(np.uint64)
    return packed.reshape(len(thumbnails), -1, 2)


def _cosines() -> np.ndarray:
    """(8, 32) float32 orthonormal cosine waves of the lowest frequencies."""
    places = (np.arange(_SIDE) + 0.5) / _SIDE
    waves = np.cos(np.pi * np.arange(_LUMA + 1)[:, None] * places) * np.sqrt(2 / _SIDE)
    waves[0] /= np.sqrt(2)
    return waves.astype(np.float32)


@cache
def _projection() -> np.ndarray:
    """(192, 128) float32 from coefficients of three colours to signs: orthogonal, high waves weigh more."""
    across, down = np.meshgrid(np.arange(_LUMA + 1), np.arange(_LUMA + 1))
    frequency = np.hypot(across, down)
    weights = np.zeros((3, *frequency.shape))
    for colour, highest in enumerate((_LUMA, _COLOUR, _COLOUR)):
        weights[colour] = np.where(frequency <= highest, frequency, 0)
        weights[colour, 0, 0] = 0.25 if colour else 0
    used = np.flatnonzero(weights)
    random = np.random.default_rng(stream_seed(0, "curate/image-hashes"))
    square = (len(used), len(used))
    turned = [np.linalg.qr(random.standard_normal(square))[0] for _ in range(-(-128 // len(used)))]
    result = np.zeros((weights.size, 128), dtype=np.float32)
    result[used] = weights.reshape(-1, 1)[used] * np.concatenate(turned, axis=1)[:, :128]
    return result


def pairs_between(one: ImageHashes, other: ImageHashes) -> tuple[np.ndarray, np.ndarray]:
    """(pairs,) rows of `one` and (pairs,) of `other` that are candidates, ascending, each pair once."""
    there = _codes(one.crops, other.whole, len(other))
    first, second = np.divmod(_codes(other.crops, one.whole, len(one)), max(len(one), 1))
    codes = np.union1d(there, second * max(len(other), 1) + first)
    return np.divmod(codes, max(len(other), 1))


def pairs_among(hashes: ImageHashes) -> tuple[np.ndarray, np.ndarray]:
    """(pairs,) first and (pairs,) second, above the first, that are candidates, ascending, each pair once."""
    first, second = np.divmod(_codes(hashes.crops, hashes.whole, len(hashes)), max(len(hashes), 1))
    proper = first != second
    low, high = np.minimum(first, second)[proper], np.maximum(first, second)[proper]
    return np.divmod(np.unique(low * max(len(hashes), 1) + high), max(len(hashes), 1))


def pairs_of_equal(hashes: ImageHashes, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row with the first one that has its whole hash: pairs as of `pairs_among`, but few.

    Args:
        hashes: of the rows.
        rank: (rows,) by which the first one is chosen.
    """
    order = np.lexsort((rank, *hashes.whole.T))
    ordered = hashes.whole[order]
    starts = np.flatnonzero(np.r_[len(order) > 0, (ordered[1:] != ordered[:-1]).any(axis=1)])
    firsts = np.repeat(order[starts], np.diff(np.r_[starts, len(order)]))
    proper = order != firsts
    low, high = np.minimum(order, firsts)[proper], np.maximum(order, firsts)[proper]
    return np.divmod(np.unique(low * max(len(hashes), 1) + high), max(len(hashes), 1))


def _codes(crops: np.ndarray, whole: np.ndarray, count: int) -> np.ndarray:
    """(pairs,) row of `crops` * count + row of `whole`, where a crop is within the radius, each once."""
    found, each = [np.zeros(0, dtype=np.int64)], crops.shape[1]

    def of_word(word: int) -> np.ndarray:
        parts = [np.zeros(0, dtype=np.int64)]
        for own, other in _equal_in(word, block, whole):
            parts.append(np.unique((start + own // each) * count + other))
        return np.unique(np.concatenate(parts))

    with ThreadPoolExecutor(min(os.cpu_count() or 1, _THREADS)) as pool:  # numpy compares without the lock
        for start in range(0, len(crops), _ROWS_OF_CROPS):
            block = np.ascontiguousarray(crops[start : start + _ROWS_OF_CROPS]).reshape(-1, 2)
            found += pool.map(of_word, range(WORDS))
    return np.unique(np.concatenate(found))


def _equal_in(word: int, one: np.ndarray, other: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Places of hashes that are equal in one word, and within the radius; some pairs at a time.

    Args:
        word: from 0.
        one: (some, 2) uint64.
        other: (others, 2) uint64.
    """
    left, right = _Sorted(one, word), _Sorted(other, word)
    sizes = np.diff(left.starts) * np.diff(right.starts)
    few = (sizes > 0) & (sizes < _MANY)
    for low, high in left.ranges(np.flatnonzero(few), np.diff(right.starts)):
        yield _near_in_pairs(left, right, low, high)
    for key in np.flatnonzero(sizes >= _MANY).tolist():
        yield from _near_in_block(left, right, key)


class _Sorted:
    """Hashes in the order of one of their words.

    Args:
        hashes: (some, 2) uint64.
        word: from 0.
    """

    def __init__(self, hashes: np.ndarray, word: int) -> None:
        keys = hashes.view(np.uint16)[:, word]
        self.order = np.argsort(keys, kind="stable")
        self.hashes, self.keys = hashes[self.order], keys[self.order].astype(np.int64)
        self.starts = np.searchsorted(self.keys, np.arange(2**16 + 1))
        other_half = 1 - word // (
            WORDS // 2
        )  # the word that is equal tells nothing, and this half has none of it
        self.half = np.ascontiguousarray(self.hashes[:, other_half])

    def ranges(self, keys: np.ndarray, partners: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Places of hashes with these keys, so many at a time that no more than some million are compared.

        Args:
            keys: (some,) int64.
            partners: (65536,) hashes on the other side, by key.

        Yields:
            (some,) places, and (some,) how many partners each has.
        """
        wanted = np.zeros(2**16, dtype=bool)
        wanted[keys] = True
        places = np.flatnonzero(wanted[self.keys])
        counts = partners[self.keys[places]]
        sums = np.cumsum(counts)
        total = int(sums[-1]) if len(sums) else 0
        cuts = np.searchsorted(sums, np.arange(_PAIRS, total, _PAIRS))
        for low, high in zip(np.r_[0, cuts], np.r_[cuts, len(places)], strict=True):
            if low < high:
                yield places[low:high], counts[low:high]


def _near_in_pairs(
    left: _Sorted, right: _Sorted, places: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Near pairs of hashes that have few partners, of which a list is made."""
    own = np.repeat(places, counts)
    other = np.arange(len(own)) - np.repeat(np.cumsum(counts) - counts, counts)
    other += np.repeat(right.starts[left.keys[places]], counts)
    near = np.bitwise_count(left.half[own] ^ right.half[other]) <= RADIUS
    return _near(left, right, own[near], other[near])


def _near_in_block(left: _Sorted, right: _Sorted, key: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Near pairs of hashes that have many partners: halves of all with halves of all, a tile at a time."""
    first, last = right.starts[key], right.starts[key + 1]
    for right_start in range(first, last, _TILE):
        partners = right.half[right_start : min(right_start + _TILE, last)]
        step = max(_TILE**2 // len(partners), 1)
        for start in range(left.starts[key], left.starts[key + 1], step):
            own = left.half[start : min(start + step, left.starts[key + 1])]
            near = np.flatnonzero(np.bitwise_count(own[:, None] ^ partners) <= RADIUS)
            if len(near):
                rows, columns = np.divmod(near, len(partners))
                yield _near(left, right, start + rows, right_start + columns)


def _near(left: _Sorted, right: _Sorted, own: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those of the pairs that are within the radius, by their places before sorting."""
    differ = np.bitwise_count(left.hashes[own] ^ right.hashes[other])
    near = differ[:, 0] + differ[:, 1] <= RADIUS
    return left.order[own[near]], right.order[other[near]]
