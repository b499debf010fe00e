"""What an evaluation needs of a model, and features of the rows of a data set."""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from frugalclip.core import encoder
from frugalclip.core.errors import DataError
from frugalclip.core.finite import VectorOrigin, refuse_vectors
from frugalclip.core.preprocess import Preprocess
from frugalclip.core.progress import counter
from frugalclip.core.users_text import command_line
from frugalclip.data.manifest import Manifest

Layer = Literal["embedding", "pooled"]
IMAGES, TEXTS = VectorOrigin("the model", "image"), VectorOrigin("the model", "text")


class EncodedImages(Protocol):
    """Features of the readable images of a data set."""

    @property
    def features(self) -> Tensor:
        """(kept, dim) float32."""
        ...

    @property
    def rows(self) -> np.ndarray:
        """(kept,) int64 rows of the data set."""
        ...

    @property
    def faults(self) -> list[tuple[int, str]]:
        """(row, cause) of each image that cannot be read."""
        ...


class FeatureEncoder(Protocol):
    """Whatever has features of the images of a data set: a model, or a store of its vectors."""

    def image_features(self, manifest: Manifest, /, *, layer: Layer = "embedding") -> EncodedImages:
        """Encode every image of a data set that can be read."""
        ...


class DataEncoder(encoder.Encoder, FeatureEncoder, Protocol):
    """An encoder that can be evaluated: it encodes data sets and PIL images; `frugalclip.load` gives one."""

    @property
    def preprocess(self) -> Preprocess:
        """From PIL images to pixels."""
        ...

    def encode_image(self, images: Tensor | Sequence[Image.Image], /, *, normalize: bool = True) -> Tensor:
        """PIL images, or (batch, 3, height, width) preprocessed pixels, to (batch, dim)."""
        ...


@torch.no_grad()
def encode_texts(model: DataEncoder, texts: list[str], *, batch: int = 512) -> Tensor:
    """(texts, dim) features on the CPU, `batch` texts at a time.

    Raises:
        ModelError: if a vector is not finite. A vector of zeros is that of a text without a known word.
    """
    count, parts = counter("encoding texts", len(texts)), []
    for i in range(0, len(texts), batch):
        parts.append(model.encode_text(texts[i : i + batch]).float().cpu())
        count(len(parts[-1]))
    features = torch.cat(parts)
    refuse_vectors(features, texts, origin=TEXTS)
    return features


def image_features(
    model: FeatureEncoder, manifest: Manifest, rows: np.ndarray, *, layer: Layer = "embedding"
) -> tuple[Tensor, np.ndarray, dict[str, int]]:
    """Encode the images of some rows.

    Args:
        model: encodes images.
        manifest: the data set.
        rows: (samples,) int64 rows of it.
        layer: the joint embedding, or the tower's output before its projection.

    Returns:
        (kept, dim) features of the readable images, (kept,) their places among `rows`, and a count for each
        cause of a loss.

    Raises:
        DataError: if no image can be read.
        ModelError: if a vector is not finite, or zero.
    """
    chosen = manifest.take(rows)
    found = (
        model.image_features(chosen) if layer == "embedding" else model.image_features(chosen, layer=layer)
    )
    kept = np.asarray(found.rows)
    if not len(kept):
        raise DataError(
            f"no image of {manifest.name} could be read; run: {command_line('data', 'check', manifest.name)}"
        )
    causes = [str(fault[1]) for fault in found.faults]
    features, ids = found.features.float().cpu(), chosen.ids
    refuse_vectors(features, [ids[row] for row in kept.tolist()], origin=IMAGES, may_be_zero=False)
    return features, kept, {cause: causes.count(cause) for cause in sorted(set(causes))}
