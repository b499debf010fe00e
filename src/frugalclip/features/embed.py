"""A data set through a model into a store: pictures and captions become vectors on disk, once.

Batches never cross a chunk of the store and equal captions of a chunk are encoded once, so what a chunk holds depends on its rows alone and a
run that was killed goes on to the same bytes. Means for centring follow `mean-centred` states of frozen language models: subtracted before the
vectors get length one, taken over an evenly spaced sample, and kept in the store so that queries can be centred alike.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from frugalclip.core.ahead import batches_ahead
from frugalclip.core.errors import DataError, known_names
from frugalclip.data.image_faults import BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.images import decode
from frugalclip.data.manifest import Manifest
from frugalclip.features.format import KINDS, Encoder, Kind, Origin, StoreDtype, digest, texts_digest
from frugalclip.features.store import Store
from frugalclip.features.writer import Part, RowKey, means_digest, store_means, write_store

What = Literal["both", "images", "texts"]
Progress = Callable[[int, int], None]  # rows done, rows in all
# hashes of contents and ids of their samples -> for each all views, (views, ...) float32, or None
StoredViews = Callable[[Sequence[bytes], Sequence[str]], list[np.ndarray | None]]
# an image and the id of its sample -> (views, 3, height, width), the same for the same arguments
MakeViews = Callable[[Image.Image, str], Tensor]
_HELD_BYTES = 256 * 2**20  # encoded pictures kept between hashing and decoding; beyond it they are read twice
_MEAN_ROWS = 4096


class Encodes(Protocol):
    """What embedding asks of a model; `frugalclip.models.Model` has it."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def description(self) -> Mapping[str, Any]: ...

    @property
    def scale(self) -> float | None: ...

    preprocess: Any  # picture(s) -> (pictures, 3, height, width); settings with `model_dump`
    tokenizer: Any  # with `fingerprint()` and `truncated(texts)`

    def encode_image(self, images: Tensor, *, normalize: bool = True) -> Tensor:
        """(batch, 3, height, width) to (batch, dim), or (batch, facets, dim)."""
        ...

    def encode_text(self, texts: list[str], *, normalize: bool = True) -> Tensor:
        """Texts to (batch, dim), or (batch, facets, dim)."""
        ...


@dataclass(frozen=True)
class Embedded:
    """A store and what it took to write it."""

    store: Store
    computed: int  # chunks
    reused: int  # chunks
    seconds: float
    absent: tuple[Kind, ...] = ()  # asked for, but the data has none
    unread: Mapping[str, int] = field(
        default_factory=dict
    )  # cause -> samples that were left out before, while the data set was read


class TextRows:
    """Distinct texts as a data set whose ids are the texts themselves: what a store of texts is made from."""

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


class ManifestVectors:
    """The rows of a manifest as a model sees them: a `store_writer.VectorSource`."""

    def __init__(
        self,
        model: Encodes,
        manifest: Manifest | TextRows,
        *,
        kinds: Sequence[Kind],
        pool: ThreadPoolExecutor,
        batch: int = 256,
        normalize: bool = True,
        means: Mapping[Kind, np.ndarray] | None = None,
        views: MakeViews | None = None,
        known: StoredViews | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.known = known or (lambda keys, _: [None] * len(keys))
        self.views = views or (lambda image, _: self.model.preprocess(image))
        self.model, self.kinds, self.pool, self.batch = model, tuple(kinds), pool, batch
        self.normalize, self.means, self.progress = normalize, dict(means or {}), progress
        self.ids = manifest.ids
        self.captions = [own or [] for own in manifest.captions()] if "text" in kinds else []
        self.reader = ImageReader(manifest) if isinstance(manifest, Manifest) and "image" in kinds else None
        self._held: dict[int, bytes] = {}
        self._held_bytes = 0

    def keys(self, start: int, stop: int) -> list[RowKey]:
        """Ids and hashes of the pictures' bytes and of the captions; a picture that cannot be read counts by its cause."""
        self._held, self._held_bytes = {}, 0
        images = (
            [self._image_digest(row) for row in range(start, stop)]
            if self.reader
            else [None] * (stop - start)
        )
        texts = (
            [texts_digest(self.captions[row]) for row in range(start, stop)]
            if "text" in self.kinds
            else [None] * (stop - start)
        )
        return [
            RowKey(id, image, text)
            for id, image, text in zip(self.ids[start:stop], images, texts, strict=True)
        ]

    def encode(self, start: int, stop: int) -> dict[Kind, Part]:
        """The vectors of a chunk."""
        texts = (
            sorted(
                {text for row in range(start, stop) for text in self.captions[row]}, key=lambda t: (len(t), t)
            )
            if self.captions
            else []
        )
        steps = _Steps(
            self.progress, len(self.ids), start, stop, items=len(texts) + (stop - start if self.reader else 0)
        )
        parts: dict[Kind, Part] = {}
        if self.reader:
            parts["image"] = self._images(start, stop, steps)
        if "text" in self.kinds:
            parts["text"] = self._texts(start, stop, texts, steps)
        return parts

    def _images(self, start: int, stop: int, steps: "_Steps") -> Part:
        counts = np.zeros(stop - start, dtype=np.int64)
        causes: dict[int, str] = {}
        vectors: list[np.ndarray] = []
        for first, prepared in batches_ahead(
            self._image, range(start, stop), batch=self.batch, pool=self.pool
        ):
            image_batch = [image_part for image_part in prepared if isinstance(image_part, Tensor)]
            causes |= {first - start + i: cause for i, cause in enumerate(prepared) if isinstance(cause, str)}
            counts[first - start : first - start + len(prepared)] = [
                0 if isinstance(one, str) else len(one) for one in prepared
            ]
            new = (
                self._finished(
                    "image", self.model.encode_image(torch.cat(image_batch), normalize=self._model_normalizes)
                )
                if image_batch
                else None
            )
            vectors += _in_order(prepared, new)
            steps.advance(len(prepared))
        return Part(np.concatenate(vectors) if vectors else np.zeros((0, 0), np.float32), counts, causes)

    def _image(self, row: int) -> Tensor | np.ndarray | str:
        """(views, 3, height, width) normalised, the (views, dim) vectors where they are known, or why there is nothing."""
        try:
            (found,) = self.known([digest(self._bytes(row))], [self.ids[row]])
            if found is not None:
                return found
            return self.views(decode(self._bytes(row)), self.ids[row])
        except BadImage as error:
            return error.cause

    def _bytes(self, row: int) -> bytes:
        assert self.reader is not None, "pictures were not asked for"
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

    def _texts(self, start: int, stop: int, unique: list[str], steps: "_Steps") -> Part:
        counts = np.array([len(self.captions[row]) for row in range(start, stop)], dtype=np.int64)
        if not unique:
            return Part(np.zeros((0, 0), np.float32), counts)
        vectors: list[np.ndarray] = []
        for first in range(0, len(unique), self.batch):  # sorted by length: a batch is padded to its longest
            texts = unique[first : first + self.batch]
            found = self.known([texts_digest([text]) for text in texts], texts)
            new = [text for text, own in zip(texts, found, strict=True) if own is None]
            if new:
                encoded = self.model.encode_text(new, normalize=self._model_normalizes)
                rest = iter(self._finished("text", encoded))
                found = [next(rest)[None] if own is None else own for own in found]
            vectors += [own for own in found if own is not None]
            steps.advance(len(texts))
        place = {text: i for i, text in enumerate(unique)}
        rows = [place[text] for row in range(start, stop) for text in self.captions[row]]
        too_long = (
            set()
            if not self.model.tokenizer.truncated(unique)
            else {t for t in unique if self.model.tokenizer.truncated([t])}
        )
        truncated = sum(text in too_long for row in range(start, stop) for text in self.captions[row])
        return Part(np.concatenate(vectors)[rows], counts, truncated=truncated)

    @property
    def _model_normalizes(self) -> bool:
        return self.normalize and not self.means

    def _finished(self, kind: Kind, vectors: Tensor) -> np.ndarray:
        """(batch, dim) float32 as they are stored: centred where that was asked for, then of length one."""
        if kind in self.means:
            vectors = vectors.float() - torch.from_numpy(self.means[kind]).to(vectors.device)
        if self.normalize and not self._model_normalizes:
            vectors = torch.nn.functional.normalize(vectors.float(), dim=-1)
        return vectors.float().cpu().numpy()


def _in_order(prepared: Sequence[Tensor | np.ndarray | str], new: np.ndarray | None) -> list[np.ndarray]:
    """Vectors of a batch, picture after picture: those that were known, and (views of the others, dim) new ones."""
    result: list[np.ndarray] = []
    used = 0
    for one in prepared:
        if isinstance(one, np.ndarray):
            result.append(one)
        elif isinstance(one, Tensor):
            assert new is not None
            result.append(new[used : used + len(one)])
            used += len(one)
    return result


class _Steps:
    """Progress inside a chunk, in rows."""

    def __init__(self, progress: Progress | None, rows: int, start: int, stop: int, *, items: int) -> None:
        self.progress, self.rows, self.start, self.stop, self.items, self.done = (
            progress,
            rows,
            start,
            stop,
            max(items, 1),
            0,
        )

    def advance(self, items: int) -> None:
        self.done += items
        if self.progress:
            self.progress(self.start + (self.stop - self.start) * self.done // self.items, self.rows)


def embed_manifest(
    model: Encodes,
    manifest: Manifest | TextRows,
    out: str | Path,
    *,
    what: What = "both",
    dtype: StoreDtype = "float16",
    batch: int = 256,
    normalize: bool = True,
    centre: bool = False,
    where: str | None = None,
    chunk_rows: int | None = None,
    views: MakeViews | None = None,
    known: StoredViews | None = None,
    settings: Mapping[str, Any] | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Embedded:
    """Embed a data set, or go on with one that was interrupted or has grown at its end.

    Args:
        model: what encodes.
        manifest: the data set.
        out: folder of the store.
        what: `images`, `texts`, or `both`, which means those that the data has.
        dtype: of the stored vectors; int8 has one scale a vector. The error against float32 is measured and stored.
        batch: pictures or texts encoded at once.
        normalize: store vectors of length one.
        centre: subtract the mean first; for states that all point one way, such as those of a language model.
        where: the condition that made the manifest; written down, not applied.
        chunk_rows: rows of a chunk, which is what a killed run loses; 1,024 by default.
        views: makes several views of a picture; by default the model's preprocessing makes one.
        known: vectors that other stores of the same encoder hold already.
        settings: whatever else decides what a vector is, such as the views; a store with others is refused.
        workers: threads that decode ahead.
        progress: called with rows done and rows in all.

    Raises:
        DataError: when the folder holds something else, or the data has nothing of what was asked for.
    """
    _refuse_unknown("what", what, get_args(What))
    _refuse_unknown("dtype", dtype, get_args(StoreDtype))
    if batch < 1:
        raise DataError(f"batch is {batch}, expected at least 1; 256 suits most machines.")
    begun = time.perf_counter()
    kinds, absent = _kinds(manifest, what)
    common: dict[str, Any] = {"kinds": kinds, "batch": batch}
    with ThreadPoolExecutor(max(workers, 1), thread_name_prefix="decode") as pool:
        means = (store_means(out) or mean_vectors(model, manifest, pool=pool, **common)) if centre else {}
        source = ManifestVectors(
            model,
            manifest,
            pool=pool,
            normalize=normalize,
            means=means,
            views=views,
            known=known,
            progress=progress,
            **common,
        )
        encoder = describe(model, kinds=kinds, normalize=normalize, means=means, settings=settings)
        origin = Origin(
            name=manifest.name, where=where, fingerprint=manifest.fingerprint(), rows=len(manifest)
        )
        options: dict[str, Any] = {"dtype": dtype, "chunk_rows": chunk_rows, "progress": progress}
        written = write_store(
            out, source, encoder=encoder, kinds=kinds, origin=origin, means=means, **options
        )
    return Embedded(written.store, written.computed, written.reused, time.perf_counter() - begun, absent)


def describe(
    model: Encodes,
    *,
    kinds: Sequence[Kind],
    normalize: bool,
    means: Mapping[Kind, np.ndarray],
    settings: Mapping[str, Any] | None = None,
) -> Encoder:
    """What a store says of the model that filled it.

    Args:
        model: what encodes.
        kinds: which of its towers are used.
        normalize: whether vectors get length one.
        means: kind -> (dim,), what is subtracted.
        settings: whatever else decides what a vector is.
    """
    return Encoder(
        model=model.fingerprint,
        description=dict(model.description),
        preprocess=model.preprocess.model_dump(mode="json") if "image" in kinds else None,
        tokenizer=model.tokenizer.fingerprint() if "text" in kinds else None,
        normalize=normalize,
        scale=model.scale,
        centring=means_digest(means) if means else None,
        settings=dict(settings or {}),
    )


def mean_vectors(
    model: Encodes,
    manifest: Manifest | TextRows,
    *,
    kinds: Sequence[Kind],
    pool: ThreadPoolExecutor,
    batch: int,
) -> dict[Kind, np.ndarray]:
    """The mean of the model's vectors, at the length it gives them, over at most 4,096 evenly spaced rows.

    Args:
        model: what encodes.
        manifest: the data set.
        kinds: which vectors.
        pool: threads that decode.
        batch: pictures or texts encoded at once.

    Returns:
        kind -> (dim,) float32, without the kinds that have no vector.
    """
    sample = manifest.take(
        np.unique(np.linspace(0, len(manifest) - 1, min(len(manifest), _MEAN_ROWS)).round().astype(np.int64))
    )
    source = ManifestVectors(model, sample, kinds=kinds, pool=pool, batch=batch, normalize=False)
    sums: dict[Kind, np.ndarray] = {}
    counts: dict[Kind, int] = {}
    for start in range(0, len(sample), batch):
        for kind, part in source.encode(start, min(start + batch, len(sample))).items():
            if len(part.values):
                sums[kind] = sums.get(kind, 0) + part.values.astype(np.float64).sum(0)
                counts[kind] = counts.get(kind, 0) + len(part.values)
    return {kind: (total / counts[kind]).astype(np.float32) for kind, total in sums.items()}


def _kinds(manifest: Manifest | TextRows, what: What) -> tuple[tuple[Kind, ...], tuple[Kind, ...]]:
    """Kinds to embed, and kinds that were asked for but are not in the data."""
    wanted: tuple[Kind, ...] = {"both": KINDS, "images": KINDS[:1], "texts": KINDS[1:]}[what]
    absent: tuple[Kind, ...] = ("text",) if "text" in wanted and not any(manifest.captions()) else ()
    kinds: tuple[Kind, ...] = tuple(kind for kind in wanted if kind not in absent)
    if not kinds or not len(manifest):
        missing = "captions" if len(manifest) else "samples"
        raise DataError(
            f"{manifest.name} has no {missing} to embed; look at it with 'frugalclip data check {manifest.name}'."
        )
    return kinds, absent


def _refuse_unknown(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise DataError(f"{name}='{value}' is not understood; {known_names(value, known)}")
