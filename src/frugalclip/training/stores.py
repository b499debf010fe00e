"""What frozen backbones say of a run's data, computed once, before training, and found again by every later run.

By default a store lies in the cache folder under the hash of what decides its content (backbone, preprocessing, views, data), so that the second run on
the same data begins at once, whatever its recipe. It holds the whole data set, not only the rows of one run, so that rotations share it.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from frugalclip.backbones.attach import check_preprocess
from frugalclip.core import distributed
from frugalclip.core.config import Settings
from frugalclip.core.errors import DataError, RecipeError
from frugalclip.data.images import upright_rgb
from frugalclip.data.manifest import Manifest
from frugalclip.data.parquet_images import cache_folder
from frugalclip.data.tokens import Tokenizer
from frugalclip.features.cache import (
    ImageFeatureCache,
    StoredImageFeatures,
    StoredTextFeatures,
    TextFeatureCache,
)
from frugalclip.features.embedding import TextRows, describe, embed_manifest
from frugalclip.features.format import Encoder, StoreDtype, canonical, digest, id_hashes
from frugalclip.features.store import Store
from frugalclip.loading.texts import TextConfig, texts_of
from frugalclip.loading.views import Preprocess, ViewConfig, make_view
from frugalclip.models import Model
from frugalclip.towers.pretrained import PretrainedTower

Note = Callable[[str], None]


class StoreConfig(Settings):
    """The `store` section: how what frozen backbones say is kept."""

    path: str | None = Field(
        None,
        description="folder of the stores; null: the cache folder, under the hash of what decides their content",
    )
    images: bool = Field(
        True, description="false runs a frozen image backbone at every step, on views that are new each time"
    )
    views: int = Field(
        1,
        ge=1,
        description="views of each picture: the first as evaluation sees it, the others as views.NAME says",
    )
    dtype: StoreDtype = Field("float16", description="float16, float32, or int8 with one scale a vector")


@dataclass(frozen=True)
class Stores:
    """The stores of a run, where a backbone is frozen."""

    images: Store | None = None
    texts: Store | None = None
    others: tuple[Store, ...] = ()  # of pictures, from the same backbone with the same settings

    def remember(self, model: Model) -> None:
        """Let a model find here what its backbones said before."""
        model.images = None if self.images is None else ImageFeatureCache([self.images, *self.others])
        model.texts = TextFeatureCache([] if self.texts is None else [self.texts])

    def image_features(self, training: Manifest, *, seed: int) -> StoredImageFeatures | None:
        """What a loader reads in place of images; None where it reads images."""
        return None if self.images is None else StoredImageFeatures(self.images, training, seed=seed)

    def text_features(self) -> Callable[[Sequence[str]], StoredTextFeatures] | None:
        """What a loader reads in place of token ids; None where it makes ids."""
        store = self.texts
        return None if store is None else lambda texts: StoredTextFeatures(store, texts)


def remember_cached(model: Model) -> Model:
    """Let a model that was loaded find what its frozen backbones said in earlier runs on this machine.

    Args:
        model: with or without pretrained towers.

    Returns:
        The model.
    """
    frozen = {
        side: tower for side, tower in model.network.pretrained_towers().items() if tower.config.is_frozen
    }
    stores: dict[str, list[Store]] = {"image": [], "text": []}
    for file in sorted((cache_folder() / "backbones").glob("*/store.json")) if frozen else []:
        with contextlib.suppress(DataError):  # another version, damaged, or not finished
            store = Store.open(file.parent)
            side = store.head.kinds[0]
            if (
                side in frozen
                and store.head.dtype != "int8"
                and _is_of(store.head.encoder, frozen[side], model)
            ):
                stores[side].append(store)
    if stores["image"]:
        model.images = ImageFeatureCache(stores["image"])
    if stores["text"]:
        model.texts = TextFeatureCache(stores["text"])
    return model


def _is_of(encoder: Encoder, tower: PretrainedTower, model: Model) -> bool:
    """Whether a store holds what this tower reads, first view as this model sees pictures."""
    if encoder.model != tower.fingerprint or encoder.normalize or encoder.centring:
        return False
    if tower.side == "text":
        return encoder.tokenizer == model.tokenizer.fingerprint()
    return (
        encoder.preprocess == model.preprocess.model_dump(mode="json")
        and encoder.settings.get("reads") == tower.config.head.reads
    )


class BackboneEncoder:
    """A pretrained tower as `embedding.Encodes`: what its backbone says, before any head of ours."""

    def __init__(
        self,
        tower: PretrainedTower,
        *,
        preprocess: Preprocess | None,
        tokenizer: Tokenizer | None,
        device: torch.device,
    ) -> None:
        self.tower, self.preprocess, self.tokenizer, self.device = tower, preprocess, tokenizer, device
        self.texts = TextFeatureCache()  # what other stores hold already
        self.scale: float | None = None  # of an encoder of one modality

    @property
    def fingerprint(self) -> str:
        """Of the backbone."""
        return self.tower.fingerprint

    @property
    def description(self) -> Mapping[str, Any]:
        """Where the backbone comes from."""
        return {"backbone": self.tower.config.source, "options": self.tower.config.options}

    @torch.inference_mode()
    def encode_image(self, images: Tensor, *, normalize: bool = True) -> Tensor:
        """(batch, 3, height, width of the picture) to (batch, width), or (batch, patches, width) for a head that reads tokens."""
        output = self.tower.run_backbone(
            images.to(self.device), with_tokens=self.tower.config.head.reads == "tokens"
        )
        return (output.pooled if output.tokens is None else output.tokens).cpu()

    @torch.inference_mode()
    def encode_text(self, texts: list[str], *, normalize: bool = True) -> Tensor:
        """Texts to (batch, width), or (batch, facets, width)."""
        assert self.tokenizer is not None
        new = self.texts.unknown(texts)
        found: dict[str, Tensor] = {}
        if new:
            tokens = self.tokenizer.encode(new).to(self.device)
            found |= zip(new, self.tower.run_backbone(tokens).pooled.float().cpu(), strict=True)
        if known := [text for text in texts if text not in found]:
            found |= zip(known, self.texts.vectors(known), strict=True)
        return torch.stack([found[text] for text in texts])


def make_stores(
    config: StoreConfig,
    everything: Manifest,
    model: Model,
    *,
    views: Mapping[str, ViewConfig],
    texts: Mapping[str, TextConfig],
    note: Note,
) -> Stores:
    """Embed what is not embedded yet; an interrupted one goes on, and what is there is read.

    Args:
        config: the `store` section.
        everything: the data set before `data.where`.
        model: its network has the backbones.
        views: the image views that are read.
        texts: the text views that are read.
        note: told what is computed and where it lies.

    Raises:
        RecipeError: for views that one store cannot hold.
        DataError: where a folder holds something else.
    """
    if "image" in model.network.pretrained_towers():  # tuned or frozen, stored or not
        tower = model.network.pretrained_towers()["image"]
        if differs := check_preprocess(tower.config.source, model.preprocess, tower.attached.preprocess):
            note(differs)
    pretrained_towers = {
        side: tower for side, tower in model.network.pretrained_towers().items() if tower.config.is_frozen
    }
    images, words, others = None, None, ()
    if "image" in pretrained_towers and config.images:
        images = _images(
            config, everything, pretrained_towers["image"], model, _one_kind(views, config), note
        )
        others = tuple(_siblings(images.path, images.head.encoder, kind="images", dtype=config.dtype))
    if "text" in pretrained_towers:
        words = _texts(config, everything, pretrained_towers["text"], model, texts, note)
    return Stores(images, words, others)


def _one_kind(views: Mapping[str, ViewConfig], config: StoreConfig) -> ViewConfig | None:
    """How further views of a picture are made; None where there are none."""
    if config.views == 1:
        return None
    kinds = list(dict.fromkeys(view.model_dump_json() for view in views.values()))
    if len(kinds) != 1:
        raise RecipeError(
            f"store.views is {config.views}, and the views {', '.join(views)} are made in {len(kinds)} ways; make them alike."
        )
    view = next(iter(views.values()))
    if view.size is not None:
        raise RecipeError(
            f"store.views is {config.views}, and views.NAME.size is {view.size}; leave it out, since a backbone reads one size."
        )
    return view


def _images(
    config: StoreConfig,
    everything: Manifest,
    tower: PretrainedTower,
    model: Model,
    view: ViewConfig | None,
    note: Note,
) -> Store:
    encoder = BackboneEncoder(tower, preprocess=model.preprocess, tokenizer=None, device=model.device)
    settings: dict[str, Any] = {"reads": tower.config.head.reads, "views": config.views} | (
        {"view": view.model_dump(mode="json")} if view else {}
    )
    arguments: dict[str, Any] = {
        "what": "images",
        "settings": settings,
        "batch": max(8, 64 // config.views),
        "chunk_rows": 256,
    }
    if view is not None:
        arguments["views"] = _Views(model.preprocess, view, number=config.views)
    return _store(config, everything, encoder, "images", arguments, note)


def distinct_texts(everything: Manifest, texts: Mapping[str, TextConfig]) -> list[str]:
    """What a frozen text backbone reads: every text that the views may show, each once."""
    return list(
        dict.fromkeys(text for text in texts_of(everything, texts.values()) if text and not text.isspace())
    )


def _texts(
    config: StoreConfig,
    everything: Manifest,
    tower: PretrainedTower,
    model: Model,
    texts: Mapping[str, TextConfig],
    note: Note,
) -> Store:
    wanted = distinct_texts(everything, texts)
    encoder = BackboneEncoder(tower, preprocess=None, tokenizer=model.tokenizer, device=model.device)
    arguments: dict[str, Any] = {"what": "texts", "batch": 64, "chunk_rows": 256}
    return _store(
        config, TextRows(wanted, name=f"texts of {everything.name}"), encoder, "texts", arguments, note
    )


def _store(
    config: StoreConfig,
    rows: Manifest | TextRows,
    encoder: BackboneEncoder,
    name: str,
    arguments: dict[str, Any],
    note: Note,
) -> Store:
    kinds = ("image",) if name == "images" else ("text",)
    described = describe(encoder, kinds=kinds, normalize=False, means={}, settings=arguments.get("settings"))  # pyright: ignore[reportArgumentType]
    identity = described.identity()
    parent = Path(config.path) if config.path else cache_folder() / "backbones"
    key = digest(canonical({**identity, "rows": rows.fingerprint(), "dtype": config.dtype})).hex()[:16]
    folder = parent / (name if config.path else f"{name}-{key}")
    if distributed.is_main():
        is_there = (folder / "store.json").is_file()
        if not is_there:
            note(
                f"what {encoder.tower.config.source} says of {len(rows):,} {name} is computed once, into {folder}"
            )
        siblings = list(_siblings(folder, described, kind=name, dtype=config.dtype))
        if name == "images":
            arguments["known"] = functools.partial(ImageFeatureCache(siblings).views, number=config.views)
        else:
            encoder.texts = TextFeatureCache(siblings)
        done = embed_manifest(encoder, rows, folder, dtype=config.dtype, normalize=False, **arguments)
        if done.computed:
            note(
                f"{len(rows):,} {name} took {done.seconds:.0f} s; the largest rounding error of a vector is {_error(done.store):.1e}"
            )
    distributed.barrier()
    return Store.open(folder)


def _siblings(own: Path, encoder: Encoder, *, kind: str, dtype: StoreDtype) -> Iterator[Store]:
    """Finished stores of pictures or texts beside this one, from the same backbone with the same settings, whose vectors would be stored as they are."""
    exact = {"float32", dtype} - {
        "int8"
    }  # rounded numbers are no source for finer ones, and int8 would be rounded twice
    for file in sorted(own.parent.glob(f"{kind}-*/store.json")):
        if file.parent != own:
            with contextlib.suppress(DataError):  # another version, damaged, or not finished
                store = Store.open(file.parent)
                if store.head.dtype in exact and store.head.encoder.identity() == encoder.identity():
                    yield store


def _error(store: Store) -> float:
    return max(summary.error.max for summary in store.head.summary.values())


class _Views:
    """The picture as evaluation sees it, then augmented views, which depend on the sample's id and nothing else."""

    def __init__(self, preprocess: Preprocess, view: ViewConfig, *, number: int) -> None:
        self.preprocess, self.view, self.number = preprocess, view, number

    def __call__(self, image: Image.Image, id: str) -> Tensor:
        """(views, 3, size, size)."""
        p, upright = self.preprocess, upright_rgb(image)
        side = max(p.size, *upright.size) if max(upright.size) < 2 * p.size else 2 * p.size
        squashed = torch.from_numpy(np.array(upright.resize((side, side), Image.Resampling.BICUBIC))).permute(
            2, 0, 1
        )[None]
        row = np.int64(id_hashes([id])[0] >> np.uint64(1))
        further = self.number - 1
        made = make_view(
            squashed.expand(further, -1, -1, -1),
            np.tile([upright.height, upright.width], (further, 1)),
            self.view,
            size=p.size,
            rows=np.full(further, row),
            epoch=np.arange(further),
            seed=0,
            name="store",
            mean=p.mean,
            std=p.std,
        )
        return torch.cat([p(image), made.images])
