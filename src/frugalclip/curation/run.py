"""Runs a plan over a data set in a folder of its own.

Everything expensive is a shard of the folder's job: the measures of the images, and what each stage decided.
A call that was killed goes on with the next shard, and ends with the same bytes.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from frugalclip.core.errors import DataError
from frugalclip.core.executors import Executor, InlineExecutor
from frugalclip.core.jobs import FOLDER, Job, Shard, ShardTask, content_key
from frugalclip.curation.base import PlannedStage, StageRows, Verdict
from frugalclip.curation.measures import ImageMeasures, measure_images
from frugalclip.curation.plan import CurationPlan
from frugalclip.data.image_faults import DECODING
from frugalclip.data.manifest import CAPTIONS, Manifest
from frugalclip.data.tables import read_parquet

pc: Any = pyarrow.compute  # its functions are made at import, out of sight of type checkers

VERSION = 1
OTHERS = "others"  # folder of the manifests of data sets that rows are compared with
_DECIDED = ("reason", "value", "threshold", "keeper", "detail")
WRITTEN = "captions"  # column of the captions of every row, where a stage has written some
ADVICE = "delete it and call again with --resume, which runs the stage again"
Bar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@final
@dataclass(frozen=True)
class Decided:
    """What one stage decided about the rows that reached it."""

    name: str
    table: pa.Table  # `id`, then reason (null: stays), value, threshold, keeper, detail, and its scores
    value: str = ""  # what the values are
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def is_kept(self) -> np.ndarray:
        """(rows,) bool."""
        return self.table["reason"].is_null().to_numpy(zero_copy_only=False)

    def columns(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Reason, value, threshold, keeper and detail of some of the rows."""
        part = self.table.take(pa.array(rows))
        return {name: part[name].to_numpy(zero_copy_only=False) for name in _DECIDED}

    def scores(self) -> dict[str, np.ndarray]:
        """Score -> (rows,)."""
        names = [name for name in self.table.column_names if name not in ("id", WRITTEN, *_DECIDED)]
        return {name: self.table[name].to_numpy(zero_copy_only=False) for name in names}


@final
class CurationRun:
    """A plan, a data set, and the folder where the plan is run over it.

    Args:
        folder: of the curation.
        manifest: the data set.
        plan: its stages.
        executor: where images are measured.
        threads: that decode images, in each process.
        bar: gives a function that is told of progress, for a description and a total.
        share: of all rows, where these are a sample.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        plan: CurationPlan,
        *,
        executor: Executor,
        bar: Bar,
        threads: int = 1,
        share: float = 1.0,
    ) -> None:
        self.folder, self.plan, self.executor, self.bar = folder, plan, executor, bar
        self.threads, self.share = threads, share
        self.source = manifest
        self.order = np.argsort(np.array(manifest.ids, dtype=object), kind="stable")
        self.manifest = manifest.take(self.order)  # sorted by id
        content = {"version": VERSION, "data": self.manifest.digest(), **plan.content()}
        self.job = Job(folder, content, what="stages of a curation")

    def begin(self, *, resume: bool) -> None:
        """Make the folder this curation's, or check that it is.

        Raises:
            DataError: when it holds an earlier curation and `resume` is not given, or anything else.
        """
        if (self.folder / FOLDER).is_dir() and not resume:
            raise DataError(
                f"{self.folder} holds an earlier curation; add --resume to go on with it, or give --out a "
                "new folder."
            )
        self.job.begin()

    def stages(self) -> Iterator[Decided]:
        """Go through the stages in order, or read what an earlier call has decided."""
        kept = np.arange(len(self.manifest))
        scores: dict[str, np.ndarray] = {}
        key, manifest = content_key(self.job.plan), self.manifest
        measures = None
        if self.plan.needs_images:
            measures = self.measures_of(self.source, name="images").take(self.order)
            decided = self._unreadable(measures)
            yield decided
            kept = kept[decided.is_kept]
        for number, planned in enumerate(self.plan.stages, start=1):
            key = content_key(key, number)
            rows = self._rows(planned, manifest, kept, measures, scores)
            decided = self._decide(planned, rows, Shard(f"{number:02d}-{planned.name}", key, rows))
            yield decided
            manifest = with_captions(manifest, decided.table)
            stays = decided.is_kept
            scores = {name: values[stays] for name, values in {**scores, **decided.scores()}.items()}
            kept = kept[stays]

    def measures_of(self, manifest: Manifest, *, name: str) -> ImageMeasures:
        """Measures of the images of a data set, made once; one that is not curated is kept as a manifest."""
        if manifest is not self.source:
            manifest.write(self.folder / OTHERS / f"{name}.parquet")
        with self.bar(f"measuring {name}", len(manifest)) as progress:
            return measure_images(
                self.job, manifest, self.executor, name=name, threads=self.threads, progress=progress
            )

    def store_folder(self, name: str) -> Path:
        """A folder for the vectors of a stage."""
        return self.folder / "stores" / name

    def _rows(
        self,
        planned: PlannedStage,
        manifest: Manifest,
        kept: np.ndarray,
        measures: ImageMeasures | None,
        scores: Mapping[str, np.ndarray],
    ) -> StageRows:
        needs_images = planned.stage.needs().images
        images = measures.take(kept) if needs_images and measures is not None else None
        return StageRows(manifest.take(kept), images, scores, self.plan.seed, services=self, share=self.share)

    def _unreadable(self, measures: ImageMeasures) -> Decided:
        """Rows whose image cannot be read, as the decision of a stage."""
        fault, nothing = measures.table["fault"], pa.nulls(len(measures), pa.float64())
        columns = {
            "id": self.manifest.table["id"],
            "reason": fault,
            "value": nothing,
            "threshold": nothing,
            "keeper": pa.nulls(len(measures), pa.string()),
            "detail": measures.table["detail"],
        }
        return Decided(DECODING.name, pa.table(columns))

    def _decide(self, planned: PlannedStage, rows: StageRows, shard: Shard[StageRows]) -> Decided:
        (record,) = self.job.run([shard], _StageTask(planned), InlineExecutor())
        path = self.job.folder / _path(shard.name)
        table = read_parquet(path, advice=ADVICE)
        notes, seconds = tuple(record.notes["notes"]), record.notes["seconds"]
        return Decided(planned.name, table, planned.stage.value, notes, seconds)


@final
@dataclass(frozen=True)
class _StageTask(ShardTask[StageRows]):
    """Runs a stage and writes what it decided."""

    planned: PlannedStage

    def make(self, shard: Shard[StageRows], folder: Path) -> dict[str, Any]:
        begun = time.monotonic()
        verdict = self.planned.stage.decide(shard.content)
        path = folder / _path(shard.name)
        path.parent.mkdir(parents=True)
        pq.write_table(_verdict_table(verdict, shard.content.manifest.table["id"]), path, compression="zstd")
        return {"notes": list(verdict.notes), "seconds": round(time.monotonic() - begun, 3)}


def _verdict_table(verdict: Verdict, ids: pa.ChunkedArray) -> pa.Table:
    text, number = pa.string(), pa.float64()
    columns = {
        "id": ids,
        "reason": pa.array(verdict.reasons, text),
        "value": pa.array(verdict.values, number, from_pandas=True),
        "threshold": pa.array(verdict.thresholds, number, from_pandas=True),
        "keeper": pa.array(verdict.keepers, text),
        "detail": pa.nulls(len(ids), text),
    }
    if verdict.captions is not None:
        columns[WRITTEN] = pa.array(verdict.captions, CAPTIONS)
    return pa.table({**columns, **{name: pa.array(values) for name, values in verdict.scores.items()}})


def with_captions(manifest: Manifest, decided: pa.Table) -> Manifest:
    """The data set with the captions that a stage has written, if it has written any.

    Args:
        manifest: the data set.
        decided: what the stage decided about some of its rows.
    """
    if WRITTEN not in decided.column_names:
        return manifest
    places = pc.index_in(manifest.table["id"], value_set=decided["id"].combine_chunks())
    new = decided[WRITTEN].take(places)  # null for rows that did not reach the stage
    column = pc.coalesce(new, manifest.table["captions"])
    position = manifest.table.column_names.index("captions")
    return Manifest(manifest.table.set_column(position, "captions", column), manifest.root, manifest.name)


def _path(name: str) -> str:
    return f"stages/{name}.parquet"


def stage_files(folder: Path) -> dict[str, Path]:
    """Name of a stage -> the file of what it decided, in the order of the plan."""
    paths = sorted((folder / "stages").glob("*.parquet"))
    return {path.stem.partition("-")[2]: path for path in paths}


def stage_meanings(plan: CurationPlan) -> dict[str, dict[str, str]]:
    """Stage -> reason -> plain words."""
    found = {DECODING.name: dict(DECODING.reasons)} if plan.needs_images else {}
    return {**found, **{planned.name: dict(planned.stage.reasons) for planned in plan.stages}}
