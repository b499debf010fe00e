"""Vectors of the rows of a data set: images and captions through an encoder, chunk by chunk.

Batches never cross a chunk, and equal captions of a chunk are encoded once. So the content of a chunk depends
on its rows alone, and a run that was killed continues to the same bytes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.encoder import Encoder
from frugalclip.core.errors import DataError
from frugalclip.core.prefetch import prefetched
from frugalclip.core.preprocess import Preprocess
from frugalclip.core.types import CachedFeatures
from frugalclip.data.image_faults import BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.images import decode
from frugalclip.data.manifest import Manifest
from frugalclip.features.format import Kind, digest, texts_digest
from frugalclip.features.writer import Part, RowKey
from frugalclip.functional.losses import unit_or_nan

Progress = Callable[[int, int], None]  # rows done, rows in all
# hash of an image's bytes -> stored features of a frozen backbone, a batch of one; None where there are none
StoredFeatures = Callable[[bytes], CachedFeatures | None]
_Prepared = Tensor | CachedFeatures | np.ndarray  # pixels (views, 3, height, width), features, or vectors
# hashes of contents and ids of their samples -> for each all views, (views, ...) float32, or None
StoredViews = Callable[[Sequence[bytes], Sequence[str]], list[np.ndarray | None]]
# an image's encoded bytes and the id of its sample -> (views, 3, height, width), the same for the same ones
MakeViews = Callable[[bytes, str], Tensor]
_HELD_BYTES = 256 * 2**20  # encoded images kept between hashing and decoding; beyond it they are read twice


class TextTokenizer(Protocol):
    """What a store needs of a tokenizer."""

    def fingerprint(self) -> str:
        """Identifies the vocabulary and all that changes the token ids."""
        ...

    def truncated(self, texts: list[str], /) -> int:
        """How many of the texts are longer than the context."""
        ...


class StorableEncoder(Encoder, Protocol):
    """An encoder whose vectors can be stored, with what a store records of it."""

    @property
    def description(self) -> Mapping[str, Any]:
        """Where it comes from, for people."""
        ...

    @property
    def scale(self) -> float | None:
        """Its own multiplier of cosines; None without one."""
        ...

    @property
    def tokenizer(self) -> TextTokenizer:
        """From texts to the token ids that it encodes."""
        ...


def image_preprocess(encoder: StorableEncoder) -> Preprocess:
    """The preprocessing of an encoder of images.

    Raises:
        DataError: if it encodes no images.
    """
    if encoder.preprocess is None:
        raise DataError(f"the encoder encodes {encoder.reads} and no images; set what='{encoder.reads}'.")
    return encoder.preprocess


class TextRows:
    """Distinct texts as a data set: the ids are the texts themselves. A store of texts is made from it."""

    def __init__(self, texts: Sequence[str], *, name: str) -> None:
        self.ids, self.name = list(texts), name

    def __len__(self) -> int:
        return len(self.ids)

    def captions(self) -> list[list[str]]:
        """Every text, its own only caption."""
        return [[text] for text in self.ids]

    def take(self, rows: np.ndarray) -> "TextRows":
        """Some of the texts."""
        return TextRows([self.ids[row] for row in rows.tolist()], name=self.name)

    def fingerprint(self) -> str:
        """16 hex digits over the texts in their order."""
        return texts_digest(self.ids).hex()[:16]


@dataclass(frozen=True)
class VectorOptions:
    """How rows become vectors."""

    kinds: tuple[Kind, ...]
    batch: int = 256  # images or texts encoded at once
    normalize: bool = True  # vectors get length one
    means: Mapping[Kind, np.ndarray] = field(default_factory=dict)  # subtracted before that, (dim,) each
    views: MakeViews | None = None  # several views of an image; None for the encoder's preprocessing alone
    known: StoredViews = lambda keys, ids: [None] * len(keys)  # vectors that other stores hold already
    features: StoredFeatures = lambda key: None  # what a frozen backbone gave for an image's bytes

    @property
    def encoder_normalizes(self) -> bool:
        """Whether the encoder gives vectors of length one itself, since nothing is subtracted before."""
        return self.normalize and not self.means

    def finished(self, kind: Kind, vectors: Tensor) -> np.ndarray:
        """(batch, dim) float32 vectors as they are stored: centred and normalised where that is set."""
        vectors = vectors.float()
        if kind in self.means:
            vectors = vectors - torch.from_numpy(self.means[kind]).to(vectors.device)
        if self.normalize and not self.encoder_normalizes:
            vectors = unit_or_nan(vectors)
        return vectors.cpu().numpy()


class ManifestVectors:
    """Vectors of the rows of a data set: a `writer.VectorSource`.

    Args:
        encoder: encodes images and texts.
        manifest: the data set.
        options: how rows become vectors.
        pool: threads that decode ahead.
        progress: called with rows done and rows in all.
    """

    def __init__(
        self,
        encoder: StorableEncoder,
        manifest: Manifest | TextRows,
        options: VectorOptions,
        *,
        pool: ThreadPoolExecutor,
        progress: Progress = lambda done, total: None,
    ) -> None:
        self.encoder, self.options, self.pool, self.progress = encoder, options, pool, progress
        self.views = options.views or (lambda data, _: image_preprocess(encoder)(decode(data)))
        self.ids = manifest.ids
        has_texts, has_images = "text" in options.kinds, "image" in options.kinds
        self.captions = [own or [] for own in manifest.captions()] if has_texts else None
        self.reader = ImageReader(manifest) if isinstance(manifest, Manifest) and has_images else None
        self._held: dict[int, bytes] = {}
        self._held_bytes = 0

    def keys(self, start: int, stop: int) -> list[RowKey]:
        """Ids, and hashes of images and captions; an image that cannot be read counts by its cause."""
        self._held, self._held_bytes = {}, 0
        return [
            RowKey(
                self.ids[row],
                self._image_digest(row) if self.reader else None,
                texts_digest(self.captions[row]) if self.captions is not None else None,
            )
            for row in range(start, stop)
        ]

    def encode(self, start: int, stop: int) -> dict[Kind, Part]:
        """The vectors of a chunk."""
        captions = [] if self.captions is None else self.captions[start:stop]
        # sorted by length: a batch is padded to its longest
        unique = sorted({text for own in captions for text in own}, key=lambda text: (len(text), text))
        items = len(unique) + (stop - start if self.reader else 0)
        steps = _Steps(self.progress, start, stop, rows=len(self.ids), items=items)
        parts: dict[Kind, Part] = {}
        if self.reader:
            parts["image"] = self._images(start, stop, steps)
        if self.captions is not None:
            parts["text"] = self._texts(captions, unique, steps)
        return parts

    def _images(self, start: int, stop: int, steps: "_Steps") -> Part:
        counts = np.zeros(stop - start, dtype=np.int64)
        causes: dict[int, str] = {}
        vectors: list[np.ndarray] = []
        rows = range(start, stop)
        for first, prepared in prefetched(self._image, rows, batch=self.options.batch, pool=self.pool):
            for row, one in enumerate(prepared, start=first - start):
                if isinstance(one, str):
                    causes[row] = one
                else:
                    counts[row] = len(one)
            vectors += self._image_vectors([one for one in prepared if not isinstance(one, str)])
            steps.advance(len(prepared))
        return Part(np.concatenate(vectors) if vectors else np.zeros((0, 0), np.float32), counts, causes)

    def _image_vectors(self, images: Sequence[_Prepared]) -> list[np.ndarray]:
        """Vectors of images in order: pixels and features of a backbone are encoded, known vectors stay."""
        pixels = [one for one in images if isinstance(one, Tensor)]
        features = [one for one in images if isinstance(one, CachedFeatures)]
        read = self._encoded(torch.cat(pixels), [len(one) for one in pixels]) if pixels else iter(())
        stored = CachedFeatures(torch.cat([one.values for one in features])) if features else None
        kept = self._encoded(stored, [1] * len(features)) if stored is not None else iter(())
        return [
            one if isinstance(one, np.ndarray) else next(read if isinstance(one, Tensor) else kept)
            for one in images
        ]

    def _encoded(self, inputs: Tensor | CachedFeatures, views: Sequence[int]) -> Iterator[np.ndarray]:
        """(views, dim) vectors of each image."""
        pixels = cast("Tensor", inputs)  # an encoder whose backbone has features cached takes those too
        vectors = self.encoder.encode_image(pixels, normalize=self.options.encoder_normalizes)
        return iter(np.split(self.options.finished("image", vectors), np.cumsum(views)[:-1]))

    def _image(self, row: int) -> _Prepared | str:
        """What is encoded of an image, known (views, dim) vectors, or the cause of a failure."""
        try:
            data = self._bytes(row)
            key = digest(data)
            (found,) = self.options.known([key], [self.ids[row]])
            if found is not None:
                return found
            features = self.options.features(key) if self.options.views is None else None
            return self.views(data, self.ids[row]) if features is None else features
        except BadImage as error:
            return error.cause

    def _bytes(self, row: int) -> bytes:
        assert self.reader is not None, "images are not among the kinds"
        return self._held[row] if row in self._held else self.reader.bytes(row)

    def _image_digest(self, row: int) -> bytes:
        try:
            data = self._bytes(row)
        except BadImage as error:
            return digest(b"unreadable", error.cause.encode())
        if self._held_bytes + len(data) <= _HELD_BYTES:
            self._held[row] = data
            self._held_bytes += len(data)
        return digest(data)

    def _texts(self, captions: Sequence[list[str]], unique: list[str], steps: "_Steps") -> Part:
        counts = np.array([len(own) for own in captions], dtype=np.int64)
        if not unique:
            return Part(np.zeros((0, 0), np.float32), counts)
        vectors: list[np.ndarray] = []
        for first in range(0, len(unique), self.options.batch):
            texts = unique[first : first + self.options.batch]
            vectors += self._text_vectors(texts)
            steps.advance(len(texts))
        place = {text: i for i, text in enumerate(unique)}
        truncated = self._truncated(unique)
        return Part(
            np.concatenate(vectors)[[place[text] for own in captions for text in own]],
            counts,
            truncated=sum(text in truncated for own in captions for text in own),
        )

    def _text_vectors(self, texts: list[str]) -> list[np.ndarray]:
        """(1, dim) or (1, facets, dim) each, in order."""
        found = self.options.known([texts_digest([text]) for text in texts], texts)
        new = [text for text, own in zip(texts, found, strict=True) if own is None]
        if not new:
            return [own for own in found if own is not None]
        encoded = self.encoder.encode_text(new, normalize=self.options.encoder_normalizes)
        finished = iter(self.options.finished("text", encoded))
        return [next(finished)[None] if own is None else own for own in found]

    def _truncated(self, texts: list[str]) -> set[str]:
        """Those of the texts that are longer than the encoder's context."""
        tokenizer = self.encoder.tokenizer
        return (
            {text for text in texts if tokenizer.truncated([text])} if tokenizer.truncated(texts) else set()
        )


class _Steps:
    """Progress inside a chunk, in rows."""

    def __init__(self, progress: Progress, start: int, stop: int, *, rows: int, items: int) -> None:
        self.progress, self.start, self.stop, self.rows = progress, start, stop, rows
        self.items, self.done = max(items, 1), 0

    def advance(self, items: int) -> None:
        self.done += items
        self.progress(self.start + (self.stop - self.start) * self.done // self.items, self.rows)
