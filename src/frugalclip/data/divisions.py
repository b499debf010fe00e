"""Divide a data set into training, validation and test rows, so that what belongs together stays together.

Rows of one family belong together where the data names families. Otherwise they do where their images look
alike, and where they share a caption that is no class name: the connected components of both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from frugalclip.core.errors import DataError
from frugalclip.core.random import uniform
from frugalclip.data.duplicates import near_pairs, thumbnails
from frugalclip.data.manifest import Manifest, value_code
from frugalclip.data.splits import kindred_rows

TRAIN = "train"
COMPARED = 20_000  # images that are compared with each other: the work grows with the square


@dataclass(frozen=True)
class Division:
    """A data set with a field `split`, and how it came about."""

    manifest: Manifest
    by: str  # what stays together, in words
    groups: int
    rows: dict[str, int]  # split -> rows
    notes: list[str]


def divide_rows(
    manifest: Manifest,
    shares: Mapping[str, float],
    *,
    by: str | None = None,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> Division:
    """Give every row a split.

    Args:
        manifest: the data set; a field `split` is replaced.
        shares: split -> share of the rows, without `train`, which gets the rest.
        by: field whose equal values stay together; default `family` or `component` where the data has one,
            else images that look alike and equal captions.
        seed: decides which groups go where.
        progress: called with the number of images finished since the last call.

    Raises:
        DataError: for shares that leave nothing to train on, a field that is not there, or too few groups.
    """
    _check_shares(shares)
    field = by or kindred_rows(manifest).field
    notes: list[str] = []
    if field is not None:
        codes, words = manifest.codes(field).view(np.uint64), f"field {field}"
    else:
        codes, words = _components(manifest, progress, notes), "images that look alike and equal captions"
    _, groups, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    groups = groups.reshape(-1)
    if len(sizes) <= len(shares):
        raise DataError(
            f"{manifest.name} has {len(sizes)} groups ({words}), too few for {len(shares) + 1} splits; name "
            "another field with --by, or --by id for single rows."
        )
    firsts = _first_ids(manifest, groups, len(sizes))
    names = np.full(len(sizes), TRAIN, dtype=object)
    classes = _classes(manifest, groups, len(sizes)) if field is None else np.zeros(len(sizes), np.uint64)
    for one in np.unique(classes):  # each class gets its share of every split
        mask = classes == one
        names[mask] = _assigned(firsts[mask], sizes[mask], shares, seed=seed)
    names = names[groups]
    table = manifest.table
    columns = {"split": names.tolist()}
    if field is None:
        columns["component"] = [firsts[group] for group in groups]
    for name, values in columns.items():
        table = table.drop_columns([name]) if name in table.column_names else table
        table = table.append_column(name, pa.array(values, pa.string()))
    rows = {name: int((names == name).sum()) for name in (TRAIN, *shares)}
    divided = Manifest(table, manifest.root, manifest.name)
    return Division(divided, words, len(sizes), rows, notes)


def _check_shares(shares: Mapping[str, float]) -> None:
    given = ", ".join(f"{name} {share:g}" for name, share in shares.items())
    if not shares or any(not 0 < share < 1 for share in shares.values()) or sum(shares.values()) >= 1:
        raise DataError(
            f"the shares are {given or 'none'}, expected numbers above 0 that leave rows to train on; write "
            "--val 0.1 --test 0.2."
        )


def _components(manifest: Manifest, progress: Callable[[int], None], notes: list[str]) -> np.ndarray:
    """(rows,) uint64, equal for rows that hang together."""
    joined = _Joined(len(manifest))
    kindred = kindred_rows(manifest)
    if kindred.names_classes:
        notes.append("captions repeat as class names do, so that rows of one caption may be divided")
    else:
        small = np.flatnonzero(~kindred.is_large)
        joined.join_equal(small, kindred.codes[small])
    if len(manifest) > COMPARED:
        notes.append(
            f"{len(manifest):,} images are more than the {COMPARED:,} that are compared with each other; "
            "only captions keep rows together. Name a field with --by where the data has one."
        )
        return joined.roots()
    pixels, kept = thumbnails(manifest, progress=progress)
    first, second, _ = near_pairs(pixels.numpy().astype(np.int16))
    for one, other in zip(kept[first], kept[second], strict=True):
        joined.join(int(one), int(other))
    notes.append(f"{len(np.union1d(first, second)):,} images look like another one")
    return joined.roots()


class _Joined:
    """Disjoint sets of rows."""

    def __init__(self, rows: int) -> None:
        self.parent = list(range(rows))

    def root(self, row: int) -> int:
        while self.parent[row] != row:
            self.parent[row] = self.parent[self.parent[row]]
            row = self.parent[row]
        return row

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self.root(one), self.root(other)))
        self.parent[second] = first

    def join_equal(self, rows: np.ndarray, codes: np.ndarray) -> None:
        """Join rows of equal codes."""
        owner: dict[int, int] = {}
        for row, code in zip(rows.tolist(), codes.tolist(), strict=True):
            self.join(owner.setdefault(code, row), row)

    def roots(self) -> np.ndarray:
        return np.array([self.root(row) for row in range(len(self.parent))], dtype=np.uint64)


def _classes(manifest: Manifest, groups: np.ndarray, count: int) -> np.ndarray:
    """(groups,) uint64, equal for groups of one class, where captions name classes; else all equal."""
    kindred = kindred_rows(manifest)
    classes = np.zeros(count, dtype=np.uint64)
    if kindred.names_classes:
        np.maximum.at(classes, groups, kindred.codes)  # of several classes in one group, one counts
    return classes


def _first_ids(manifest: Manifest, groups: np.ndarray, count: int) -> np.ndarray:
    """(groups,) the smallest id of each group, which names it whatever the order of the rows."""
    first: list[str | None] = [None] * count
    for id, group in zip(manifest.ids, groups.tolist(), strict=True):
        held = first[group]
        first[group] = id if held is None else min(id, held)
    return np.array(first, dtype=object)


def _assigned(firsts: np.ndarray, sizes: np.ndarray, shares: Mapping[str, float], *, seed: int) -> np.ndarray:
    """(groups,) the split of each group: in random order each goes where most of a share is still open.

    A group that is larger than half of the smallest share stays in training, since a split of one group would
    measure that group.
    """
    total = int(sizes.sum())
    open_rows = {name: share * total for name, share in shares.items()}
    limit = max(1.0, min(open_rows.values()) / 2)
    keys = np.array([value_code(first) for first in firsts], dtype=np.uint64)
    order = np.argsort(uniform(seed, "divide", keys, 1)[:, 0], kind="stable")
    names = np.full(len(sizes), TRAIN, dtype=object)
    for group in order:
        name = max(open_rows, key=lambda one: open_rows[one] / shares[one])
        if sizes[group] <= limit and open_rows[name] >= sizes[group] / 2:
            names[group] = name
            open_rows[name] -= float(sizes[group])
    return names
