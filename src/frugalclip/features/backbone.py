"""The frozen backbone of a pretrained tower as an encoder: the one behind a feature cache."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from frugalclip.core.preprocess import Preprocess
from frugalclip.data.tokens import Tokenizer
from frugalclip.features.format import EncoderRecord, Kind
from frugalclip.towers.pretrained import PretrainedTower


class BackboneEncoder:
    """Encodes with the backbone of a pretrained tower, without the tower's head.

    Args:
        tower: its backbone is frozen.
        preprocess: of the model; pixels of an image tower.
        tokenizer: of the model; inputs of a text tower.
        device: where the backbone computes.
    """

    scale: float | None = None  # a backbone alone compares nothing

    def __init__(
        self, tower: PretrainedTower, *, preprocess: Preprocess, tokenizer: Tokenizer, device: torch.device
    ) -> None:
        self.tower, self.preprocess, self.tokenizer, self.device = tower, preprocess, tokenizer, device
        self.kind: Kind = "image" if tower.side == "image" else "text"

    @property
    def reads(self) -> Literal["images", "texts"]:
        """What the backbone encodes."""
        return "images" if self.kind == "image" else "texts"

    @property
    def dim(self) -> int:
        """Length of its vectors."""
        return self.tower.config.width

    @property
    def fingerprint(self) -> str:
        """Of the backbone."""
        return self.tower.fingerprint

    @property
    def description(self) -> Mapping[str, Any]:
        """Source and options of the backbone."""
        return {"backbone": self.tower.config.source, "options": self.tower.config.options}

    @property
    def layer(self) -> str:
        """What the head reads of the backbone: `pooled` or `tokens`."""
        return self.tower.config.head.reads

    def pixels(self, image: Image.Image) -> Tensor:
        """(1, 3, height, width) normalised pixels of an image."""
        return self.preprocess(image)

    @torch.inference_mode()
    def encode_image(self, images: Tensor, *, normalize: bool = False) -> Tensor:
        """(batch, 3, height, width of the image) to (batch, width) or tokens (batch, patches, width)."""
        output = self.tower.run_backbone(images.to(self.device), with_tokens=self.layer == "tokens")
        return (output.pooled if output.tokens is None else output.tokens).cpu()

    @torch.inference_mode()
    def encode_text(self, texts: list[str], *, normalize: bool = False) -> Tensor:
        """Texts to (batch, width), or (batch, facets, width)."""
        return self.tower.run_backbone(self.tokenizer.encode(texts).to(self.device)).pooled.float().cpu()

    def filled(self, made: EncoderRecord) -> bool:
        """Whether a store holds features of this backbone, made of the inputs that this model gives it."""
        if made.model != self.fingerprint or made.normalize or made.centring:
            return False
        if self.kind == "text":
            return made.tokenizer == self.tokenizer.fingerprint()
        has_own_pixels = made.preprocess == self.preprocess.model_dump(mode="json")
        return has_own_pixels and made.settings.get("reads") == self.layer
