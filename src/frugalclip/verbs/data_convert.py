"""`frugalclip data convert`: any data set as WebDataset tars or Parquet shards, with smaller images."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from frugalclip.core.config import validated
from frugalclip.core.errors import DataError
from frugalclip.core.executors import local_executor
from frugalclip.core.jobs import Record
from frugalclip.core.locks import writes_into
from frugalclip.core.paths import user_path
from frugalclip.core.terminal import Terminal
from frugalclip.core.users_text import command_line
from frugalclip.data.image_faults import DECODING
from frugalclip.data.ledger import Entry, Ledger, causes_of
from frugalclip.data.manifest import Manifest
from frugalclip.sources.conversion import ConversionConfig, ConversionTask, conversion_job, conversion_shards
from frugalclip.sources.open import read_sources
from frugalclip.sources.reading import LEDGER
from frugalclip.sources.shards import unwritten_fields
from frugalclip.training.recommendation import train_command
from frugalclip.verbs.data_terminal import progress_bar, show_lines, show_next

_MOST_WORKERS = 8


@dataclass(frozen=True)
class ConversionResult:
    """What `data convert` wrote."""

    out: Path
    shards: int
    done_before: int  # shards that an earlier call had finished
    samples: int
    bytes_read: int
    bytes_written: int  # of images
    seconds: float
    ledger: Ledger
    ledger_path: Path
    notes: list[str]


@writes_into("out")
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
) -> ConversionResult:
    """Write data sets as shards, and beside them `OUT.ledger.parquet` with every sample that was left out.

    Args:
        paths: data sets, one after another; ids that clash get their data set's name as prefix.
        to: `tar` or `parquet`.
        out: a folder, new, empty, or of the same conversion, which then continues.
        where: a condition over fields.
        size: pixels of the shorter side, only shrinking; None keeps sizes.
        format: `keep`, `jpeg`, `webp` or `png`.
        samples_per_shard: at most; each split has shards of its own, if there is a field `split`.
        workers: processes and threads that decode and encode; None gives one a core, at most 8. They change
            no byte.
        shuffle: seed of a random order; None keeps the order.
        columns: names of the columns `image`, `caption` and `id` where they are not recognised.

    Raises:
        DataError: when a path holds no data set, `out` holds something else, or no image can be used.
    """
    images = {"size": size, "format": format}
    settings = {"to": to, "images": images, "samples_per_shard": samples_per_shard, "shuffle": shuffle}
    config = validated(ConversionConfig, settings, where="", error=DataError)
    folder = user_path(out)
    source = read_sources(paths, columns=columns).where(where)
    manifest = source.manifest
    if "weight" in manifest.table.column_names:
        manifest.weights()  # refuses what is no weight
    start = time.monotonic()
    done_before, ids, records = _run_job(
        folder, manifest, config, workers or min(os.cpu_count() or 1, _MOST_WORKERS)
    )
    faults = _faults(records)
    written = [id for id in ids if id not in faults]
    if not written:
        raise DataError(
            f"none of the {len(manifest):,} images of {manifest.name} can be used; "
            f"see why with: {command_line('data', 'check', manifest.name)}"
        )
    ledger_path = folder.resolve().with_name(f"{folder.resolve().name}{LEDGER}")
    ledger = Ledger(DECODING)
    ledger.include(source.ledger)
    ledger.extend(faults.values())
    ledger.write(ledger_path, kept=written, seen=source.seen)
    left = unwritten_fields(manifest) if to == "tar" else []
    return ConversionResult(
        out=folder,
        shards=len(records),
        done_before=done_before,
        samples=len(written),
        bytes_read=sum(record.notes["bytes_read"] for record in records),
        bytes_written=sum(record.notes["bytes_written"] for record in records),
        seconds=time.monotonic() - start,
        ledger=ledger,
        ledger_path=ledger_path,
        notes=[f"fields of bytes are not written into tars: {', '.join(left)}"] if left else [],
    )


def _faults(records: Sequence[Record]) -> dict[str, Entry]:
    """Id -> entry of every image that could not be written."""
    return {
        id: Entry(id, DECODING, cause, detail)
        for record in records
        for id, cause, detail in record.notes["faults"]
    }


def _run_job(
    folder: Path, manifest: Manifest, config: ConversionConfig, workers: int
) -> tuple[int, list[str], list[Record]]:
    """Run the job: shards that were there before, ids in the order written, and the records."""
    job, shards = conversion_job(folder, manifest, config), conversion_shards(manifest, config)
    job.begin()
    done_before = len(job.finished(shards))
    processes = min(workers, max(len(shards) - done_before, 1))
    task = ConversionTask(manifest, config, threads=max(1, workers // processes))
    with progress_bar("converting images", len(manifest)) as progress:
        executor = local_executor(processes)
        records = job.run(shards, task, executor, progress=lambda shard: progress(len(shard.content)))
    return done_before, [manifest.ids[row] for shard in shards for row in shard.content], records


def show_convert(result: ConversionResult, console: Console | None = None) -> None:
    """Print what was written."""
    console = console or Terminal(markup=True)
    before = f" ({result.done_before:,} were there)" if result.done_before else ""
    mega = f"{result.bytes_read / 1e6:,.1f} MB of images became {result.bytes_written / 1e6:,.1f} MB"
    lines = [
        f"Wrote [bold]{escape(str(result.out))}[/]: {result.samples:,} samples "
        f"in {result.shards:,} shards{before}; {mega}.",
        *(f"  {escape(note)}" for note in result.notes),
    ]
    dropped = result.ledger.dropped
    lines.append(
        f"Wrote {escape(str(result.ledger_path))}: every sample and what became of it "
        f"({len(dropped):,} left out)."
    )
    lines += [
        f"  {cause.count:>7,}  [bold]{cause.reason}[/]: {escape(cause.meaning)}"
        for cause in causes_of(dropped)
    ]
    if result.seconds >= 1 and result.done_before < result.shards:
        lines.append(f"{result.seconds:,.0f} seconds.")
    show_lines(lines, console)
    show_next(train_command(result.out, result.samples), console)
