"""What a curation leaves: the manifest, the ledger and the summary, made from what its stages decided."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa

from frugalclip.core.errors import DataError, known_names
from frugalclip.core.records import read_json, write_json
from frugalclip.curation.ledger import Fates, read_ledger, taken_back, write_ledger
from frugalclip.curation.run import (
    ADVICE,
    OTHERS,
    CurationRun,
    Decided,
    stage_files,
    stage_meanings,
    with_captions,
)
from frugalclip.data.ledger import KEPT
from frugalclip.data.manifest import Manifest
from frugalclip.data.tables import read_parquet
from frugalclip.sources.base import Source

VERSION = 1
MANIFEST, LEDGER, ROWS = "manifest.parquet", "ledger.parquet", "rows.parquet"
SUMMARY, REPORT = "summary.json", "report.html"
_ADVICE = "write it again with: frugalclip curate PATH --plan PLAN --out DIR --resume"


@final
@dataclass(frozen=True)
class StageSummary:
    """Rows in and out of one stage."""

    name: str
    rows_in: int
    rows_out: int
    dropped: Mapping[str, int]  # reason -> rows
    thresholds: Mapping[str, float]  # reason -> what values were compared with, where there is one
    value: str = ""  # what its values are
    notes: Sequence[str] = ()
    seconds: float = 0.0
    taken_back: bool = False


@final
@dataclass(frozen=True)
class Summary:
    """What became of a data set, in numbers."""

    plan: str
    description: str
    seed: int
    data: str
    rows: int  # that were read, with those that reading left out
    unread: int  # that reading left out
    kept: int
    stages: Sequence[StageSummary]
    seconds: float
    version: int = VERSION
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the plan

    @staticmethod
    def read(folder: Path) -> "Summary":
        """The summary of a finished curation.

        Raises:
            DataError: when the folder holds none.
        """
        try:
            found = read_json(folder / SUMMARY, error=DataError, advice=_ADVICE)
            if found.get("version") != VERSION:
                raise DataError(f"{folder / SUMMARY} is of another version than {VERSION}; {_ADVICE}.")
            return Summary(**{**found, "stages": [StageSummary(**stage) for stage in found["stages"]]})
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(f"{folder} holds no finished curation; {_ADVICE}.") from None
        except (TypeError, KeyError, AttributeError):
            raise DataError(f"{folder / SUMMARY} is no summary of a curation; {_ADVICE}.") from None


def stage_summary(decided: Decided) -> StageSummary:
    """Rows in and out of a stage."""
    table = decided.table
    dropped = np.flatnonzero(~decided.is_kept)
    columns = decided.columns(dropped)
    counts = Counter(columns["reason"].tolist())
    thresholds = {
        reason: float(threshold)
        for reason, threshold in zip(columns["reason"], columns["threshold"], strict=True)
        if np.isfinite(threshold)
    }
    return StageSummary(
        decided.name,
        table.num_rows,
        table.num_rows - len(dropped),
        dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        dict(sorted(thresholds.items())),
        decided.value,
        decided.notes,
        decided.seconds,
    )


def finish(run: CurationRun, source: Source) -> Summary:
    """Go through the stages, and write manifest, ledger and summary.

    Args:
        run: begun.
        source: the data set as it was read.
    """
    fates = Fates(run.manifest.ids)
    scores: dict[str, np.ndarray] = {}
    stages = []
    for decided in run.stages():
        rows, dropped = fates.rows, np.flatnonzero(~decided.is_kept)
        for name, values in decided.scores().items():
            scores[name] = _at(values, rows, len(fates.ids))
        fates.drop(decided.name, rows[dropped], decided.columns(dropped))
        stages.append(stage_summary(decided))
    original = np.empty(len(run.order), dtype=np.int64)
    original[run.order] = np.arange(len(run.order))  # where each row of the data set is among the sorted ones
    ledger = fates.table(original, source.ledger.entries, stage_meanings(run.plan))
    whole = _with_scores(run.source, {name: values[original] for name, values in scores.items()})
    whole.write(run.folder / ROWS)
    summary = Summary(
        run.plan.name,
        run.plan.description,
        run.plan.seed,
        run.source.name,
        source.seen,
        source.seen - len(run.source),
        int(fates.is_kept.sum()),
        stages,
        round(sum(stage.seconds for stage in stages), 3),
        settings=run.plan.content(),
    )
    for stage in _stages_taken_back(run.folder):
        summary, ledger = _without(summary, ledger, stage)
    _publish(run.folder, whole, ledger, summary)
    return summary


def _stages_taken_back(folder: Path) -> list[str]:
    """Names of the stages that were taken back before the call is made again."""
    if not (folder / SUMMARY).is_file():
        return []
    return [stage.name for stage in Summary.read(folder).stages if stage.taken_back]


def undo(folder: Path, stage: str) -> Summary:
    """Take a stage back: rows that it dropped are in again, and no stage runs.

    Raises:
        DataError: when the folder holds no finished curation, or there is no such stage.
    """
    summary, ledger = Summary.read(folder), read_ledger(folder / LEDGER)
    names = [one.name for one in summary.stages]
    if stage not in names:
        raise DataError(f"'{stage}' is no stage of {folder}; {known_names(stage, names)}")
    summary, ledger = _without(summary, ledger, stage)
    _publish(folder, Manifest.read(folder / ROWS), ledger, summary)
    return summary


def _without(summary: Summary, ledger: pa.Table, stage: str) -> tuple[Summary, pa.Table]:
    """Summary and ledger with the rows that a stage dropped in again."""
    changed = taken_back(ledger, stage)
    kept = int(np.sum(changed["fate"].to_numpy(zero_copy_only=False) == KEPT))
    stages = [replace(one, taken_back=one.taken_back or one.name == stage) for one in summary.stages]
    return replace(summary, kept=kept, stages=stages), changed


def known_rows(folder: Path) -> list[Manifest]:
    """The rows of a curation, and the data sets that they were compared with."""
    others = sorted((folder / OTHERS).glob("*.parquet"))
    return [Manifest.read(path) for path in (folder / ROWS, *others)]


def _publish(folder: Path, whole: Manifest, ledger: pa.Table, summary: Summary) -> None:
    """Write the files; the ledger, from which a stage is taken back, comes last."""
    is_kept = ledger["fate"].slice(0, len(whole)).to_numpy(zero_copy_only=False) == KEPT
    if not is_kept.any():
        raise DataError(
            f"the plan {summary.plan} drops all {len(whole):,} rows of {summary.data}; see what each stage "
            "drops with --dry-run, and loosen the plan."
        )
    _recaptioned(folder, whole.take(np.flatnonzero(is_kept)), summary).write(folder / MANIFEST)
    write_json(folder / SUMMARY, asdict(summary))
    write_ledger(ledger, folder / LEDGER)


def _recaptioned(folder: Path, manifest: Manifest, summary: Summary) -> Manifest:
    """The rows with the captions that stages have written, but for stages that were taken back."""
    files = stage_files(folder)
    for stage in summary.stages:
        if stage.name in files and not stage.taken_back:
            manifest = with_captions(manifest, read_parquet(files[stage.name], advice=ADVICE))
    return manifest


def _at(values: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """(count,) the values at some rows, None or NaN elsewhere."""
    is_number = values.dtype.kind == "f"
    result = np.full(count, np.nan) if is_number else np.full(count, None, dtype=object)
    result[rows] = values
    return result


def _with_scores(manifest: Manifest, scores: Mapping[str, np.ndarray]) -> Manifest:
    """The manifest with a field for each score, in place of one of the same name."""
    table = manifest.table
    for name, values in scores.items():
        table = table.drop_columns([name]) if name in table.column_names else table
        table = table.append_column(name, pa.array(values, from_pandas=True))
    return Manifest(table, manifest.root, manifest.name)
