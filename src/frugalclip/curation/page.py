"""Gathers what the report of a curation shows: thumbnails, groups of duplicates, histograms."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from frugalclip.core.random import uniform
from frugalclip.core.users_text import command_line
from frugalclip.core.yaml_text import dump_yaml
from frugalclip.curation.coverage import LEAST, language_counts, word_coverage
from frugalclip.curation.ledger import read_ledger, reason_meanings
from frugalclip.curation.outputs import LEDGER, MANIFEST, REPORT, StageSummary, Summary, known_rows
from frugalclip.curation.run import ADVICE, stage_files
from frugalclip.data.image_faults import BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.manifest import Manifest
from frugalclip.data.tables import read_parquet
from frugalclip.report.curation import (
    CoverageView,
    CurationView,
    DuplicateGroup,
    ShownRow,
    StageView,
    write_curation_report,
)
from frugalclip.report.formats import number
from frugalclip.report.gallery import Thumbnail, thumbnail
from frugalclip.report.histograms import Histogram
from frugalclip.training.recommendation import train_command

_GROUPS, _OF_GROUP, _DRAWN, _BINS, _WORDS = 6, 7, 8, 40, 40
_DECODED = 192  # pixels that the shorter side of a large JPEG keeps at least


class _Gallery:
    """Rows of the data set, and of those it was compared with, as the page shows them."""

    def __init__(self, manifests: Sequence[Manifest]) -> None:
        self.rows = manifests[0]
        self.places: dict[str, tuple[Manifest, ImageReader, int]] = {}
        for manifest in manifests:
            reader = ImageReader(manifest)
            for row, id in enumerate(manifest.ids):
                self.places.setdefault(id, (manifest, reader, row))

    def shown(self, id: str, note: str) -> ShownRow:
        manifest, reader, row = self.places[id]
        text = " | ".join(manifest.take([row]).captions()[0])
        return ShownRow(self._thumbnail(reader, row, text), text, note)

    def _thumbnail(self, reader: ImageReader, row: int, text: str) -> Thumbnail | None:
        try:
            return thumbnail(reader.image(row, at_least=_DECODED), text)
        except BadImage:
            return None


def write_page(folder: Path, summary: Summary) -> None:
    """Write `report.html` of a finished curation.

    Args:
        folder: of the curation.
        summary: its numbers.
    """
    ledger = read_ledger(folder / LEDGER)
    gallery, meanings = _Gallery(known_rows(folder)), reason_meanings(ledger)
    unread = ledger.slice(len(gallery.rows))["reason"].to_pylist()
    view = CurationView(
        data=summary.data,
        plan=summary.plan,
        description=summary.description,
        rows=summary.rows,
        unread=dict(sorted(Counter(unread).items())),
        kept=summary.kept,
        stages=[
            _stage_view(one, ledger, meanings.get(one.name, {}), gallery, folder=folder, seed=summary.seed)
            for one in summary.stages
        ],
        settings=dump_yaml(dict(summary.settings)),
        coverage=_coverage(gallery.rows, Manifest.read(folder / MANIFEST)),
        commands=list(_commands(folder, summary)),
    )
    write_curation_report(folder / REPORT, view)


def _coverage(before: Manifest, after: Manifest) -> CoverageView:
    words = word_coverage(before, after)
    return CoverageView(
        least=LEAST,
        words=words.words,
        common=words.common,
        lost=words.lost,
        fallen=[(word, *counts) for word, counts in islice(words.fallen.items(), _WORDS)],
        fallen_in_all=len(words.fallen),
        about=words.about,
        languages=[(name, *counts) for name, counts in language_counts(before, after).items()],
    )


def _commands(folder: Path, summary: Summary) -> list[tuple[str, str]]:
    found = [
        ("Train on the rows that stay", train_command(folder / MANIFEST, summary.kept)),
        ("Why a row is in or out", command_line("ledger", "explain", folder, "ID")),
    ]
    stages = [one for one in summary.stages if one.dropped and not one.taken_back]
    if stages:
        most = max(stages, key=lambda one: sum(one.dropped.values()))
        found.append((f"Take {most.name} back", command_line("ledger", "undo", folder, most.name)))
    return found


def _stage_view(
    summary: StageSummary,
    ledger: pa.Table,
    meanings: Mapping[str, str],
    gallery: _Gallery,
    *,
    folder: Path,
    seed: int,
) -> StageView:
    stage = np.array(ledger["stage"].slice(0, len(gallery.rows)).to_pylist(), dtype=object)
    dropped = ledger.take(pa.array(np.flatnonzero(stage == summary.name)))
    groups = _groups(dropped)
    drawn = _drawn(dropped, seed=seed)
    largest = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))[:_GROUPS]
    return StageView(
        name=summary.name,
        rows_in=summary.rows_in,
        rows_out=summary.rows_out,
        reasons=[
            (code, meanings.get(code, ""), count, summary.thresholds.get(code))
            for code, count in summary.dropped.items()
        ],
        notes=summary.notes,
        taken_back=summary.taken_back,
        histograms=_histograms(folder, summary),
        groups=[_group(keeper, members, gallery) for keeper, members in largest],
        groups_in_all=len(groups),
        dropped=[gallery.shown(row["id"], _note(row)) for row in ([] if groups else drawn)],
    )


def _note(row: Mapping[str, Any]) -> str:
    value = f", {number(row['value'])}" if row["value"] is not None else ""
    return f"{row['id']}: {row['reason']}{value}"


def _groups(dropped: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """Keeper -> rows that repeat it, the most similar first."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in dropped.to_pylist():
        if row["keeper"] is not None:
            groups.setdefault(row["keeper"], []).append(row)
    return groups


def _group(keeper: str, members: Sequence[Mapping[str, Any]], gallery: _Gallery) -> DuplicateGroup:
    shown = [gallery.shown(row["id"], _note(row)) for row in members[:_OF_GROUP]]
    return DuplicateGroup(gallery.shown(keeper, f"{keeper}: stays"), shown, len(members) - len(shown))


def _drawn(dropped: pa.Table, *, seed: int) -> list[dict[str, Any]]:
    """Some of the rows that a stage dropped, by seed and place."""
    order = np.argsort(uniform(seed, "curate/shown", np.arange(len(dropped)), 1)[:, 0], kind="stable")
    return dropped.take(pa.array(order[:_DRAWN])).to_pylist()


def _histograms(folder: Path, summary: StageSummary) -> list[Histogram]:
    """The values of a stage, of rows that stay and of rows that it dropped, for each threshold."""
    path = stage_files(folder).get(summary.name)
    if path is None:
        return []
    table = read_parquet(path, advice=ADVICE, columns=["reason", "value"])
    values = table["value"].to_numpy(zero_copy_only=False)
    reasons = np.array(table["reason"].to_pylist(), dtype=object)
    has_value, is_out = np.isfinite(values), reasons.astype(bool)
    stays = ~is_out & has_value
    measured = [code for code in summary.dropped if np.isfinite(values[reasons == code]).any()]
    if stays.any() and len(measured) <= 1:  # one value for all rows
        gone = is_out & has_value
        threshold = next(iter(summary.thresholds.values()), None)
        return [_histogram(summary.value, summary.value, values[stays], values[gone], threshold)]
    return [
        _histogram(code, summary.value, values[:0], values[reasons == code], summary.thresholds.get(code))
        for code in measured
    ]


def _histogram(
    title: str, axis: str, kept: np.ndarray, dropped: np.ndarray, threshold: float | None
) -> Histogram:
    every = np.concatenate([kept, dropped, [] if threshold is None else [threshold]])
    low, high = float(every.min()), float(every.max())
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    counts = [np.histogram(values, edges)[0].tolist() for values in (kept, dropped)]
    return Histogram(title, axis, edges.tolist(), counts[0], counts[1], threshold)
