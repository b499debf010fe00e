"""Where the decoded images of a batch come from: memory, or a decoder that runs as they are needed.

Worker processes only decode. Views are made by the process that trains, so the number of workers changes no
batch.
"""

import contextlib
import os
import signal
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from frugalclip.core.errors import DataError
from frugalclip.core.interrupts import HANGUP
from frugalclip.core.processes import end_with_parent
from frugalclip.data.image_faults import BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.images import decode_squashed
from frugalclip.loading.sampling import TURN, EpochDraws, Steps

_AHEAD = 4  # batches that a worker decodes ahead


@final
@dataclass(frozen=True)
class ImageBatch:
    """The rows of one step with their decoded images."""

    rows: np.ndarray  # (batch,) int64 rows of the data set
    turns: np.ndarray  # (batch,) int64 epoch, plus `TURN` for each earlier draw of the row in it
    pixels: Tensor  # (batch, 3, side, side) uint8, squashed to a square
    sizes: Tensor  # (batch, 2) int64 height and width of the original
    faults: list[tuple[int, str]] = field(default_factory=list)  # (row, cause) of images that were replaced


class ImageSource(ABC):
    """Gives the decoded images of every step."""

    @abstractmethod
    def batches(self, steps: Steps, start_step: int) -> Iterator[ImageBatch]:
        """Endless batches from a step on; the same batch for the same step, however it was reached."""


@final
class MemoryImages(ImageSource):
    """Images that were decoded once.

    Args:
        pixels: (samples, 3, side, side) uint8.
        sizes: (samples, 2) int64.
    """

    def __init__(self, pixels: Tensor, sizes: Tensor) -> None:
        self.pixels, self.sizes = pixels, sizes

    @staticmethod
    def absent(samples: int) -> "MemoryImages":
        """For batches without image views."""
        return MemoryImages(torch.zeros(samples, 0), torch.zeros(samples, 2, dtype=torch.int64))

    def batches(self, steps: Steps, start_step: int) -> Iterator[ImageBatch]:
        for epoch, start in steps.places(start_step):
            drawn = steps.order.epoch(epoch)
            chosen = slice(start, start + steps.batch)
            rows = drawn.rows[chosen]
            places = torch.from_numpy(rows)
            yield ImageBatch(
                rows,
                epoch + TURN * drawn.turns[chosen],
                self.pixels.index_select(0, places),
                self.sizes.index_select(0, places),
            )


@final
class StreamedImages(ImageSource):
    """Images that are decoded as they are needed.

    An image that does not decode is replaced by that of the same place in the epoch's next global batch.

    Args:
        reader: of the data set.
        side: pixels on a side of the decoded images.
        workers: processes that decode ahead; 0 decodes in this one.
    """

    def __init__(self, reader: ImageReader, *, side: int, workers: int) -> None:
        self.reader, self.side, self.workers = reader, side, workers

    def batches(self, steps: Steps, start_step: int) -> Iterator[ImageBatch]:
        dataset = _DecodingDataset(self.reader, steps, side=self.side)
        places = steps.places(start_step)
        if self.workers:
            return _decoded_ahead(dataset, places, workers=self.workers)
        return map(dataset.__getitem__, places)


@final
class _DecodingDataset(Dataset[ImageBatch]):
    """Decodes the batch at a place (epoch, position); travels to worker processes."""

    def __init__(self, reader: ImageReader, steps: Steps, *, side: int) -> None:
        self.reader, self.steps, self.side = reader, steps, side

    def __getitem__(self, place: tuple[int, int]) -> ImageBatch:
        epoch, start = place
        drawn, batch = self.steps.order.epoch(epoch), self.steps.batch
        places = np.empty(batch, dtype=np.int64)
        pixels = np.empty((batch, 3, self.side, self.side), dtype=np.uint8)
        sizes = np.empty((batch, 2), dtype=np.int64)
        faults: list[tuple[int, str]] = []
        for i in range(batch):
            places[i], pixels[i], sizes[i] = self._usable(drawn, start + i, faults)
        turns = epoch + TURN * drawn.turns[places]
        return ImageBatch(
            drawn.rows[places], turns, torch.from_numpy(pixels), torch.from_numpy(sizes), faults
        )

    def _usable(
        self, drawn: EpochDraws, position: int, faults: list[tuple[int, str]]
    ) -> tuple[int, np.ndarray, tuple[int, int]]:
        """The first place that decodes, from a position on, with its image and size."""
        count, stride = len(drawn.rows), self.steps.stride
        for place in (position, *range(position + stride, position + stride + count)):
            row = int(drawn.rows[place % count])
            try:
                return place % count, *decode_squashed(self.reader.bytes(row), self.side)
            except BadImage as error:
                faults.append((row, error.cause))
        raise DataError(
            f"none of the {count:,} images decodes (the first: {faults[0][1]}); "
            "run 'frugalclip data check' on the data."
        )


def _decoded_ahead(
    dataset: _DecodingDataset, places: Iterator[tuple[int, int]], *, workers: int
) -> Iterator[ImageBatch]:
    """The batches at these places, in order, decoded ahead by processes."""
    loader = DataLoader(
        dataset,
        batch_size=None,  # a place is a whole batch
        # any iterable will do, and this one does not end
        sampler=places,  # pyright: ignore[reportArgumentType]
        num_workers=workers,
        prefetch_factor=_AHEAD,
        persistent_workers=True,
        collate_fn=_unchanged,
        worker_init_fn=_begin_worker,
    )
    with _quiet_fork():
        iterator = iter(loader)
    try:
        yield from iterator
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            f"a decoding process died ({str(error).splitlines()[0]}); set data.workers to fewer, or to 0."
        ) from error


def _unchanged(sample: Any) -> Any:
    return sample


def _begin_worker(_: int) -> None:
    """Leave signals, which reach all processes of a terminal, to the trainer; end where that is killed."""
    for number in (signal.SIGINT, HANGUP):
        if number is not None:
            signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent()


@contextlib.contextmanager
def _quiet_fork() -> Iterator[None]:
    """Start processes without the warnings of libraries with threads: workers use none of their threads."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
            yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
