"""A text encoder by itself, such as a sentence encoder that teaches."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from frugalclip.backbones.base import Use
from frugalclip.backbones.find import find_backbone
from frugalclip.core.errors import ModelError
from frugalclip.functional.losses import unit_or_nan
from frugalclip.interop.hub import find_source
from frugalclip.models.load import load


class TextOnlyModel:
    """A text encoder with the interface of a model.

    Args:
        source: `package:NAME`, `hf:DIR` of an encoder, or a GGUF file.
        device: where it computes.

    Raises:
        ModelError: for a source that is none of these.
    """

    reads: Literal["texts"] = "texts"
    preprocess: None = None
    scale: float | None = None

    def __init__(self, source: str, *, device: str | torch.device = "cpu") -> None:
        self.source, self.device = source, torch.device(device)
        found = find_backbone(find_source(source), Use("text", load, device=device))
        self.backbone = found.load().to(self.device).eval()
        self.tokenizer = found.tokenizer()

    @property
    def dim(self) -> int:
        """Length of its vectors."""
        return self.backbone.width

    @property
    def fingerprint(self) -> str:
        """Of the weights and of everything else that changes its vectors."""
        return self.backbone.fingerprint

    @property
    def description(self) -> Mapping[str, Any]:
        """Where the backbone comes from."""
        return {"backbone": self.source}

    def encode_image(self, images: Tensor, *, normalize: bool = True) -> Tensor:
        """Refuse images (batch, 3, height, width)."""
        raise ModelError(f"{self.source} encodes texts and no images; give a model with an image tower.")

    @torch.inference_mode()
    def encode_text(self, texts: list[str], *, normalize: bool = True) -> Tensor:
        """Texts to (batch, width), or (batch, facets, width)."""
        vectors = self.backbone(self.tokenizer.encode(texts).to(self.device)).pooled.float()
        return (unit_or_nan(vectors) if normalize else vectors).cpu()
