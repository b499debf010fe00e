"""What frozen backbones said of a data set, read from embedding stores in place of pictures and token ids.

A store of pictures has a row a sample, with one or several views: the first is the picture as evaluation sees it, the others are augmented. A
store of texts has a row a distinct text, whose id is the text itself, so that captions, field values and class names are found in one way.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.random import uniform
from frugalclip.data.manifest import Manifest
from frugalclip.features.format import Kind, digest
from frugalclip.features.store import Store

_HELD_BYTES = 2**31  # vectors are kept in memory up to here, and read as they are drawn beyond it
_HELD_TEXTS = 200_000  # of those that no store holds


class StoredImageFeatures:
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
        self._held = _held(store, "image", self.rows, vectors=int(self.counts.sum()))

    def faults(self, manifest: Manifest) -> list[tuple[int, str]]:
        """(row, cause) of samples without a vector."""
        causes = self.store.causes()
        return [
            (int(row), causes.get(manifest.ids[row], "unreadable"))
            for row in np.flatnonzero(self.counts == 0)
        ]

    def views(self, rows: np.ndarray) -> Tensor:
        """(views, width) float32: all views of these rows, end to end."""
        return torch.from_numpy(self.store.ragged("image", self.rows[rows]).values)

    def mean(self, rows: np.ndarray) -> Tensor:
        """(rows, width) float32: the mean over the views of each row, all of which have some."""
        counts = torch.from_numpy(self.counts[rows])
        place = torch.repeat_interleave(torch.arange(len(rows)), counts)
        views = self.views(rows)
        return torch.zeros(len(rows), *views.shape[1:]).index_add_(0, place, views) / counts.view(
            -1, *[1] * (views.ndim - 1)
        )

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


class StoredTextFeatures:
    """Text vectors by text: (batch, width), or (batch, facets, width).

    Args:
        store: of texts.
        texts: that will be asked for, numbered as they stand here.

    Raises:
        DataError: for a text that the store does not know.
    """

    def __init__(self, store: Store, texts: Sequence[str]) -> None:
        self.store, self.rows = store, store.rows_of(texts)  # (texts,)
        self._held = _held(store, "text", self.rows, vectors=len(texts))

    def vectors(self, drawn: np.ndarray) -> Tensor:
        """(batch, [facets,] width) float32 of numbered texts (batch,)."""
        if self._held is not None:
            return self._held[torch.from_numpy(drawn)].float()
        return torch.from_numpy(self.store.ragged("text", self.rows[drawn]).values)


def _held(store: Store, kind: Kind, rows: np.ndarray, *, vectors: int) -> Tensor | None:
    """All vectors of these rows, end to end, exactly as the store has them, or None where they do not fit into memory."""
    dtype = (
        torch.float16 if store.head.dtype == "float16" else torch.float32
    )  # int8 has a scale a vector, which float16 would round
    if vectors * int(np.prod(store.shape(kind))) * dtype.itemsize > _HELD_BYTES:
        return None
    return torch.from_numpy(store.ragged(kind, rows).values).to(dtype)


class ImageFeatureCache:
    """What a frozen backbone said of pictures, found by their bytes, so that a picture of any data set is known again.

    Args:
        stores: of pictures, all from one backbone with the same settings.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores = list(stores)
        self._places: dict[bytes, tuple[int, int]] = {}  # hash of the bytes: number of the store, row
        for number, store in enumerate(self.stores):
            has_vector = store.counts("image") > 0
            for row, own in enumerate(store.table["image_digest"].to_pylist()):
                if own is not None and has_vector[row]:
                    self._places.setdefault(own, (number, row))

    def find(self, data: bytes) -> tuple[int, int] | None:
        """Where a picture is, from its encoded bytes."""
        return self._places.get(digest(data))

    def vectors(self, places: Sequence[tuple[int, int]]) -> Tensor:
        """(places, width) or (places, patches, width) float32: each picture as evaluation sees it."""
        found: dict[tuple[int, int], np.ndarray] = {}
        for number, store in enumerate(self.stores):
            rows = sorted({row for own, row in places if own == number})
            if rows:
                found |= {
                    (number, row): vector
                    for row, vector in zip(rows, store.vectors("image", rows), strict=True)
                }
        return torch.from_numpy(np.stack([found[place] for place in places]))

    def views(self, data_digest: bytes, id: str, *, number: int) -> np.ndarray | None:
        """(views, width) or (views, patches, width) of a picture; further views than the first depend on the sample's id, which must then agree."""
        place = self._places.get(data_digest)
        if place is None:
            return None
        store, row = self.stores[place[0]], place[1]
        return store.ragged("image", [row]).values if number == 1 or store.ids[row] == id else None


class TextFeatureCache:
    """What a frozen backbone said of texts: from stores, and what was said since, which is kept up to a limit.

    Args:
        stores: of texts, all from one backbone with the same settings.
    """

    def __init__(self, stores: Sequence[Store] = ()) -> None:
        self.stores = list(stores)
        self._places: dict[str, tuple[int, int]] = {}  # text: number of the store, row
        for number, store in enumerate(self.stores):
            for row, text in enumerate(store.ids):
                self._places.setdefault(text, (number, row))
        self._computed: dict[str, Tensor] = {}

    def unknown(self, texts: Iterable[str]) -> list[str]:
        """Those of the texts that have to be read, each once; what is kept beyond the limit is forgotten here, before anything is relied on."""
        texts = list(dict.fromkeys(texts))
        if len(self._computed) + len(texts) > _HELD_TEXTS:
            self._computed.clear()
        return [text for text in texts if text not in self._places and text not in self._computed]

    def learn(self, texts: Sequence[str], vectors: Tensor) -> None:
        """Keep what was said, (texts, width) or (texts, facets, width)."""
        self._computed.update(zip(texts, vectors, strict=True))

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """(texts, width) or (texts, facets, width) float32 of texts none of which is unknown."""
        found = {text: self._computed[text] for text in texts if text in self._computed}
        for number, store in enumerate(self.stores):
            stored = [text for text in texts if text in self._places and self._places[text][0] == number]
            if stored:
                values = store.ragged("text", [self._places[text][1] for text in stored]).values
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
