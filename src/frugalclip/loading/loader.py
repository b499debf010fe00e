"""Batches as a pure function of (seed, step, rank, processes).

Global batch k of epoch e is `draws_e[k * B * W : (k + 1) * B * W]` for B samples on each of W processes; a process takes its slice. Which
rows an epoch draws, and how often where they have weights, is in `sampling`. So every process has the same number of steps, N processes see
what one would, and going on after a stop is asking for a later step. What an epoch leaves over is dropped; it is another remainder each epoch.

Small sets are decoded once, into memory. Larger ones are decoded as they come, by worker processes if asked: workers only decode, the views
are made in this process, so that the number of workers changes nothing in a batch.
"""

import contextlib
import os
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from frugalclip.core.errors import DataError
from frugalclip.core.types import Batch, CachedFeatures, Tokens
from frugalclip.data.decoding import decode_all
from frugalclip.data.image_faults import BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.images import decode_squashed, size_of
from frugalclip.data.manifest import Manifest
from frugalclip.data.tokens import Tokenizer
from frugalclip.features.cache import StoredImageFeatures, StoredTextFeatures
from frugalclip.loading.sampling import TURN, Order, epoch_order
from frugalclip.loading.texts import NO_TEXT, TextConfig, TextViews
from frugalclip.loading.views import (
    CLIP_MEAN,
    CLIP_STD,
    MadeView,
    ViewConfig,
    make_view,
    source_size,
    view_order,
)

__all__ = ["Loader", "TextConfig", "epoch_order"]

_Input = TypeVar("_Input", Tensor, Tokens, Tensor | CachedFeatures, Tokens | CachedFeatures)
_PROBED = 64  # pictures whose header is read to see how large the originals are


class Loader:
    """Endless batches of a manifest.

    `faults` lists (row, cause) of samples that cannot be used. Where pictures are decoded once, they are known from the start and take no
    part. Where pictures are decoded as they come, a sample that fails is found when its turn comes: the sample of the same place in the
    epoch's next global batch stands in for it (the next one that decodes), and the fault is listed then.

    Args:
        manifest: the data set.
        tokenizer: for the text views.
        views: image view -> how it is made.
        texts: text view -> what it reads.
        fields: manifest columns to give as codes; `caption` is the text drawn for the view `caption` (or the first text view), `id` the row.
        batch: samples of one step of this process.
        size: pixels on a side of a view, unless the view has its own.
        seed: of the run.
        weights: (samples,) how often to draw each, see `sampling.sampling_weights`; 0 is never, None is each once an epoch.
        stored_images: what a frozen backbone said of the pictures; then no picture is read, and all image views are drawn from there.
        stored_texts: gives what a frozen backbone said of these texts, in place of token ids.
        rank: of this process.
        world: number of processes.
        mean: of the normalisation.
        std: of the normalisation.
        workers: decoding processes, where pictures are decoded as they come; threads, where they are decoded once.
        cache: sets whose decoded pictures need at most this many bytes are decoded once, into memory.
        device: where views are made and batches lie; on a GPU this spares the CPU the augmentation. By default the CPU.
        progress: called with the number of pictures decoded since the last call, while the cache is filled.

    Raises:
        DataError: when no sample can be used, or too few for one step; it says which batch would do.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        tokenizer: Tokenizer,
        views: Mapping[str, ViewConfig],
        texts: Mapping[str, TextConfig],
        fields: Iterable[str] = (),
        batch: int,
        size: int,
        seed: int,
        weights: np.ndarray | None = None,
        stored_images: StoredImageFeatures | None = None,
        stored_texts: Callable[[Sequence[str]], StoredTextFeatures] | None = None,
        rank: int = 0,
        world: int = 1,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
        workers: int = 0,
        cache: int = 2**31,
        device: torch.device | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.batch, self.size, self.seed, self.rank, self.world, self.workers = (
            batch,
            size,
            seed,
            rank,
            world,
            workers,
        )
        self.stored, self._stored_names = stored_images, sorted(views) if stored_images else []
        views = {} if stored_images else views
        self.views, self.mean, self.std, self.device = (
            {name: views[name] for name in view_order(views)},
            mean,
            std,
            device,
        )
        self.texts = TextViews(manifest, texts, tokenizer=tokenizer, seed=seed, stored=stored_texts)
        self.faults: list[tuple[int, str]] = [
            (int(row), NO_TEXT) for row in np.flatnonzero(~self.texts.has_text)
        ]
        self._is_usable = self.texts.has_text.copy()
        if stored_images:
            known = {row for row, _ in self.faults}
            self.faults = sorted(
                self.faults
                + [(row, cause) for row, cause in stored_images.faults(manifest) if row not in known]
            )
            self._is_usable &= stored_images.counts > 0
        self._fields = _field_codes(manifest, fields, texts)
        self.caption_view = "caption" if "caption" in texts else next(iter(texts), "")
        self.source_side = _source_side(manifest, views.values(), size=size)
        self.is_cached = not views or len(manifest) * 3 * self.source_side**2 <= cache
        self._decoded = self._decode_once(manifest, progress) if self.is_cached else None
        self.weights = weights
        self.rows = np.flatnonzero(
            self._is_usable if weights is None else self._is_usable & (weights > 0)
        )  # (usable,)
        self.steps_per_epoch = len(self.rows) // (batch * world)
        if not self.steps_per_epoch:
            raise too_few(manifest, len(self.rows), self.faults, step=batch * world, world=world)
        self._reader = None if self.is_cached else ImageReader(manifest)
        self._order = Order(self.rows, weights, seed=seed)

    def batches(self, start_step: int = 0, *, stream: str = "") -> Iterator[Batch]:
        """Endless batches of this process, from a step on; the same batch for the same step, however it was reached.

        Args:
            start_step: steps that come before.
            stream: begins the names of the random streams: the same rows with other crops, colours and captions.
        """
        if self._decoded is not None:
            return (self._batch(*self._cached(step), stream=stream) for step in _steps_from(start_step))
        return self._decoded_batches(start_step, stream)

    def _decode_once(self, manifest: Manifest, progress: Callable[[int], None]) -> "_DecodedImages":
        if not self.views:
            return _DecodedImages(
                torch.zeros(len(manifest), 0), torch.zeros(len(manifest), 2, dtype=torch.int64)
            )
        decoded = decode_all(manifest, self.source_side, self.workers or None, progress=progress)
        known = {row for row, _ in self.faults}
        self.faults = sorted(
            self.faults + [(row, cause) for row, cause in decoded.faults if row not in known]
        )
        self._is_usable[[row for row, _ in decoded.faults]] = False
        return _DecodedImages(decoded.pixels, decoded.sizes)

    def _cached(self, step: int) -> tuple[np.ndarray, np.ndarray, "_DecodedImages"]:
        assert self._decoded is not None
        epoch, start = self._place(step)
        drawn = self._order.epoch(epoch)
        rows, turns = drawn.rows[start : start + self.batch], drawn.turns[start : start + self.batch]
        places = torch.from_numpy(rows)
        return (
            epoch + TURN * turns,
            rows,
            _DecodedImages(
                self._decoded.pixels.index_select(0, places), self._decoded.sizes.index_select(0, places)
            ),
        )

    def _place(self, step: int) -> tuple[int, int]:
        """(epoch, position in its order) of the first sample of this process."""
        epoch, k = divmod(step, self.steps_per_epoch)
        return epoch, (k * self.world + self.rank) * self.batch

    def _decoded_batches(self, start_step: int, stream: str) -> Iterator[Batch]:
        assert self._reader is not None
        dataset = _Decoding(
            self._reader, self._order, side=self.source_side, batch=self.batch, stride=self.batch * self.world
        )
        places = (self._place(step) for step in _steps_from(start_step))
        for epoch, rows, decoded, faults in (
            _worked(dataset, places, workers=self.workers)
            if self.workers
            else map(dataset.__getitem__, places)
        ):
            self.faults.extend(sorted(set(faults) - set(self.faults)))
            yield self._batch(epoch, rows, decoded, stream=stream)

    def _batch(self, epoch: np.ndarray, rows: np.ndarray, decoded: "_DecodedImages", *, stream: str) -> Batch:
        pixels = self._placed(decoded.pixels)
        made: dict[str, MadeView] = {}
        for name, config in self.views.items():
            made[name] = make_view(
                pixels,
                decoded.sizes,
                config,
                size=self.size,
                rows=rows,
                epoch=epoch,
                seed=self.seed,
                name=f"{stream}{name}",
                inner=[made[inner].boxes for inner in config.contains],
                mean=self.mean,
                std=self.std,
            )
        images = {name: view.images for name, view in made.items()}
        if self.stored is not None:
            images = {
                name: CachedFeatures(self.stored.draw(rows, epoch=epoch, name=f"{stream}{name}"))
                for name in self._stored_names
            }
        drawn = self.texts.draw(rows, epoch=epoch, stream=stream)
        fields = {
            name: torch.from_numpy(codes[rows]) for name, codes in self._fields.items() if codes is not None
        }
        fields |= {
            name: torch.from_numpy(self.texts.codes(drawn[self.caption_view]))
            for name, codes in self._fields.items()
            if codes is None
        }
        return Batch(
            rows=self._placed(torch.from_numpy(rows)),
            images={name: self._placed(view) for name, view in images.items()},
            texts={
                name: self._placed(
                    self.texts.view_tokens(name, drawn[name], rows, epoch=epoch, stream=stream)
                )
                for name in drawn
            },
            boxes={name: view.boxes for name, view in made.items()},
            mirrored={name: view.mirrored for name, view in made.items() if self.views[name].flip},
            fields={name: self._placed(codes) for name, codes in fields.items()},
            turns=self._placed(torch.from_numpy(epoch)),
        )

    def _placed(self, x: _Input) -> _Input:
        """On the device asked for; by default on the CPU, in memory that a GPU copies from without waiting."""
        if self.device is not None:
            return x.to(self.device, non_blocking=True)
        return x.pin_memory() if torch.cuda.is_available() else x


@dataclass(frozen=True)
class _DecodedImages:
    pixels: Tensor  # (samples, 3, side, side) uint8, squashed to a square
    sizes: Tensor  # (samples, 2) int64 height and width of the original


_Decoded = tuple[np.ndarray, np.ndarray, _DecodedImages, list[tuple[int, str]]]


class _Decoding(Dataset[_Decoded]):
    """Decodes one batch at a place (epoch, position); travels to worker processes."""

    def __init__(self, reader: ImageReader, order: Order, *, side: int, batch: int, stride: int) -> None:
        self.reader, self.order, self.side, self.batch, self.stride = reader, order, side, batch, stride

    def __getitem__(self, place: tuple[int, int]) -> _Decoded:
        epoch, start = place
        drawn = self.order.epoch(epoch)
        places = np.empty(self.batch, dtype=np.int64)
        pixels = np.empty((self.batch, 3, self.side, self.side), dtype=np.uint8)
        sizes = np.empty((self.batch, 2), dtype=np.int64)
        faults: list[tuple[int, str]] = []
        for i in range(self.batch):
            places[i], pixels[i], sizes[i] = self._good(drawn.rows, start + i, faults)
        return (
            epoch + TURN * drawn.turns[places],
            drawn.rows[places],
            _DecodedImages(torch.from_numpy(pixels), torch.from_numpy(sizes)),
            faults,
        )

    def _good(
        self, order: np.ndarray, position: int, faults: list[tuple[int, str]]
    ) -> tuple[int, np.ndarray, tuple[int, int]]:
        """The place in an order, and the picture there; or the first that decodes from the same place of the next global batch on."""
        later = range(position + self.stride, position + self.stride + len(order))
        for place in (position, *later):
            row = int(order[place % len(order)])
            try:
                return place % len(order), *decode_squashed(self.reader.bytes(row), self.side)
            except BadImage as error:
                faults.append((row, error.cause))
        raise DataError(
            f"none of the {len(order):,} images decodes (the first: {faults[0][1]}); run 'frugalclip data check' on the data."
        )


def _steps_from(step: int) -> Iterator[int]:
    while True:
        yield step
        step += 1


def _worked(dataset: _Decoding, places: Iterator[tuple[int, int]], *, workers: int) -> Iterator[_Decoded]:
    """The data set's batches at these places, in order, decoded ahead by processes."""
    loader = DataLoader(
        dataset,
        batch_size=None,  # a place is a whole batch
        sampler=places,  # pyright: ignore[reportArgumentType]  (any iterable will do, and this one does not end)
        num_workers=workers,
        prefetch_factor=4,
        persistent_workers=True,
        collate_fn=_unchanged,
        worker_init_fn=_leave_signals,
    )
    with _quiet_fork():
        iterator = iter(loader)
    try:
        yield from iterator
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            f"a decoding process died ({str(error).splitlines()[0]}); set data.workers to fewer, or to 0."
        ) from error


def _leave_signals(_: int) -> None:
    """Ctrl-C reaches every process of the terminal: the trainer decides when to stop, and needs its batches until then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _unchanged(sample: Any) -> Any:
    return sample


@contextlib.contextmanager
def _quiet_fork() -> Iterator[None]:
    """Start processes without the warnings that libraries with threads give at a fork: workers use none of their threads."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
            yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _field_codes(
    manifest: Manifest, names: Iterable[str], texts: Mapping[str, TextConfig]
) -> dict[str, np.ndarray | None]:
    """Field -> (samples,) codes; None where the code depends on the text drawn."""
    names = list(names)
    if "caption" in names and not texts:
        raise DataError(
            "an objective reads the field 'caption', but the recipe has no text view; add one, such as texts: {caption: {}}."
        )
    return {name: None if name == "caption" else manifest.codes(name) for name in names}


def _source_side(manifest: Manifest, views: Iterable[ViewConfig], *, size: int) -> int:
    """Side at which pictures are kept: what the views can use, but no more than the originals have."""
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
    """What to say where the usable samples do not fill one step."""
    causes = ", ".join(sorted({cause for _, cause in faults}))
    lost = f" ({len(faults):,} of {len(manifest):,} cannot be used: {causes})" if faults else ""
    if usable < world or not usable:
        return DataError(
            f"{manifest.name} has {usable:,} usable samples{lost}; run 'frugalclip data check {manifest.name}'."
        )
    fits = world * 2 ** ((usable // world).bit_length() - 1)
    return DataError(
        f"{manifest.name} has {usable:,} usable samples{lost}, and one step takes {step:,}; set batch={fits} or less."
    )
