"""A test set of the rarest concepts, in the manner of Let-It-Wag (arXiv 2404.04125), from any labelled data.

The least frequent classes that have enough test images are taken, near duplicates are left out within a
class, and every class gets the same number of images. The most frequent classes are treated alike, as the
head.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from frugalclip.core.errors import DataError
from frugalclip.core.random import uniform
from frugalclip.data.words import normalise

Distinct = Callable[[np.ndarray], np.ndarray]  # rows of a class -> those that repeat no other one


@dataclass(frozen=True)
class LevelledClasses:
    """Classes with one number of rows each."""

    names: list[str]
    counts: list[int]  # of each class in the training data
    rows: np.ndarray  # (classes * each,) rows of the test data, ascending
    each: int


def extreme_classes(
    labels: Sequence[str | None],
    counts: Mapping[str, int | None],
    codes: np.ndarray,
    *,
    classes: int,
    least: int,
    rarest: bool,
    distinct: Distinct = lambda rows: rows,
    seed: int = 0,
) -> LevelledClasses:
    """The rarest or the most frequent classes, levelled.

    Args:
        labels: (rows,) class of each test row; None takes no part.
        counts: of each concept in the training data.
        codes: (rows,) uint64 of the ids, from which rows are drawn.
        classes: how many.
        least: rows that a class needs after near duplicates are out.
        rarest: False takes the most frequent ones.
        distinct: leaves near duplicates out.
        seed: of the draw.

    Raises:
        DataError: when fewer than two classes have a count and enough rows.
    """
    known = {normalise(name): count for name, count in counts.items() if count is not None}
    members: dict[str, list[int]] = defaultdict(list)
    for row, label in enumerate(labels):
        if label is not None and normalise(label) in known:
            members[normalise(label)].append(row)
    sign = 1 if rarest else -1
    chosen: dict[str, np.ndarray] = {}
    for name in sorted(members, key=lambda one: (sign * known[one], one)):
        if len(chosen) == classes:
            break
        rows = distinct(np.array(members[name])) if len(members[name]) >= least else np.zeros(0, np.int64)
        if len(rows) >= least:
            chosen[name] = rows
    if len(chosen) < 2:
        raise DataError(
            f"{len(chosen)} classes have a count and {least} test images that differ, expected two or more; "
            "lower --least, or count the classes of the test set with audit concepts."
        )
    each = min(map(len, chosen.values()))
    draw = uniform(seed, "audit/tail", codes, 1)[:, 0]
    kept = [rows[np.argsort(draw[rows], kind="stable")[:each]] for rows in chosen.values()]
    return LevelledClasses(
        list(chosen), [known[name] for name in chosen], np.sort(np.concatenate(kept)), each
    )
