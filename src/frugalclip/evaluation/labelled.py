"""Labelled rows divided into parts: what a classifier learns from, is tuned on and is judged on.

Every test that needs labels (probe, neighbours, few shots, a suite) starts here and differs only in its classifier. Rows that stand or fall
together (see `groups`) are never on two sides, so a near copy cannot carry an answer across.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.errors import DataError
from frugalclip.core.random import uniform
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.classes import key, row_names
from frugalclip.evaluation.groups import find_groups

TRAINING = "split=train"  # rows that may be learned from, where the data says
VALIDATION_NAMES = ("val", "valid", "validation", "dev")
TEST_NAMES = ("test", "testing")
HELD_OUT = 0.2  # of the training rows, to tune on where the data has no validation part
FOLDS = 5

Split = Literal["data", "folds"]


@dataclass(frozen=True)
class Fold:
    """One division into parts, as places among the rows; no group is in two of them."""

    train: np.ndarray  # (train,) int64
    validation: np.ndarray  # (validation,) int64; empty: nothing is tuned
    test: np.ndarray  # (test,) int64

    def map(self, change: Callable[[np.ndarray], np.ndarray]) -> "Fold":
        """The fold with each part changed."""
        return Fold(change(self.train), change(self.validation), change(self.test))


@dataclass(frozen=True)
class Labelled:
    """Rows with one class each, and the parts they are divided into."""

    names: list[str]  # (classes,) that occur in a training or validation part
    rows: np.ndarray  # (rows,) int64 rows of the data set
    labels: Tensor  # (rows,) int64
    folds: list[Fold]
    rule: str  # how the parts were found, in words
    judged_where: str | None  # a condition that the division added to the judged rows
    left_out: dict[str, int]

    @property
    def judged(self) -> np.ndarray:
        """(judged,) places of the judged rows, fold after fold."""
        return np.concatenate([fold.test for fold in self.folds])

    def only(self, kept: np.ndarray) -> "Labelled":
        """The same without the rows that are not at the places `kept` (kept,).

        Raises:
            DataError: when nothing is left to learn from or to judge.
        """
        place = np.full(len(self.rows), -1)
        place[kept] = np.arange(len(kept))
        folds = [fold.map(lambda part: place[part][place[part] >= 0]) for fold in self.folds]
        if not any(len(fold.train) and len(fold.test) for fold in folds):
            raise DataError(
                "no picture is left to learn from or to judge; run 'frugalclip data check' on the data."
            )
        return Labelled(
            self.names,
            self.rows[kept],
            self.labels[torch.from_numpy(kept)],
            folds,
            self.rule,
            self.judged_where,
            self.left_out,
        )

    def sizes(self) -> dict[str, Any]:
        """How it was divided, for the result."""
        first = self.folds[0]
        counts = {
            "train": len(first.train),
            "validation": len(first.validation),
            "test": sum(len(fold.test) for fold in self.folds),
        }
        return {"rule": self.rule, "folds": len(self.folds), **counts}


def labelled_rows(
    manifest: Manifest,
    everything: Manifest,
    *,
    label_field: str | None = None,
    language: str | None = None,
    group: str | None = None,
    seed: int = 0,
) -> Labelled:
    """Classes and parts of a data set.

    The rows to judge decide: without `split=train` rows among them, they are judged by what `split=train` of everything teaches; with them,
    they are divided by their own `split`. Data without a split is divided 60 / 20 / 20 by seed, whole groups at a time.

    Args:
        manifest: the rows to judge.
        everything: the data set they come from; places in the result count its rows.
        label_field: see `classes.row_names`.
        language: captions of this language are the names.
        group: what a seeded division keeps together; default see `groups.find_groups`.
        seed: of the division.

    Raises:
        DataError: when there is nothing to learn from, or no judged row has a class that can be learned.
    """
    names, _ = row_names(everything, label_field=label_field, language=language)
    place = {name: row for row, name in enumerate(everything.ids)}
    chosen = np.array([place[name] for name in manifest.ids], dtype=np.int64)
    return divide(
        everything, [key(row[0]) if row else None for row in names], chosen=chosen, group=group, seed=seed
    )


def divide(
    everything: Manifest,
    labels: Sequence[str | None],
    *,
    chosen: np.ndarray,
    split: Split = "data",
    group: str | None = None,
    seed: int = 0,
) -> Labelled:
    """Divide rows with labels into parts.

    Args:
        everything: the data set.
        labels: (rows of everything,) class of each; None takes no part.
        chosen: (chosen,) int64 rows to be judged, or to be divided.
        split: `data` follows the field `split` where there is one; `folds` judges every row by what the other folds teach.
        group: see `labelled_rows`.
        seed: of the division.

    Raises:
        DataError: see `labelled_rows`.
    """
    codes = find_groups(everything, group).codes
    has = np.array([label is not None for label in labels], dtype=bool)
    where, left_out = None, {}
    if split == "folds":
        rows = chosen[has[chosen]]
        deal = _dealt(rows, labels, codes, seed)
        rule = (
            f"{FOLDS} folds by seed, whole groups at a time: each is judged by what three teach and one tunes"
        )
        parts = [_turned(deal, turn).map(lambda part: rows[part]) for turn in range(FOLDS)]
    elif "split" in everything.field_names and "train" in everything.field("split"):
        part, rule, where, left_out = _by_split(
            everything, chosen, find_groups(everything).codes, seed, has
        )  # a field asked for is no near copy
        parts = [part]
    else:
        rows = chosen[has[chosen]]
        parts = [_turned(_dealt(rows, labels, codes, seed), 0).map(lambda part: rows[part])]
        rule = "60 / 20 / 20 by seed, whole groups at a time, as the data has no split"
    return _labelled(everything, labels, parts, rule=rule, where=where, left_out=left_out)


def _by_split(
    everything: Manifest, chosen: np.ndarray, codes: np.ndarray, seed: int, has: np.ndarray
) -> tuple[Fold, str, str | None, dict[str, int]]:
    """Parts by the data's own split, without the training rows that share a group with a judged one."""
    splits = np.array([str(value) for value in everything.field("split")])
    names, where = set(splits[chosen].tolist()), None
    pool = np.arange(len(everything))
    if "train" in names:
        judged_name = next((name for name in (*TEST_NAMES, *VALIDATION_NAMES) if name in names), None)
        if judged_name is None:
            raise DataError(
                f"every {TRAINING} row of {everything.name} is judged too; choose others with --where split=test."
            )
        pool, where = chosen, f"split={judged_name}"
        chosen = chosen[splits[chosen] == judged_name]
    pool = pool[has[pool] & ~np.isin(pool, chosen)]
    is_near = np.isin(codes[pool], codes[chosen])
    near = int((is_near & (splits[pool] == "train")).sum())
    pool = pool[~is_near]
    train, validation = pool[splits[pool] == "train"], pool[np.isin(splits[pool], VALIDATION_NAMES)]
    rule = "the data's split"
    if not len(validation):
        is_out = uniform(seed, "held-out", codes[train].view(np.uint64), 1)[:, 0] < HELD_OUT
        train, validation, rule = (
            train[~is_out],
            train[is_out],
            f"{rule}; {HELD_OUT:.0%} of its training groups tune",
        )
    lost = {"training rows of a group that is judged": near} if near else {}
    return Fold(train, validation, chosen), rule, where, lost


def _dealt(rows: np.ndarray, labels: Sequence[str | None], codes: np.ndarray, seed: int) -> np.ndarray:
    """(rows,) fold of each: groups in the order of their first row's class, then by hash, dealt out in turn, so that classes spread evenly."""
    groups, first, inverse = np.unique(codes[rows], return_index=True, return_inverse=True)
    draw = uniform(seed, "folds", groups.view(np.uint64), 1)[:, 0]
    order = sorted(range(len(groups)), key=lambda i: (str(labels[int(rows[first[i]])]), draw[i]))
    turn = np.empty(len(groups), dtype=np.int64)
    turn[order] = np.arange(len(groups)) % FOLDS
    return turn[inverse.reshape(-1)]


def _turned(deal: np.ndarray, turn: int) -> Fold:
    """Places to train on, to tune on and to judge when fold `turn` is judged and the next one tunes."""
    test, validation = deal == turn, deal == (turn + 1) % FOLDS
    return Fold(np.flatnonzero(~test & ~validation), np.flatnonzero(validation), np.flatnonzero(test))


def _labelled(
    everything: Manifest,
    labels: Sequence[str | None],
    parts: Sequence[Fold],
    *,
    rule: str,
    where: str | None,
    left_out: dict[str, int],
) -> Labelled:
    """From folds of rows of the data set: classes that can be learned, and the rows that have one."""
    learned = sorted(
        {
            label
            for fold in parts
            for row in (*fold.train, *fold.validation)
            if (label := labels[int(row)]) is not None
        }
    )
    place = {name: i for i, name in enumerate(learned)}
    judged = np.concatenate([fold.test for fold in parts])
    is_known = np.array([label in place for label in labels], dtype=bool)
    if not any(len(fold.train) for fold in parts):
        raise DataError(
            f"no row of {everything.name} is left to learn from; give more rows, or a --label-field that training rows have."
        )
    if not is_known[judged].any():
        raise DataError(
            f"none of the {len(judged)} rows has a class that occurs in {TRAINING}; choose a --label-field such as category."
        )
    parts = [fold.map(lambda part: part[is_known[part]]) for fold in parts]
    rows = np.unique(
        np.concatenate([part for fold in parts for part in (fold.train, fold.validation, fold.test)])
    )
    numbers = torch.tensor([place[str(labels[row])] for row in rows.tolist()], dtype=torch.int64)
    folds = [fold.map(lambda part: np.searchsorted(rows, part)) for fold in parts]
    lost = {"without a class of the training rows": int((~is_known[judged]).sum()), **left_out}
    return Labelled(learned, rows, numbers, folds, rule, where, lost)
