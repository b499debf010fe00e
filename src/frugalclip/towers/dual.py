"""The dual encoder: an image tower, a text tower and the scale they share.

Source: CLIP, arXiv 2103.00020. The scale is learned in log space and clamped after each step, so that a forward pass never sees more.
"""

import math
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from frugalclip.core.config import Settings, by_kind, of_kind, shorthand
from frugalclip.core.random import generator
from frugalclip.core.types import Dims
from frugalclip.towers.bag import BagConfig
from frugalclip.towers.clip_resnet import ClipResNetConfig
from frugalclip.towers.lexical import LexicalHead
from frugalclip.towers.no_texts import NoTextsConfig
from frugalclip.towers.pretrained import PretrainedImageConfig, PretrainedTextConfig, PretrainedTower
from frugalclip.towers.resnet import ResNetConfig
from frugalclip.towers.text import TextConfig
from frugalclip.towers.vit import VitConfig

IMAGE_TOWERS: dict[
    str, type[VitConfig] | type[ResNetConfig] | type[ClipResNetConfig] | type[PretrainedImageConfig]
] = {
    "vit": VitConfig,
    "resnet": ResNetConfig,
    "clip_resnet": ClipResNetConfig,
    "pretrained": PretrainedImageConfig,
}
ImageTowerConfig = Annotated[
    Annotated[VitConfig, of_kind("vit")]
    | Annotated[ResNetConfig, of_kind("resnet")]
    | Annotated[ClipResNetConfig, of_kind("clip_resnet")]
    | Annotated[PretrainedImageConfig, of_kind("pretrained")],
    by_kind("vit", "resnet", "clip_resnet", "pretrained"),
    BeforeValidator(shorthand("size")),
]


TextTowerConfig = Annotated[
    Annotated[TextConfig, of_kind("transformer")]
    | Annotated[BagConfig, of_kind("bag")]
    | Annotated[PretrainedTextConfig, of_kind("pretrained")]
    | Annotated[NoTextsConfig, of_kind("none")],
    by_kind("transformer", "bag", "pretrained", "none"),
    BeforeValidator(shorthand("size")),
]


class ModelConfig(Settings):
    """The `model` section of a recipe."""

    image: ImageTowerConfig = Field(
        default_factory=VitConfig, description="image tower: a size's name or settings"
    )
    text: TextTowerConfig = Field(
        default_factory=TextConfig, description="text tower: a size's name or settings"
    )
    dim: int = Field(256, gt=0, description="width of the joint embedding; CLIP ViT-B: 512")
    scale: float = Field(
        1 / 0.07, gt=0, description="initial scale of cosines; CLIP: 1/0.07, SigLIP: 10, ALIGN: 1"
    )
    scale_min: float = Field(1.0, gt=0, description="lower clamp; CLIP: 1, DeCLIP: e^3")
    scale_max: float = Field(100.0, gt=0, description="upper clamp; CLIP: 100")
    learn_scale: bool = Field(True, description="false keeps the scale where it starts")


class DualEncoder(nn.Module):
    """Two towers and their scale. Weights depend on (config, vocabulary, context, seed) only, each tower on its own stream."""

    def __init__(self, config: ModelConfig, *, vocabulary: int, context: int, seed: int | None = 0) -> None:
        """Build both towers; `seed=None` leaves the weights undrawn, for a network that is filled or only counted."""
        super().__init__()
        self.config, self.vocabulary, self.context = config, vocabulary, context
        self.image = config.image.build(dim=config.dim)
        self.text = config.text.build(vocabulary=vocabulary, context=context, dim=config.dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.scale)), requires_grad=config.learn_scale)
        if seed is not None:
            self.image.reset(generator(seed, "init/image"))
            self.text.reset(generator(seed, "init/text"))

    def scale(self) -> Tensor:
        """() multiplier of cosines."""
        return self.log_scale.exp()

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Hold the scale in its range; called after every step."""
        self.log_scale.clamp_(math.log(self.config.scale_min), math.log(self.config.scale_max))
        for tower in self.pretrained_towers().values():
            if isinstance(tower.head, LexicalHead):
                tower.head.clamp_scale()

    def dims(self, *, batch: int, **run: int) -> Dims:
        """Sizes for objectives that build heads; `run` are those entries of `Dims` that the network does not know."""
        c = self.config
        return Dims(
            c.image.width,
            c.text.width or c.dim,
            c.dim,
            self.vocabulary,
            self.context,
            c.image.grid,
            batch,
            **run,
        )

    def architecture(self) -> dict[str, Any]:
        """Everything needed to build this module again, as JSON; of a pretrained backbone that is frozen, what it must be."""
        backbones = {
            side: tower.fingerprint
            for side, tower in self.pretrained_towers().items()
            if tower.config.is_frozen
        }
        known = {
            "config": self.config.model_dump(mode="json", by_alias=True),
            "vocabulary": self.vocabulary,
            "context": self.context,
        }
        return known | ({"backbones": backbones} if backbones else {})

    def pretrained_towers(self) -> dict[str, PretrainedTower]:
        """The towers whose backbone is pretrained, by side: image, text."""
        return {
            side: tower
            for side, tower in (("image", self.image), ("text", self.text))
            if isinstance(tower, PretrainedTower)
        }

    @classmethod
    def build(cls, architecture: dict[str, Any]) -> "DualEncoder":
        """The module that `architecture` describes, to be filled with weights."""
        config = ModelConfig.model_validate(architecture["config"])
        network = cls(
            config, vocabulary=architecture["vocabulary"], context=architecture["context"], seed=None
        )
        for side, fingerprint in architecture.get("backbones", {}).items():
            network.pretrained_towers()[side].fingerprint = fingerprint
        return network
