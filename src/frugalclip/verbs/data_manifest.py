"""`frugalclip data manifest`: one manifest of data sets, and the ledger of what was left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from frugalclip.core.errors import DataError
from frugalclip.core.locks import writing_file
from frugalclip.core.paths import user_path
from frugalclip.core.terminal import Terminal
from frugalclip.data.ledger import Ledger
from frugalclip.sources.open import read_sources
from frugalclip.sources.reading import LEDGER
from frugalclip.training.recommendation import train_command
from frugalclip.verbs.data_terminal import show_faults, show_lines, show_next


@dataclass(frozen=True)
class ManifestFiles:
    """What `data manifest` wrote."""

    path: Path
    ledger_path: Path
    samples: int
    ledger: Ledger
    fingerprint: str


def manifest(
    paths: Sequence[str | Path] | str | Path,
    *,
    out: str | Path,
    where: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> ManifestFiles:
    """Write one manifest of data sets, and beside it the ledger of what was left out. Copies no image.

    Args:
        paths: data sets, one after another; ids that clash get their data set's name as prefix.
        out: the Parquet file; the ledger is written as NAME.ledger.parquet beside it.
        where: a condition over fields.
        columns: names of the columns `image`, `caption` and `id` where they are not recognised.

    Raises:
        DataError: when a path holds no data set, or `out` is a folder.
    """
    target = user_path(out)
    if target.is_dir():
        raise DataError(f"{target} is a folder, expected a file; write --out {target / 'manifest.parquet'}")
    target = target if target.suffix else target.with_suffix(".parquet")
    ledger_path = target.with_name(f"{target.stem}{LEDGER}")
    source = read_sources(paths, columns=columns)
    chosen = source.where(where)
    with writing_file(target):
        chosen.manifest.write(target)
        chosen.ledger.write(ledger_path, kept=chosen.manifest.ids, seen=source.seen)
    return ManifestFiles(
        target, ledger_path, len(chosen.manifest), chosen.ledger, chosen.manifest.fingerprint()
    )


def show_manifest(result: ManifestFiles, console: Console | None = None) -> None:
    """Print what `manifest` wrote."""
    console = console or Terminal(markup=True)
    dropped, merged = result.ledger.dropped, result.ledger.merged
    lines = [
        f"Wrote [bold]{escape(str(result.path))}[/]: {result.samples:,} samples, "
        f"fingerprint {result.fingerprint}.",
        f"Wrote {escape(str(result.ledger_path))}: every sample and what became of it "
        f"({len(dropped):,} left out, {len(merged):,} joined to another).",
    ]
    show_lines(lines, console)
    show_faults(dropped, console)
    show_next(train_command(result.path, result.samples), console)
