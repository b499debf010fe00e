"""`frugalclip data check|manifest`: what a data set is and what is wrong with it, and a manifest of it."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from frugalclip.core.errors import DataError
from frugalclip.data.conditions import SELECTION
from frugalclip.data.ledger import LEAST_BAD, MAX_ERROR_FRACTION, Entry, Ledger, causes_of
from frugalclip.data.manifest import Manifest, concatenate
from frugalclip.data.statistics import (
    CaptionStatistics,
    FieldStatistics,
    ImageStatistics,
    Spread,
    caption_statistics,
    field_statistics,
    image_statistics,
    sampled_rows,
)
from frugalclip.sources.open import Source, read_source

DECODED = 1_000  # images that `check` decodes without --full
EXAMPLES = 8
_FAULTS_SHOWN = 3  # of each cause


@dataclass(frozen=True)
class Example:
    """One pair as it will be trained on."""

    id: str
    size: tuple[int, int] | None  # height, width; None when the picture cannot be read
    caption: str


@dataclass(frozen=True)
class Check:
    """What `data check` found in one data set."""

    path: str
    source: Source
    captions: CaptionStatistics
    fields: list[FieldStatistics]
    images: ImageStatistics
    examples: list[Example]
    next_command: str

    @property
    def is_clean(self) -> bool:
        return not self.source.ledger.dropped and not self.images.faults

    @property
    def bad_share(self) -> float:
        """Share of samples that training cannot use; images not decoded count like those that were."""
        seen, rows = max(self.source.seen, 1), max(self.images.rows, 1)
        return min(len(self.source.ledger.bad) / seen + len(self.images.faults) / rows, 1.0)

    @property
    def is_too_bad(self) -> bool:
        """True when `train` would stop, unless told to put up with more."""
        return (
            self.bad_share > MAX_ERROR_FRACTION
            and len(self.source.ledger.bad) + len(self.images.faults) >= LEAST_BAD
        )


@dataclass(frozen=True)
class ManifestFiles:
    """What `data manifest` wrote."""

    path: Path
    ledger_path: Path
    samples: int
    ledger: Ledger
    fingerprint: str


def check(
    paths: Sequence[str | Path] | str | Path, *, full: bool = False, columns: Mapping[str, str] | None = None
) -> list[Check]:
    """Say what data sets are recognised as and what is wrong with them.

    Args:
        paths: one data set or several, as `open_data` takes them.
        full: decode every picture, not a random thousand.
        columns: names of the columns `image`, `caption` and `id` where they are not recognised.

    Raises:
        DataError: when a path holds no data set.
    """
    every = _as_list(paths)
    checks = [_check_one(path, full, columns, _next_command(every)) for path in every]
    if not any(one.is_too_bad for one in checks):
        return checks
    command = f"frugalclip data verify {' '.join(shlex.quote(str(path)) for path in every)} --repair"
    return [replace(one, next_command=command) for one in checks]


def _check_one(path: str | Path, full: bool, columns: Mapping[str, str] | None, next_command: str) -> Check:
    source = read_source(path, columns=columns)
    manifest = source.manifest
    rows = list(range(len(manifest))) if full else sampled_rows(len(manifest), DECODED)
    images = _images(manifest, rows, decoded=True)
    shown = [rows[position] for position in sampled_rows(len(rows), EXAMPLES, seed=1)]
    captions = manifest.take(shown).captions()
    examples = [
        Example(manifest.ids[row], images.sizes.get(row), " | ".join(texts))
        for row, texts in zip(shown, captions, strict=True)
    ]
    return Check(
        str(path),
        source,
        caption_statistics(manifest),
        field_statistics(manifest, shown=3),
        images,
        examples,
        next_command,
    )


def manifest(
    paths: Sequence[str | Path] | str | Path,
    *,
    out: str | Path,
    where: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> ManifestFiles:
    """Write one manifest of data sets, and beside it the ledger of what was left out. Copies no picture.

    Args:
        paths: data sets, put one behind the other; ids that clash get their data set's name as prefix.
        out: the Parquet file; the ledger is written as NAME.ledger.parquet beside it.
        where: a condition over fields.
        columns: as for `check`.

    Raises:
        DataError: when a path holds no data set, or `out` is a folder.
    """
    target = Path(out)
    if target.is_dir():
        raise DataError(f"{target} is a folder, expected a file; write --out {target / 'manifest.parquet'}")
    target = target if target.suffix else target.with_suffix(".parquet")
    sources = [read_source(path, columns=columns) for path in _as_list(paths)]
    every = concatenate([source.manifest for source in sources])
    combined = every.where(where)
    ledger = Ledger(SELECTION)
    for source in sources:
        ledger.include(source.ledger)
    kept = set(combined.ids)
    for id in every.ids:
        if id not in kept:
            ledger.drop(id, "filtered", where or "")
    ledger_path = target.with_name(f"{target.stem}.ledger.parquet")
    combined.write(target)
    ledger.write(ledger_path, kept=combined.ids, seen=sum(source.seen for source in sources))
    return ManifestFiles(target, ledger_path, len(combined), ledger, combined.fingerprint())


def _as_list(paths: Sequence[str | Path] | str | Path) -> list[str | Path]:
    every = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not every:
        raise DataError(
            "no data set was given, expected one or more paths; try: frugalclip data check sample"
        )
    return every


def _next_command(paths: Sequence[str | Path]) -> str:
    if len(paths) == 1:
        return f"frugalclip train clip data={shlex.quote(str(paths[0]))} --out runs/first"
    return f"frugalclip data manifest {' '.join(shlex.quote(str(path)) for path in paths)} --out all.parquet"


def _images(manifest: Manifest, rows: Sequence[int], *, decoded: bool) -> ImageStatistics:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading pictures", total=len(rows))
        return image_statistics(
            manifest, rows, decoded=decoded, progress=lambda done: progress.advance(task, done)
        )


def show_check(checks: Sequence[Check], console: Console | None = None) -> None:
    """Print what `check` found."""
    console = console or Console()
    for one in checks:
        _show_one(one, console)
    console.print(f"\nNext: [bold]{escape(checks[-1].next_command)}[/]", soft_wrap=True)


def _show_one(one: Check, console: Console) -> None:
    source, images = one.source, one.images
    console.print(
        f"[bold]{escape(one.path)}[/] is {escape(source.kind)}: [bold]{len(source.manifest):,}[/] samples.",
        soft_wrap=True,
    )
    for note in source.notes:
        console.print(f"  {escape(note)}", soft_wrap=True)
    dropped = source.ledger.dropped
    if dropped:
        console.print(f"[yellow]{len(dropped):,} of {source.seen:,} left out[/]:")
        show_faults(dropped, console)
    _show_decoding(one, console)
    if one.is_too_bad:
        console.print(
            f"[yellow]{100 * one.bad_share:.2g} % is bad, and training stops beyond "
            f"{100 * MAX_ERROR_FRACTION:g} % (data.max_error_fraction); 'data verify --repair' names and mends it.[/]",
            soft_wrap=True,
        )
    pairs = Table(
        "id",
        "height x width",
        "caption",
        title=f"{len(one.examples)} pairs, drawn at random",
        title_justify="left",
        expand=True,
    )
    for example in one.examples:
        size = f"{example.size[0]} x {example.size[1]}" if example.size else "[red]unreadable[/]"
        pairs.add_row(escape(short(example.id, 40)), size, escape(short(example.caption, 200)))
    console.print(pairs)
    _show_captions(one.captions, console)
    if images.heights and images.widths:
        console.print(
            f"Pictures: height {_spread(images.heights)}, width {_spread(images.widths)} pixels; "
            f"{counts(images.formats)}."
        )
    show_fields(one.fields, console)


def show_faults(faults: Sequence[Entry], console: Console) -> None:
    """Print how often each reason occurs, with its first cases."""
    for cause in causes_of(faults, examples=_FAULTS_SHOWN):
        console.print(
            f"  {cause.count:>7,}  [bold]{cause.reason}[/]: {escape(cause.meaning)}", soft_wrap=True
        )
        for entry in cause.examples:
            text = short(f"{entry.id}: {entry.detail}", 140)
            console.print(f"           [dim]{escape(text)}[/]", soft_wrap=True)


def _show_decoding(one: Check, console: Console) -> None:
    images, samples = one.images, len(one.source.manifest)
    what = (
        f"all {samples:,} pictures"
        if images.rows == samples
        else f"{images.rows:,} of {samples:,} pictures, drawn at random (--full reads all)"
    )
    if not images.faults:
        console.print(f"Decoded {what}: [green]every one is good[/].")
        return
    share = f", about {100 * len(images.faults) / images.rows:.1f} %" if images.rows < samples else ""
    console.print(
        f"Decoded {what}: [red]{len(images.faults):,} cannot be used{share}[/]; training leaves them out."
    )
    show_faults(images.faults, console)


def _show_captions(captions: CaptionStatistics, console: Console) -> None:
    console.print(
        f"Captions: {captions.captions:,}, {_spread(captions.per_sample)} a sample, "
        f"{_spread(captions.words)} words, {captions.distinct:,} distinct."
    )
    if captions.shared:
        text, count = captions.most_shared[0]
        console.print(
            f"  {captions.shared:,} samples share a caption with another one; {count:,} of them: "
            f"'{escape(short(text, 60))}'. "
            "Training treats equal captions as positives if the recipe's objective does.",
            soft_wrap=True,
        )
    if captions.languages:
        console.print(f"  Languages: {counts(captions.languages, limit=12)}.")
    elif len(captions.scripts) > 1:
        console.print(f"  Scripts: {counts(captions.scripts)}.")


def show_fields(fields: Sequence[FieldStatistics], console: Console) -> None:
    """Print a table of fields."""
    if not fields:
        console.print("Fields: none besides the captions.")
        return
    table = Table(
        "field",
        "type",
        "empty",
        "distinct",
        "frequent values",
        title="Fields, for where and --label-field",
        title_justify="left",
    )
    for one in fields:
        values = ", ".join(f"{short(value, 30)} ({count:,})" for value, count in one.values)
        table.add_row(
            escape(one.name),
            one.type,
            f"{one.nulls:,}",
            "" if one.distinct is None else f"{one.distinct:,}",
            escape(values),
        )
    console.print(table)


def show_manifest(result: ManifestFiles, console: Console | None = None) -> None:
    """Print what `manifest` wrote."""
    console = console or Console()
    console.print(
        f"Wrote [bold]{escape(str(result.path))}[/]: {result.samples:,} samples, "
        f"fingerprint {result.fingerprint}.",
        soft_wrap=True,
    )
    faults = f"{len(result.ledger.dropped):,} left out, {len(result.ledger.merged):,} joined to another"
    console.print(
        f"Wrote {escape(str(result.ledger_path))}: the fate of every sample ({faults}).", soft_wrap=True
    )
    show_faults(result.ledger.dropped, console)
    console.print(
        f"\nNext: [bold]frugalclip train clip data={escape(shlex.quote(str(result.path)))} --out "
        "runs/first[/]",
        soft_wrap=True,
    )


def _spread(spread: Spread) -> str:
    if spread.least == spread.most:
        return f"{spread.most:,.0f}"
    return f"{spread.least:,.0f} to {spread.most:,.0f} (middle {spread.middle:,.0f})"


def counts(of: Mapping[str, int], limit: int = 8) -> str:
    """Names with their counts, such as `PNG 6, JPEG 2 and 3 more`."""
    listed = [f"{escape(name)} {count:,}" for name, count in list(of.items())[:limit]]
    return ", ".join(listed) + (f" and {len(of) - limit} more" if len(of) > limit else "")


def short(text: str, limit: int) -> str:
    """A text on one line, cut to so many characters."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
