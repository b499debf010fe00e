"""`frugalclip data check`: what data sets are, and what is wrong with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from frugalclip.core.terminal import Terminal
from frugalclip.core.users_text import command_line
from frugalclip.data.ledger import LEAST_BAD, MAX_ERROR_FRACTION
from frugalclip.data.statistics import (
    CaptionStatistics,
    FieldStatistics,
    ImageStatistics,
    caption_statistics,
    field_statistics,
    image_statistics,
    sampled_rows,
)
from frugalclip.sources.base import Source
from frugalclip.sources.open import as_paths, read_source
from frugalclip.training.recommendation import advice, train_command
from frugalclip.verbs.data_terminal import (
    counts,
    progress_bar,
    short,
    show_faults,
    show_fields,
    show_next,
    spread_in_words,
)

DECODED = 1_000  # images that `check` decodes without --full
EXAMPLES = 8


@dataclass(frozen=True)
class ExamplePair:
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
    examples: list[ExamplePair]
    next_command: str = ""

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
        """Whether `train` would stop at the default `data.max_error_fraction`."""
        return (
            self.bad_share > MAX_ERROR_FRACTION
            and len(self.source.ledger.bad) + len(self.images.faults) >= LEAST_BAD
        )


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
    every = as_paths(paths)
    checks = [_check_one(path, full, columns) for path in every]
    command = _next_command(checks)
    return [replace(one, next_command=command) for one in checks]


def _check_one(path: str | Path, full: bool, columns: Mapping[str, str] | None) -> Check:
    source = read_source(path, columns=columns)
    manifest = source.manifest
    rows = list(range(len(manifest))) if full else sampled_rows(len(manifest), DECODED)
    with progress_bar("reading images", len(rows)) as progress:
        images = image_statistics(manifest, rows, decoded=True, progress=progress)
    shown = [rows[position] for position in sampled_rows(len(rows), EXAMPLES, seed=1)]
    captions = manifest.take(shown).captions()
    examples = [
        ExamplePair(manifest.ids[row], images.sizes.get(row), " | ".join(texts))
        for row, texts in zip(shown, captions, strict=True)
    ]
    return Check(
        str(path),
        source,
        caption_statistics(manifest),
        field_statistics(manifest, shown=3),
        images,
        examples,
    )


def _next_command(checks: Sequence[Check]) -> str:
    paths = [one.path for one in checks]
    if any(one.is_too_bad for one in checks):
        return command_line("data", "verify", *paths, "--repair")
    if len(checks) > 1:
        return command_line("data", "manifest", *paths, "--out", "all.parquet")
    return train_command(checks[0].path, len(checks[0].source.manifest))


def show_check(checks: Sequence[Check], console: Console | None = None) -> None:
    """Print what `check` found."""
    console = console or Terminal(markup=True)
    for one in checks:
        _show_one(one, console)
    console.print()
    for sentence in advice(sum(len(one.source.manifest) for one in checks)):
        console.print(escape(sentence), soft_wrap=True)
    show_next(checks[-1].next_command, console)


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
    _show_repeats(one, console)
    if one.is_too_bad:
        console.print(
            f"[yellow]{100 * one.bad_share:.2g} % is bad, and training stops beyond "
            f"{100 * MAX_ERROR_FRACTION:g} % (data.max_error_fraction); "
            "'data verify --repair' names and mends it.[/]",
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
            f"Pictures: height {spread_in_words(images.heights)}, "
            f"width {spread_in_words(images.widths)} pixels; {counts(images.formats)}."
        )
    show_fields(one.fields, console)


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


def _show_repeats(one: Check, console: Console) -> None:
    """Blank and copied pictures, which would count as samples of their own."""
    images, found = one.images, []
    if images.blank:
        names = ", ".join(images.blank[:3])
        found.append(f"{len(images.blank):,} are blank, of one colour (such as {names})")
    if images.copies:
        name, times = images.most_copied[0]
        found.append(f"{images.copies:,} repeat an earlier one (most: {name}, {times:,} times)")
    if not found:
        return
    among = "" if images.rows == len(one.source.manifest) else f" of {images.rows:,} read"
    console.print(
        f"[yellow]Pictures{among}: {escape('; '.join(found))}.[/] They distort training and validation; "
        f"{escape(command_line('data', 'stats', one.path))} also compares pictures that look alike.",
        soft_wrap=True,
    )


def _show_captions(captions: CaptionStatistics, console: Console) -> None:
    console.print(
        f"Captions: {captions.captions:,}, {spread_in_words(captions.per_sample)} a sample, "
        f"{spread_in_words(captions.words)} words, {captions.distinct:,} distinct."
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
