"""Rows that watch a run: how they are set aside, and how they are scored at every evaluation point.

A split that the data brings is used. Without one, 5 % of the captions are set aside by a hash of the caption, so that a caption is on one
side only and the choice is the same in every run, whatever its seed.
"""

from dataclasses import dataclass

import numpy as np
import torch

from frugalclip.core import distributed
from frugalclip.core.errors import DataError
from frugalclip.core.random import uniform
from frugalclip.core.types import ImageInput
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.retrieval import RetrievalTask, retrieval_task
from frugalclip.evaluation.zeroshot import ZeroshotTask, zeroshot_task
from frugalclip.models import Model
from frugalclip.training.recipe import DataConfig, EvaluationConfig

HELD_OUT = 0.05
LEAST_ROWS = 40  # fewer pairs than this and a held-out part would say nothing
VALIDATION_NAMES = ("val", "valid", "validation", "dev")


@dataclass(frozen=True)
class DataSplit:
    """A data set divided for one run."""

    train: Manifest
    validation: Manifest | None
    where: str | None  # the condition that gives the training rows, implied or as written
    notes: list[str]  # how it was divided, for the reader


def divide(everything: Manifest, config: DataConfig) -> DataSplit:
    """Training rows and the rows that watch the run.

    Args:
        everything: the data set before `where`.
        config: the `data` section.

    Returns:
        The two parts and how they were chosen.

    Raises:
        DataError: when the two parts share rows.
    """
    where, validation, notes = config.where, config.validation, []
    splits = set(everything.field("split")) if "split" in everything.field_names else set()
    if where is None and "train" in splits and validation != "none":
        where = "split=train"
        notes.append("trains on split=train, as the data says")
    train = everything.where(where)
    if validation == "none":
        return DataSplit(train, None, where, notes)
    if validation != "auto":
        return DataSplit(train, _apart(everything.where(validation), train, validation), where, notes)
    named = [name for name in VALIDATION_NAMES if name in splits]
    clauses = [clause.strip() for clause in (where or "").split(",")]
    if named and "split=train" in clauses:
        # the same rows of the other part if there are any, otherwise the whole part
        same = ",".join(f"split={named[0]}" if clause == "split=train" else clause for clause in clauses)
        try:
            watched, condition = everything.where(same), same
        except DataError:
            condition = f"split={named[0]}"
            watched = everything.where(condition)
        notes.append(f"{len(watched):,} rows with {condition} watch the run")
        return DataSplit(train, watched, where, notes)
    return _hold_out(train, where, notes)


def _apart(watched: Manifest, train: Manifest, condition: str) -> Manifest:
    shared = set(watched.ids) & set(train.ids)
    if shared:
        raise DataError(
            f"data.validation '{condition}' names {len(shared)} rows that are trained on too (such as {min(shared)}); exclude them in data.where."
        )
    return watched


def _hold_out(train: Manifest, where: str | None, notes: list[str]) -> DataSplit:
    if len(train) < LEAST_ROWS:
        return DataSplit(
            train,
            None,
            where,
            [*notes, f"{len(train)} rows are too few to set some aside; nothing watches the run"],
        )
    codes = train.codes("captions").view(np.uint64)
    is_out = uniform(0, "held-out", codes, 1)[:, 0] < HELD_OUT
    if not is_out.any() or is_out.all():
        return DataSplit(
            train,
            None,
            where,
            [*notes, "the captions are too few to set some aside; nothing watches the run"],
        )
    rows = np.arange(len(train))
    notes = [
        *notes,
        f"{int(is_out.sum()):,} of {len(train):,} rows are set aside by caption to watch the run",
    ]
    return DataSplit(train.take(rows[~is_out]), train.take(rows[is_out]), where, notes)


class Validator:
    """Scores a model on the validation rows; pictures are decoded and preprocessed once, each process a share of them."""

    def __init__(self, manifest: Manifest, config: EvaluationConfig, model: Model) -> None:
        number = min(len(manifest), config.rows)
        drawn = np.argsort(uniform(0, "watch", np.arange(len(manifest)), 1)[:, 0], kind="stable")
        chosen = manifest.take(np.sort(drawn[:number]))
        share = distributed.share_of_rows(len(chosen))
        faults: list[tuple[int, str]] = []
        rows: list[int] = []
        self.inputs: list[ImageInput] = []
        for part, inputs in model.image_inputs(
            chosen.take(np.asarray(share, dtype=np.int64)), batch=256, faults=faults
        ):
            rows.extend(row + share.start for row in part)
            self.inputs.append(inputs)
        order = np.argsort(rows, kind="stable")  # the cache gives what it holds first
        rows, self.order = [rows[i] for i in order], torch.from_numpy(order)
        lost = [(chosen.ids[row + share.start], cause) for row, cause in faults]
        self.faults = [fault for part in distributed.all_parts(lost) for fault in part]  # (id, cause)
        kept = [row for part in distributed.all_parts(rows) for row in part]
        self.manifest = chosen.take(np.asarray(kept, dtype=np.int64)) if len(kept) < len(chosen) else chosen
        self.retrieval: RetrievalTask = retrieval_task(self.manifest)
        self.zeroshot: ZeroshotTask = zeroshot_task(self.manifest, label_field=config.label_field)

    def measure(self, model: Model) -> dict[str, float]:
        """Retrieval and zero-shot figures in percent, `<task>/<metric>`; the same on every process."""
        parts = [model.encode_image(inputs) for inputs in self.inputs]
        own = torch.cat(parts)[self.order] if parts else torch.zeros(0, model.dim)
        images = torch.cat(distributed.all_parts(own))
        metrics: dict[str, float] = {}
        for name, task in (("zeroshot", self.zeroshot), ("retrieval", self.retrieval)):
            share = distributed.share_of_rows(len(task.texts))
            texts = torch.cat(distributed.all_parts(model.encode_text(task.texts[share.start : share.stop])))
            found = task.metrics(images[torch.as_tensor(task.rows)], texts)
            metrics |= {f"{name}/{key}": round(value, 4) for key, value in found.items()}
        return metrics
