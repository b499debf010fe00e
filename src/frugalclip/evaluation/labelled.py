"""Labelled rows in training, validation and test splits.

Every task with a classifier (probe, neighbours, few shots, a suite) starts here and differs only in its
classifier. Rows of one group (see `groups`) are never in two splits, so a near copy cannot leak a label.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.errors import DataError
from frugalclip.core.random import uniform
from frugalclip.data.manifest import Manifest
from frugalclip.data.splits import TEST_NAMES, TRAINING, VALIDATION_NAMES
from frugalclip.data.words import normalise
from frugalclip.evaluation.classes import row_names
from frugalclip.evaluation.groups import find_groups
from frugalclip.evaluation.results import EvaluatedRows

HELD_OUT = 0.2  # of the training rows, for validation where the data has no validation split
FOLDS = 5

SplitRule = Literal["data", "folds"]


@dataclass(frozen=True)
class RowSplit:
    """Training, validation and test rows, as places among the labelled rows; no group is in two of them."""

    train: np.ndarray  # (train,) int64
    validation: np.ndarray  # (validation,) int64; empty: nothing is tuned
    test: np.ndarray  # (test,) int64

    def map(self, change: Callable[[np.ndarray], np.ndarray]) -> "RowSplit":
        """The fold with each of its splits changed."""
        return RowSplit(change(self.train), change(self.validation), change(self.test))


@dataclass(frozen=True)
class LabelledRows:
    """Rows with one class each, and their splits."""

    names: list[str]  # (classes,) that occur in a training or validation split
    rows: np.ndarray  # (rows,) int64 rows of the data set
    labels: Tensor  # (rows,) int64
    folds: list[RowSplit]
    rule: str  # how the splits were made, in words
    test_where: str | None  # a condition that the split added to the test rows
    left_out: dict[str, int]

    @property
    def test(self) -> np.ndarray:
        """(test,) places of the test rows, fold after fold."""
        return np.concatenate([fold.test for fold in self.folds])

    @property
    def test_labels(self) -> Tensor:
        """(test,) int64 classes of the test rows."""
        return self.labels[torch.from_numpy(self.test)]

    def test_rows(self, everything: Manifest) -> Manifest:
        """The test rows of the data set that `rows` count."""
        return everything.take(self.rows[self.test])

    def evaluated(self, manifest: Manifest, where: str | None) -> EvaluatedRows:
        """The test rows among those that `where` selected, also those whose class cannot be learned."""
        both = ",".join(one for one in (where, self.test_where) if one) or None
        return EvaluatedRows.of(manifest.where(self.test_where), both)

    def only(self, kept: np.ndarray) -> "LabelledRows":
        """The same without the rows that are not at the places `kept` (kept,).

        Raises:
            DataError: if no training or no test row is left.
        """
        place = np.full(len(self.rows), -1)
        place[kept] = np.arange(len(kept))
        folds = [fold.map(lambda rows: place[rows][place[rows] >= 0]) for fold in self.folds]
        if not any(len(fold.train) and len(fold.test) for fold in folds):
            raise DataError(
                "no image is left to train on or to test; run 'frugalclip data check' on the data."
            )
        return replace(self, rows=self.rows[kept], labels=self.labels[torch.from_numpy(kept)], folds=folds)

    def sizes(self) -> dict[str, Any]:
        """The rule and the number of rows in each split, for the result."""
        first = self.folds[0]
        return {
            "rule": self.rule,
            "folds": len(self.folds),
            "train": len(first.train),
            "validation": len(first.validation),
            "test": len(self.test),
        }


def labelled_rows(
    manifest: Manifest,
    everything: Manifest,
    *,
    label_field: str | None = None,
    language: str | None = None,
    group: str | None = None,
    seed: int = 0,
) -> LabelledRows:
    """Classes and splits of a data set.

    The rows to evaluate on decide. Without `split=train` rows among them, all of them are test rows and
    `split=train` of everything is the training split; with them, they are split by their own field `split`.
    Data without a split is divided 60 / 20 / 20 by seed, whole groups at a time.

    Args:
        manifest: the rows to evaluate on.
        everything: the data set they come from; places in the result count its rows.
        label_field: see `classes.row_names`.
        language: captions of this language are the names.
        group: field whose equal values a seeded division keeps together; default see `groups.find_groups`.
        seed: of the division.

    Raises:
        DataError: if no training row is left, or no test row has a class that can be learned.
    """
    names, _ = row_names(everything, label_field=label_field, language=language)
    place = {name: row for row, name in enumerate(everything.ids)}
    chosen = np.array([place[name] for name in manifest.ids], dtype=np.int64)
    labels = [normalise(row[0]) if row else None for row in names]
    return split_labelled(everything, labels, chosen=chosen, group=group, seed=seed)


def rows_of_classes(
    manifest: Manifest, names: Sequence[str], *, label_field: str | None = None
) -> tuple[np.ndarray, Tensor]:
    """Rows of another data set that have a class of this one.

    Args:
        manifest: the other data set.
        names: (classes,) as `LabelledRows.names`.
        label_field: see `classes.row_names`.

    Returns:
        (rows,) int64 rows of it, and (rows,) int64 their classes.

    Raises:
        DataError: if there is none.
    """
    place = {name: number for number, name in enumerate(names)}
    found, _ = row_names(manifest, label_field=label_field)
    numbers = np.array([place.get(normalise(row[0]), -1) if row else -1 for row in found], dtype=np.int64)
    rows = np.flatnonzero(numbers >= 0)
    if not len(rows):
        raise DataError(
            f"no row of {manifest.name} has a class of the training data, such as '{names[0]}'; "
            "check --label-field."
        )
    return rows, torch.from_numpy(numbers[rows])


def split_labelled(
    everything: Manifest,
    labels: Sequence[str | None],
    *,
    chosen: np.ndarray,
    split: SplitRule = "data",
    group: str | None = None,
    seed: int = 0,
) -> LabelledRows:
    """Split rows with labels.

    Args:
        everything: the data set.
        labels: (rows of everything,) class of each; None takes no part.
        chosen: (chosen,) int64 rows to test, or to split.
        split: `data` follows the field `split` where there is one; `folds` makes every row a test row of one
            fold.
        group: see `labelled_rows`.
        seed: of the division.

    Raises:
        DataError: see `labelled_rows`.
    """
    codes = find_groups(everything, group).codes
    has = np.array([label is not None for label in labels], dtype=bool)
    rows = chosen[has[chosen]]
    where, left_out = None, {}
    if split == "folds":
        deal = _dealt(rows, labels, codes, seed)
        rule = f"{FOLDS} folds by seed, whole groups at a time: one is tested, one tunes, three train"
        folds = [_fold(deal, turn).map(lambda places: rows[places]) for turn in range(FOLDS)]
    elif "split" in everything.field_names and "train" in everything.field("split"):
        near = find_groups(everything).codes  # the field of `group` does not tell near copies
        fold, rule, where, left_out = _by_field(everything, chosen, near, seed, has)
        folds = [fold]
    else:
        folds = [_fold(_dealt(rows, labels, codes, seed), 0).map(lambda places: rows[places])]
        rule = "60 / 20 / 20 by seed, whole groups at a time, as the data has no split"
    return _labelled(everything, labels, folds, rule=rule, where=where, left_out=left_out)


def _by_field(
    everything: Manifest, chosen: np.ndarray, codes: np.ndarray, seed: int, has: np.ndarray
) -> tuple[RowSplit, str, str | None, dict[str, int]]:
    """Splits by the data's own field, without the training rows that share a group with a test row."""
    splits = np.array([str(value) for value in everything.field("split")])
    names, where = set(splits[chosen].tolist()), None
    pool = np.arange(len(everything))
    if "train" in names:
        tested = next((name for name in (*TEST_NAMES, *VALIDATION_NAMES) if name in names), None)
        if tested is None:
            raise DataError(
                f"every {TRAINING} row of {everything.name} is a test row too; "
                "choose others with --where split=test."
            )
        pool, where = chosen, f"split={tested}"
        chosen = chosen[splits[chosen] == tested]
    pool = pool[has[pool] & ~np.isin(pool, chosen)]
    is_near = np.isin(codes[pool], codes[chosen])
    near = int((is_near & (splits[pool] == "train")).sum())
    pool = pool[~is_near]
    train, validation = pool[splits[pool] == "train"], pool[np.isin(splits[pool], VALIDATION_NAMES)]
    rule = "the data's split"
    if not len(validation):
        is_out = uniform(seed, "held-out", codes[train].view(np.uint64), 1)[:, 0] < HELD_OUT
        train, validation = train[~is_out], train[is_out]
        rule += f"; {HELD_OUT:.0%} of its training groups tune"
    lost = {"training rows of a group with test rows": near} if near else {}
    return RowSplit(train, validation, chosen), rule, where, lost


def _dealt(rows: np.ndarray, labels: Sequence[str | None], codes: np.ndarray, seed: int) -> np.ndarray:
    """(rows,) fold of each row; classes spread evenly.

    Groups are dealt out in turn, in the order of their first row's class, then by hash.
    """
    groups, first, inverse = np.unique(codes[rows], return_index=True, return_inverse=True)
    draw = uniform(seed, "folds", groups.view(np.uint64), 1)[:, 0]
    order = sorted(range(len(groups)), key=lambda i: (str(labels[int(rows[first[i]])]), draw[i]))
    turn = np.empty(len(groups), dtype=np.int64)
    turn[order] = np.arange(len(groups)) % FOLDS
    return turn[inverse.reshape(-1)]


def _fold(deal: np.ndarray, turn: int) -> RowSplit:
    """The fold that tests the rows of number `turn` and tunes on those of the next number."""
    test, validation = deal == turn, deal == (turn + 1) % FOLDS
    return RowSplit(np.flatnonzero(~test & ~validation), np.flatnonzero(validation), np.flatnonzero(test))


def _labelled(
    everything: Manifest,
    labels: Sequence[str | None],
    folds: Sequence[RowSplit],
    *,
    rule: str,
    where: str | None,
    left_out: dict[str, int],
) -> LabelledRows:
    """From folds of rows of the data set: classes that can be learned, and the rows that have one."""
    found = {labels[int(row)] for fold in folds for row in (*fold.train, *fold.validation)}
    learned = sorted(label for label in found if label is not None)
    place = {name: i for i, name in enumerate(learned)}
    tested = np.concatenate([fold.test for fold in folds])
    is_known = np.array([label in place for label in labels], dtype=bool)
    if not any(len(fold.train) for fold in folds):
        raise DataError(
            f"no row of {everything.name} is left to train on; "
            "give more rows, or a --label-field that training rows have."
        )
    if not is_known[tested].any():
        raise DataError(
            f"none of the {len(tested)} rows has a class that occurs in {TRAINING}; "
            "choose a --label-field such as category."
        )
    folds = [fold.map(lambda rows: rows[is_known[rows]]) for fold in folds]
    rows = np.unique(
        np.concatenate([one for fold in folds for one in (fold.train, fold.validation, fold.test)])
    )
    numbers = torch.tensor([place[str(labels[row])] for row in rows.tolist()], dtype=torch.int64)
    folds = [fold.map(lambda kept: np.searchsorted(rows, kept)) for fold in folds]
    lost = {"without a class of the training rows": int((~is_known[tested]).sum()), **left_out}
    return LabelledRows(learned, rows, numbers, folds, rule, where, lost)
