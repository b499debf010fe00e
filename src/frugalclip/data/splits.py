"""Divisions of a data set: training and validation rows, and smaller data sets inside it.

A split that the data brings is used. Without one, 5 % of the families, or else captions, are held out by a
hash, so that each is on one side only, and every run holds out the same ones whatever its seed. A group so
large that it would be a tenth of the validation set stays in training; where most groups are, captions are
names of classes, and single rows are held out. Subsets of one seed are nested: the half holds the quarter. No
division depends on the order of the rows.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from frugalclip.core.config import Settings
from frugalclip.core.errors import DataError
from frugalclip.core.random import uniform
from frugalclip.data.manifest import Manifest

TRAINING = "split=train"  # the rows to train on, where the data divides itself
VALIDATION_NAMES = ("val", "valid", "validation", "dev")
TEST_NAMES = ("test", "testing")
HELD_OUT = 0.05
MOST_OF_ONE = 0.1  # of the validation rows, in one group
LEAST_LIMIT = 4  # rows of a group that is never too large
FAMILIES = ("family", "component")  # fields whose equal values belong on one side
LEAST_ROWS = 40  # with fewer rows a held-out set would tell nothing


@dataclass(frozen=True)
class DataSplit:
    """A data set divided for one run."""

    train: Manifest
    validation: Manifest | None
    where: str | None  # the condition of the training rows, implied or as written
    notes: list[str]  # how it was divided, for the reader


def divide(everything: Manifest, *, where: str | None, validation: str) -> DataSplit:
    """Training rows and validation rows.

    Args:
        everything: the data set before `where`.
        where: condition of the training rows; None is `split=train` where the data has it, else all rows.
        validation: `auto`, `none`, or a condition.

    Raises:
        DataError: when both sides share rows.
    """
    notes: list[str] = []
    splits = set(everything.field("split")) if "split" in everything.field_names else set()
    if where is None and "train" in splits and validation != "none":
        where = TRAINING
        notes.append(f"trains on {TRAINING}, the data's own split")
    train = everything.where(where)
    if validation == "none":
        return DataSplit(train, None, where, notes)
    if validation != "auto":
        return DataSplit(train, _disjoint(everything.where(validation), train, validation), where, notes)
    clauses = [clause.strip() for clause in (where or "").split(",")]
    name = next((name for name in VALIDATION_NAMES if name in splits), None)
    if name is None or TRAINING not in clauses:
        return _held_out(train, where, notes)
    rows, condition = _validation_rows(everything, clauses, f"split={name}")
    notes.append(f"validates on {len(rows):,} rows with {condition}")
    return DataSplit(train, rows, where, notes)


def evaluation_condition(everything: Manifest, where: str | None) -> str | None:
    """The rows that the data keeps for a last evaluation: its test split, else its validation split.

    Args:
        everything: the data set before `where`.
        where: the condition of the training rows, implied or as written.

    Returns:
        A condition; None where the data brings no split, or its train split is not what is trained on.
    """
    clauses = [clause.strip() for clause in (where or "").split(",")]
    if TRAINING not in clauses or "split" not in everything.field_names:
        return None
    splits = set(everything.field("split"))
    name = next((name for name in (*TEST_NAMES, *VALIDATION_NAMES) if name in splits), None)
    return None if name is None else _validation_rows(everything, clauses, f"split={name}")[1]


def _validation_rows(everything: Manifest, clauses: list[str], split: str) -> tuple[Manifest, str]:
    """Rows of the validation split that meet the other clauses of the training rows, else all its rows."""
    same = ",".join(split if clause == TRAINING else clause for clause in clauses)
    try:
        return everything.where(same), same
    except DataError:
        return everything.where(split), split


def _disjoint(validation: Manifest, train: Manifest, condition: str) -> Manifest:
    shared = set(validation.ids) & set(train.ids)
    if shared:
        raise DataError(
            f"data.validation '{condition}' names {len(shared)} rows that are trained on too "
            f"(such as {min(shared)}); exclude them in data.where."
        )
    return validation


def _held_out(train: Manifest, where: str | None, notes: list[str]) -> DataSplit:
    """The training rows without a share of their groups, which become the validation rows."""
    if len(train) < LEAST_ROWS:
        return DataSplit(train, None, where, [*notes, f"no validation: {len(train)} rows are too few"])
    groups = kindred_rows(train)
    is_out = (uniform(0, "held-out", groups.codes, 1)[:, 0] < HELD_OUT) & ~groups.is_large
    how = f"held out by {groups.field or 'caption'}"
    if groups.names_classes:
        own = train.codes("id").view(np.uint64)
        is_out |= (uniform(0, "held-out/row", own, 1)[:, 0] < HELD_OUT) & groups.is_large
        how = "held out row by row, since captions repeat as class names do"
    elif groups.is_large.any():
        how += f"; {int(groups.is_large.sum()):,} rows of groups of more than {groups.limit} stay in training"
    if not is_out.any() or is_out.all():
        return DataSplit(train, None, where, [*notes, "no validation: there are too few captions"])
    rows = np.arange(len(train))
    note = f"validates on {int(is_out.sum()):,} of {len(train):,} rows, {how}"
    return DataSplit(train.take(rows[~is_out]), train.take(rows[is_out]), where, [*notes, note])


@dataclass(frozen=True)
class KindredRows:
    """Rows that belong on one side of a division: one family, one component, one caption."""

    codes: np.ndarray  # (rows,) uint64, equal within a group
    field: str | None  # that the data names its groups in; None: captions
    limit: int  # rows of a group, above which it would be most of what a validation set measures
    is_large: np.ndarray  # (rows,) bool, in a group of more rows than that

    @property
    def names_classes(self) -> bool:
        """Whether most rows share their caption with many others: then captions are names of classes."""
        return self.field is None and float(self.is_large.mean()) > 0.5


def kindred_rows(manifest: Manifest, *, share: float = HELD_OUT) -> KindredRows:
    """The groups of a data set that should not be divided.

    Args:
        manifest: the data set.
        share: of the rows that go to the smallest side.
    """
    field = next((name for name in FAMILIES if name in manifest.field_names), None)
    codes = manifest.codes(field or "captions").view(np.uint64)
    _, inverse, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    limit = max(LEAST_LIMIT, math.ceil(MOST_OF_ONE * share * len(manifest)))
    return KindredRows(codes, field, limit, sizes[inverse.reshape(-1)] > limit)


class SubsetConfig(Settings):
    """How a subset of the training pairs is chosen; give one of the two."""

    by: str | None = Field(
        None,
        description="field whose values stay or go whole, such as concept or style; default the captions",
    )
    within: str | None = Field(
        None,
        description="field whose values all keep the same share of their pairs, such as concept or style",
    )

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Self:
        if self.by and self.within:
            raise ValueError(f"by: {self.by} and within: {self.within} are both given; keep one")
        return self


def subset_rows(
    manifest: Manifest, fraction: float, config: SubsetConfig | None = None, *, seed: int = 0
) -> np.ndarray:
    """Rows of a subset of a data set.

    Args:
        manifest: the data set.
        fraction: share of the pairs, above 0 up to 1; whole values come as close to it as they can.
        config: see `SubsetConfig`; default whole captions.
        seed: equal seeds give nested subsets, other seeds other ones.

    Returns:
        (kept,) int64, ascending, at least one.

    Raises:
        DataError: for a field that is not there.
    """
    config = config or SubsetConfig()
    rows = np.arange(len(manifest))
    if fraction >= 1:
        return rows
    if config.within is not None:
        return _of_every_value(manifest, config.within, fraction, seed)
    codes = manifest.codes(config.by or "captions").view(np.uint64)
    values, inverse, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    order = np.argsort(uniform(seed, "subset", values, 1)[:, 0], kind="stable")
    reached = np.cumsum(sizes[order])
    kept = order[: 1 + int(np.argmin(np.abs(reached - fraction * len(manifest))))]
    return rows[np.isin(inverse.reshape(-1), kept)]


def _of_every_value(manifest: Manifest, field: str, fraction: float, seed: int) -> np.ndarray:
    """The same share of each value's rows, by a hash of their ids; a coin rounds it."""
    codes, own = manifest.codes(field).view(np.uint64), manifest.codes("id").view(np.uint64)
    values, inverse, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    coins = uniform(seed, "subset/coin", values, 1)[:, 0]
    wanted = np.floor(fraction * sizes + coins).astype(np.int64)  # (values,), grows with the fraction
    order = np.lexsort((uniform(seed, "subset/row", own, 1)[:, 0], inverse))
    starts = np.cumsum(sizes) - sizes
    place = np.arange(len(order)) - np.repeat(starts, sizes)  # of each row among those of its value
    chosen = order[place < np.repeat(wanted, sizes)]
    return np.sort(chosen if len(chosen) else order[:1])


def parse_fractions(text: str) -> list[float]:
    """`1/8,1/4,1` as numbers, ascending; 1 is added, since every factor compares with all pairs.

    Raises:
        DataError: for what is not a number above 0 up to 1.
    """
    found = {1.0}
    for word in map(str.strip, text.split(",")):
        try:
            value = float(Fraction(word))
        except (ValueError, ZeroDivisionError):
            value = None
        if value is None or not 0 < value <= 1:
            raise DataError(
                f"'{word}' in --fractions {text} is no fraction above 0 up to 1; "
                "write fractions such as 1/8,1/4,1."
            )
        found.add(value)
    return sorted(found)
