"""`frugalclip data divide`: a manifest whose training, validation and test rows are apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from frugalclip.core.errors import DataError
from frugalclip.core.locks import writing_file
from frugalclip.core.terminal import Terminal
from frugalclip.core.users_text import command_line
from frugalclip.data.divisions import TRAIN, Division, divide_rows
from frugalclip.sources.open import read_sources
from frugalclip.sources.reading import LEDGER
from frugalclip.training.recommendation import train_command
from frugalclip.verbs.data_terminal import progress_bar, show_lines, show_next

SHARES = {"val": 0.1, "test": 0.2}


@dataclass(frozen=True)
class DividedData:
    """What `data divide` wrote."""

    path: Path
    division: Division
    seed: int


def divide(
    paths: Sequence[str | Path] | str | Path,
    *,
    out: str | Path,
    shares: Mapping[str, float] | None = None,
    by: str | None = None,
    seed: int = 0,
    replace: bool = False,
    columns: Mapping[str, str] | None = None,
) -> DividedData:
    """Write a manifest with a field `split`, and beside it the ledger. Copies no image.

    Args:
        paths: data sets, read as one.
        out: the Parquet file.
        shares: split -> share of the rows; the rest is `train`. A share of 0 leaves a split out.
        by: field whose equal values stay together; default `family` or `component`, else images that look
            alike and equal captions.
        seed: decides which groups go where.
        replace: replace a field `split` that the data has.
        columns: names of the columns `image`, `caption` and `id` where they are not recognised.

    Raises:
        DataError: when the data divides itself, has too few groups, or `out` is a folder.
    """
    target = Path(out)
    if target.is_dir():
        raise DataError(f"{target} is a folder, expected a file; write --out {target / 'divided.parquet'}")
    target = target if target.suffix else target.with_suffix(".parquet")
    source = read_sources(paths, columns=columns)
    manifest = source.manifest
    if "split" in manifest.field_names and not replace:
        names = sorted({str(value) for value in manifest.field("split")})
        raise DataError(
            f"{manifest.name} divides itself, by its field split ({', '.join(names[:5])}), and training uses "
            "that; add --replace to divide it anew."
        )
    wanted = {name: share for name, share in (shares or SHARES).items() if share}
    with writing_file(target):
        with progress_bar("reading images", len(manifest)) as progress:
            division = divide_rows(manifest, wanted, by=by, seed=seed, progress=progress)
        division.manifest.write(target)
        source.ledger.write(target.with_name(f"{target.stem}{LEDGER}"), kept=manifest.ids, seen=source.seen)
    return DividedData(target, division, seed)


def show_divide(result: DividedData, console: Console | None = None) -> None:
    """Print what `divide` wrote."""
    console, division = console or Terminal(markup=True), result.division
    total = len(division.manifest)
    shares = [f"{name} {count:,} ({100 * count / total:.0f} %)" for name, count in division.rows.items()]
    lines = [
        f"Wrote [bold]{escape(str(result.path))}[/]: {total:,} rows in {division.groups:,} groups "
        f"({escape(division.by)}), seed {result.seed}.",
        f"  {', '.join(shares)}; no group is divided.",
        *(f"  {escape(note)}" for note in division.notes),
    ]
    show_lines(lines, console)
    show_next(train_command(result.path, division.rows[TRAIN]), console)
    then = command_line("evaluate", "runs/first", "--data", result.path, "--where", "split=test")
    console.print(f"Then: {escape(then)}", soft_wrap=True)
