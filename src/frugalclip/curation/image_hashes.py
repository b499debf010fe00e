"""Hashes of 128 bits that images share with their re-encoded, resized and cropped copies.

A bit is the sign of a random projection of the low frequencies of an image, luma and some colour. Signs of
single frequencies, as in pHash, are not stable: in a symmetric drawing half of them are nearly zero, and a
JPEG decides them. Each image is hashed 49 times: whole, and with each axis cropped in seven ways.

Two images are candidates where a hash of one, of any crop, differs from the whole hash of the other by at
most `RADIUS` bits. The search finds all of them: hashes that differ in 7 bits agree in one of their 8 words.
Projections are fixed, so no row changes whether two others are candidates.
"""

from collections.abc import Iterator
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
_PAIRS = 4_000_000  # compared at once


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
    found = [np.zeros(0, dtype=np.int64)]
    for word in range(WORDS):
        keys = whole.view(np.uint16)[:, word]
        order = np.argsort(keys, kind="stable")
        ordered, starts = whole[order], np.searchsorted(keys[order], np.arange(2**16 + 1))
        for rows, hashes in _distinct(crops, word, starts):
            wanted = hashes.view(np.uint16)[:, word]
            counts = starts[wanted.astype(np.int64) + 1] - starts[wanted]
            own = np.repeat(np.arange(len(rows)), counts)
            places = np.arange(len(own)) - np.repeat(np.cumsum(counts) - counts, counts)
            places += np.repeat(starts[wanted], counts)
            differ = np.bitwise_count(hashes[own] ^ ordered[places]).sum(axis=1)
            near = differ <= RADIUS
            found.append(np.unique(rows[own[near]] * count + order[places[near]]))
    return np.unique(np.concatenate(found))


def _distinct(crops: np.ndarray, word: int, starts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and their different hashes, so many at a time that no more than some million are compared."""
    for start in range(0, len(crops), _ROWS):
        block = crops[start : start + _ROWS]
        rows = np.repeat(np.arange(start, start + len(block)), block.shape[1])
        flat = np.ascontiguousarray(block).reshape(-1, 2)
        order = np.lexsort((flat[:, 1], flat[:, 0], rows))
        rows, flat = rows[order], flat[order]
        is_new = np.r_[True, (flat[1:] != flat[:-1]).any(axis=1) | (rows[1:] != rows[:-1])]
        rows, flat = rows[is_new], flat[is_new]
        keys = flat.view(np.uint16)[:, word].astype(np.int64)
        sums = np.cumsum(starts[keys + 1] - starts[keys])
        pieces = np.searchsorted(sums, np.arange(_PAIRS, (sums[-1] if len(sums) else 0) + _PAIRS, _PAIRS))
        for low, high in zip(np.r_[0, pieces + 1], np.r_[pieces + 1, len(rows)], strict=False):
            if low < len(rows):
                yield rows[low:high], flat[low:high]
