"""Decode every image of a data set, to find those that cannot be decoded.

A decoder that crashes ends its process. The images of that process are then tried again in smaller and smaller runs,
until the one at fault stands alone and is reported like any other.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from frugalclip.core.executors import CLEAN, Crash, ProcessExecutor, ThreadExecutor
from frugalclip.data.images import BadImage, ImageReader, decode
from frugalclip.data.manifest import Manifest

Faults = list[tuple[int, str, str]]  # row, cause, detail
_ROWS = 128  # that a worker takes at a time
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
    work = _Decoding(ImageReader(manifest))
    runs = [range(start, min(start + _ROWS, len(manifest))) for start in range(0, len(manifest), _ROWS)]
    found: Faults = []
    for rows, faults in executor.run(work, runs):
        found += _isolated(work, rows) if isinstance(faults, Crash) else faults
        progress(len(rows))
    return sorted(found)


@final
@dataclass(frozen=True)
class _Decoding:
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


def _isolated(work: _Decoding, rows: range) -> Faults:
    """Faults of rows whose process died, halved until the image that ends it is found."""
    ((_, faults),) = ProcessExecutor(1, method=_METHOD).run(work, [rows])
    if not isinstance(faults, Crash):
        return faults
    if len(rows) == 1:
        return [(rows[0], "broken-image", "the decoder crashed; save the image again.")]
    middle = len(rows) // 2
    return _isolated(work, rows[:middle]) + _isolated(work, rows[middle:])
