"""Features of frozen backbones for a run: which stores it fills, and what they hold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from frugalclip.backbones.attach import check_preprocess
from frugalclip.core.errors import RecipeError
from frugalclip.core.images import upright_rgb
from frugalclip.core.preprocess import Preprocess
from frugalclip.data.images import decode
from frugalclip.data.manifest import Manifest
from frugalclip.features.backbone_stores import StoreConfig, fill_store
from frugalclip.features.cache import FeatureCache
from frugalclip.features.format import id_hashes
from frugalclip.features.rows import FeatureRows
from frugalclip.features.store import Store
from frugalclip.features.vectors import TextRows
from frugalclip.loading.texts import TextViewConfig, texts_of
from frugalclip.loading.views import ViewConfig, make_view
from frugalclip.models import Model
from frugalclip.training.speeds import RUN, Speed, backbone_key, remember_speed

Note = Callable[[str], None]
_TEXTS_AT_A_TIME = 64


@dataclass(frozen=True)
class RunStores:
    """The stores that a run draws from, one for each frozen backbone."""

    images: Store | None = None
    texts: Store | None = None

    def image_features(self, training: Manifest) -> FeatureRows | None:
        """What a loader draws in place of images; None where it draws images."""
        return None if self.images is None else FeatureRows(self.images, "image", training.ids)

    def text_features(self) -> Callable[[Sequence[str]], FeatureRows] | None:
        """What a loader draws in place of token ids; None where it draws ids."""
        store = self.texts
        return None if store is None else lambda texts: FeatureRows(store, "text", texts)


def fill_caches(
    config: StoreConfig,
    everything: Manifest,
    model: Model,
    *,
    views: Mapping[str, ViewConfig],
    texts: Mapping[str, TextViewConfig],
    note: Note,
) -> RunStores:
    """Store the features that a run reads and that are not stored yet, and let the model's caches use them.

    Args:
        config: the `store` section.
        everything: the data set before `data.where`.
        model: its network has the backbones.
        views: the image views that are read.
        texts: the text views that are read.
        note: called with what is computed, and where it lies.

    Raises:
        RecipeError: if one store cannot hold the views.
        DataError: if a folder holds something else.
    """
    towers = model.network.pretrained_towers()
    if tower := towers.get("image"):  # tuned or frozen, stored or not
        own = tower.attached.preprocess
        assert own is not None, "a backbone of images has a preprocessing"
        differs = check_preprocess(tower.config.source, model.preprocess, own)
        note(differs) if differs else None
    images = words = None
    if (cache := model.caches.get("image")) and config.images:
        stores = _fill_images(cache, config, everything, model, views, note)
        cache.use(stores)
        images = stores[0]
    if cache := model.caches.get("text"):
        rows = TextRows(distinct_texts(everything, texts), name=f"texts of {everything.name}")
        timed = partial(_remember, cache, model, samples=1)
        words = fill_store(cache, rows, config, note=note, timed=timed, batch=_TEXTS_AT_A_TIME)[0]
        cache.use([words])  # other texts, such as names of classes, are encoded exactly
    return RunStores(images, words)


def distinct_texts(everything: Manifest, texts: Mapping[str, TextViewConfig]) -> list[str]:
    """Every text that the views may read, each once: what a frozen text backbone encodes."""
    shown = texts_of(everything, texts.values())
    return list(dict.fromkeys(text for text in shown if text and not text.isspace()))


def _fill_images(
    cache: FeatureCache,
    config: StoreConfig,
    everything: Manifest,
    model: Model,
    views: Mapping[str, ViewConfig],
    note: Note,
) -> list[Store]:
    settings: dict[str, Any] = {"reads": cache.encoder.layer, "views": config.views}
    options: dict[str, Any] = {"batch": max(8, 64 // config.views), "settings": settings}
    if config.views > 1:
        view = _common_view(views, config)
        settings["view"] = view.model_dump(mode="json")
        options["views"] = StoredViews(model.preprocess, view, number=config.views)
    timed = partial(_remember, cache, model, samples=config.views)
    return fill_store(cache, everything, config, note=note, timed=timed, **options)


def _remember(cache: FeatureCache, model: Model, seconds: float, *, samples: int) -> None:
    """Keep the speed of a backbone for later plans: seconds of a row, which is so many samples."""
    config = cache.encoder.tower.config.model_dump(mode="json", by_alias=True)
    key = backbone_key(config, model.device, threads=torch.get_num_threads())
    remember_speed(key, Speed(seconds / samples, RUN))


def _common_view(views: Mapping[str, ViewConfig], config: StoreConfig) -> ViewConfig:
    """How views after the first are made."""
    kinds = list(dict.fromkeys(view.model_dump_json() for view in views.values()))
    if len(kinds) != 1:
        raise RecipeError(
            f"store.views is {config.views}, and the views {', '.join(views)} are made in {len(kinds)} ways; "
            "make them alike."
        )
    view = next(iter(views.values()))
    if view.size is not None:
        raise RecipeError(
            f"store.views is {config.views}, and views.NAME.size is {view.size}; leave it out, "
            "since a backbone takes one size."
        )
    return view


class StoredViews:
    """The views of an image that a store holds: as evaluation sees it, then augmented.

    Augmented views depend on the sample's id and nothing else.
    """

    def __init__(self, preprocess: Preprocess, view: ViewConfig, *, number: int) -> None:
        self.preprocess, self.view, self.number = preprocess, view, number

    def __call__(self, data: bytes, id: str) -> Tensor:
        """(views, 3, size, size)."""
        image = decode(data)
        p, upright = self.preprocess, upright_rgb(image)
        side = max(p.size, *upright.size) if max(upright.size) < 2 * p.size else 2 * p.size
        squashed = np.array(upright.resize((side, side), Image.Resampling.BICUBIC))  # (side, side, 3)
        further = self.number - 1
        made = make_view(
            torch.from_numpy(squashed).permute(2, 0, 1)[None].expand(further, -1, -1, -1),
            np.tile([upright.height, upright.width], (further, 1)),
            self.view,
            size=p.size,
            rows=np.full(further, np.int64(id_hashes([id])[0] >> np.uint64(1))),
            epoch=np.arange(further),
            seed=0,
            name="store",
            mean=p.mean,
            std=p.std,
        )
        return torch.cat([p(image), made.images])
