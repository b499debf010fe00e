"""The dual encoder: an image tower, a text tower and a learned scale.

Source: CLIP, arXiv 2103.00020. The scale is learned in log space and clamped after each optimiser step.
"""

import math
from collections.abc import Container
from typing import Annotated, Any, Self

import torch
from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from torch import Tensor, nn

from frugalclip.core.config import Settings, by_kind, of_kind, shorthand
from frugalclip.core.random import generator
from frugalclip.core.types import Dims, Needs
from frugalclip.towers.bag import BagConfig
from frugalclip.towers.base import Ability, Head, ImageTower, ImageTowerConfig, Side, TextTower
from frugalclip.towers.clip_resnet import ClipResNetConfig
from frugalclip.towers.described import DescribedConfig
from frugalclip.towers.lora import LoraConfig, add_lora, merge_lora
from frugalclip.towers.no_texts import NoTextsConfig
from frugalclip.towers.pretrained import (
    PretrainedConfig,
    PretrainedImageConfig,
    PretrainedTextConfig,
    PretrainedTower,
)
from frugalclip.towers.resnet import ResNetConfig
from frugalclip.towers.text import TextConfig
from frugalclip.towers.tfidf import TfidfConfig
from frugalclip.towers.vit import VitConfig

IMAGE_TOWERS: dict[str, type[ImageTowerConfig]] = {
    "vit": VitConfig,
    "resnet": ResNetConfig,
    "clip_resnet": ClipResNetConfig,
    "pretrained": PretrainedImageConfig,
    "described": DescribedConfig,
}
ImageTowerChoice = Annotated[
    Annotated[VitConfig, of_kind("vit")]
    | Annotated[ResNetConfig, of_kind("resnet")]
    | Annotated[ClipResNetConfig, of_kind("clip_resnet")]
    | Annotated[PretrainedImageConfig, of_kind("pretrained")]
    | Annotated[DescribedConfig, of_kind("described")],
    by_kind("vit", "resnet", "clip_resnet", "pretrained", "described"),
    BeforeValidator(shorthand("size")),
]


TextTowerChoice = Annotated[
    Annotated[TextConfig, of_kind("transformer")]
    | Annotated[BagConfig, of_kind("bag")]
    | Annotated[PretrainedTextConfig, of_kind("pretrained")]
    | Annotated[TfidfConfig, of_kind("tfidf")]
    | Annotated[NoTextsConfig, of_kind("none")],
    by_kind("transformer", "bag", "pretrained", "tfidf", "none"),
    BeforeValidator(shorthand("size")),
]


SCALE_LIMIT = 1000.0  # a softmax this sharp has no gradient left but at ties


class ModelConfig(Settings):
    """The `model` section of a recipe."""

    image: ImageTowerChoice = Field(
        default_factory=VitConfig, description="image tower: the name of a size, or settings"
    )
    text: TextTowerChoice = Field(
        default_factory=TextConfig, description="text tower: the name of a size, or settings"
    )
    dim: int = Field(256, gt=0, description="width of the joint embedding; CLIP ViT-B: 512")
    scale: float = Field(
        1 / 0.07,
        gt=0,
        le=SCALE_LIMIT,
        description="initial scale of cosines; CLIP: 1/0.07, SigLIP: 10, ALIGN: 1",
    )
    scale_min: float = Field(1.0, gt=0, le=SCALE_LIMIT, description="lower clamp; CLIP: 1, DeCLIP: e^3")
    scale_max: float = Field(100.0, gt=0, le=SCALE_LIMIT, description="upper clamp; CLIP: 100")
    learn_scale: bool = Field(True, description="false keeps the initial scale")
    lora: LoraConfig | None = Field(
        None,
        description="low-rank additions that are trained in the place of the towers' weights; "
        "`change.kind=lora` adds them to a model",
    )

    @model_validator(mode="after")
    def _has_a_range(self) -> Self:
        if self.scale_min > self.scale_max:
            raise ValueError(
                f"scale_min {self.scale_min:g} is above scale_max {self.scale_max:g}; exchange them"
            )
        return self

    @model_serializer(mode="wrap")
    def _dump(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out an unset later setting, so that older models keep their fingerprints."""
        return {name: value for name, value in write(self).items() if name != "lora" or value is not None}

    def pretrained_towers(self) -> dict[Side, PretrainedConfig]:
        """Settings of the towers with a pretrained backbone, by side."""
        sides: dict[Side, Settings] = {"image": self.image, "text": self.text}
        return {side: config for side, config in sides.items() if isinstance(config, PretrainedConfig)}


class DualEncoder(nn.Module):
    """Two towers and their scale.

    Weights depend on (config, vocabulary, context, seed) only; towers draw independently.
    """

    def __init__(self, config: ModelConfig, *, vocabulary: int, context: int, seed: int | None = 0) -> None:
        """Build both towers; `seed=None` draws no weights, for a network that is loaded or only counted."""
        super().__init__()
        self.config, self.vocabulary, self.context = config, vocabulary, context
        self.image: ImageTower = config.image.build(dim=config.dim)
        self.text: TextTower = config.text.build(vocabulary=vocabulary, context=context, dim=config.dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.scale)), requires_grad=config.learn_scale)
        if seed is not None:
            self.image.reset(generator(seed, "init/image"))
            self.text.reset(generator(seed, "init/text"))
        if config.lora is not None:
            self.add_lora(config.lora, seed=seed or 0)

    def add_lora(self, config: LoraConfig, *, seed: int) -> None:
        """Freeze the towers, and add what is trained in their place.

        Towers over a pretrained backbone have additions of their own and stay as they are.
        """
        sides: dict[Side, nn.Module] = {"image": self.image, "text": self.text}
        for side, tower in sides.items():
            if side in self.pretrained_towers():
                continue
            tower.requires_grad_(False)
            add_lora(tower, config, generator=generator(seed, f"init/lora/{side}"))
        self.config = self.config.model_copy(update={"lora": config})

    def scale(self) -> Tensor:
        """() multiplier of cosines."""
        return self.log_scale.exp()

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Hold the scales of the network and of its heads in their ranges.

        Called after every optimiser step.
        """
        self.log_scale.clamp_(math.log(self.config.scale_min), math.log(self.config.scale_max))
        self.image.clamp()
        self.text.clamp()

    def check(self, needs: Needs, *, averages: Container[str]) -> None:
        """Refuse needs of objectives that a tower does not support, before anything is encoded.

        Args:
            needs: of all objectives.
            averages: names of the teachers that are averages of this network, and have its towers.

        Raises:
            RecipeError: with a setting that helps.
        """
        attended = [name for name in needs.attention if ":" not in name or name.partition(":")[0] in averages]
        wishes: dict[Ability, bool] = {
            "dropped_patches": any("@" in name for name in needs.images),
            "cls_attention": bool(attended),
        }
        self.image.check(wish for wish, is_given in wishes.items() if is_given)
        self.text.check(["masked_words"] if any("@" in name for name in needs.texts) else [])
        self.text.check(["next_words"] if needs.causal else [])

    def dims(self, *, batch: int, **run: int) -> Dims:
        """Sizes for objectives that build heads.

        `run` gives those entries of `Dims` that the network does not know.
        """
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
        """What builds this module again, as JSON, with the fingerprints of frozen backbones."""
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

    def pretrained_towers(self) -> dict[Side, PretrainedTower]:
        """The towers with a pretrained backbone, by side."""
        towers: dict[Side, nn.Module] = {"image": self.image, "text": self.text}
        return {side: tower for side, tower in towers.items() if isinstance(tower, PretrainedTower)}

    def heads(self) -> dict[Side, Head]:
        """The heads over features that are not trained here, by side."""
        heads: dict[Side, Head | None] = {"image": self.image.fitted_head, "text": self.text.fitted_head}
        return {side: head for side, head in heads.items() if head is not None}

    @classmethod
    def build(cls, architecture: dict[str, Any]) -> "DualEncoder":
        """The module that `architecture` describes, with weights that are not drawn."""
        config = ModelConfig.model_validate(architecture["config"])
        network = cls(
            config, vocabulary=architecture["vocabulary"], context=architecture["context"], seed=None
        )
        for side, fingerprint in architecture.get("backbones", {}).items():
            network.pretrained_towers()[side].fingerprint = fingerprint
        return network


def merged_network(network: DualEncoder) -> DualEncoder:
    """The network with its low-rank additions as part of the weights; itself where it has none."""
    if network.config.lora is None:
        return network
    merged = merge_lora(network)
    assert isinstance(merged, DualEncoder)
    merged.config = network.config.model_copy(update={"lora": None})
    return merged
