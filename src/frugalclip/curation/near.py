"""Pairs of images that hardly differ: re-encoded, resized, or cropped by a few percent.

Candidates share a hash, see `image_hashes`. Each candidate is laid over the other image: the best of 97 crops
is found, then scale and shift in both directions are fitted. Then the largest difference of any local patch
counts, not the mean: two drawings that differ in one place, or in the colour of one part, are two images.

What saving again changes, it changes wherever there is something to see. So a patch that differs much more
than the others counts as a larger difference: only that patch was drawn anew, such as a face in another tone.
"""

from collections.abc import Iterator
from functools import cache
from typing import Literal

import numpy as np

from frugalclip.curation.image_hashes import (
    EDGES,
    cropped,
    image_hashes,
    pairs_among,
    pairs_of_equal,
)
from frugalclip.curation.keepers import search_keepers
from frugalclip.curation.measures import THUMBNAIL

_PATCHES = 8  # on a side
_COARSE = 16  # pixels on a side at which scale and shift are fitted first
_SEEN = 1 - 3 / THUMBNAIL  # of half a side; nearer to the edge, blur mixes in what is not there
_WORTH, _WORTH_A_FIT = 0.2, 0.08  # similarity that laying over may add, and a finer fit
_AS_IT_IS = np.array([1, 1, 0, 0], dtype=np.float32)  # scale across and down, shift across and down
_LARGEST = 1.13  # scale that a fit may reach: a crop of 11 %
_SLACK = 0.02  # of half a side, by which a fit may shift further than a crop of its scale does
_ROWS = 512  # compared at once
_KERNEL = np.array([1, 4, 6, 4, 1], dtype=np.float32) / 16
_BUSY = 4.0  # mean slope of a patch, of 255 a pixel, from which there is something to see
_CROPPED, _SHIFTED = 2.5, 0.3  # times that a crop lessens the difference; pixels that its edges are off
_QUIET, _QUIET_CROP = 0.7, 2.0  # difference of 255 that is none, as they are and where a crop is fitted
_USUAL = 1.5  # times the others' difference that a patch may differ


def near_keepers(thumbnails: np.ndarray, order: np.ndarray, *, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Which image stays for each image, see `search_keepers`.

    Args:
        thumbnails: (images, 3, 32, 32) uint8.
        order: (images,) every row once, preferred ones first.
        least: similarity of two images of which one goes.
    """
    hashes, rank = image_hashes(thumbnails), np.argsort(order)
    return search_keepers(
        order,
        [
            lambda rows: pairs_of_equal(hashes.take(rows), rank[rows]),  # thins large groups of copies
            lambda rows: pairs_among(hashes.take(rows)),
        ],
        lambda first, second: similarities(thumbnails, thumbnails, first, second, least=least),
        least=least,
    )


def orientations(
    thumbnails: np.ndarray, *, turned: bool = True
) -> Iterator[tuple[Literal["as_is", "turned", "mirrored"], np.ndarray]]:
    """The images as they stand, and in their seven other orientations.

    Args:
        thumbnails: (images, 3, 32, 32).
        turned: False gives them as they stand only.
    """
    yield "as_is", thumbnails
    for turns in range(4 if turned else 0):
        rotated = np.rot90(thumbnails, turns, axes=(2, 3))
        if turns:
            yield "turned", rotated
        yield "mirrored", rotated[..., ::-1]


def similarities(
    one: np.ndarray,
    other: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    least: float,
    is_fitted: bool = True,
) -> np.ndarray:
    """How alike two images are where they differ most: 1 - difference of a patch of 4 x 4 pixels / 255.

    Args:
        one: (images, 3, 32, 32) uint8.
        other: (others, 3, 32, 32) uint8.
        first: (pairs,) rows of `one`.
        second: (pairs,) rows of `other`.
        least: pairs that reach it as they are need no fit.
        is_fitted: False compares all of them as they are.

    Returns:
        (pairs,) float64 to four places.
    """
    result = np.zeros(len(first))
    for start in range(0, len(first), _ROWS):
        piece = slice(start, start + _ROWS)
        a, b = one[first[piece]], other[second[piece]]
        found, fit = _nearest_crop(a, b)
        rows = np.flatnonzero(found >= least - _WORTH)
        found[rows] = _fitted(
            _channels_last(a[rows]), _channels_last(b[rows]), fit[rows], least=least if is_fitted else -np.inf
        )
        result[piece] = found
    return np.round(result, 4)


def _fitted(a: np.ndarray, b: np.ndarray, fit: np.ndarray, *, least: float) -> np.ndarray:
    """(pairs,) similarity as they are, under the given fit, and under better ones where that is worth it."""
    found, unfitted = _similarity(a, b, np.tile(_AS_IT_IS, (len(a), 1)))
    rows = np.flatnonzero(found < least)
    fit = fit[rows]
    for size, steps in ((THUMBNAIL, 0), (_COARSE, 4), (THUMBNAIL, 4)):
        if not len(rows):
            break
        fit = _fit(a[rows], b[rows], fit, size=size, steps=steps)
        values, largest = _similarity(a[rows], b[rows], fit, unfitted=unfitted[rows])
        found[rows] = np.maximum(found[rows], values)
        may = (found[rows] < least) & (largest <= 255 * (1 - least + _WORTH_A_FIT))
        rows, fit = rows[may], fit[may]
    return found


def _nearest_crop(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(pairs,) similarity of coarse images under the best crop of either one, and (pairs, 4) its fit."""
    crops = [cropped(x.astype(np.float32), _pooling()) for x in (a, b)]  # (pairs, 49, 3, 8, 8)
    gaps = np.concatenate(
        [
            np.abs(crops[1] - crops[0][:, :1]).max((2, 3, 4)),
            np.abs(crops[0] - crops[1][:, :1]).max((2, 3, 4)),
        ],
        axis=1,
    )
    best = gaps.argmin(axis=1)
    nearest = np.take_along_axis(gaps, best[:, None], axis=1)[:, 0]
    return 1 - nearest.astype(np.float64) / 255, _crop_fits()[best]


def _pooling() -> np.ndarray:
    """(8, 32) float32 means of four pixels."""
    return np.repeat(np.eye(_PATCHES, dtype=np.float32), THUMBNAIL // _PATCHES, axis=1) * (
        _PATCHES / THUMBNAIL
    )


def _crop_fits() -> np.ndarray:
    """(98, 4) float32 fit of the second image where it is cropped, then where the first one is."""
    fits = np.array(
        [
            (1 - left - right, 1 - top - bottom, left - right, top - bottom)
            for top, bottom in EDGES
            for left, right in EDGES
        ],
        dtype=np.float32,
    )
    scale = 1 / fits[:, :2]
    return np.concatenate([fits, np.concatenate([scale, -fits[:, 2:] * scale], axis=1)])


def _similarity(
    a: np.ndarray, b: np.ndarray, fit: np.ndarray, *, unfitted: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(pairs,) similarity where both are seen, with the second laid over the first, and largest difference.

    Args:
        a: (pairs, 32, 32, 3).
        b: (pairs, 32, 32, 3).
        fit: (pairs, 4).
        unfitted: (pairs,) largest difference of the images as they are. A crop is fitted where it is many
            times the one under the fit; then edges may be off by a fraction of a pixel.
    """
    places = _places(fit, THUMBNAIL)
    across, down = (np.abs(axis) <= _SEEN for axis in places)  # (pairs, 32)
    seen = (down[:, :, None] & across[:, None, :]).astype(np.float32)
    left, right = _blurred(a), _blurred(_sampled(b, places))
    slopes, gaps = _slopes(left), np.abs(left - right).mean(axis=3)
    differ = _patch_means(gaps, seen)  # (pairs, 64)
    largest = differ.max(axis=1)
    quiet = np.full(len(a), _QUIET)
    if unfitted is not None:
        is_crop = unfitted > _CROPPED * largest
        quiet[is_crop] = _QUIET_CROP
        allowed = np.where(is_crop, _SHIFTED, 0).astype(np.float32)
        differ = _patch_means(np.maximum(gaps - allowed[:, None, None] * slopes, 0), seen)
    is_busy = _patch_means(slopes, seen) > _BUSY
    most = differ.max(axis=1).astype(np.float64)
    usual = _USUAL * (_median(differ, is_busy) + quiet)
    return 1 - most * np.maximum(most / usual, 1) / 255, largest


def _patch_means(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(pairs, patches) means of (pairs, 32, 32) values over the pixels that are seen."""
    size = THUMBNAIL // _PATCHES
    shape = (len(values), _PATCHES, size, _PATCHES, size)
    counts = np.maximum(seen.reshape(shape).sum(axis=(2, 4)), size)  # slivers at a side count less
    return ((values * seen).reshape(shape).sum(axis=(2, 4)) / counts).reshape(len(values), _PATCHES**2)


def _slopes(images: np.ndarray) -> np.ndarray:
    """(images, 32, 32) mean over colours of how steeply (images, 32, 32, 3) values change, a pixel."""
    down, across = np.gradient(images, axis=(1, 2))
    return np.hypot(down, across).mean(axis=3)


def _median(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(rows,) lower median of the values in the mask; 0 where there are none."""
    ordered = np.sort(np.where(mask, values, np.inf), axis=1)
    middle = np.maximum(mask.sum(axis=1) - 1, 0) // 2
    return np.where(mask.any(axis=1), ordered[np.arange(len(values)), middle], 0).astype(np.float64)


def _fit(a: np.ndarray, b: np.ndarray, fit: np.ndarray, *, size: int, steps: int) -> np.ndarray:
    """A better fit by Gauss-Newton on blurred pixels.

    Args:
        a: (pairs, 32, 32, 3).
        b: (pairs, 32, 32, 3) to be laid over `a`.
        fit: (pairs, 4) scale across, scale down, shift across, shift down to begin with.
        size: pixels on a side that are compared.
        steps: how many.
    """
    step = THUMBNAIL // size
    shape = (-1, size, step, size, step, 3)
    left, right = (_blurred(x.reshape(shape).mean(axis=(2, 4)), times=size // _COARSE) for x in (a, b))
    grid = _grid(size)
    for _ in range(steps):
        laid = _sampled(right, _places(fit, size))
        down, across = (np.gradient(laid, axis=axis) * (size / 2) for axis in (1, 2))
        slopes = np.stack([across * grid[:, None], down * grid[:, None, None], across, down], axis=4).reshape(
            len(a), -1, 4
        )
        left_over = (left - laid).reshape(len(a), -1, 1)
        turned = slopes.transpose(0, 2, 1)
        damped = turned @ slopes + 0.03 * size**2 * np.eye(4, dtype=np.float32)
        fit = _as_crop(fit + np.linalg.solve(damped, turned @ left_over)[..., 0])
    return fit


def _as_crop(fit: np.ndarray) -> np.ndarray:
    """The nearest fit that a crop makes: it shifts by no more than it scales. A moved object is no crop."""
    scale = np.clip(fit[:, :2], 1 / _LARGEST, _LARGEST)
    most = np.abs(scale - 1) + _SLACK
    return np.concatenate([scale, np.clip(fit[:, 2:], -most, most)], axis=1)


def _channels_last(thumbnails: np.ndarray) -> np.ndarray:
    """(images, 32, 32, 3) float32."""
    return thumbnails.transpose(0, 2, 3, 1).astype(np.float32)


def _grid(size: int) -> np.ndarray:
    """(size,) centres of pixels, from -1 to 1."""
    return ((np.arange(size, dtype=np.float32) + 0.5) / size) * 2 - 1


def _places(fit: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(pairs, size) across and (pairs, size) down: where each pixel lies in the other image."""
    grid = _grid(size)[None]
    return grid * fit[:, :1] + fit[:, 2:3], grid * fit[:, 1:2] + fit[:, 3:]


def _sampled(images: np.ndarray, places: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """(pairs, size, size, colours) values at places, between pixels linearly; outside, those of the edge."""
    size, rows = images.shape[1], np.arange(len(images))
    across, down = (np.clip((axis + 1) / 2 * size - 0.5, 0, size - 1) for axis in places)
    i, j = (np.minimum(axis.astype(np.int64), size - 2) for axis in (down, across))
    u, v = (down - i)[:, :, None, None], (across - j)[:, None, :, None]
    lines = images[rows[:, None], i] * (1 - u) + images[rows[:, None], i + 1] * u
    index = rows[:, None, None], np.arange(size)[None, :, None]
    return lines[*index, j[:, None]] * (1 - v) + lines[*index, j[:, None] + 1] * v


def _blurred(images: np.ndarray, *, times: int = 1) -> np.ndarray:
    """(images, side, side, colours) blurred by a binomial kernel of five pixels."""
    count, side, _, colours = images.shape
    blur = _blur(side)
    for _ in range(times):
        images = (blur @ images.reshape(count, side, side * colours)).reshape(images.shape)
        images = blur @ images
    return images


@cache
def _blur(side: int) -> np.ndarray:
    """(side, side) float32 that blurs an axis; beyond its ends the last pixel repeats."""
    result = np.zeros((side, side), dtype=np.float32)
    for step, weight in enumerate(_KERNEL, start=-(len(_KERNEL) // 2)):
        np.add.at(result, (np.arange(side), np.clip(np.arange(side) + step, 0, side - 1)), weight)
    return result
