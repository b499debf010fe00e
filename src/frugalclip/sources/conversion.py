"""Any data set as shards: which rows go into which shard, and the job that writes them."""

import hashlib
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
from pydantic import Field

from frugalclip.core.config import Settings
from frugalclip.core.jobs import Job, Shard, ShardTask, content_key
from frugalclip.data.image_faults import BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.manifest import Manifest
from frugalclip.sources.shards import ImageSettings, Sample, write_parquet, write_tar

VERSION = 2
_AHEAD = 8  # images that each thread may be ahead of the writer
_MOST_SPLITS = 10  # a field `split` with more values is no split
_WRITERS = {"tar": write_tar, "parquet": write_parquet}


class ConversionConfig(Settings):
    """What `data convert` writes."""

    to: Literal["tar", "parquet"] = Field(description="kind of shard")
    images: ImageSettings = Field(default_factory=ImageSettings)
    samples_per_shard: int = Field(5000, ge=1, description="most samples of one shard")
    shuffle: int | None = Field(None, ge=0, description="seed of a random order; null keeps the order")


@final
@dataclass(frozen=True)
class ConversionTask(ShardTask[np.ndarray]):
    """Writes the rows of one shard with their images; threads decode and encode ahead of the writer."""

    manifest: Manifest
    config: ConversionConfig
    threads: int

    def make(self, shard: Shard[np.ndarray], folder: Path) -> dict[str, Any]:
        notes: dict[str, Any] = {"faults": [], "bytes_read": 0, "bytes_written": 0}
        with ThreadPoolExecutor(self.threads) as pool:
            samples = self._samples(shard.content.tolist(), pool, notes)
            _WRITERS[self.config.to](folder / shard.name, self.manifest, samples)
        return notes

    def _samples(self, rows: list[int], pool: ThreadPoolExecutor, notes: dict[str, Any]) -> Iterator[Sample]:
        """Samples in the order of the rows; rows without a usable image go to the notes."""
        reader = ImageReader(self.manifest)
        left = iter(rows)
        waiting: deque[tuple[int, Future[tuple[int, bytes, str] | BadImage]]] = deque()

        def submit(count: int) -> None:
            waiting.extend((row, pool.submit(self._image, reader, row)) for row in islice(left, count))

        submit(_AHEAD * self.threads)
        while waiting:
            row, future = waiting.popleft()
            submit(1)
            found = future.result()
            if isinstance(found, BadImage):
                notes["faults"].append([self.manifest.ids[row], found.cause, str(found)])
            else:
                notes["bytes_read"] += found[0]
                notes["bytes_written"] += len(found[1])
                yield Sample(row, found[1], found[2])

    def _image(self, reader: ImageReader, row: int) -> tuple[int, bytes, str] | BadImage:
        """Bytes read, the encoded image as it is written, and its extension."""
        try:
            data = reader.bytes(row)
            return (len(data), *self.config.images.written(data))
        except BadImage as error:
            return error


def conversion_job(folder: Path, manifest: Manifest, config: ConversionConfig) -> Job:
    """The job that converts a data set into a folder."""
    return Job(folder, _plan(manifest, config), what="converted shards")


def conversion_shards(manifest: Manifest, config: ConversionConfig) -> list[Shard[np.ndarray]]:
    """Rows by shard. Each split has shards of its own, with the names that Hugging Face looks for."""
    plan = _plan(manifest, config)
    shards: list[Shard[np.ndarray]] = []
    for split, rows in _rows_by_split(manifest, _order(len(manifest), config.shuffle)).items():
        size = config.samples_per_shard
        pieces = [rows[start : start + size] for start in range(0, len(rows), size)]
        for number, piece in enumerate(pieces):
            name = _shard_name(split, number, len(pieces), to=config.to)
            digest = hashlib.blake2b(piece.astype("<i8").tobytes(), digest_size=16).hexdigest()
            shards.append(Shard(name, content_key(plan, name, digest), piece))
    return shards


def _plan(manifest: Manifest, config: ConversionConfig) -> dict[str, Any]:
    images = config.images.model_dump()
    return {
        "version": VERSION,
        "to": config.to,
        **images,
        "samples_per_shard": config.samples_per_shard,
        "shuffle": config.shuffle,
        "data": manifest.digest(),
    }


def _order(rows: int, shuffle: int | None) -> np.ndarray:
    """(rows,) int64 rows in the order in which they are written."""
    order = np.arange(rows)
    if shuffle is None:
        return order
    from frugalclip.core.random import uniform

    return np.argsort(uniform(shuffle, "convert", order, 1)[:, 0], kind="stable")


def _rows_by_split(manifest: Manifest, order: np.ndarray) -> dict[str, np.ndarray]:
    """Split -> its rows in order; one nameless group where no field divides the data."""
    if "split" not in manifest.field_names:
        return {"": order}
    values = manifest.field("split")
    names = set(values)
    is_split = all(isinstance(name, str) and re.fullmatch(r"\w+", name) for name in names)
    if len(names) > _MOST_SPLITS or not is_split:
        return {"": order}
    return {name: order[[values[row] == name for row in order]] for name in sorted(names)}


def _shard_name(split: str, number: int, count: int, *, to: str) -> str:
    if to == "parquet":
        return f"{split or 'data'}-{number:05d}-of-{count:05d}.parquet"
    return f"{split}-{number:05d}.tar" if split else f"{number:05d}.tar"
