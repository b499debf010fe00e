"""`frugalclip data verify`: decode everything, name what is bad, and write a manifest of what is good.

Originals are never touched: captions in another encoding and tars that end early are mended in the manifest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from frugalclip.core.errors import DataError
from frugalclip.core.locks import writing_file
from frugalclip.core.paths import user_path
from frugalclip.core.terminal import Terminal
from frugalclip.core.users_text import command_line
from frugalclip.data.decoding import decoding_faults
from frugalclip.data.image_faults import DECODING
from frugalclip.data.ledger import Ledger, causes_of, read_ledger
from frugalclip.data.manifest import Manifest, is_manifest
from frugalclip.sources.open import Source, as_paths, read_sources
from frugalclip.sources.reading import CLEAN, LEDGER
from frugalclip.sources.tar_index import has_pattern
from frugalclip.training.recommendation import train_command
from frugalclip.verbs.data_terminal import progress_bar, short, show_next

_EXAMPLES = 3  # of each cause


@dataclass(frozen=True)
class Verification:
    """What `data verify` found and wrote."""

    paths: tuple[str, ...]
    kind: str
    samples: int  # that are good
    seen: int
    ledger: Ledger
    ledger_path: Path
    manifest_path: Path | None  # with `repair`

    @property
    def is_clean(self) -> bool:
        """True when nothing is bad; what a condition or a link leaves out is not."""
        return not self.ledger.bad


def verify(
    paths: Sequence[str | Path] | str | Path,
    *,
    repair: bool = False,
    out: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    workers: int | None = None,
) -> Verification:
    """Read and decode every sample of data sets, and write a ledger of each one's fate.

    Args:
        paths: data sets, as `open_data` takes them.
        repair: mend what can be mended, and write a manifest of all good samples; no original is changed and
            no picture copied.
        out: the manifest; the ledger lies beside it as NAME.ledger.parquet. By default both lie beside the
            data.
        columns: names of the columns `image`, `caption` and `id` where they are not recognised.
        workers: decoding processes.

    Raises:
        DataError: when a path holds no data set, or `out` would overwrite something that is not ours.
    """
    every = as_paths(paths)
    source = read_sources(every, columns=columns, mend=repair)
    manifest_path, ledger_path = _targets(every, out)
    with writing_file(ledger_path):
        good, ledger = _divide(source, workers=workers)
        try:
            ledger.write(ledger_path, kept=good.ids, seen=source.seen)
            if repair and len(good):
                good.write(manifest_path)
        except OSError as error:
            raise DataError(
                f"{ledger_path.parent} cannot be written to ({error.strerror}); "
                "name another place with --out FILE."
            ) from None
    if repair and not len(good):
        raise DataError(
            f"none of {source.seen:,} samples is good ({ledger.in_words()}); "
            f"every one is named in {ledger_path}."
        )
    return Verification(
        tuple(map(str, every)),
        source.kind,
        len(good),
        source.seen,
        ledger,
        ledger_path,
        manifest_path if repair else None,
    )


def _divide(source: Source, *, workers: int | None) -> tuple[Manifest, Ledger]:
    """The good samples, and a ledger of the others."""
    manifest = source.manifest
    ledger = Ledger(DECODING)
    ledger.include(source.ledger)
    with progress_bar("decoding", len(manifest)) as progress:
        found = decoding_faults(manifest, workers=workers, progress=progress)
    faults = {row: (cause, detail) for row, cause, detail in found}
    for row, (cause, detail) in faults.items():
        ledger.drop(manifest.ids[row], cause, detail)
    return manifest.take([row for row in range(len(manifest)) if row not in faults]), ledger


def _targets(paths: Sequence[str | Path], out: str | Path | None) -> tuple[Path, Path]:
    """Where manifest and ledger go, refused where something else lies there."""
    if out is not None:
        target = user_path(out)
        if target.is_dir():
            raise DataError(f"{target} is a folder, expected a file; write --out {target / 'clean.parquet'}")
        target = target if target.suffix else target.with_suffix(".parquet")
        manifest, ledger = target, target.with_name(f"{target.stem}{LEDGER}")
    else:
        base = _beside(paths)
        manifest, ledger = base.with_name(base.name + CLEAN), base.with_name(base.name + LEDGER)
    given = {user_path(path).resolve() for path in paths if path != "sample"}
    for path, is_ours in ((manifest, _is_manifest), (ledger, _is_ledger)):
        if path.resolve() in given or (path.exists() and not is_ours(path)):
            raise DataError(
                f"{path} is there already and would be overwritten; name another place with --out FILE."
            )
    return manifest, ledger


def _beside(paths: Sequence[str | Path]) -> Path:
    """The data set's own name, beside it; `data` in the current folder where there are several."""
    if len(paths) > 1 or paths[0] == "sample":
        return Path("data" if len(paths) > 1 else "sample").absolute()
    text = str(paths[0])
    if has_pattern(text):
        parts = user_path(text).parts
        first = next(i for i, part in enumerate(parts) if has_pattern(part))
        return Path(*parts[:first]).absolute() / "shards"
    place = user_path(text).resolve()
    return place if place.is_dir() else place.with_suffix("")


def _is_manifest(path: Path) -> bool:
    try:
        return is_manifest(pq.read_schema(path))
    except (OSError, pa.ArrowException):
        return False


def _is_ledger(path: Path) -> bool:
    try:
        return read_ledger(path) is not None
    except DataError:
        return False


def show(result: Verification, console: Console | None = None) -> None:
    """Print causes, counts and examples, what was written, and the next command."""
    console, ledger = console or Terminal(markup=True), result.ledger
    merged, dropped = len(ledger.merged), len(ledger.dropped)
    name = " ".join(result.paths)
    console.print(
        f"[bold]{escape(name)}[/] is {escape(result.kind)}: every sample read and decoded.", soft_wrap=True
    )
    parts = f"{result.samples:,} good + {merged:,} joined to another + {dropped:,} left out"
    console.print(f"{result.seen:,} samples = {parts}.", soft_wrap=True)
    if ledger.entries:
        console.print(_causes(ledger))
    repaired = [id for id, entry in ledger.remarks.items() if entry.reason == "repaired"]
    if repaired:
        console.print(
            f"Mended: {len(repaired):,} captions that were not UTF-8, "
            f"such as {escape(', '.join(repaired[:_EXAMPLES]))}.",
            soft_wrap=True,
        )
    console.print(f"Wrote {escape(str(result.ledger_path))}: the fate of every sample.", soft_wrap=True)
    if result.manifest_path is not None:
        console.print(
            f"Wrote {escape(str(result.manifest_path))}: the good ones, with no picture copied. "
            "The originals are as they were.",
            soft_wrap=True,
        )
    show_next(_next(result), console)


def _causes(ledger: Ledger) -> Table:
    table = Table("cause", "samples", "what it means", "such as", box=None, padding=(0, 2, 0, 0))
    table.columns[1].justify = "right"
    for cause in [
        *causes_of(ledger.dropped, examples=_EXAMPLES),
        *causes_of(ledger.merged, examples=_EXAMPLES),
    ]:
        such_as = ", ".join(short(entry.id, 40) for entry in cause.examples)
        table.add_row(f"[bold]{cause.reason}[/]", f"{cause.count:,}", escape(cause.meaning), escape(such_as))
    return table


def _next(result: Verification) -> str:
    if result.manifest_path is not None:
        return train_command(result.manifest_path, result.samples)
    if not result.is_clean:
        return command_line("data", "verify", *result.paths, "--repair")
    if len(result.paths) == 1:
        return train_command(result.paths[0], result.samples)
    return command_line("data", "manifest", *result.paths, "--out", "all.parquet")
