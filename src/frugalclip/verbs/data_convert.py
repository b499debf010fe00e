"""`frugalclip data convert`: any data set as WebDataset tars or Parquet shards, with pictures made smaller on the way.

A shard is finished when its record in `OUT/.convert` is there; called again, finished shards are left alone.
"""

import hashlib
import os
import re
import shlex
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from frugalclip.core.config import validated
from frugalclip.core.errors import DataError
from frugalclip.core.records import read_json, write_json
from frugalclip.data.images import BadImage, ImageReader
from frugalclip.data.ledger import REASONS, Fault, Ledger, together
from frugalclip.data.manifest import Manifest, concatenate
from frugalclip.sources.open import read_source
from frugalclip.sources.shards import ImageSettings, Sample, unwritten_fields, write_parquet, write_tar

_RECORDS = ".convert"
_VERSION = 1
_AHEAD = 8  # pictures that each worker may be ahead of the writer
_SPLITS = 10  # a field `split` with more values is no split
_WRITERS = {"tar": write_tar, "parquet": write_parquet}


@dataclass(frozen=True)
class Converted:
    """What `data convert` wrote."""

    out: Path
    kind: str
    shards: int
    done_before: int  # shards that an earlier call had finished
    samples: int
    bytes_read: int
    bytes_written: int  # of pictures
    seconds: float
    ledger: Ledger
    ledger_path: Path
    notes: list[str]


@dataclass(frozen=True)
class _Shard:
    name: str
    rows: np.ndarray  # (samples,) int64


def convert(
    paths: Sequence[str | Path] | str | Path,
    *,
    to: str,
    out: str | Path,
    where: str | None = None,
    size: int | None = None,
    format: str = "keep",
    samples_per_shard: int = 5000,
    workers: int | None = None,
    shuffle: int | None = None,
    columns: Mapping[str, str] | None = None,
) -> Converted:
    """Write data sets as shards; what was left out, and why, goes to `OUT.ledger.parquet` beside it.

    Args:
        paths: data sets, put one behind the other; ids that clash get their data set's name as prefix.
        to: `tar` or `parquet`.
        out: a folder, new, empty, or of the same conversion, which then goes on.
        where: a condition over fields.
        size: pixels of the shorter side, only shrinking; None keeps sizes.
        format: `keep`, `jpeg`, `webp` or `png`.
        samples_per_shard: at most; rows of one split share shards, if there is a field `split`.
        workers: threads that decode and encode; None gives one for each core, at most 8. They change no byte.
        shuffle: seed of a random order; None keeps the order.
        columns: names of the columns `image`, `caption` and `id` where they are not recognised.

    Raises:
        DataError: when a path holds no data set, `out` holds something else, or no picture can be used.
    """
    if to not in _WRITERS:
        raise DataError(f"--to {to} is not a kind of shard; expected tar or parquet.")
    if samples_per_shard < 1:
        raise DataError(f"--samples-per-shard is {samples_per_shard}, expected at least 1.")
    images = validated(ImageSettings, {"size": size, "format": format}, where="convert")
    folder = Path(out)
    sources = [
        read_source(path, columns=columns) for path in ([paths] if isinstance(paths, (str, Path)) else paths)
    ]
    every = concatenate([source.manifest for source in sources])
    manifest = every.where(where)
    if "weight" in manifest.table.column_names:
        manifest.weights()
    kept = set(manifest.ids)
    ledger = together(source.ledger for source in sources)
    ledger.extend(Fault(id, "filtered", where or "") for id in every.ids if id not in kept)
    shards = _divide(manifest, samples_per_shard, shuffle, to)
    _begin(
        folder,
        manifest,
        {"to": to, **images.model_dump(), "samples_per_shard": samples_per_shard, "shuffle": shuffle},
    )
    job = _Job(folder, manifest, images, to, workers or min(os.cpu_count() or 1, 8))
    done_before, records, seconds = job.run(shards)
    faults = {row[0]: Fault(*row) for record in records for row in record["faults"]}
    order = [manifest.ids[row] for shard in shards for row in shard.rows]
    written = [id for id in order if id not in faults]
    if not written:
        raise DataError(
            f"none of the {len(manifest):,} pictures of {manifest.name} can be used; see why with: frugalclip data check {manifest.name}"
        )
    ledger.extend(faults.values())
    ledger_path = folder.resolve().with_name(
        f"{folder.resolve().name}.ledger.parquet"
    )  # beside: the folder holds nothing but shards
    ledger.write(ledger_path, kept=written, seen=sum(source.seen for source in sources))
    left = unwritten_fields(manifest) if to == "tar" else []
    return Converted(
        out=folder,
        kind=to,
        shards=len(shards),
        done_before=done_before,
        samples=len(written),
        bytes_read=sum(record["bytes_read"] for record in records),
        bytes_written=sum(record["bytes_written"] for record in records),
        seconds=seconds,
        ledger=ledger,
        ledger_path=ledger_path,
        notes=[f"fields of bytes are not written into tars: {', '.join(left)}"] if left else [],
    )


def _divide(manifest: Manifest, limit: int, shuffle: int | None, to: str) -> list[_Shard]:
    """Rows by shard; a split has shards of its own, named as Hugging Face and the eye find them."""
    order = np.arange(len(manifest))
    if shuffle is not None:
        from frugalclip.core.random import uniform

        order = np.argsort(uniform(shuffle, "convert", order, 1)[:, 0], kind="stable")
    groups = {"": order}
    if "split" in manifest.field_names:
        values = manifest.field("split")
        names = set(values)
        if len(names) <= _SPLITS and all(
            isinstance(name, str) and re.fullmatch(r"\w+", name) for name in names
        ):
            groups = {name: order[[values[row] == name for row in order]] for name in sorted(names)}
    shards: list[_Shard] = []
    for name, rows in groups.items():
        parts = [rows[start : start + limit] for start in range(0, len(rows), limit)]
        for number, part in enumerate(parts):
            tar = f"{name}-{number:05d}.tar" if name else f"{number:05d}.tar"
            shards.append(
                _Shard(
                    tar if to == "tar" else f"{name or 'data'}-{number:05d}-of-{len(parts):05d}.parquet", part
                )
            )
    return shards


def _begin(folder: Path, manifest: Manifest, options: Mapping[str, Any]) -> None:
    """Write down what is converted, or check that the folder holds a part of just this."""
    plan = {"version": _VERSION, **options, "data": _digest(manifest)}
    place = folder / _RECORDS / "plan.json"
    if not place.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"--out {folder} is not an empty folder; choose a new one.")
        write_json(place, plan)
        return
    found = read_json(place)
    changed = [key for key in plan if found.get(key) != plan[key]]
    if changed:
        what = (
            "other data" if changed == ["data"] else f"{changed[0].replace('_', '-')} {found.get(changed[0])}"
        )
        raise DataError(
            f"--out {folder} holds shards of a conversion with {what}; choose a new folder, or delete this one to begin again."
        )


def _digest(manifest: Manifest) -> str:
    """16 hex digits over every column of a manifest, in row order; but for the pictures' bytes."""
    digest = hashlib.blake2b(manifest.fingerprint().encode(), digest_size=8)
    table = manifest.table.drop(["image"]).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=65_536)
    digest.update(sink.getvalue())
    return digest.hexdigest()


class _Job:
    """One call."""

    def __init__(
        self, folder: Path, manifest: Manifest, images: ImageSettings, to: str, workers: int
    ) -> None:
        self.folder, self.manifest, self.images, self.write, self.workers = (
            folder,
            manifest,
            images,
            _WRITERS[to],
            workers,
        )
        self.reader = ImageReader(manifest)

    def run(self, shards: Sequence[_Shard]) -> tuple[int, list[dict[str, Any]], float]:
        """Write the shards that are missing.

        Returns:
            How many were there, the record of each, and the seconds it took.
        """
        found = {shard.name: self._record(shard) for shard in shards}
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        start = time.monotonic()
        with (
            ThreadPoolExecutor(self.workers) as pool,
            Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
        ):
            done = sum(len(shard.rows) for shard in shards if found[shard.name])
            task = bar.add_task("converting pictures", total=len(self.manifest), completed=done)
            records = [
                found[shard.name] or self._convert(shard, pool, lambda: bar.advance(task)) for shard in shards
            ]
        return sum(record is not None for record in found.values()), records, time.monotonic() - start

    def _place(self, shard: _Shard) -> Path:
        return self.folder / _RECORDS / f"{shard.name}.json"

    def _record(self, shard: _Shard) -> dict[str, Any] | None:
        """The record of a finished shard, or None."""
        place, path = self._place(shard), self.folder / shard.name
        if not (place.is_file() and path.is_file()):
            return None
        record = read_json(place)
        return record if record["file_bytes"] == path.stat().st_size else None

    def _convert(self, shard: _Shard, pool: ThreadPoolExecutor, advance: Any) -> dict[str, Any]:
        record: dict[str, Any] = {"faults": [], "bytes_read": 0, "bytes_written": 0}
        self.write(self.folder / shard.name, self.manifest, self._samples(shard, pool, record, advance))
        record["file_bytes"] = (self.folder / shard.name).stat().st_size
        write_json(self._place(shard), record)
        return record

    def _samples(
        self, shard: _Shard, pool: ThreadPoolExecutor, record: dict[str, Any], advance: Any
    ) -> Iterator[Sample]:
        """Pictures in the order of the shard, made by the pool a few ahead; faults go to the record."""
        rows = iter(shard.rows.tolist())
        waiting: deque[tuple[int, Future[tuple[int, bytes, str] | BadImage]]] = deque()
        waiting.extend((row, pool.submit(self._image, row)) for row in islice(rows, _AHEAD * self.workers))
        while waiting:
            row, future = waiting.popleft()
            waiting.extend((later, pool.submit(self._image, later)) for later in islice(rows, 1))
            found = future.result()
            advance()
            if isinstance(found, BadImage):
                record["faults"].append([self.manifest.ids[row], found.cause, str(found)])
            else:
                record["bytes_read"] += found[0]
                record["bytes_written"] += len(found[1])
                yield Sample(row, found[1], found[2])

    def _image(self, row: int) -> tuple[int, bytes, str] | BadImage:
        try:
            data = self.reader.bytes(row)
            return (len(data), *self.images.written(data))
        except BadImage as error:
            return error


def show_convert(result: Converted, console: Console | None = None) -> None:
    """Print what was written."""
    console = console or Console()
    before = f" ({result.done_before:,} were there)" if result.done_before else ""
    mega = f"{result.bytes_read / 1e6:,.1f} MB of pictures became {result.bytes_written / 1e6:,.1f} MB"
    console.print(
        f"Wrote [bold]{escape(str(result.out))}[/]: {result.samples:,} samples in {result.shards:,} shards{before}; {mega}.",
        soft_wrap=True,
    )
    for note in result.notes:
        console.print(f"  {escape(note)}", soft_wrap=True)
    dropped = result.ledger.counts()
    console.print(
        f"Wrote {escape(str(result.ledger_path))}: the fate of every sample ({sum(dropped.values()):,} left out).",
        soft_wrap=True,
    )
    for reason, count in dropped.items():
        console.print(f"  {count:>7,}  [bold]{reason}[/]: {escape(REASONS[reason])}", soft_wrap=True)
    if result.seconds >= 1 and result.done_before < result.shards:
        console.print(f"{result.seconds:,.0f} seconds.", soft_wrap=True)
    console.print(
        f"\nNext: [bold]frugalclip train clip data={escape(shlex.quote(str(result.out)))} --out runs/first[/]",
        soft_wrap=True,
    )
