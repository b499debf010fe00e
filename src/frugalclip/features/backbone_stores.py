"""Stores of the features of frozen backbones: filled once, found again by every later run.

By default a store lies in the cache folder, under the hash of what decides its content: backbone,
preprocessing, views and data. So the second run on the same data begins at once, whatever its recipe. A store
holds the whole data set and not only the rows of one run, so that held-out folds share it.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from frugalclip.core import distributed
from frugalclip.core.config import Settings
from frugalclip.core.errors import DataError
from frugalclip.core.locks import taking_turns
from frugalclip.core.paths import user_path
from frugalclip.core.progress import Ticker
from frugalclip.data.manifest import Manifest
from frugalclip.data.parquet_images import cache_folder
from frugalclip.features.cache import FeatureCache
from frugalclip.features.embed import describe, embed_manifest
from frugalclip.features.format import VERSION, EncoderRecord, Kind, StoreDtype, canonical, digest
from frugalclip.features.store import Store
from frugalclip.features.vectors import StoredFeatures, TextRows

Note = Callable[[str], None]
_CHUNK_ROWS = 256  # what a killed run loses: a backbone is slow


class StoreConfig(Settings):
    """The `store` section of a recipe: how features of frozen backbones are kept."""

    path: str | None = Field(
        None,
        description="folder of the stores; null: the cache folder, under the hash of their content's origin",
    )
    images: bool = Field(
        True, description="false runs a frozen image backbone at every step, on views that are new each time"
    )
    views: int = Field(
        1,
        ge=1,
        le=10_000,
        description="views of each picture: the first as evaluation sees it, the others as views.NAME says",
    )
    dtype: StoreDtype = Field("float16", description="float16, float32, or int8 with one scale a vector")


def fill_store(
    cache: FeatureCache,
    rows: Manifest | TextRows,
    config: StoreConfig,
    *,
    note: Note,
    timed: Callable[[float], None] = lambda seconds: None,
    **options: Any,
) -> list[Store]:
    """Store the features of a data set, unless they are stored already; an interrupted store goes on.

    Args:
        cache: its encoder computes what no store beside this one holds.
        rows: the data set.
        config: where the store lies, and how exact it is.
        note: called with what is computed, and where it lies.
        timed: called with the seconds of a row, where every row was computed.
        options: of `embed_manifest`: settings, views, batch.

    Returns:
        The store, and the others beside it with features of the same encoder and settings.

    Raises:
        DataError: if the folder holds something else.
    """
    encoder = cache.encoder
    made = describe(
        encoder, kinds=(encoder.kind,), normalize=False, means={}, settings=options.get("settings")
    )
    what = encoder.reads
    folder = _folder(config, made, rows, what=what)
    if distributed.is_main():
        with taking_turns(folder, note):  # what another run has stored meanwhile is reused
            if not (folder / "store.json").is_file():
                source = encoder.tower.config.source
                note(f"features of {len(rows):,} {what} from {source} are computed once, into {folder}")
            siblings = list(_siblings(folder, made, what=what, dtype=config.dtype))
            options |= {"known": FeatureCache(encoder, siblings).views, "chunk_rows": _CHUNK_ROWS}
            options["progress"] = Ticker(what, note)
            done = embed_manifest(
                encoder, rows, folder, what=what, dtype=config.dtype, normalize=False, **options
            )
            if done.computed:
                if not (done.reused or siblings):
                    timed(done.seconds / len(rows))
                error = max(summary.error.max for summary in done.store.head.summary.values())
                note(
                    f"{len(rows):,} {what} took {done.seconds:.0f} s; "
                    f"the largest rounding error of a vector is {error:.1e}"
                )
    distributed.barrier()
    return [Store.open(folder), *_siblings(folder, made, what=what, dtype=config.dtype)]


def _folder(config: StoreConfig, made: EncoderRecord, rows: Manifest | TextRows, *, what: str) -> Path:
    content = {"version": VERSION, "rows": rows.fingerprint(), "dtype": config.dtype}
    key = digest(canonical({**made.identity(), **content})).hex()[:16]
    return user_path(config.path) / what if config.path else cache_folder() / "backbones" / f"{what}-{key}"


def _siblings(own: Path, made: EncoderRecord, *, what: str, dtype: StoreDtype) -> Iterator[Store]:
    """Finished stores beside this one, of the same encoder and settings, whose vectors can be copied."""
    # rounded numbers are no source for finer ones, and int8 would be rounded twice
    exact = {"float32", dtype} - {"int8"}
    for file in sorted(own.parent.glob(f"{what}-*/store.json")):
        if file.parent != own:
            with contextlib.suppress(DataError):  # another version, damaged, or not finished
                store = Store.open(file.parent)
                is_like = store.head.dtype in exact and store.head.encoder.identity() == made.identity()
                if is_like and store.ids:  # reads its table, which may be damaged too
                    yield store


def use_stored(caches: Iterable[FeatureCache]) -> None:
    """Let caches use every finished store of this machine that their encoders filled."""
    for cache in caches:
        stores = []
        for file in sorted((cache_folder() / "backbones").glob("*/store.json")):
            with contextlib.suppress(DataError):  # another version, damaged, or not finished
                store = Store.open(file.parent)
                is_own = store.head.kinds == (cache.encoder.kind,) and cache.encoder.filled(
                    store.head.encoder
                )
                if is_own and store.head.dtype != "int8" and store.ids:
                    stores.append(store)
        cache.use(stores)


def stored_features(caches: Mapping[Kind, FeatureCache]) -> StoredFeatures | None:
    """What frozen backbones gave for images on this machine, so that none is encoded again.

    Args:
        caches: of a model.
    """
    use_stored(caches.values())
    cache = caches.get("image")
    return None if cache is None else cache.first_features
