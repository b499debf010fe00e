"""Batches as a pure function of (seed, step, rank, processes).

Which rows an epoch draws, and which of these a step takes, is in `sampling`. So every process has the same
number of steps, N processes see what one would, and a resumed run begins at a later step. The draws that an
epoch leaves over are dropped; they are other ones each epoch.

Small data sets are decoded once, into memory, larger ones as they are needed (`image_sources`).
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, final

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.errors import DataError
from frugalclip.core.preprocess import CLIP_MEAN, CLIP_STD
from frugalclip.core.types import Batch, CachedFeatures, ImageInput, Tokens
from frugalclip.core.users_text import command_line
from frugalclip.data.decoding import decode_all
from frugalclip.data.image_faults import BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.images import size_of
from frugalclip.data.manifest import Manifest
from frugalclip.data.tokens import Tokenizer
from frugalclip.features.rows import FeatureRows
from frugalclip.loading.image_sources import ImageBatch, ImageSource, MemoryImages, StreamedImages
from frugalclip.loading.replay import Augmentations, sample_keys
from frugalclip.loading.sampling import Order, Steps
from frugalclip.loading.texts import NO_TEXT, TextViewConfig, TextViews
from frugalclip.loading.views import ImageView, ViewConfig, make_view, source_size, view_order

_Input = TypeVar("_Input", Tensor, Tokens, Tensor | CachedFeatures, Tokens | CachedFeatures)
_PROBED = 64  # images whose header is read to see how large the originals are


@final
@dataclass(frozen=True)
class LoaderData:
    """What batches are drawn from."""

    manifest: Manifest
    tokenizer: Tokenizer  # of the text views
    weights: np.ndarray | None = None  # (samples,) see `sampling.sampling_weights`; 0 is never, None is alike
    image_features: FeatureRows | None = None  # takes the place of images, for all image views
    text_features: Callable[[Sequence[str]], FeatureRows] | None = None  # takes the place of token ids


@final
@dataclass(frozen=True)
class BatchSpec:
    """What a batch holds."""

    views: Mapping[str, ViewConfig]  # image view -> how it is made
    texts: Mapping[str, TextViewConfig]  # text view -> what it reads
    batch: int  # samples of one step of one process
    size: int  # pixels on a side of a view, unless the view has its own
    fields: Sequence[str] = ()  # manifest columns as codes; `caption` is the text drawn, `id` the row
    mean: Sequence[float] = CLIP_MEAN  # of the normalisation
    std: Sequence[float] = CLIP_STD
    replayed: Mapping[str, Augmentations] = field(
        default_factory=dict
    )  # image view -> the stored augmentations that it is drawn from

    @property
    def caption_view(self) -> str:
        """The text view whose text the field `caption` stands for: `caption`, else the first."""
        return "caption" if "caption" in self.texts else next(iter(self.texts), "")


@final
@dataclass(frozen=True)
class LoaderConfig:
    """How batches are made."""

    seed: int  # of the run
    rank: int = 0  # of this process
    world: int = 1  # number of processes
    workers: int = 0  # processes that decode as images are needed, or threads that decode them once
    cache: int = 2**31  # bytes of decoded images up to which a data set is decoded once
    device: torch.device | None = None  # where views are made and batches lie; None is the CPU


class Loader:
    """Endless batches of a data set.

    `faults` lists (row, cause) of samples that cannot be used. Where images are decoded once, they are known
    from the start and take no part. Where images are decoded as they are needed, a sample that fails is
    replaced when its turn comes: by the sample of the same place in the epoch's next global batch. The fault
    is listed then.

    Args:
        data: what batches are drawn from.
        spec: what a batch holds.
        config: how batches are made.
        progress: called with the number of images decoded since the last call, while they are decoded once.

    Raises:
        DataError: when no sample can be used, or too few for one step; it names a batch size that fits.
    """

    def __init__(
        self,
        data: LoaderData,
        spec: BatchSpec,
        config: LoaderConfig,
        *,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.data, self.spec, self.config = data, spec, config
        self.stored = data.image_features
        views = {} if self.stored else spec.views
        self.views = {name: views[name] for name in view_order(views)}
        self.texts = TextViews(
            data.manifest, spec.texts, tokenizer=data.tokenizer, seed=config.seed, stored=data.text_features
        )
        self._codes = _field_codes(data.manifest, spec)
        self._faults: dict[int, str] = {}  # row -> cause
        self._exclude((int(row), NO_TEXT) for row in np.flatnonzero(~self.texts.has_text))
        if self.stored:
            self._exclude(self.stored.faults())
        self._keys = sample_keys(data.manifest.ids) if spec.replayed else np.zeros(0, np.int64)
        sides = {one.side for one in spec.replayed.values()}  # that of the stored augmentations, or our own
        self.source_side = (
            sides.pop() if sides else _source_side(data.manifest, self.views.values(), size=spec.size)
        )
        self._images = self._image_source(progress)
        self.rows = self._usable_rows()
        step = spec.batch * config.world
        if len(self.rows) < step:
            raise too_few(data.manifest, len(self.rows), self.faults, step=step, world=config.world)
        order = Order(self.rows, data.weights, seed=config.seed)
        self._steps = Steps(order, batch=spec.batch, rank=config.rank, world=config.world)

    @property
    def faults(self) -> list[tuple[int, str]]:
        """(row, cause) of samples that cannot be used: those known at the start by row, then as met."""
        return list(self._faults.items())

    @property
    def steps_per_epoch(self) -> int:
        return self._steps.per_epoch

    @property
    def is_cached(self) -> bool:
        """Whether images were decoded once, or none are read."""
        return isinstance(self._images, MemoryImages)

    def batches(self, start_step: int = 0, *, stream: str = "") -> Iterator[Batch]:
        """Endless batches of this process; the same batch for the same step, wherever one starts.

        Args:
            start_step: steps that come before.
            stream: begins the names of the random streams: the same rows with other crops, colours and
                captions.
        """
        for images in self._images.batches(self._steps, start_step):
            for row, cause in sorted(set(images.faults)):
                self._faults.setdefault(row, cause)
            yield self._batch(images, stream)

    def _exclude(self, faults: Iterable[tuple[int, str]]) -> None:
        """Leave samples out of every epoch; the first cause of each counts."""
        self._faults = dict(sorted((dict(faults) | self._faults).items()))

    def _usable_rows(self) -> np.ndarray:
        """(usable,) int64 rows that are drawn, ascending."""
        is_usable = np.ones(len(self.data.manifest), dtype=bool)
        is_usable[list(self._faults)] = False
        weights = self.data.weights
        return np.flatnonzero(is_usable if weights is None else is_usable & (weights > 0))

    def _image_source(self, progress: Callable[[int], None]) -> ImageSource:
        manifest, workers = self.data.manifest, self.config.workers
        if not self.views:
            return MemoryImages.absent(len(manifest))
        if len(manifest) * 3 * self.source_side**2 > self.config.cache:
            return StreamedImages(ImageReader(manifest), side=self.source_side, workers=workers)
        decoded = decode_all(manifest, self.source_side, workers or None, progress=progress)
        self._exclude(decoded.faults)
        return MemoryImages(decoded.pixels, decoded.sizes)

    def _batch(self, drawn: ImageBatch, stream: str) -> Batch:
        rows, turns = drawn.rows, drawn.turns
        augmentations = {
            name: one.drawn(rows, turns=turns, seed=self.config.seed, stream=f"{stream}{name}")
            for name, one in self.spec.replayed.items()
        }
        views = self._views(drawn, stream, augmentations)
        texts = self.texts.draw(rows, epoch=turns, stream=stream)
        tokens = {
            name: self.texts.view_tokens(name, texts[name], rows, epoch=turns, stream=stream)
            for name in texts
        }
        fields = {name: self._field(codes, rows, texts) for name, codes in self._codes.items()}
        return Batch(
            rows=self._to_device(torch.from_numpy(rows)),
            images=self._image_inputs(drawn, views, stream),
            texts={name: self._to_device(text) for name, text in tokens.items()},
            boxes={name: view.boxes for name, view in views.items()},
            mirrored={name: view.mirrored for name, view in views.items() if self.views[name].flip},
            fields={name: self._to_device(codes) for name, codes in fields.items()},
            turns=self._to_device(torch.from_numpy(turns)),
            drawn={name: torch.from_numpy(one) for name, one in {**texts, **augmentations}.items()},
        )

    def _views(
        self, drawn: ImageBatch, stream: str, augmentations: Mapping[str, np.ndarray]
    ) -> dict[str, ImageView]:
        """Every image view; those that hold others come after them."""
        pixels = self._to_device(drawn.pixels)
        views: dict[str, ImageView] = {}
        for name, config in self.views.items():
            if name in augmentations:
                views[name] = self._replayed(name, pixels, drawn, augmentations[name])
                continue
            views[name] = make_view(
                pixels,
                drawn.sizes,
                config,
                size=self.spec.size,
                rows=drawn.rows,
                epoch=drawn.turns,
                seed=self.config.seed,
                name=f"{stream}{name}",
                inner=[views[inner].boxes for inner in config.contains],
                mean=self.spec.mean,
                std=self.spec.std,
            )
        return views

    def _replayed(self, name: str, pixels: Tensor, drawn: ImageBatch, numbers: np.ndarray) -> ImageView:
        """A view that a store holds embeddings of, made again."""
        return self.spec.replayed[name].make(
            pixels,
            drawn.sizes,
            keys=self._keys[drawn.rows],
            numbers=numbers,
            mean=self.spec.mean,
            std=self.spec.std,
        )

    def _image_inputs(
        self, drawn: ImageBatch, views: dict[str, ImageView], stream: str
    ) -> dict[str, ImageInput]:
        if self.stored is None:
            return {name: self._to_device(view.images) for name, view in views.items()}
        inputs: dict[str, ImageInput] = {}
        for name in sorted(self.spec.views):
            features = self.stored.draw(
                drawn.rows, seed=self.config.seed, epoch=drawn.turns, name=f"{stream}{name}"
            )
            inputs[name] = self._to_device(CachedFeatures(features))
        return inputs

    def _field(self, codes: np.ndarray | None, rows: np.ndarray, texts: dict[str, np.ndarray]) -> Tensor:
        """(batch,) int64 codes of a field; those of the caption depend on the text drawn."""
        return torch.from_numpy(
            self.texts.codes(texts[self.spec.caption_view]) if codes is None else codes[rows]
        )

    def _to_device(self, x: _Input) -> _Input:
        """On the chosen device; on the CPU, in memory that a GPU copies from without waiting."""
        if self.config.device is not None:
            return x.to(self.config.device, non_blocking=True)
        return x.pin_memory() if torch.cuda.is_available() else x


def _field_codes(manifest: Manifest, spec: BatchSpec) -> dict[str, np.ndarray | None]:
    """Field -> (samples,) int64 codes; None where the code depends on the text drawn."""
    if "caption" in spec.fields and not spec.texts:
        raise DataError(
            "an objective reads the field 'caption', but the recipe has no text view; "
            "add one, such as texts: {caption: {}}."
        )
    return {name: None if name == "caption" else manifest.codes(name) for name in spec.fields}


def _source_side(manifest: Manifest, views: Iterable[ViewConfig], *, size: int) -> int:
    """Side at which images are kept: what the views can use, but no more than the originals have."""
    views = list(views)
    reader = ImageReader(manifest)
    largest = max((view.size or size for view in views), default=size)
    for row in np.unique(np.linspace(0, len(manifest) - 1, min(_PROBED, len(manifest)), dtype=np.int64)):
        with contextlib.suppress(BadImage):
            largest = max(largest, *size_of(reader.bytes(int(row))))
    return min(source_size(views, size=size), largest)


def too_few(
    manifest: Manifest, usable: int, faults: list[tuple[int, str]], *, step: int, world: int
) -> DataError:
    """The error where the usable samples do not fill one step."""
    causes = ", ".join(sorted({cause for _, cause in faults}))
    lost = f" ({len(faults):,} of {len(manifest):,} cannot be used: {causes})" if faults else ""
    if usable < world or not usable:
        return DataError(
            f"{manifest.name} has {usable:,} usable samples{lost}; "
            f"run: {command_line('data', 'check', manifest.name)}"
        )
    fits = world * 2 ** ((usable // world).bit_length() - 1)
    return DataError(
        f"{manifest.name} has {usable:,} usable samples{lost}, and one step takes {step:,}; "
        f"set batch={fits} or less."
    )
