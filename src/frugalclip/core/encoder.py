"""The one protocol of what encodes images and texts: models, backbones, and encoders of other libraries."""

from typing import Literal, Protocol

from torch import Tensor

from frugalclip.core.preprocess import Preprocess

Modality = Literal["both", "images", "texts"]


class Encoder(Protocol):
    """Encodes images, texts or both as feature vectors; `frugalclip.load` gives one."""

    @property
    def reads(self) -> Modality:
        """What it encodes."""
        ...

    @property
    def dim(self) -> int:
        """Length of its vectors."""
        ...

    @property
    def preprocess(self) -> Preprocess | None:
        """From PIL images to the pixels that `encode_image` takes; None if it encodes no images."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identifies the weights and all that changes the vectors: equal fingerprints give equal vectors."""
        ...

    def encode_image(self, images: Tensor, /, *, normalize: bool = True) -> Tensor:
        """(batch, 3, height, width) pixels to (batch, dim) on the CPU; unit vectors if `normalize`."""
        ...

    def encode_text(self, texts: list[str], /, *, normalize: bool = True) -> Tensor:
        """Texts to (batch, dim), or (batch, facets, dim), on the CPU; unit vectors if `normalize`."""
        ...
