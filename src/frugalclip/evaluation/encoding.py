"""What an evaluation needs of a model, and features of the rows of a data set."""

from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.errors import DataError
from frugalclip.data.manifest import Manifest

Layer = Literal["embedding", "pooled"]


class Encoder(Protocol):
    """A model that can be evaluated; `frugalclip.load` gives one."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def reads(self) -> Literal["both", "images"]: ...

    preprocess: Any

    def encode_text(self, texts: list[str], /) -> Tensor:
        """(texts, dim) features, of any length."""
        ...

    def encode_image(self, images: list[Any], /) -> Tensor:
        """(batch, dim) features of images."""
        ...

    def image_features(self, manifest: Manifest, /, *, layer: Layer = "embedding") -> Any:
        """`features` (kept, dim), `rows` (kept,) of the manifest, `faults`: (row, cause) of each lost row."""
        ...


@torch.no_grad()
def encode_texts(model: Encoder, texts: list[str], *, batch: int = 512) -> Tensor:
    """(texts, dim) features on the CPU, `batch` texts at a time."""
    return torch.cat(
        [model.encode_text(texts[i : i + batch]).float().cpu() for i in range(0, len(texts), batch)]
    )


def image_features(
    model: Encoder, manifest: Manifest, rows: np.ndarray, *, layer: Layer = "embedding"
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
    """
    chosen = manifest.take(rows)
    found = (
        model.image_features(chosen) if layer == "embedding" else model.image_features(chosen, layer=layer)
    )
    kept = np.asarray(found.rows)
    if not len(kept):
        raise DataError(
            f"no image of {manifest.name} could be read; run 'frugalclip data check {manifest.name}'."
        )
    causes = [str(fault[1]) for fault in found.faults]
    return found.features.float().cpu(), kept, {cause: causes.count(cause) for cause in sorted(set(causes))}
