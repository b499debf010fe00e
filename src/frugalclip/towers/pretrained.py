"""Pretrained towers: a backbone that was trained elsewhere, and a head from its features to the embedding.

Source: LiT, arXiv 2111.07991 (a locked backbone); FLAME, arXiv 2411.11927 (a frozen language model with
stored features). The weights of a tower do not include a frozen backbone: the checkpoint names it and its
fingerprint, and the optimiser never sees it. Its features never change, so they may come from a feature
store, and a step then costs what the head costs.

A tower knows the width of its backbone only. `frugalclip.models` attaches the backbone, which is loaded when
it is first needed.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from fnmatch import fnmatch
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from torch import Tensor, nn

from frugalclip.core.config import Settings, by_kind, of_kind
from frugalclip.core.errors import ModelError, RecipeError, known_names
from frugalclip.core.finite import refuse_weights
from frugalclip.core.guard import reading
from frugalclip.core.preprocess import Preprocess
from frugalclip.core.random import generator
from frugalclip.core.types import CachedFeatures, Gates, ImageInput, Strings, TextInput, Tokens, TowerOutput
from frugalclip.functional.descriptors import DescriptorName
from frugalclip.towers.base import (
    Head,
    HeadConfig,
    ImageTower,
    ImageTowerConfig,
    KnownClasses,
    Side,
    TextTower,
    TextTowerConfig,
    Tower,
)
from frugalclip.towers.heads.caption_words import CaptionWordsConfig
from frugalclip.towers.heads.identity import IdentityConfig
from frugalclip.towers.heads.kernel_ridge import KernelRidgeConfig
from frugalclip.towers.heads.lexical import LexicalConfig
from frugalclip.towers.heads.mlp import MlpConfig
from frugalclip.towers.heads.whitened_parts import WhitenedPartsConfig
from frugalclip.towers.heads.whitening import WhiteningConfig
from frugalclip.towers.lora import LoraConfig, add_lora

# images that a frozen backbone encodes at a time; on a CPU larger activations are mapped and unmapped at
# every layer
IMAGES_AT_A_TIME = {"cpu": 4, "cuda": 256}


class BackboneOutput(NamedTuple):
    """Features of a batch."""

    pooled: Tensor  # (batch, width), or (batch, facets, width)
    tokens: Tensor | None = None  # (batch, patches, width), only if requested


class Backbone(nn.Module, ABC):
    """Base class of pretrained encoders without their own projection; see `frugalclip.backbones`."""

    width: int  # of its features
    fingerprint: str  # of the weights and of everything else that changes its features
    preprocess: Preprocess | None = None  # that its weights were trained with; None if it encodes texts
    classes: KnownClasses | None = None  # that its weights were trained to tell apart; no part of features

    @abstractmethod
    def forward(self, inputs: Any, *, with_tokens: bool = False) -> BackboneOutput:
        """Encode pixels (batch, 3, height, width of the image), or texts as `Tokens` or `Strings`."""


HEADS: dict[str, type[HeadConfig]] = {
    "mlp": MlpConfig,
    "identity": IdentityConfig,
    "whitening": WhiteningConfig,
    "whitened_parts": WhitenedPartsConfig,
    "kernel_ridge": KernelRidgeConfig,
    "lexical": LexicalConfig,
    "caption_words": CaptionWordsConfig,
}
HeadChoice = Annotated[
    Annotated[MlpConfig, of_kind("mlp")]
    | Annotated[IdentityConfig, of_kind("identity")]
    | Annotated[WhiteningConfig, of_kind("whitening")]
    | Annotated[WhitenedPartsConfig, of_kind("whitened_parts")]
    | Annotated[KernelRidgeConfig, of_kind("kernel_ridge")]
    | Annotated[LexicalConfig, of_kind("lexical")]
    | Annotated[CaptionWordsConfig, of_kind("caption_words")],
    by_kind(*HEADS),
]


class PretrainedConfig(Settings):
    """Base class of the settings of pretrained towers."""

    model_config = ConfigDict(populate_by_name=True)

    kind: Literal["pretrained"]
    sources: tuple[str, ...] = Field(
        alias="from",
        min_length=1,
        description="where the backbone comes from: package:NAME, timm:NAME@FILE, hf:DIR, or a model; "
        "several for texts, side by side",
    )
    width: int = Field(
        gt=0,
        description="width of the backbone's features, of several backbones together; checked when it is "
        "loaded",
    )
    head: HeadChoice = Field(
        default_factory=MlpConfig,
        description="mlp, identity, lexical, or fitted in closed form: whitening, caption_words (images), "
        "kernel_ridge (texts)",
    )
    tune: Literal["none", "all"] | tuple[str, ...] = Field(
        "none",
        description="none: frozen; all; or patterns of parameter names to train, such as [blocks.6.*]; the "
        "rest stays frozen",
    )
    lora: LoraConfig | None = Field(
        None, description="train low-rank additions to the backbone's linear maps"
    )
    gflops: float = Field(
        0.0, ge=0, description="10^9 operations of the backbone for one sample, for 'frugalclip plan'"
    )
    options: dict[str, Any] | tuple[dict[str, Any], ...] = Field(
        default_factory=dict,
        description="settings of the backbone, such as the prompts of a language model; a list for several "
        "backbones",
    )

    @field_validator("sources", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _joins_plain_backbones(self) -> "PretrainedConfig":
        if len(self.sources) > 1 and not self.is_frozen:
            raise ValueError(
                f"from names {len(self.sources)} backbones, which are not trained; leave tune and lora "
                "out, or name one"
            )
        if isinstance(self.options, tuple) and len(self.options) != len(self.sources):
            raise ValueError(
                f"options are given for {len(self.options)} backbones, and from names {len(self.sources)}; "
                "give one mapping for each"
            )
        if isinstance(self.options, dict) and self.options and len(self.sources) > 1:
            raise ValueError(
                f"from names {len(self.sources)} backbones; give options as a list, one mapping for each"
            )
        return self

    @field_serializer("sources")
    def _one_as_a_word(self, sources: tuple[str, ...]) -> str | list[str]:
        return sources[0] if len(sources) == 1 else list(sources)

    def _check_head(self, side: Side) -> None:
        if side not in self.head.sides:
            able = [kind for kind, config in HEADS.items() if side in config.sides]
            raise ValueError(
                f"head.kind {self.head.kind} is not for {side} towers; they take {', '.join(able)}"
            )

    @property
    def source(self) -> str:
        """Source of the backbone, in words."""
        return " + ".join(self.sources)

    @property
    def backbones(self) -> list[tuple[str, dict[str, Any]]]:
        """(source, options) of each backbone."""
        return list(
            zip(
                self.sources,
                self.options if isinstance(self.options, tuple) else [self.options] * len(self.sources),
                strict=True,
            )
        )

    @property
    def is_frozen(self) -> bool:
        """Whether the backbone never changes, so that its features may come from a store."""
        return self.tune == "none" and self.lora is None

    @property
    def stored_gflops(self) -> float:
        """Cost of a frozen backbone, which a feature store saves."""
        return self.gflops if self.is_frozen else 0.0

    def forward_gflops(self, *, tokens: int) -> float:
        """Forward arithmetic for one sample whose backbone runs, in 10^9 operations.

        The head's is counted for an embedding of the same width.
        """
        return self.gflops + self.head.forward_gflops(width=self.width, dim=self.width) * max(
            1, tokens if self.head.reads == "tokens" else 1
        )

    def kept_numbers(self, *, tokens: int) -> float:
        """Numbers that the head keeps for the backward pass; a tuned backbone is not counted."""
        return self.head.kept_numbers(width=self.width) * max(1, tokens if self.head.reads == "tokens" else 1)


class PretrainedImageConfig(PretrainedConfig, ImageTowerConfig):
    """Settings of an image tower with a pretrained backbone."""

    resolution: int = Field(224, gt=0, description="side of the image in pixels")
    patches: tuple[int, int] = Field((1, 1), description="rows and columns of the backbone's token outputs")
    descriptors: tuple[DescriptorName, ...] = Field(
        (), description="of shape and colour, behind the features of a frozen backbone; part of `width`"
    )

    @model_serializer(mode="wrap")
    def _dump(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out no descriptors, so that older models keep their fingerprints."""
        return {name: value for name, value in write(self).items() if name != "descriptors" or value}

    @model_validator(mode="after")
    def _is_for_images(self) -> "PretrainedImageConfig":
        self._check_head("image")
        if self.descriptors and not (self.is_frozen and self.head.reads == "pooled"):
            raise ValueError(
                "descriptors stand behind the vector of a frozen backbone; leave tune and lora out, and "
                "choose a head that reads no patches, or leave descriptors out"
            )
        if len(self.sources) > 1:
            raise ValueError(
                f"from names {len(self.sources)} backbones, and images are encoded by one; several stand "
                "side "
                "by side for texts only"
            )
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of token outputs."""
        return self.patches

    @property
    def tokens(self) -> int:
        """Length of the backbone's token outputs."""
        return self.patches[0] * self.patches[1]

    def build(self, *, dim: int) -> "PretrainedImageTower":
        """The tower, whose backbone is attached later."""
        return PretrainedImageTower(self, dim=dim, side="image")


class PretrainedTextConfig(PretrainedConfig, TextTowerConfig):
    """Settings of a text tower with a pretrained backbone."""

    @model_validator(mode="after")
    def _reads_vectors(self) -> "PretrainedTextConfig":
        self._check_head("text")
        if self.head.reads != "pooled":
            raise ValueError(
                f"head.kind {self.head.kind} reads tokens of images; set head.over=vector for a text tower"
            )
        return self

    def build(self, *, vocabulary: int, context: int, dim: int) -> "PretrainedTextTower":
        """The tower, whose backbone is attached later, with its own vocabulary and context."""
        return PretrainedTextTower(self, dim=dim, side="text")


class PretrainedTower(Tower):
    """Base class of towers with a pretrained backbone."""

    _place: Tensor

    def __init__(self, config: PretrainedConfig, *, dim: int, side: Side) -> None:
        super().__init__()
        self.config, self.side = config, side
        self.description = f"a pretrained {side} tower"
        self.advice = f"give model.{side} another kind"
        self.head: Head = config.head.build(width=config.width, dim=dim)
        self.register_buffer(
            "_place", torch.zeros(0), persistent=False
        )  # holds the device: a head may have neither weights nor buffers
        self._opener: Callable[[], Backbone] | None = None
        self._frozen: list[Backbone] = []  # a list keeps it out of the weights
        self._fingerprint: str | None = None
        self._seed = 0

    def reset(self, generator: torch.Generator) -> None:
        """Draw the initial weights of the head, and a seed for the low-rank additions to the backbone."""
        self.head.reset(generator)
        self._seed = int(torch.randint(2**31, (), generator=generator))

    def attach(self, opener: Callable[[], Backbone]) -> None:
        """Set where the backbone comes from.

        A tuned backbone is loaded at once and belongs to the weights. A frozen one is loaded when it first
        encodes.
        """
        self._opener = opener
        if not self.config.is_frozen:
            self.backbone = _tuned(self._fetched(), self.config, seed=self._seed)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the backbone that the head was trained on, else of the attached one."""
        return self._fingerprint or self.attached.fingerprint

    @fingerprint.setter
    def fingerprint(self, value: str) -> None:
        self._fingerprint = value

    @property
    def attached(self) -> Backbone:
        """The backbone."""
        if not self.config.is_frozen:
            return self.backbone
        if not self._frozen:
            backbone = self._fetched().eval()
            self._frozen.append(backbone.requires_grad_(False))
        return self._frozen[0]

    def _fetched(self) -> Backbone:
        if self._opener is None:
            raise ModelError(
                f"the {self.side} tower has no backbone attached, expected {self.config.source}; load the "
                "model "
                "with frugalclip.load."
            )
        with reading(self.config.source, advice="restore the files of the backbone", error=ModelError):
            backbone = self._opener()
        if backbone.width != self.config.width:
            raise RecipeError(
                f"{self.config.source} gives vectors of {backbone.width}; set "
                f"model.{self.side}.width={backbone.width}."
            )
        if self._fingerprint not in (None, backbone.fingerprint):
            raise ModelError(
                f"{self.config.source} is not the backbone that this model's {self.side} head was trained on "
                f"({backbone.fingerprint}, expected "
                f"{self._fingerprint}); restore its files, or train the head again."
            )
        refuse_weights(backbone.state_dict(), where=self.config.source)
        self._fingerprint = backbone.fingerprint
        return backbone

    def clamp(self) -> None:
        """Hold the learned scale of the head in its range."""
        self.head.clamp()

    @property
    def fitted_head(self) -> Head:
        """The head over the backbone."""
        return self.head

    def features(self, inputs: Tensor | Tokens | Strings, /) -> Tensor:
        """Output of the backbone that the head reads: (batch, width), or (batch, patches or facets, width).

        Raises:
            RecipeError: if the backbone is trained, so that a fit to its output would not last.
        """
        if not self.config.is_frozen:
            raise RecipeError(
                f"model.{self.side}.head is fitted in closed form to a frozen backbone; leave "
                f"model.{self.side}.tune and model.{self.side}.lora out."
            )
        reads_tokens = self.config.head.reads == "tokens"
        output = self.run_backbone(inputs, with_tokens=reads_tokens)
        return output.pooled if output.tokens is None else output.tokens

    def encode(self, inputs: ImageInput | TextInput, *, with_tokens: bool) -> TowerOutput:
        """Encode inputs of the backbone, or its features.

        Args:
            inputs: pixels (batch, 3, height, width of the image) or texts for the backbone, or its features
                from before.
            with_tokens: also return the backbone's token outputs.

        Returns:
            TowerOutput; pooled and tokens are the backbone's.

        Raises:
            RecipeError: if tokens are requested and the store holds one vector a sample.
        """
        reads_tokens = self.config.head.reads == "tokens"
        if isinstance(inputs, CachedFeatures):
            values = inputs.values
            output = BackboneOutput(values.mean(dim=1), values) if reads_tokens else BackboneOutput(values)
            if with_tokens and output.tokens is None:
                raise RecipeError(
                    f"an objective reads tokens of model.{self.side}, and the store holds one vector a "
                    "sample; leave 'store' out."
                )
        else:
            output = self.run_backbone(inputs, with_tokens=with_tokens or reads_tokens)
        embedding = self.head(output.tokens if reads_tokens else output.pooled)
        return TowerOutput(output.tokens if with_tokens else None, output.pooled, embedding)

    def run_backbone(self, inputs: Tensor | Tokens | Strings, *, with_tokens: bool = False) -> BackboneOutput:
        """Features (batch, width) of the backbone, in float32.

        A frozen one in the same numbers whatever the precision of the step.
        """
        backbone = self.attached
        if not self.config.is_frozen or torch.compiler.is_compiling():  # a graph has any batch at once
            return backbone(inputs, with_tokens=with_tokens)
        device = self._place.device
        with torch.no_grad(), _exact(device):
            if not isinstance(inputs, Tensor):
                output = backbone.to(device)(
                    inputs, with_tokens=with_tokens
                )  # some backbones always compute on the CPU
                return BackboneOutput(
                    output.pooled.to(device), None if output.tokens is None else output.tokens.to(device)
                )
            output = [
                backbone.to(device)(part, with_tokens=with_tokens)
                for part in inputs.split(IMAGES_AT_A_TIME.get(device.type, 64))
            ]
        tokens = (
            torch.cat([part.tokens for part in output if part.tokens is not None]) if with_tokens else None
        )
        return BackboneOutput(torch.cat([part.pooled for part in output]), tokens)


class PretrainedImageTower(PretrainedTower, ImageTower):
    """Image tower with a pretrained backbone."""

    def __init__(self, config: PretrainedImageConfig, *, dim: int, side: Side) -> None:
        super().__init__(config, dim=dim, side=side)
        self.has_steps = bool(config.descriptors)  # they are of whole pixel values

    def forward(
        self,
        images: ImageInput,
        *,
        keep: Tensor | None = None,
        with_tokens: bool = False,
        with_attention: bool = False,
        gates: Gates | None = None,
    ) -> TowerOutput:
        """Encode pixels (batch, 3, height, width), or features of the backbone; see `encode`."""
        self.check_forward(keep=keep, with_attention=with_attention, gates=gates)
        return self.encode(images, with_tokens=with_tokens)


class PretrainedTextTower(PretrainedTower, TextTower):
    """Text tower with a pretrained backbone."""

    def forward(
        self, texts: TextInput, *, with_tokens: bool = False, gates: Gates | None = None
    ) -> TowerOutput:
        """Encode texts, or features of the backbone (batch, width) or (batch, facets, width).

        See `encode`.
        """
        self.check(["gates"] if gates is not None else [])
        return self.encode(texts, with_tokens=with_tokens)


def _exact(device: torch.device) -> AbstractContextManager[Any]:
    return (
        torch.autocast(device.type, enabled=False)
        if torch.is_autocast_enabled(device.type)
        else nullcontext()
    )


def _tuned(backbone: Backbone, config: PretrainedConfig, *, seed: int) -> Backbone:
    """The backbone, with the parameters trainable that the settings name."""
    names = [name for name, _ in backbone.named_parameters()]
    if not names:
        raise RecipeError(f"{config.source} has no weights that can be trained; leave tune and lora out.")
    patterns = (
        {"none": (), "all": ("*",)}.get(config.tune, config.tune)
        if isinstance(config.tune, str)
        else config.tune
    )
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in names):
            raise RecipeError(
                f"tune names '{pattern}', which matches no parameter of {config.source}; "
                f"{known_names(pattern, names)}"
            )
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(any(fnmatch(name, pattern) for pattern in patterns))
    if config.lora is not None:
        add_lora(backbone, config.lora, generator=generator(seed, "init/lora"))
    return backbone
