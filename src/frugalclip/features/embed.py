"""A data set through an encoder into a store: images and captions become vectors on disk, once.

Vectors can be centred, for states of frozen language models, which all point one way. The mean is taken over
an evenly spaced sample and subtracted before vectors get length one. The store keeps it, so that queries are
centred alike.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from frugalclip.core.errors import DataError, known_names
from frugalclip.core.numerics import evenly_spaced
from frugalclip.core.paths import user_path
from frugalclip.core.users_text import command_line
from frugalclip.data.manifest import Manifest
from frugalclip.features.format import KINDS, EncoderRecord, Kind, Origin, StoreDtype
from frugalclip.features.store import Store
from frugalclip.features.vectors import (
    MakeViews,
    ManifestVectors,
    Progress,
    StorableEncoder,
    StoredFeatures,
    StoredViews,
    TextRows,
    VectorOptions,
    image_preprocess,
)
from frugalclip.features.writer import means_digest, store_means, write_store

What = Literal["both", "images", "texts"]
_MEAN_ROWS = 4096
_TIMED_ROWS = 8
_ITEM_BYTES: dict[StoreDtype, int] = {"float16": 2, "float32": 4, "int8": 1}


@dataclass(frozen=True)
class Embedded:
    """A store and what it took to write it."""

    store: Store
    computed: int  # chunks
    reused: int  # chunks
    seconds: float
    absent: tuple[Kind, ...] = ()  # requested, but the data has none
    unread: Mapping[str, int] = field(
        default_factory=dict
    )  # cause -> samples left out while reading the data


@dataclass(frozen=True)
class StoreEstimate:
    """What a store will take, from a few of its rows."""

    images: int  # image vectors
    texts: int  # text vectors
    megabytes: float  # on disk
    seconds: float  # of encoding


def embed_manifest(
    encoder: StorableEncoder,
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
    features: StoredFeatures | None = None,
    settings: Mapping[str, Any] | None = None,
    workers: int = 2,
    progress: Progress | None = None,
    announce: Callable[[StoreEstimate], None] | None = None,
) -> Embedded:
    """Embed a data set, or continue with one that was interrupted or has grown at its end.

    Args:
        encoder: encodes images and texts.
        manifest: the data set.
        out: folder of the store.
        what: `images`, `texts`, or `both`, which means those that the data has.
        dtype: of the stored vectors; int8 has one scale a vector. The error against float32 is recorded.
        batch: images or texts encoded at once.
        normalize: store vectors of length one.
        centre: subtract the mean first.
        where: the condition that selected the rows of the manifest; recorded, not applied.
        chunk_rows: rows of a chunk, which is what a killed run loses; 1,024 by default.
        views: makes several views of an image; by default the encoder's preprocessing makes one.
        known: vectors that other stores of the same encoder hold already.
        features: what the frozen backbone of the encoder gave for an image's bytes, where that is stored.
        settings: whatever else changes a vector, such as the views; a store with others is refused.
        workers: threads that decode ahead.
        progress: called with rows done and rows in all.
        announce: called with what a new store will take, before it is written.

    Raises:
        DataError: if the folder holds something else, or the data has nothing to embed.
    """
    _refuse_unknown("what", what, get_args(What))
    _refuse_unknown("dtype", dtype, get_args(StoreDtype))
    if batch < 1:
        raise DataError(f"batch is {batch}, expected at least 1; 256 suits most machines.")
    begun = time.perf_counter()
    progress = progress or (lambda done, total: None)
    kinds, absent = _kinds(manifest, what)
    plain = VectorOptions(kinds, batch=batch, normalize=False)
    plain = replace(plain, features=features) if features else plain
    with ThreadPoolExecutor(max(workers, 1), thread_name_prefix="decode") as pool:
        means = (store_means(out) or mean_vectors(encoder, manifest, plain, pool=pool)) if centre else {}
        options = replace(plain, normalize=normalize, means=means, views=views)
        options = replace(options, known=known) if known else options
        if announce is not None and not (user_path(out) / "store.json").is_file():
            announce(estimate(encoder, manifest, options, dtype=dtype, pool=pool))
        written = write_store(
            out,
            ManifestVectors(encoder, manifest, options, pool=pool, progress=progress),
            encoder=describe(encoder, kinds=kinds, normalize=normalize, means=means, settings=settings),
            kinds=kinds,
            origin=Origin(
                name=manifest.name, where=where, fingerprint=manifest.fingerprint(), rows=len(manifest)
            ),
            dtype=dtype,
            chunk_rows=chunk_rows,
            means=means,
            progress=progress,
        )
    return Embedded(written.store, written.computed, written.reused, time.perf_counter() - begun, absent)


def estimate(
    encoder: StorableEncoder,
    manifest: Manifest | TextRows,
    options: VectorOptions,
    *,
    dtype: StoreDtype,
    pool: ThreadPoolExecutor,
) -> StoreEstimate:
    """Encode a few evenly spaced rows, and reckon with the others as with them.

    Args:
        encoder: encodes images and texts.
        manifest: the data set.
        options: how rows become vectors.
        dtype: of the store.
        pool: threads that decode.
    """
    sample = manifest.take(evenly_spaced(np.arange(len(manifest)), _TIMED_ROWS))
    source = ManifestVectors(encoder, sample, options, pool=pool)
    source.encode(0, 1)  # what is done once counts for little
    begun = time.perf_counter()
    parts = source.encode(0, len(sample))
    times = len(manifest) / len(sample)
    sizes = {kind: times * part.values.size * _ITEM_BYTES[dtype] for kind, part in parts.items()}
    counts = {kind: round(times * len(part.values)) for kind, part in parts.items()}
    seconds = times * (time.perf_counter() - begun)
    return StoreEstimate(counts.get("image", 0), counts.get("text", 0), sum(sizes.values()) / 1e6, seconds)


def describe(
    encoder: StorableEncoder,
    *,
    kinds: Sequence[Kind],
    normalize: bool,
    means: Mapping[Kind, np.ndarray],
    settings: Mapping[str, Any] | None = None,
) -> EncoderRecord:
    """The record of an encoder that a store keeps.

    Args:
        encoder: encodes images and texts.
        kinds: which of its towers are used.
        normalize: whether vectors get length one.
        means: kind -> (dim,), subtracted before that.
        settings: whatever else changes a vector.
    """
    return EncoderRecord(
        model=encoder.fingerprint,
        description=dict(encoder.description),
        preprocess=image_preprocess(encoder).model_dump(mode="json") if "image" in kinds else None,
        tokenizer=encoder.tokenizer.fingerprint() if "text" in kinds else None,
        normalize=normalize,
        scale=encoder.scale,
        centring=means_digest(means) if means else None,
        settings=dict(settings or {}),
    )


def mean_vectors(
    encoder: StorableEncoder,
    manifest: Manifest | TextRows,
    options: VectorOptions,
    *,
    pool: ThreadPoolExecutor,
) -> dict[Kind, np.ndarray]:
    """The mean of the encoder's vectors, not normalised, over at most 4,096 evenly spaced rows.

    Args:
        encoder: encodes images and texts.
        manifest: the data set.
        options: which vectors; not normalised.
        pool: threads that decode.

    Returns:
        kind -> (dim,) float32, without the kinds that have no vector.
    """
    sample = manifest.take(evenly_spaced(np.arange(len(manifest)), _MEAN_ROWS))
    source = ManifestVectors(encoder, sample, options, pool=pool)
    sums: dict[Kind, np.ndarray] = {}
    counts: dict[Kind, int] = {}
    for start in range(0, len(sample), options.batch):
        for kind, part in source.encode(start, min(start + options.batch, len(sample))).items():
            if len(part.values):
                sums[kind] = sums.get(kind, 0) + part.values.astype(np.float64).sum(0)
                counts[kind] = counts.get(kind, 0) + len(part.values)
    return {kind: (total / counts[kind]).astype(np.float32) for kind, total in sums.items()}


def _kinds(manifest: Manifest | TextRows, what: What) -> tuple[tuple[Kind, ...], tuple[Kind, ...]]:
    """Kinds to embed, and kinds that are requested and not in the data."""
    wanted: tuple[Kind, ...] = {"both": KINDS, "images": KINDS[:1], "texts": KINDS[1:]}[what]
    absent: tuple[Kind, ...] = ("text",) if "text" in wanted and not any(manifest.captions()) else ()
    kinds: tuple[Kind, ...] = tuple(kind for kind in wanted if kind not in absent)
    if not kinds or not len(manifest):
        missing = "captions" if len(manifest) else "samples"
        raise DataError(
            f"{manifest.name} has no {missing} to embed; "
            f"look at it with: {command_line('data', 'check', manifest.name)}"
        )
    return kinds, absent


def _refuse_unknown(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise DataError(f"{name}='{value}' is not understood; {known_names(value, known)}")
