"""Augmentations of a data set that can be made again exactly, and the texts that are stored beside them.

Source: MobileCLIP, arXiv 2311.17049, section 3 (dataset reinforcement): every image has a fixed number of
augmentations, and the teachers' embeddings of each are stored once. Training draws one of them, makes it
again and reads the embeddings, so that no teacher runs.

An augmentation is a function of the image, the sample's id, a number and these settings. Only the settings
are stored.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Self

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from frugalclip.core.config import Settings, validated
from frugalclip.core.errors import DataError
from frugalclip.core.numerics import evenly_spaced
from frugalclip.core.preprocess import Preprocess
from frugalclip.core.random import uniform
from frugalclip.data.image_faults import BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.images import decode_squashed
from frugalclip.data.manifest import CAPTIONS, Manifest
from frugalclip.features.format import digest, id_hashes
from frugalclip.features.store import Store
from frugalclip.loading.texts import field_texts
from frugalclip.loading.views import ImageView, ViewConfig, make_view, source_size

AUGMENTATIONS, CAPTION_FIELDS = "augmentations", "caption_fields"  # keys of a store's encoder settings
_COMPARED = 10_000  # images whose bytes are compared with those that were embedded


class Augmentations(Settings):
    """The augmentations that a store holds embeddings of."""

    version: Literal[1] = Field(1, description="1; another one makes other pixels of the same draws")
    number: int = Field(ge=1, le=10_000, description="augmentations of each image")
    view: ViewConfig = Field(description="how each is made")
    size: int = Field(ge=1, le=10_000, description="pixels on a side of each")

    @model_validator(mode="after")
    def _is_alone(self) -> Self:
        if self.view.contains:
            raise ValueError("a stored augmentation has a crop of its own; leave contains out")
        if self.view.size is not None:
            raise ValueError(
                "leave size out of the view; the size of the augmentations is a setting of its own"
            )
        return self

    @property
    def side(self) -> int:
        """Pixels on a side of the decoded images that augmentations are made from."""
        return source_size([self.view], size=self.size)

    def drawn(self, rows: np.ndarray, *, turns: np.ndarray, seed: int, stream: str) -> np.ndarray:
        """Which augmentation each row shows, another one each epoch.

        Args:
            rows: (batch,) rows of the data set.
            turns: (batch,) earlier draws of each.
            seed: of the run.
            stream: name of the view.

        Returns:
            (batch,) int64, below `number`.
        """
        draws = uniform(seed, f"augmentation/{stream}", np.stack([rows, turns], axis=1), 1)[:, 0]
        return (draws * self.number).astype(np.int64)

    def make(
        self,
        pixels: Tensor,
        sizes: Tensor | np.ndarray,
        *,
        keys: np.ndarray,
        numbers: np.ndarray,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> ImageView:
        """Make augmentations, the same ones each time.

        Args:
            pixels: (batch, 3, side, side) uint8, each image squashed to `side`.
            sizes: (batch, 2) original height and width.
            keys: (batch,) int64 of `sample_keys`.
            numbers: (batch,) which augmentation of each.
            mean: of the normalisation.
            std: of the normalisation.
        """
        return make_view(
            pixels,
            sizes,
            self.view,
            size=self.size,
            rows=keys,
            epoch=numbers,
            seed=0,
            name="stored",
            mean=mean,
            std=std,
        )


class AugmentedViews:
    """All augmentations of an image as a teacher takes them: what `embed_manifest` stores embeddings of."""

    def __init__(self, augmentations: Augmentations, preprocess: Preprocess) -> None:
        self.augmentations, self.preprocess = augmentations, preprocess

    def __call__(self, data: bytes, id: str) -> Tensor:
        """(augmentations, 3, size, size) of an image's encoded bytes, at the size of the teacher."""
        plan, number = self.augmentations, self.augmentations.number
        pixels, size = decode_squashed(data, plan.side)
        made = plan.make(
            torch.from_numpy(pixels)[None].expand(number, -1, -1, -1),
            np.tile(size, (number, 1)),
            keys=np.repeat(sample_keys([id]), number),
            numbers=np.arange(number),
            mean=self.preprocess.mean,
            std=self.preprocess.std,
        )
        return at_size(made.images, self.preprocess.size)


def at_size(images: Tensor, size: int) -> Tensor:
    """(batch, 3, size, size): a student's images as a teacher of another resolution takes them."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def sample_keys(ids: Sequence[str]) -> np.ndarray:
    """(samples,) int64 numbers that stand for ids where augmentations are drawn."""
    return (id_hashes(ids) >> np.uint64(1)).astype(np.int64)


def stored_augmentations(store: Store) -> Augmentations | None:
    """The augmentations that a store holds embeddings of; None where it holds one view of each image.

    Raises:
        DataError: if they were made by another version.
    """
    content = store.head.encoder.settings.get(AUGMENTATIONS)
    if content is None:
        return None
    if isinstance(content, Mapping) and content.get("version") != 1:
        raise DataError(
            f"{store.path} holds augmentations of version {content.get('version')}, this program makes 1; "
            "embed the data again, with another --out."
        )
    return validated(Augmentations, content, where=f"{store.path}: augmentations", error=DataError)


def with_field_texts(manifest: Manifest, fields: Sequence[str]) -> Manifest:
    """The same data set with the texts of some fields, such as synthetic captions, behind its captions.

    Args:
        manifest: the data set.
        fields: each holds a text, or a list of texts.

    Raises:
        DataError: if there is no such field.
    """
    if not fields:
        return manifest
    both = zip(manifest.captions(), field_texts(manifest, fields, lists="each"), strict=True)
    texts = [[*(captions or []), *(text for text in more if text.strip())] for captions, more in both]
    place = manifest.table.column_names.index("captions")
    table = manifest.table.set_column(place, "captions", pa.array(texts, CAPTIONS))
    return Manifest(table, manifest.root, manifest.name)


class StoredTexts:
    """Where the vector of a drawn text stands among those of its row.

    Args:
        texts: of every row, as their vectors stand in a store.
        numbers: text -> its number in the run.
    """

    def __init__(self, texts: Sequence[Sequence[str]], numbers: Mapping[str, int]) -> None:
        self._base = max(len(numbers), 1)
        found = [
            (row * self._base + numbers[text], place)
            for row, own in enumerate(texts)
            for place, text in enumerate(own)
            if text in numbers
        ]
        keys, places = np.array(found, dtype=np.int64).reshape(-1, 2).T
        order = np.argsort(keys, kind="stable")  # of equal texts of a row, the first
        self._keys, self._places = keys[order], places[order]

    def places(self, rows: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """Places of texts among those of their rows.

        Args:
            rows: (batch,) rows of the data set.
            drawn: (batch,) numbers of texts.

        Returns:
            (batch,) int64; -1 where the row has no such text.
        """
        wanted = rows * self._base + drawn
        at = np.searchsorted(self._keys, wanted)
        is_there = at < len(self._keys)
        is_there[is_there] = self._keys[at[is_there]] == wanted[is_there]
        found = np.full(len(rows), -1, dtype=np.int64)
        found[is_there] = self._places[at[is_there]]
        return found


def refuse_other_images(store: Store, rows: np.ndarray, manifest: Manifest) -> None:
    """Refuse images other than those that were embedded; in large data sets a sample is compared.

    Args:
        store: of images.
        rows: (samples,) rows of the store.
        manifest: the data set.

    Raises:
        DataError: naming the first image that differs.
    """
    reader, digests = ImageReader(manifest), store.table["image_digest"]
    for row in evenly_spaced(np.arange(len(rows)), _COMPARED).tolist():
        try:
            found = digest(reader.bytes(row))
        except BadImage:  # the loader leaves it out, with its cause
            continue
        if found != digests[int(rows[row])].as_py():
            raise DataError(
                f"{store.path} was embedded with another image of '{manifest.ids[row]}'; "
                "run the same 'frugalclip embed' again, with another --out."
            )
