"""Images of a data set as the input of a tower."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from PIL import Image
from torch import Tensor

from frugalclip.core.prefetch import prefetched
from frugalclip.data.image_faults import BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.manifest import Manifest


def readable_images(
    manifest: Manifest, *, batch: int, faults: list[tuple[int, str]]
) -> Iterator[tuple[list[int], list[Image.Image]]]:
    """Batches of (rows, images) of a data set. Rows that do not decode go to `faults` with their cause."""
    reader = ImageReader(manifest)
    rows: list[int] = []
    images: list[Image.Image] = []
    for row in range(len(manifest)):
        try:
            images.append(reader.image(row))
            rows.append(row)
        except BadImage as error:
            faults.append((row, error.cause))
        if len(rows) == batch:
            yield rows, images
            rows, images = [], []
    if rows:
        yield rows, images


def prepared_images(
    manifest: Manifest,
    prepare: Callable[[Image.Image], Tensor],
    *,
    batch: int,
    faults: list[tuple[int, str]],
    workers: int = 2,
) -> Iterator[tuple[list[int], Tensor]]:
    """Batches of (rows, pixels) ready for a tower; the next batch is decoded in the meantime.

    Args:
        manifest: the data set.
        prepare: an image to (1, 3, height, width), such as a model's preprocessing.
        batch: images of a batch.
        faults: rows that do not decode are appended, with their cause.
        workers: threads that decode.

    Yields:
        (batch,) rows and (batch, 3, height, width) pixels.
    """
    reader = ImageReader(manifest)

    def one(row: int) -> Tensor | str:
        try:
            return prepare(reader.image(row))
        except BadImage as error:
            return error.cause

    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        for first, found in prefetched(one, range(len(manifest)), batch=batch, pool=pool):
            faults += [(first + i, cause) for i, cause in enumerate(found) if isinstance(cause, str)]
            images = {first + i: pixels for i, pixels in enumerate(found) if isinstance(pixels, Tensor)}
            if images:
                yield list(images), torch.cat(list(images.values()))
