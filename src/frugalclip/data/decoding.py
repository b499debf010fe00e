"""Decode every picture of a data set, to know which cannot be: by threads where there are few, else by processes.

A decoder that crashes takes its process with it, and no more: the pictures it was at are tried again in smaller and smaller parts until the
one that does it stands alone, as a fault like any other.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from frugalclip.data.images import BadImage, ImageReader, decode
from frugalclip.data.manifest import Manifest

Faults = list[tuple[int, str, str]]  # row, cause, detail
_PART = 128  # rows that a worker takes at a time
_FEW = 2000  # rows below which starting processes takes longer than decoding
_CRASHED = "the decoder crashed; save the picture again."
_METHOD = (
    "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
)  # a copy of this process would lack its threads


def decoding_faults(
    manifest: Manifest, *, workers: int | None = None, progress: Callable[[int], None] | None = None
) -> Faults:
    """Every picture that cannot be decoded at its full size.

    Args:
        manifest: the data set.
        workers: processes (threads for a small data set); None gives one for each core, at most 16.
        progress: called with the number of rows finished since the last call.

    Returns:
        (row, cause, detail) of each, rows ascending.
    """
    reader, workers = ImageReader(manifest), workers or min(os.cpu_count() or 1, 16)
    parts = [range(start, min(start + _PART, len(manifest))) for start in range(0, len(manifest), _PART)]
    found: Faults = []
    if len(manifest) < _FEW or workers == 1:
        with ThreadPoolExecutor(workers) as pool:
            for part, faults in _as_they_come(pool, lambda part: _faults_of(reader, part), parts):
                found += faults or []
                if progress:
                    progress(len(part))
        return sorted(found)
    broken: list[range] = []
    with _processes(reader, workers) as pool:
        for part, faults in _as_they_come(pool, _faults_here, parts):
            if faults is None:
                broken.append(part)
                continue
            found += faults
            if progress:
                progress(len(part))
    for part in broken:
        found += _isolated(reader, part)
        if progress:
            progress(len(part))
    return sorted(found)


def _as_they_come(
    pool: Executor, work: Callable[[range], Faults], parts: Sequence[range]
) -> Iterator[tuple[range, Faults | None]]:
    """Parts with their faults, in order; None for a part whose process died."""
    futures: list[Future[Faults] | None] = []
    for part in parts:
        try:
            futures.append(pool.submit(work, part))
        except BrokenProcessPool:  # nothing is taken any more
            futures.append(None)
    for part, future in zip(parts, futures, strict=True):
        try:
            yield part, future.result() if future else None
        except BrokenProcessPool:
            yield part, None


def _isolated(reader: ImageReader, part: range) -> Faults:
    """The faults of a part in which a process died, halved until the picture that does it is found."""
    with _processes(reader, 1) as pool:
        ((_, faults),) = _as_they_come(pool, _faults_here, [part])
    if faults is not None:
        return faults
    if len(part) == 1:
        return [(part[0], "broken-image", _CRASHED)]
    middle = len(part) // 2
    return _isolated(reader, part[:middle]) + _isolated(reader, part[middle:])


def _processes(reader: ImageReader, workers: int) -> ProcessPoolExecutor:
    """Processes of which each has the reader."""
    return ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context(_METHOD), initializer=_begin, initargs=(reader,)
    )


_reader: ImageReader | None = None  # of a worker process


def _begin(reader: ImageReader) -> None:
    global _reader
    _reader = reader


def _faults_here(part: range) -> Faults:
    assert _reader is not None
    return _faults_of(_reader, part)


def _faults_of(reader: ImageReader, part: range) -> Faults:
    found: Faults = []
    for row in part:
        try:
            decode(reader.bytes(row))
        except BadImage as error:
            found.append((row, error.cause, str(error)))
    return found
