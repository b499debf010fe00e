"""The jobs of a comparison: data written once, a folder a trial, in an order that stays balanced wherever it is stopped.

OUT/data/ROTATION/…parquet        rows to train on, rows that watch, rows that are judged
OUT/trials/ARM/ROTATION/FRACTION/seed-N/    a run directory each, with job.json and trial.json
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa

from frugalclip.comparison.arms import Arm
from frugalclip.comparison.protocol import Division, ProtocolConfig
from frugalclip.comparison.queue import Task
from frugalclip.comparison.results import Trial
from frugalclip.comparison.trial import JOB, Job, JobMetric, finished_trial, read_job, write_job
from frugalclip.core.errors import RecipeError
from frugalclip.core.random import stream_seed
from frugalclip.core.records import RunDirectory, read_json
from frugalclip.data.manifest import Manifest, concatenate
from frugalclip.data.splits import subset_rows

PART = "compare_part"  # the field that says train or validation
WHOLE = "all"  # stands for a rotation where nothing is left out
Samples = Mapping[tuple[str, str], int | None]  # (arm, rotation) -> samples to see


@dataclass(frozen=True, eq=False)  # told apart by identity: settings inside are mappings
class PlannedTrial:
    """One trial before it runs."""

    arm: Arm
    rotation: str  # empty without rotation
    fraction: float
    seed: int
    job: Job
    folder: Path

    @property
    def task(self) -> Task:
        return Task(self.folder, self.folder / JOB, tuple(self.arm.line()))

    def record(self) -> dict[str, Any] | None:
        """`trial.json` of an equal job, or None where the trial has not ended."""
        found = finished_trial(self.folder)
        return found if found is not None and found.get("job") == self.job.digest() else None

    def trial(self, record: Mapping[str, Any]) -> Trial:
        """The trial as statistics read it."""
        points = [row for row in RunDirectory(self.folder).rows() if "evaluation" in row]
        return Trial(
            self.arm.name,
            self.rotation,
            self.fraction,
            self.seed,
            record["metrics"],
            record["training"],
            points,
        )


def slug(text: str) -> str:
    """A word as a folder's name."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "value"


def trial_seed(index: int, rotation: int, arm: str | None, *, base: int = 0) -> int:
    """The seed of a trial.

    Args:
        index: of the repetition.
        rotation: number of the rotation; runs of two rotations share nothing, which the statistics count on.
        arm: None gives every arm the same seed, so that they share the order of the data; a name gives each its own.
        base: of the recipe.
    """
    seed = base + index + 1000 * rotation
    return seed if arm is None else stream_seed(seed, f"arm/{arm}") % 2**31


def own_samples(arm: Arm, rows: int) -> int | None:
    """Samples an arm sees by its own length on so many training rows, or None for an arm that is a command."""
    if arm.recipe is None:
        return None
    steps = arm.recipe.total_steps(rows)
    return None if steps is None else steps * arm.recipe.batch


def plan_trials(
    out: Path,
    *,
    arms: Sequence[Arm],
    everything: Manifest,
    divisions: Sequence[Division],
    protocol: ProtocolConfig,
    seeds: int,
    fractions: Sequence[float],
    samples: Samples,
    independent: bool,
    check: bool = True,
) -> list[PlannedTrial]:
    """Write the data of a comparison and say what is to be trained, seeds first, then rotations, fractions and arms.

    Args:
        out: folder of the comparison.
        arms: at least two.
        everything: the data set.
        divisions: its rotations.
        protocol: resolved.
        seeds: repetitions.
        fractions: shares of the training pairs, the last of which is 1.
        samples: how many each arm sees; the same on every fraction, so that data is what varies and not the computing.
        independent: give every arm randomness of its own.
        check: refuse folders that hold a trial of another job.

    Raises:
        RecipeError: when a folder holds a trial of another job.
    """
    data = _Data(out, everything, protocol)
    planned = []
    for seed in range(seeds):
        for number, division in enumerate(divisions):
            rotation = division.rotation or ""
            for fraction in fractions:
                place, digest = data.training(division, fraction, seed)
                for arm in arms:
                    folder = (
                        out
                        / "trials"
                        / slug(arm.name)
                        / slug(rotation or WHOLE)
                        / str(Fraction(fraction).limit_denominator(1000)).replace("/", "-")
                    )
                    job = Job(
                        arm=arm.name,
                        recipe=arm.settings_of_recipe(),
                        command=list(arm.command) if arm.command else None,
                        settings=arm.settings or {},
                        seed=trial_seed(
                            seed,
                            number,
                            arm.name if independent else None,
                            base=arm.recipe.seed if arm.recipe else 0,
                        ),
                        seed_index=seed,
                        rotation=division.rotation,
                        fraction=fraction,
                        data=str(place),
                        data_hash=digest,
                        train=f"{PART}=train",
                        validation=f"{PART}=validation" if division.validation is not None else None,
                        label_field=protocol.label_field,
                        curve=protocol.curve,
                        points=protocol.points,
                        samples=samples[arm.name, rotation],
                        metrics=data.metrics(division),
                    )
                    planned.append(PlannedTrial(arm, rotation, fraction, seed, job, folder / f"seed-{seed}"))
    for one in planned if check else ():
        _refuse_another(one)
    return planned


def calibration(planned: PlannedTrial, out: Path, *, samples: int) -> PlannedTrial:
    """A short trial of the same arm that only shows its speed."""
    job = planned.job.model_copy(update={"samples": samples, "points": 1, "metrics": {}})
    return PlannedTrial(
        planned.arm, planned.rotation, 1.0, planned.seed, job, out / "calibration" / slug(planned.arm.name)
    )


def write(planned: PlannedTrial) -> Task:
    """Put the job of a trial into its folder."""
    planned.folder.mkdir(parents=True, exist_ok=True)
    write_job(planned.folder, planned.job)
    return planned.task


def _refuse_another(planned: PlannedTrial) -> None:
    path = planned.folder / JOB
    if not path.is_file() or (old := read_job(path)).digest() == planned.job.digest():
        return
    before, now = old.model_dump(mode="json"), planned.job.model_dump(mode="json")
    changed = next(
        (
            key
            for key in now
            if key != "data"
            and json.dumps(before[key], sort_keys=True) != json.dumps(now[key], sort_keys=True)
        ),
        "data",
    )
    raise RecipeError(
        f"{planned.folder} holds a trial with another '{changed}'; compare into a new --out, or delete that folder to train it again."
    )


class _Data:
    """Manifests of a comparison, each written once."""

    def __init__(self, out: Path, everything: Manifest, protocol: ProtocolConfig) -> None:
        self.folder, self.everything, self.protocol = out / "data", everything, protocol
        self.hashes: dict[Path, str] = {}
        self._metrics: dict[str | None, dict[str, JobMetric]] = {}

    def training(self, division: Division, fraction: float, seed: int) -> tuple[Path, str]:
        """The file with the rows that are trained on and those that watch, and its fingerprint; a fraction has its own rows for every seed."""
        part = (
            "1"
            if fraction == 1
            else f"{str(Fraction(fraction).limit_denominator(1000)).replace('/', '-')}-seed-{seed}"
        )
        path = self._folder(division) / f"train-{part}.parquet"
        if path not in self.hashes:
            train = division.train.take(
                subset_rows(division.train, fraction, self.protocol.subset, seed=seed)
            )
            parts = [
                _marked(train, "train"),
                *([_marked(division.validation, "validation")] if division.validation is not None else []),
            ]
            self._write(path, concatenate(parts, name=self.everything.name))
        return path.resolve(), self.hashes[path]

    def metrics(self, division: Division) -> dict[str, JobMetric]:
        """The figures of a division with their rows as files."""
        if division.rotation not in self._metrics:
            self._metrics[division.rotation] = {
                name: self._metric(division, name) for name in self.protocol.metrics
            }
        return self._metrics[division.rotation]

    def _metric(self, division: Division, name: str) -> JobMetric:
        config = self.protocol.metrics[name]
        rows, whole = self._folder(division) / f"judged-{slug(name)}.parquet", self.folder / "all.parquet"
        self._write(rows, division.judged[name])
        if config.pool == "all" and whole not in self.hashes:
            self._write(whole, self.everything)
        content = config.model_dump(exclude={"where", "primary", "description"})
        everything = str(whole.resolve()) if config.pool == "all" else None
        return JobMetric.model_validate(
            {**content, "rows": str(rows.resolve()), "everything": everything, "rows_hash": self.hashes[rows]}
        )

    def _folder(self, division: Division) -> Path:
        return self.folder / slug(division.rotation or WHOLE)

    def _write(self, path: Path, manifest: Manifest) -> None:
        """Write a manifest unless the file already holds it, so that trials under way elsewhere do not see it change."""
        if not (path.is_file() and _holds(Manifest.read(path), manifest)):
            manifest.write(path)
        self.hashes[path] = manifest.fingerprint()


def _holds(old: Manifest, new: Manifest) -> bool:
    """Whether a file has the same samples and fields; places of pictures are compared by the fingerprint, which knows that folders move."""
    fields = [manifest.table.drop_columns(["image"]).replace_schema_metadata(None) for manifest in (old, new)]
    return fields[0].equals(fields[1]) and old.fingerprint() == new.fingerprint()


def _marked(manifest: Manifest, part: str) -> Manifest:
    """The manifest with the field that says which part it is."""
    table = manifest.table.drop_columns([PART]) if PART in manifest.table.column_names else manifest.table
    return Manifest(
        table.append_column(PART, pa.array([part] * len(manifest), pa.string())), manifest.root, manifest.name
    )


def failures(planned: Sequence[PlannedTrial], out: Path) -> dict[str, str]:
    """Messages of trials that failed, by folder beneath `out`; what has finished since is left out."""
    path = out / "failures.json"
    found: dict[str, str] = read_json(path) if path.is_file() else {}
    finished = {str(one.folder.relative_to(out)) for one in planned if one.record() is not None}
    return {folder: message for folder, message in found.items() if folder not in finished}
