"""Stored features by row of a data set, as a loader draws them in place of images and token ids.

A store of images has a row a sample, with one or several views: the first is the image as evaluation sees it,
the others are augmented. A store of texts has a row a distinct text, whose id is the text itself, so that
captions, field values and class names are found in one way.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.random import uniform
from frugalclip.features.format import Kind
from frugalclip.features.store import Store

_HELD_BYTES = 2**31  # features are held in memory up to here, and read as they are drawn beyond it


class FeatureRows:
    """Features of the rows of a data set, or of numbered texts.

    Args:
        store: made of this data set, or of one that contains it.
        kind: of the features.
        ids: of the rows; of texts, the texts themselves.

    Raises:
        DataError: if the store has no row of that id.
    """

    def __init__(self, store: Store, kind: Kind, ids: Sequence[str]) -> None:
        self.store = store
        self.kind: Kind = kind
        self.rows = store.rows_of(ids)  # (rows,) rows of the store
        self.counts = store.counts(kind)[self.rows]  # (rows,) views; 0 where the image is missing
        self._starts = np.cumsum(self.counts) - self.counts
        self._held = self._all_in_memory()

    def faults(self) -> list[tuple[int, str]]:
        """(row, cause) of rows without features."""
        causes, ids = self.store.causes(), self.store.ids
        missing = np.flatnonzero(self.counts == 0)
        return [(int(row), causes.get(ids[self.rows[row]], "unreadable")) for row in missing]

    def vectors(self, rows: np.ndarray, *, views: np.ndarray | int = 0) -> Tensor:
        """One view of each row.

        Args:
            rows: (batch,) rows of the data set.
            views: which view, one number or (batch,).

        Returns:
            (batch, width), (batch, facets, width) or (batch, patches, width) float32.
        """
        if self._held is not None:
            return self._held[torch.from_numpy(self._starts[rows] + views)].float()
        return self.store.chosen(self.kind, self.rows[rows], np.zeros_like(rows) + views)

    def filled(self, rows: np.ndarray, *, views: np.ndarray | int = 0) -> Tensor:
        """(batch, dim) one view of each row, as `vectors`; zeros where the row has no such view."""
        views = np.zeros_like(rows) + views
        is_there = (views >= 0) & (views < self.counts[rows])
        found = torch.zeros(len(rows), *self.store.shape(self.kind))
        found[torch.from_numpy(is_there)] = self.vectors(rows[is_there], views=views[is_there])
        return found

    def draw(self, rows: np.ndarray, *, seed: int, epoch: int | np.ndarray, name: str) -> Tensor:
        """One view of each row, another one each epoch.

        Args:
            rows: (batch,) rows of the data set.
            seed: of the run.
            epoch: passes over the data so far, one number or (batch,).
            name: of the image view: another name draws independently.
        """
        counters = np.stack([rows, np.full(len(rows), epoch)], axis=1)
        draws = uniform(seed, f"view/{name}", counters, 1)[:, 0]
        return self.vectors(rows, views=(draws * self.counts[rows]).astype(np.int64))

    def views(self, rows: np.ndarray) -> Tensor:
        """(views, width) float32: all views of these rows, end to end."""
        return self.store.ragged(self.kind, self.rows[rows]).values

    def mean(self, rows: np.ndarray) -> Tensor:
        """(rows, width) float32: the mean over the views of each row, all of which have some."""
        counts = torch.from_numpy(self.counts[rows])
        place = torch.repeat_interleave(torch.arange(len(rows)), counts)
        views = self.views(rows)
        sums = torch.zeros(len(rows), *views.shape[1:]).index_add_(0, place, views)
        return sums / counts.view(-1, *[1] * (views.ndim - 1))

    def _all_in_memory(self) -> Tensor | None:
        """All vectors of these rows, end to end, exactly as stored; None if they do not fit into memory."""
        # int8 has a scale a vector, which float16 would round
        dtype = torch.float16 if self.store.head.dtype == "float16" else torch.float32
        size = int(self.counts.sum()) * int(np.prod(self.store.shape(self.kind))) * dtype.itemsize
        if size > _HELD_BYTES:
            return None
        return self.store.ragged(self.kind, self.rows).values.to(dtype)


def some_facets(vectors: Tensor, draws: np.ndarray, *, number: int) -> Tensor:
    """Some facets of each text, without replacement.

    Source: FLAME `training/data.py`: 6 of the 11 vectors of a sample, drawn anew each time.

    Args:
        vectors: (batch, facets, width).
        draws: (batch, facets) uniform numbers.
        number: facets to keep, all where there are no more.

    Returns:
        (batch, number, width).
    """
    order = torch.from_numpy(np.argsort(draws, axis=1, kind="stable")[:, :number])  # (batch, number)
    return torch.gather(vectors, 1, order[:, :, None].expand(-1, -1, vectors.shape[2]))
