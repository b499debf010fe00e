"""What frozen trunks said of a data set, read from embedding stores in place of pictures and token ids.

A store of pictures has a row a sample, with one or several views: the first is the picture as evaluation sees it, the others are augmented. A
store of texts has a row a distinct text, whose id is the text itself, so that captions, field values and class names are found in one way.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.random import uniform
from frugalclip.data.manifest import Manifest
from frugalclip.data.store import Store
from frugalclip.data.store_format import digest

_HELD_BYTES = 2**31  # vectors are kept in memory up to here, and read as they are drawn beyond it
_HELD_TEXTS = 200_000  # of those that no store holds


class StoredPictures:
    """Picture vectors of a data set: (batch, width), or (batch, patches, width) where the store holds tokens.

    Args:
        store: made of this data set or of one that holds it.
        manifest: the data set.
        seed: of the run.

    Raises:
        DataError: for a sample that the store does not know.
    """

    def __init__(self, store: Store, manifest: Manifest, *, seed: int) -> None:
        self.store, self.seed = store, seed
        self.rows = store.rows_of(manifest.ids)  # (samples,) rows of the store
        self.counts = store.counts("image")[self.rows]  # (samples,) views; 0 where the picture is missing
        self._starts = np.cumsum(self.counts) - self.counts
        size = int(self.counts.sum()) * int(np.prod(store.shape("image"))) * 2
        self._held = torch.from_numpy(store.ragged("image", self.rows).values).half() if size <= _HELD_BYTES else None

    def faults(self, manifest: Manifest) -> list[tuple[int, str]]:
        """(row, cause) of samples without a vector."""
        causes = self.store.causes()
        return [(int(row), causes.get(manifest.ids[row], "unreadable")) for row in np.flatnonzero(self.counts == 0)]

    def views(self, rows: np.ndarray) -> Tensor:
        """(views of these rows, width) float32, end to end."""
        return torch.from_numpy(self.store.ragged("image", self.rows[rows]).values)

    def mean(self, rows: np.ndarray) -> Tensor:
        """(rows, width) float32: the mean over the views of each row, all of which have some."""
        counts = torch.from_numpy(self.counts[rows])
        place = torch.repeat_interleave(torch.arange(len(rows)), counts)
        views = self.views(rows)
        return torch.zeros(len(rows), *views.shape[1:]).index_add_(0, place, views) / counts.view(-1, *[1] * (views.ndim - 1))

    def draw(self, rows: np.ndarray, *, epoch: int | np.ndarray, name: str) -> Tensor:
        """One view of each row, another one each epoch.

        Args:
            rows: (batch,) rows of the data set.
            epoch: passes over the data so far, one number or (batch,).
            name: of the image view: another name draws independently.
        """
        counters = np.stack([rows, np.full(len(rows), epoch)], axis=1)
        picks = (uniform(self.seed, f"view/{name}", counters, 1)[:, 0] * self.counts[rows]).astype(np.int64)
        if self._held is not None:
            return self._held[torch.from_numpy(self._starts[rows] + picks)].float()
        found = self.store.ragged("image", self.rows[rows])
        return torch.from_numpy(found.values[found.offsets[:-1] + picks])


class StoredTexts:
    """Text vectors by text: (batch, width), or (batch, facets, width).

    Args:
        store: of texts.
        texts: that will be asked for, numbered as they stand here.

    Raises:
        DataError: for a text that the store does not know.
    """

    def __init__(self, store: Store, texts: Sequence[str]) -> None:
        self.store, self.rows = store, store.rows_of(texts)  # (texts,)
        size = len(texts) * int(np.prod(store.shape("text"))) * 2
        self._held = torch.from_numpy(store.ragged("text", self.rows).values).half() if size <= _HELD_BYTES else None

    def vectors(self, drawn: np.ndarray) -> Tensor:
        """(batch, [facets,] width) float32 of numbered texts (batch,)."""
        if self._held is not None:
            return self._held[torch.from_numpy(drawn)].float()
        return torch.from_numpy(self.store.ragged("text", self.rows[drawn]).values)


class PictureMemory:
    """What a frozen trunk said of pictures, found by their bytes, so that a picture of any data set is known again.

    Args:
        store: of pictures.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        digests = store.table["image_digest"].to_pylist()
        has_vector = store.counts("image") > 0
        self._rows = {own: row for row, own in enumerate(digests) if own is not None and has_vector[row]}

    def find(self, data: bytes) -> int | None:
        """The row of a picture, from its encoded bytes."""
        return self._rows.get(digest(data))

    def vectors(self, rows: Sequence[int]) -> Tensor:
        """(rows, width) or (rows, patches, width) float32: each picture as evaluation sees it."""
        return torch.from_numpy(self.store.vectors("image", list(rows)))


class TextMemory:
    """What a frozen trunk said of texts: from a store, and what was said since, which is kept up to a limit.

    Args:
        store: of texts, where there is one.
    """

    def __init__(self, store: Store | None = None) -> None:
        self.store = store
        self._rows = {} if store is None else {text: row for row, text in enumerate(store.ids)}
        self._said: dict[str, Tensor] = {}

    def unknown(self, texts: Iterable[str]) -> list[str]:
        """Those of the texts that have to be read, each once."""
        return [text for text in dict.fromkeys(texts) if text not in self._rows and text not in self._said]

    def learn(self, texts: Sequence[str], vectors: Tensor) -> None:
        """Keep what was said: (texts, [facets,] width)."""
        if len(self._said) + len(texts) > _HELD_TEXTS:
            self._said.clear()
        self._said.update(zip(texts, vectors, strict=True))

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """(texts, [facets,] width) float32 of texts none of which is unknown."""
        stored = [text for text in texts if text in self._rows]
        found = dict(self._said)
        if self.store is not None and stored:
            values = self.store.ragged("text", [self._rows[text] for text in stored]).values
            found |= dict(zip(stored, torch.from_numpy(values), strict=True))
        return torch.stack([found[text] for text in texts])


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
