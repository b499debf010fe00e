"""Decode every image of a data set: into memory, or to find those that cannot be decoded.

A decoder that crashes ends its process. The images of that process are then tried again in smaller and
smaller runs, until the one at fault stands alone and is reported like any other.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, final

import numpy as np

from frugalclip.core.executors import CLEAN, Crash, ProcessExecutor, ThreadExecutor
from frugalclip.data.image_faults import BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.images import decode, decode_squashed
from frugalclip.data.manifest import Manifest

if TYPE_CHECKING:  # checking data does not wait two seconds for torch
    from torch import Tensor

Faults = list[tuple[int, str, str]]  # row, cause, detail
_ROWS = 128  # that a worker takes at a time
_TURN = 1024  # images that threads decode into memory between two reports
_AT_A_TIME = 32  # that a thread takes at once: small images take less time than handing them over
_FEW = 2000  # rows below which starting processes takes longer than decoding
_MOST_WORKERS = 16
_METHOD = CLEAN  # a forked copy of this process would lack its threads


def decoding_faults(
    manifest: Manifest, *, workers: int | None = None, progress: Callable[[int], None] = lambda _: None
) -> Faults:
    """Every image that cannot be decoded at its full size.

    Args:
        manifest: the data set.
        workers: processes (threads for a small data set); None gives one a core, at most 16.
        progress: called with the number of rows finished since the last call.

    Returns:
        (row, cause, detail) of each, rows ascending.
    """
    workers = workers or min(os.cpu_count() or 1, _MOST_WORKERS)
    is_small = len(manifest) < _FEW or workers == 1
    executor = ThreadExecutor(workers) if is_small else ProcessExecutor(workers, method=_METHOD)
    work = _FaultFinder(ImageReader(manifest))
    runs = [range(start, min(start + _ROWS, len(manifest))) for start in range(0, len(manifest), _ROWS)]
    found: Faults = []
    for rows, faults in executor.run(work, runs):
        found += _isolated(work, rows) if isinstance(faults, Crash) else faults
        progress(len(rows))
    return sorted(found)


@final
@dataclass(frozen=True)
class _FaultFinder:
    """Decodes rows and gives their faults; travels to worker processes."""

    reader: ImageReader

    def __call__(self, rows: range) -> Faults:
        found: Faults = []
        for row in rows:
            try:
                decode(self.reader.bytes(row))
            except BadImage as error:
                found.append((row, error.cause, str(error)))
        return found


def _isolated(work: _FaultFinder, rows: range) -> Faults:
    """Faults of rows whose process died, halved until the image that ends it is found."""
    ((_, faults),) = ProcessExecutor(1, method=_METHOD).run(work, [rows])
    if not isinstance(faults, Crash):
        return faults
    if len(rows) == 1:
        return [(rows[0], "broken-image", "the decoder crashed; save the image again.")]
    middle = len(rows) // 2
    return _isolated(work, rows[:middle]) + _isolated(work, rows[middle:])


@dataclass(frozen=True)
class DecodedImages:
    """Images in memory. Those that failed are black and have size 0 x 0."""

    pixels: "Tensor"  # (samples, 3, size, size) uint8, each image squashed to a square
    sizes: "Tensor"  # (samples, 2) int64 height and width of the original
    faults: list[tuple[int, str]]  # (row, cause)


def decode_all(
    manifest: Manifest,
    size: int,
    workers: int | None = None,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> DecodedImages:
    """Decode every image of a manifest to one square size.

    Args:
        manifest: the data set.
        size: pixels on a side; see `decode_squashed`.
        workers: threads, which Pillow lets run while it decodes; None gives one a core, at most 8.
        progress: called with the number of images finished since the last call.
    """
    import torch

    pixels = np.zeros((len(manifest), 3, size, size), dtype=np.uint8)
    sizes = np.zeros((len(manifest), 2), dtype=np.int64)
    reader = ImageReader(manifest)

    def one(row: int) -> str | None:
        try:
            pixels[row], sizes[row] = decode_squashed(reader.bytes(row), size)
            return None
        except BadImage as error:
            sizes[row] = 0
            return error.cause

    causes: list[str | None] = []
    with ThreadPoolExecutor(workers or min(os.cpu_count() or 1, 8)) as pool:
        for start in range(0, len(manifest), _TURN):  # reads stay near each other, and a stop is quick
            rows = range(start, min(start + _TURN, len(manifest)))
            few = [rows[i : i + _AT_A_TIME] for i in range(0, len(rows), _AT_A_TIME)]
            causes += chain.from_iterable(pool.map(lambda some: [one(row) for row in some], few))
            progress(len(rows))
    faults = [(row, cause) for row, cause in enumerate(causes) if cause]
    return DecodedImages(torch.from_numpy(pixels), torch.from_numpy(sizes), faults)
