"""The trials of a comparison, in an order that stays balanced wherever it is stopped.

OUT/data/FOLD/…parquet                    training, validation and evaluated rows, written once
OUT/trials/ARM/FOLD/FRACTION/seed-N/      a run directory for each trial
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pyarrow as pa

from frugalclip.comparison.arms import Arm
from frugalclip.comparison.design import Design
from frugalclip.comparison.folds import Fold
from frugalclip.comparison.jobs import JOB, JobMetric, Trial, TrialJob, read_job
from frugalclip.comparison.protocol import ProtocolConfig
from frugalclip.core.errors import RecipeError
from frugalclip.core.random import stream_seed
from frugalclip.data.manifest import Manifest, concatenate
from frugalclip.data.splits import subset_rows

SPLIT = "compare_split"  # the field that says train or validation
WHOLE = "all"  # name of the folder of a fold where nothing is held out
Lengths = Mapping[tuple[str, str], int | None]  # (arm, fold) -> samples to see, None for the arm's own length


def slug(text: str) -> str:
    """A text as the name of a folder."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "value"


def trial_seed(index: int, fold: int, arm: str | None, *, base: int = 0) -> int:
    """The seed of a trial.

    Args:
        index: number of the repetition.
        fold: number of the fold; runs of two folds share no seed, which the statistics assume.
        arm: None gives every arm the same seed, so that they share the order of the data; a name gives each
            its own.
        base: seed of the recipe.
    """
    seed = base + index + 1000 * fold
    return seed if arm is None else stream_seed(seed, f"arm/{arm}") % 2**31


def trial_lengths(arms: Sequence[Arm], folds: Sequence[Fold], samples: int | None) -> Lengths:
    """Samples that each arm sees on each fold.

    Args:
        arms: of the comparison.
        folds: of the data.
        samples: the same for all arms; None for the length in an arm's recipe.
    """
    return {
        (arm.name, fold.name): samples or _own_length(arm, len(fold.train)) for arm in arms for fold in folds
    }


def _own_length(arm: Arm, rows: int) -> int | None:
    if arm.recipe is None:
        return None
    steps = arm.recipe.total_steps(rows)
    return None if steps is None else steps * arm.recipe.batch


def plan_trials(
    design: Design, folds: Sequence[Fold], files: "DataFiles", *, lengths: Lengths
) -> list[Trial]:
    """The trials of a comparison: seeds first, then folds, fractions and arms.

    Args:
        design: what is compared.
        folds: of the data.
        files: writes the rows that trials read.
        lengths: samples of each arm; the same for every fraction, so that data varies and compute does not.
    """
    trials = []
    for index in range(design.seeds):
        for number, fold in enumerate(folds):
            for fraction in design.fractions:
                for arm in design.arms:
                    if fraction != 1 and arm.name in design.full_data:
                        continue
                    own = arm.name if design.has_independent_seeds else None
                    base = arm.recipe.seed if arm.recipe else 0
                    seed = trial_seed(index, number, own, base=base)
                    job = files.job(arm, fold, fraction, seed=seed, index=index)
                    job = job.model_copy(update={"samples": lengths[arm.name, fold.name]})
                    trials.append(Trial(job, _trial_folder(files.out, job)))
    return trials


def _trial_folder(out: Path, job: TrialJob) -> Path:
    fold = slug(job.fold or WHOLE)
    return out / "trials" / slug(job.arm) / fold / _share(job.fraction) / f"seed-{job.seed_index}"


def _share(fraction: float) -> str:
    return str(Fraction(fraction).limit_denominator(1000)).replace("/", "-")


def speed_trial(trial: Trial, out: Path, *, samples: int) -> Trial:
    """A short trial of the same arm, to measure its speed."""
    job = trial.job.model_copy(update={"samples": samples, "points": 1, "metrics": {}})
    return replace(trial, job=job, folder=out / "calibration" / slug(trial.arm))


def refuse_other_jobs(trials: Sequence[Trial]) -> None:
    """Refuse folders that hold trials of other jobs.

    Raises:
        RecipeError: naming the first setting that differs.
    """
    for trial in trials:
        path = trial.folder / JOB
        if not path.is_file() or (old := read_job(path)).digest() == trial.job.digest():
            continue
        raise RecipeError(
            f"{trial.folder} holds a trial with another '{_changed(old, trial.job)}'; "
            "compare into a new --out, or delete that folder to train it again."
        )


def _changed(old: TrialJob, new: TrialJob) -> str:
    """The first setting in which two jobs differ, paths apart."""
    before, now = old.model_dump(mode="json"), new.model_dump(mode="json")
    different = (
        key
        for key in now
        if key != "data" and json.dumps(before[key], sort_keys=True) != json.dumps(now[key], sort_keys=True)
    )
    return next(different, "data")


class DataFiles:
    """Manifests that the trials of a comparison read, each written once.

    Args:
        out: folder of the comparison.
        everything: the data set.
        protocol: resolved.
    """

    def __init__(self, out: Path, everything: Manifest, protocol: ProtocolConfig) -> None:
        self.out, self.everything, self.protocol = out, everything, protocol
        self._hashes: dict[Path, str] = {}
        self._metrics: dict[str, dict[str, JobMetric]] = {}

    def job(self, arm: Arm, fold: Fold, fraction: float, *, seed: int, index: int) -> TrialJob:
        """The job of an arm on a fold, with its data written.

        Args:
            arm: what is trained.
            fold: what it is trained on.
            fraction: share of the training pairs.
            seed: of the trial.
            index: number of the repetition, which chooses the pairs of a fraction.
        """
        path, digest = self._training(fold, fraction, index)
        return TrialJob(
            arm=arm.name,
            recipe=arm.recipe_settings(),
            command=list(arm.command) if arm.command else None,
            settings=arm.settings or {},
            seed=seed,
            seed_index=index,
            fold=fold.value,
            fraction=fraction,
            data=str(path),
            data_hash=digest,
            train=f"{SPLIT}=train",
            validation=f"{SPLIT}=validation" if fold.validation is not None else None,
            label_field=self.protocol.label_field,
            curve=self.protocol.curve,
            points=self.protocol.points,
            metrics=self._evaluation(fold),
        )

    def _training(self, fold: Fold, fraction: float, index: int) -> tuple[Path, str]:
        """The file with training and validation rows, and its fingerprint."""
        share = "1" if fraction == 1 else f"{_share(fraction)}-seed-{index}"
        path = self._folder(fold) / f"train-{share}.parquet"
        if path not in self._hashes:
            rows = subset_rows(fold.train, fraction, self.protocol.subset, seed=index)
            splits = [_marked(fold.train.take(rows), "train")]
            if fold.validation is not None:
                splits.append(_marked(fold.validation, "validation"))
            self._write(path, concatenate(splits, name=self.everything.name))
        return path.resolve(), self._hashes[path]

    def _evaluation(self, fold: Fold) -> dict[str, JobMetric]:
        """The metrics of a fold with their rows as files."""
        if fold.name not in self._metrics:
            names = self.protocol.metrics
            self._metrics[fold.name] = {name: self._metric(fold, name) for name in names}
        return self._metrics[fold.name]

    def _metric(self, fold: Fold, name: str) -> JobMetric:
        config = self.protocol.metrics[name]
        rows, everything = self._folder(fold) / f"evaluated-{slug(name)}.parquet", None
        self._write(rows, fold.evaluated[name])
        if config.pool == "all":
            everything = self.out / "data" / "all.parquet"
            if everything not in self._hashes:
                self._write(everything, self.everything)
        return JobMetric(
            config=config,
            rows=str(rows.resolve()),
            rows_hash=self._hashes[rows],
            everything=str(everything.resolve()) if everything else None,
        )

    def _folder(self, fold: Fold) -> Path:
        return self.out / "data" / slug(fold.name or WHOLE)

    def _write(self, path: Path, manifest: Manifest) -> None:
        """Write a manifest unless the file holds it already, since other trials may be reading it."""
        if not (path.is_file() and _is_equal(Manifest.read(path), manifest)):
            manifest.write(path)
        self._hashes[path] = manifest.fingerprint()


def _is_equal(old: Manifest, new: Manifest) -> bool:
    """Whether two manifests hold the same samples and fields.

    Paths of images are compared by the fingerprint, which allows for moved folders.
    """
    fields = [manifest.table.drop_columns(["image"]).replace_schema_metadata(None) for manifest in (old, new)]
    return fields[0].equals(fields[1]) and old.fingerprint() == new.fingerprint()


def _marked(manifest: Manifest, split: str) -> Manifest:
    """The manifest with the field that names its split."""
    table = manifest.table.drop_columns([SPLIT]) if SPLIT in manifest.table.column_names else manifest.table
    column = pa.array([split] * len(manifest), pa.string())
    return Manifest(table.append_column(SPLIT, column), manifest.root, manifest.name)
