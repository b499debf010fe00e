"""`frugalclip data stats`: count what is in data sets. Large ones are sampled, with a note, unless --full."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from frugalclip.core.errors import MissingExtra
from frugalclip.core.paths import user_path
from frugalclip.core.terminal import Terminal
from frugalclip.data.duplicates import NearDuplicates, near_duplicates
from frugalclip.data.manifest import Manifest
from frugalclip.data.statistics import (
    CaptionStatistics,
    FieldStatistics,
    ImageStatistics,
    TokenStatistics,
    WeightStatistics,
    caption_statistics,
    detected_languages,
    field_statistics,
    image_statistics,
    sampled_captions,
    sampled_rows,
    token_statistics,
    weight_statistics,
)
from frugalclip.sources.open import read_sources
from frugalclip.verbs.data_terminal import counts, progress_bar, short, show_faults, show_fields

READ = 20_000  # images whose bytes are read without --full
COMPARED = 2_000  # images compared with each other
TOKENISED = 50_000  # captions
DETECTED = 500  # captions whose language is guessed
_COMPARED_AT_MOST = 20_000  # even with --full: the work grows with the square


@dataclass(frozen=True)
class Stats:
    """What `data stats` counted in all data sets together."""

    manifest: Manifest
    captions: CaptionStatistics
    tokens: TokenStatistics | None
    detected: dict[
        str, int
    ]  # language -> captions, of a sample; empty where the data set names its languages
    fields: list[FieldStatistics]
    images: ImageStatistics
    near: NearDuplicates
    weights: WeightStatistics | None
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        images = asdict(self.images)
        images["faults"] = [
            {"id": fault.id, "reason": fault.reason, "detail": fault.detail} for fault in self.images.faults
        ]
        del images["sizes"]
        return {
            "data": self.manifest.name,
            "samples": len(self.manifest),
            "fingerprint": self.manifest.fingerprint(),
            "images": images,
            "near_duplicates": asdict(self.near),
            "captions": asdict(self.captions),
            "tokens": asdict(self.tokens) if self.tokens else None,
            "detected_languages": self.detected,
            "weights": asdict(self.weights) if self.weights else None,
            "fields": [asdict(field) for field in self.fields],
            "notes": self.notes,
        }


def stats(
    paths: Sequence[str | Path] | str | Path,
    *,
    full: bool = False,
    columns: Mapping[str, str] | None = None,
    json: str | Path | None = None,
) -> Stats:
    """Count what is in data sets, read as one: sizes, lengths, copies, languages, values, weights.

    Args:
        paths: one data set or several, as `open_data` takes them.
        full: read every picture and caption, not a sample of a large data set.
        columns: names of the columns `image`, `caption` and `id` where they are not recognised.
        json: a file to write the numbers to.

    Raises:
        DataError: when a path holds no data set, or a weight is not one.
    """
    manifest = read_sources(paths, columns=columns).manifest
    notes: list[str] = []
    texts = manifest.captions()
    total = sum(map(len, texts))
    tokenised = sampled_captions(texts, total if full else TOKENISED)
    rows = sampled_rows(len(manifest), len(manifest) if full else READ)
    compared = sampled_rows(len(manifest), _COMPARED_AT_MOST if full else COMPARED, seed=3)
    for read, of, what in (
        (len(rows), len(manifest), "pictures read"),
        (len(tokenised), total, "captions tokenised"),
    ):
        notes += [f"{what}: {read:,} of {of:,}, drawn at random (--full takes all)"] if read < of else []
    detected = _detected(manifest, texts, notes)
    images, near = _images(manifest, rows, compared)
    weights = weight_statistics(manifest)
    result = Stats(
        manifest,
        caption_statistics(manifest),
        token_statistics(tokenised),
        detected,
        field_statistics(manifest),
        images,
        near,
        weights,
        notes,
    )
    if json is not None:
        from frugalclip.core.records import write_json  # waits for torch

        write_json(user_path(json), result.to_json())
    return result


def _detected(manifest: Manifest, texts: Sequence[Sequence[str]], notes: list[str]) -> dict[str, int]:
    """Languages of a sample of captions, where the data set does not name them."""
    if manifest.languages:
        return {}
    try:
        return detected_languages(sampled_captions(texts, DETECTED))
    except MissingExtra as error:
        notes.append(str(error))
        return {}


def _images(
    manifest: Manifest, rows: Sequence[int], compared: Sequence[int]
) -> tuple[ImageStatistics, NearDuplicates]:
    with progress_bar("reading images", len(rows) + len(compared)) as progress:
        images = image_statistics(manifest, rows, decoded=False, progress=progress)
        return images, near_duplicates(manifest, compared, progress=progress)


def show_stats(result: Stats, console: Console | None = None) -> None:
    """Print what `stats` counted."""
    console = console or Terminal(markup=True)
    samples = len(result.manifest)
    console.print(
        f"[bold]{escape(result.manifest.name)}[/]: {samples:,} samples, "
        f"fingerprint {result.manifest.fingerprint()}.",
        soft_wrap=True,
    )
    for note in result.notes:
        console.print(f"  {escape(note)}", soft_wrap=True)
    _show_spreads(result, console)
    _show_images(result, console)
    _show_captions(result, console)
    if weights := result.weights:
        console.print(
            f"Weights: {weights.zero:,} samples are never drawn, the heaviest {weights.most_draws:,.1f} "
            "times an epoch; "
            f"as varied as {weights.effective:,.0f} samples drawn alike.",
            soft_wrap=True,
        )
    show_fields(result.fields, console)


def _show_spreads(result: Stats, console: Console) -> None:
    images, captions = result.images, result.captions
    table = Table(
        "", "least", "5 %", "middle", "95 %", "most", title="Sizes and lengths", title_justify="left"
    )
    lines = {
        "height, pixels": images.heights,
        "width, pixels": images.widths,
        "bytes a picture": images.bytes,
    }
    lines |= {
        "captions a sample": captions.per_sample,
        "words a caption": captions.words,
        "characters": captions.characters,
    }
    lines |= {
        "CLIP tokens a caption": result.tokens.tokens if result.tokens else None,
        "weight": result.weights.weights if result.weights else None,
    }
    for name, spread in lines.items():
        if spread:
            digits = ",.3g" if name == "weight" else ",.0f"
            table.add_row(
                name,
                *(
                    f"{value:{digits}}"
                    for value in (spread.least, spread.low, spread.middle, spread.high, spread.most)
                ),
            )
    console.print(table)


def _show_images(result: Stats, console: Console) -> None:
    images, near = result.images, result.near
    console.print(f"Formats: {counts(images.formats) or 'none'}.")
    if images.faults:
        console.print(f"[red]{len(images.faults):,} pictures cannot be read[/]:")
        show_faults(images.faults, console)
    copies = ", ".join(f"{escape(name)} ({count:,} times)" for name, count in images.most_copied)
    among = "" if images.rows == len(result.manifest) else f" of {images.rows:,} read"
    console.print(
        f"Copies: {images.copies:,} pictures{among} have the bytes of an earlier "
        f"one{f'; most: {copies}' if copies else ''}."
    )
    if near.blank:
        console.print(
            f"[yellow]Blank: {near.blank:,} of {near.rows:,} pictures compared are of one colour, "
            f"such as {escape(', '.join(near.first_blank))}.[/]"
        )
    pairs = ", ".join(f"{escape(one)} and {escape(other)}" for one, other in near.pairs[:3])
    console.print(
        f"Near duplicates: {near.alike:,} of {near.rows:,} pictures compared look like another "
        f"one{f', such as {pairs}' if pairs else ''}."
    )


def _show_captions(result: Stats, console: Console) -> None:
    captions, tokens = result.captions, result.tokens
    if tokens:
        cut = ", ".join(
            f"{100 * share:.1f} % at context {context}" for context, share in tokens.truncated.items()
        )
        console.print(f"Truncated captions: {cut} (CLIP's vocabulary).")
    shared = ", ".join(f"'{escape(short(text, 40))}' ({count:,})" for text, count in captions.most_shared)
    console.print(
        f"Equal captions: {captions.shared:,} samples share one{f'; most: {shared}' if shared else ''}."
    )
    if captions.languages:
        console.print(f"Languages (samples): {counts(captions.languages, limit=80)}.")
    if result.detected:
        total = sum(result.detected.values())
        shares = ", ".join(f"{name} {100 * count / total:.0f} %" for name, count in result.detected.items())
        console.print(f"Languages detected in {total:,} captions of three words or more: {shares}.")
    console.print(f"Scripts (captions): {counts(captions.scripts)}.")
