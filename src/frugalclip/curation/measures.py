"""What stages read of images: sizes, digests and thumbnails, made in one pass over the data set.

The pass is a job: shards of rows, each a Parquet file, made once whatever happens to the process. A row whose
image cannot be read has a fault in place of its measures.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from frugalclip.core.executors import Executor
from frugalclip.core.guard import reading
from frugalclip.core.jobs import Job, Shard, ShardTask, content_key
from frugalclip.data.image_faults import BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.images import decode, size_of
from frugalclip.data.manifest import Manifest
from frugalclip.data.statistics import content_digest

VERSION = 2
THUMBNAIL = 32  # pixels on a side
ROWS = 1024  # of a shard, which is what a killed run loses
_DECODED = 256  # pixels that the shorter side of a large JPEG keeps at least
_AHEAD = 64  # images that threads may be ahead
_FIELDS = [
    ("fault", pa.string()),
    ("detail", pa.string()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("digest", pa.binary(16)),  # of the encoded image
    ("pixels", pa.binary(16)),  # of the decoded one
    ("contrast", pa.uint8()),  # largest difference between two pixels in one colour
    ("brightness", pa.float32()),  # mean luma, of 255
    ("thumbnail", pa.binary(3 * THUMBNAIL**2)),
]
SCHEMA = pa.schema(_FIELDS)


@final
class ImageMeasures:
    """Measures of the images of some rows.

    Args:
        table: one row an image.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __len__(self) -> int:
        return self.table.num_rows

    def take(self, rows: np.ndarray) -> "ImageMeasures":
        """The given rows, in the given order."""
        return ImageMeasures(self.table.take(pa.array(rows)))

    def column(self, name: str) -> np.ndarray:
        """(rows,) numbers; 0 where the image cannot be read."""
        values = self.table[name].combine_chunks()
        return values.fill_null(0).to_numpy(zero_copy_only=False)

    @property
    def widths(self) -> np.ndarray:
        """(rows,) pixels."""
        return self.column("width")

    @property
    def heights(self) -> np.ndarray:
        """(rows,) pixels."""
        return self.column("height")

    @property
    def faults(self) -> list[str | None]:
        """Causes, None where the image is readable."""
        return self.table["fault"].to_pylist()

    def digests(self, name: str) -> np.ndarray:
        """(rows,) 16 bytes each, of `digest` or `pixels`; zeros where the image cannot be read."""
        return _fixed(self.table[name], np.dtype("S16"))[:, 0]

    def thumbnails(self) -> np.ndarray:
        """(rows, 3, 32, 32) uint8."""
        flat = _fixed(self.table["thumbnail"], np.dtype(np.uint8))
        return flat.reshape(-1, 3, THUMBNAIL, THUMBNAIL)


def _fixed(column: pa.ChunkedArray, dtype: np.dtype) -> np.ndarray:
    """(rows, items) of a column of bytes of one length; zeros where there are none."""
    array = column.combine_chunks()
    width = array.type.byte_width
    filled = array.fill_null(bytes(width)) if array.null_count else array
    start = filled.offset * width
    data = np.frombuffer(filled.buffers()[1], np.uint8)[start : start + len(filled) * width]
    return data.view(dtype).reshape(len(filled), width // dtype.itemsize)


def measured(data: bytes) -> dict[str, Any]:
    """The measures of one encoded image.

    Raises:
        BadImage: if it cannot be decoded.
    """
    height, width = size_of(data)
    image = decode(data, at_least=_DECODED)
    pixels = np.asarray(image)  # (height, width, 3)
    small = image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    grey = image.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    thumbnail = np.asarray(small).transpose(2, 0, 1)
    size = np.array(pixels.shape[:2], dtype="<i4").tobytes()
    return {
        "width": width,
        "height": height,
        "digest": content_digest(data),
        "pixels": hashlib.blake2b(size + pixels.tobytes(), digest_size=16).digest(),
        "contrast": max(int(np.ptp(np.asarray(band))) for band in image.split()),
        "brightness": float(np.asarray(grey).mean()),
        "thumbnail": np.ascontiguousarray(thumbnail).tobytes(),
    }


@final
@dataclass(frozen=True)
class MeasureTask(ShardTask[np.ndarray]):
    """Measures the images of the rows of one shard; threads decode ahead of the writer."""

    reader: ImageReader
    threads: int

    def make(self, shard: Shard[np.ndarray], folder: Path) -> dict[str, Any]:
        with ThreadPoolExecutor(self.threads) as pool:
            rows = list(self._measures(shard.content.tolist(), pool))
        path = folder / _path(shard.name)
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path, compression="zstd")
        return {"faults": sum(row.get("fault") is not None for row in rows)}

    def _measures(self, rows: Sequence[int], pool: ThreadPoolExecutor) -> Iterator[dict[str, Any]]:
        left, waiting = iter(rows), deque[Future[dict[str, Any]]]()
        waiting.extend(pool.submit(self._one, row) for row in islice(left, _AHEAD))
        while waiting:
            found = waiting.popleft().result()
            waiting.extend(pool.submit(self._one, row) for row in islice(left, 1))
            yield found

    def _one(self, row: int) -> dict[str, Any]:
        try:
            return measured(self.reader.bytes(row))
        except BadImage as error:
            return {"fault": error.cause, "detail": str(error)}


def measure_images(
    job: Job,
    manifest: Manifest,
    executor: Executor,
    *,
    name: str = "images",
    threads: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> ImageMeasures:
    """Measure every image of a data set, or read what an earlier call has measured.

    Args:
        job: keeps the shards in its folder, below `measures/`.
        manifest: the data set.
        executor: where shards are made.
        name: of the data set, within the job.
        threads: that decode, in each process.
        progress: called with the number of images finished since the last call.
    """
    shards = _shards(manifest, name)
    task = MeasureTask(ImageReader(manifest), threads)
    job.run(shards, task, executor, progress=lambda shard: progress(len(shard.content)))
    tables = [SCHEMA.empty_table()]
    for shard in shards:
        path = job.folder / _path(shard.name)
        with reading(path, advice="delete it and call again with --resume, which measures its images anew"):
            tables.append(pq.read_table(path, memory_map=True))
    return ImageMeasures(pa.concat_tables(tables))


def _path(name: str) -> str:
    return f"measures/{name}.parquet"


def _shards(manifest: Manifest, name: str) -> list[Shard[np.ndarray]]:
    """Rows in the order of the data set, whose neighbours lie near each other on disk."""
    digest = manifest.digest()
    pieces = [np.arange(start, min(start + ROWS, len(manifest))) for start in range(0, len(manifest), ROWS)]
    return [
        Shard(f"{name}-{number:05d}", content_key(VERSION, digest, number, len(piece)), piece)
        for number, piece in enumerate(pieces)
    ]
