"""Pairs of images that hardly differ: re-encoded, resized, or cropped by a few percent.

Candidates are the nearest neighbours of each image by a blurred colour layout, which a small crop changes
little. Each candidate is laid over the other image first: scale and shift in both directions are fitted. Then
the largest difference of any local patch counts, not the mean: two drawings that differ in one place, or in
the colour of one part, are two images.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from frugalclip.curation.keepers import search_keepers
from frugalclip.curation.measures import THUMBNAIL

NEIGHBOURS = 16  # candidates of an image
LEAST_COSINE = 0.85  # between the layouts of two candidates; a crop of 5 % keeps 0.9 and more
_LAYOUT, _PATCHES = 8, 8  # cells and patches on a side
_COARSE = 16  # pixels on a side at which scale and shift are fitted first
_SEEN = 1 - 3 / THUMBNAIL  # of half a side; nearer to the edge, blur mixes in what is not there
_WORTH = 0.2  # similarity that a finer fit may add
_AS_IT_IS = np.array([1, 1, 0, 0], dtype=np.float32)  # scale across and down, shift across and down
_LARGEST = 1.13  # scale that a fit may reach: a crop of 11 %
_SLACK = 0.02  # of half a side, by which a fit may shift further than a crop of its scale does
_ROWS = 512  # compared at once
_KERNEL = np.array([1, 4, 6, 4, 1], dtype=np.float32) / 16
_FLAT = 20.0  # norm of a layout below which it is nearly of one colour


def near_keepers(thumbnails: np.ndarray, order: np.ndarray, *, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Which image stays for each image, see `search_keepers`.

    Args:
        thumbnails: (images, 3, 32, 32) uint8.
        order: (images,) every row once, preferred ones first.
        least: similarity of two images of which one goes.
    """
    rows_layouts = layouts(thumbnails)
    return search_keepers(
        order,
        lambda rows: candidate_pairs(rows_layouts[rows]),
        lambda first, second: similarities(thumbnails, thumbnails, first, second, least=least),
        least=least,
    )


def layouts(thumbnails: np.ndarray) -> np.ndarray:
    """(images, 192) float32 colour layouts of 8 x 8 cells, centred, of length one unless nearly flat."""
    pieces = [
        _layout(thumbnails[start : start + _ROWS]) for start in range(0, max(len(thumbnails), 1), _ROWS)
    ]
    return np.concatenate(pieces)


def _layout(thumbnails: np.ndarray) -> np.ndarray:
    soft = _blurred(_channels_last(thumbnails), times=2)
    cell = THUMBNAIL // _LAYOUT
    cells = soft.reshape(-1, _LAYOUT, cell, _LAYOUT, cell, 3).mean(axis=(2, 4)).reshape(-1, 3 * _LAYOUT**2)
    cells -= cells.mean(axis=1, keepdims=True)
    return cells / np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), _FLAT)


def candidate_pairs(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(pairs,) first and (pairs,) second, above the first: rows of which one is a neighbour of the other.

    Args:
        rows: (rows, dim) layouts.
    """
    ends, others = neighbours(rows, rows)
    proper = ends != others
    return _distinct(np.minimum(ends, others)[proper], np.maximum(ends, others)[proper], len(rows))


def candidates_between(rows: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(pairs,) rows and (pairs,) others of which one is a neighbour of the other.

    An image that many rows repeat is a neighbour of each of them, but has only some of them for its own.

    Args:
        rows: (rows, dim) layouts.
        others: (others, dim) layouts.
    """
    first, second = neighbours(rows, others)
    back, forth = neighbours(others, rows)
    return _distinct(np.concatenate([first, forth]), np.concatenate([second, back]), len(others))


def _distinct(first: np.ndarray, second: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Each pair once, ascending; `count` is above every second one."""
    return np.divmod(np.unique(first * max(count, 1) + second), max(count, 1))


def neighbours(rows: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(pairs,) rows and (pairs,) their nearest among others, itself included where it is one of them.

    Args:
        rows: (rows, dim) layouts.
        among: (others, dim) layouts.
    """
    ends, others = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    most = min(NEIGHBOURS + 1, len(among))
    for start in range(0, len(rows) if most else 0, _ROWS):
        cosines = rows[start : start + _ROWS] @ among.T
        near = cosines >= LEAST_COSINE
        crowded = np.flatnonzero(near.sum(axis=1) > most)  # few rows: only these are sorted
        nearest = np.argpartition(-cosines[crowded], most - 1, axis=1)[:, :most]
        near[crowded] = False
        near[crowded[:, None], nearest] = True
        block, found = np.nonzero(near)
        ends.append(block + start)
        others.append(found)
    return np.concatenate(ends), np.concatenate(others)


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
        a, b = (_channels_last(x[rows[piece]]) for x, rows in ((one, first), (other, second)))
        found = _similarity(a, b, np.tile(_AS_IT_IS, (len(a), 1)))
        rows = np.flatnonzero(found < (least if is_fitted else -1))
        fit = np.tile(_AS_IT_IS, (len(rows), 1))
        for size, steps in ((_COARSE, 8), (THUMBNAIL, 6)):
            if not len(rows):
                break
            fit = _fit(a[rows], b[rows], fit, size=size, steps=steps)
            found[rows] = np.maximum(found[rows], _similarity(a[rows], b[rows], fit))
            may = (found[rows] < least) & (found[rows] >= least - _WORTH)
            rows, fit = rows[may], fit[may]
        result[piece] = found
    return np.round(result, 4)


def _similarity(a: np.ndarray, b: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """(pairs,) similarity where both images are seen, with the second one laid over the first."""
    size, places = THUMBNAIL // _PATCHES, _places(fit, THUMBNAIL)
    across, down = (np.abs(axis) <= _SEEN for axis in places)  # (pairs, 32)
    seen = (down[:, :, None] & across[:, None, :]).astype(np.float32)
    gap = np.abs(_blurred(a) - _blurred(_sampled(b, places))).mean(axis=3) * seen
    shape = (len(a), _PATCHES, size, _PATCHES, size)
    counts = np.maximum(seen.reshape(shape).sum(axis=(2, 4)), size)  # slivers at a side count less
    patches = gap.reshape(shape).sum(axis=(2, 4)) / counts
    return 1 - patches.max(axis=(1, 2)).astype(np.float64) / 255


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
    """(images, height, width, colours) blurred by a binomial kernel of five pixels."""
    for _ in range(times):
        for axis in (1, 2):
            pad = [(2, 2) if one == axis else (0, 0) for one in range(4)]
            wide, size = np.pad(images, pad, mode="edge"), images.shape[axis]
            images = sum(
                (k * np.take(wide, range(i, i + size), axis=axis) for i, k in enumerate(_KERNEL)),
                start=np.zeros(1, dtype=np.float32),
            )
    return images
