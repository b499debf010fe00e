"""Near duplicates: images whose thumbnails of 16 x 16 pixels hardly differ."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from frugalclip.data.decoding import decode_all
from frugalclip.data.manifest import Manifest

if TYPE_CHECKING:  # looking at data does not wait two seconds for torch
    from torch import Tensor

THUMBNAIL = 16  # pixels on a side
BLANK = 4  # largest difference between two pixels of a blank thumbnail, in each colour, of 255
NEAR_DUPLICATE = 4.0  # largest mean absolute difference of two near duplicates, of 255
_BLOCK = 512  # rows compared at once


@dataclass(frozen=True)
class NearDuplicates:
    """Images that hardly differ from another one."""

    rows: int  # images that were compared
    alike: int  # of them, those with a near duplicate
    pairs: list[tuple[str, str]]  # ids of the nearest pairs, at most five
    blank: int  # images whose thumbnail is of one colour
    first_blank: list[str]  # ids of the first three


def thumbnails(
    manifest: Manifest, *, workers: int | None = None, progress: Callable[[int], None] = lambda _: None
) -> tuple["Tensor", np.ndarray]:
    """Squash every image of a data set to 16 x 16.

    Args:
        manifest: the data set.
        workers: threads that decode.
        progress: called with the number of images finished since the last call.

    Returns:
        (kept, 768) float32 from 0 to 255, and (kept,) int64 rows whose image could be decoded.
    """
    import torch

    decoded = decode_all(manifest, THUMBNAIL, workers, progress=progress)
    broken = {row for row, _ in decoded.faults}
    kept = np.array([row for row in range(len(manifest)) if row not in broken], dtype=np.int64)
    return decoded.pixels[torch.from_numpy(kept)].flatten(1).float(), kept


def near_duplicates(
    manifest: Manifest,
    rows: Sequence[int],
    *,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> NearDuplicates:
    """Compare images by their thumbnails.

    Args:
        manifest: the data set.
        rows: to compare, each with each.
        workers: threads that decode.
        progress: called with the number of images finished since the last call.
    """
    chosen = manifest.take(rows)
    pixels, kept = thumbnails(chosen, workers=workers, progress=progress)
    ids = [chosen.ids[row] for row in kept]
    first, second, distances = near_pairs(pixels.numpy().astype(np.int16))
    nearest = np.argsort(distances, kind="stable")[:5]
    pairs = [(ids[first[i]], ids[second[i]]) for i in nearest]
    spread = pixels.unflatten(1, (3, -1)).aminmax(dim=2)
    blank = [ids[row] for row in np.flatnonzero(((spread.max - spread.min) <= BLANK).all(dim=1).numpy())]
    return NearDuplicates(len(ids), len(np.union1d(first, second)), pairs, len(blank), blank[:3])


def near_pairs(
    thumbnails: np.ndarray, *, limit: float = NEAR_DUPLICATE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of thumbnails that differ by less than a limit on average.

    Means over blocks of 4 x 4 pixels differ by no more than the pixels do on average. So 48 numbers rule most
    pairs out.

    Args:
        thumbnails: (images, 768) int16, three colours of 16 x 16 pixels.
        limit: mean absolute difference.

    Returns:
        (pairs,) first, (pairs,) second, above the first, and (pairs,) their difference.
    """
    blocks = thumbnails.reshape(-1, 3, 4, 4, 4, 4).mean(axis=(3, 5))
    coarse = blocks.reshape(len(thumbnails), 48).astype(np.float32)
    starts = range(0, len(thumbnails), _BLOCK)
    found = [
        _pairs_of_blocks(thumbnails, coarse, start, other, limit)
        for start in starts
        for other in starts
        if start <= other
    ]
    if not found:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
    first, second, distances = (np.concatenate(column) for column in zip(*found, strict=True))
    return first, second, distances


def _pairs_of_blocks(
    thumbnails: np.ndarray, coarse: np.ndarray, start: int, other: int, limit: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The near pairs of one block of rows with another."""
    left, right = coarse[start : start + _BLOCK], coarse[other : other + _BLOCK]
    bound = np.zeros((len(left), len(right)), dtype=np.float32)
    for column in range(48):
        bound += np.abs(left[:, column, None] - right[None, :, column])
    i, j = np.nonzero(bound / 48 < limit + 1e-3)  # single precision must not rule out a pair at the limit
    i, j = (i + start)[i + start < j + other], (j + other)[i + start < j + other]
    pieces = [
        np.abs(thumbnails[i[k : k + 4096]] - thumbnails[j[k : k + 4096]]).mean(axis=1)
        for k in range(0, len(i), 4096)
    ]
    distances = np.concatenate(pieces or [np.zeros(0)])
    near = distances < limit
    return i[near], j[near], distances[near]
