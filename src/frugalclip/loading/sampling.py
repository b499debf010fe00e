"""Which rows an epoch draws, in which order, and which of these draws a step takes.

The order is a pure function of (seed, epoch), so it is the same on every process and after every restart.
Without weights an epoch is a permutation. With weights it has as many draws as rows of a weight above 0. A
row of weight w is drawn e = draws * w / sum(weights) times in expectation: floor(e) times for certain, and
once more with probability e - floor(e), by systematic sampling over rows in random order. So an epoch is
never further from the expectation than one draw a row.

Sources: systematic sampling with unequal probabilities, Madow 1949 (Annals of Mathematical Statistics 20,
333-354), rows in random order as Goodman & Kish 1950; certain draws first, as the residual scheme of Liu &
Chen 1998; compared with multinomial draws by Douc, Cappe & Moulines 2005, arXiv cs/0507025.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from frugalclip.core.errors import DataError
from frugalclip.core.random import uniform
from frugalclip.data.manifest import Manifest

# the n-th further draw of a row counts as epoch + n * TURN for its crop and caption; no run has so many
# epochs
TURN = 2**32
_EXACT = 1e-9  # an expectation this near to a whole number is meant to be it


class EpochDraws(NamedTuple):
    """The rows of an epoch in order, and how often each was drawn before."""

    rows: np.ndarray  # (draws,) int64
    turns: np.ndarray  # (draws,) int64, from 0


def epoch_order(rows: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """The rows in the order of one epoch.

    Each row has its own random number, so that leaving a row out does not reorder the others.

    Args:
        rows: (usable,) rows that take part.
        seed: of the run.
        epoch: passes over the data so far.

    Returns:
        (usable,) the same rows, shuffled.
    """
    return rows[np.argsort(_keys(rows, seed, epoch), kind="stable")]


def _keys(rows: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """(rows,) the random number of each row in an epoch."""
    counters = np.stack([rows, np.full(len(rows), epoch)], axis=1)
    return uniform(seed, "order", counters, 1)[:, 0]


def epoch_draws(rows: np.ndarray, weights: np.ndarray | None, *, seed: int, epoch: int) -> EpochDraws:
    """What one epoch draws.

    Args:
        rows: (usable,) rows that take part.
        weights: (usable,) finite and above 0; None, or all equal, draws every row once, in the order of
            `epoch_order`.
        seed: of the run.
        epoch: passes over the data so far.

    Returns:
        (usable,) draws.
    """
    keys = _keys(rows, seed, epoch)
    if weights is None:
        return EpochDraws(rows[np.argsort(keys, kind="stable")], np.zeros(len(rows), dtype=np.int64))
    counts = _counts(weights, np.argsort(keys, kind="stable"), seed=seed, epoch=epoch)
    places = np.repeat(np.arange(len(rows)), counts)
    turns = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
    again = turns > 0
    keys = keys[places]  # a first draw keeps its number, further ones get their own
    keys[again] = uniform(
        seed, "order/again", np.stack([rows[places], np.full(len(places), epoch), turns], axis=1)[again], 1
    )[:, 0]
    order = np.argsort(keys, kind="stable")
    return EpochDraws(rows[places][order], turns[order])


def _counts(weights: np.ndarray, shuffled: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """(rows,) how often each row is drawn."""
    scaled = weights / weights.max()  # so that no sum overflows
    expected = scaled * (len(weights) / scaled.sum())
    certain = np.floor(expected + _EXACT)
    counts = certain.astype(np.int64)
    left = len(weights) - int(counts.sum())
    if left > 0:
        ends = np.cumsum(np.maximum(expected - certain, 0)[shuffled])
        ends *= left / ends[-1]
        start = uniform(seed, "order/start", np.array([epoch]), 1)[0, 0]
        passed = np.minimum(np.floor(ends + start), left)
        passed[-1] = left
        counts[shuffled] += np.diff(passed, prepend=0).astype(np.int64)
    return counts


class Order:
    """Epochs of a data set, one kept at a time.

    Args:
        rows: (usable,) rows that take part.
        weights: of every row of the data set, or None.
        seed: of the run.
    """

    def __init__(self, rows: np.ndarray, weights: np.ndarray | None, *, seed: int) -> None:
        self.rows, self.seed = rows, seed
        self.weights = None if weights is None else weights[rows]
        self._kept: tuple[int, EpochDraws] = (-1, EpochDraws(rows, rows))

    def epoch(self, number: int) -> EpochDraws:
        """What an epoch draws."""
        if self._kept[0] != number:
            self._kept = number, epoch_draws(self.rows, self.weights, seed=self.seed, epoch=number)
        return self._kept[1]


class Steps:
    """Which draws of an epoch each step takes.

    Global batch k of an epoch is its draws from k * batch * world on; a process takes its slice.

    Args:
        order: of the data set.
        batch: samples of one step of one process.
        rank: of this process.
        world: number of processes.
    """

    def __init__(self, order: Order, *, batch: int, rank: int, world: int) -> None:
        self.order, self.batch, self.rank, self.world = order, batch, rank, world
        self.stride = batch * world  # draws of one step of all processes
        self.per_epoch = len(order.rows) // self.stride

    def places(self, start_step: int) -> Iterator[tuple[int, int]]:
        """(epoch, position in its order) of this process's first sample, for every step from one on."""
        for step in itertools.count(start_step):
            epoch, k = divmod(step, self.per_epoch)
            yield epoch, (k * self.world + self.rank) * self.batch


def sampling_weights(manifest: Manifest, choice: str) -> np.ndarray | None:
    """The weights of a recipe.

    Args:
        manifest: the rows to train on.
        choice: `auto`: the column `weight` where there is one; `none`; or the name of a field that holds
            numbers.

    Returns:
        (rows,) float64, finite and at least 0; None where every row counts alike.

    Raises:
        DataError: when a weight is missing, negative or not finite, or none is above 0.
    """
    if choice == "none" or (choice == "auto" and "weight" not in manifest.table.column_names):
        return None
    weights = manifest.weights("weight" if choice == "auto" else choice)
    if len(weights) and not weights.any():
        raise DataError(
            f"every weight of {manifest.name} is 0, so nothing would be drawn; "
            "correct them, or set data.weights=none."
        )
    return weights
