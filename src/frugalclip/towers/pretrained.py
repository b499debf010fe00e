"""Towers whose backbone was trained elsewhere: a pretrained backbone, and a head of ours that turns what it says into an embedding.

Source: LiT, arXiv 2111.07991 (a locked backbone); FLAME, arXiv 2411.11927 (a frozen language model, read once and kept). A backbone that is not tuned
is no part of the weights: the checkpoint names it and its fingerprint, the optimiser never sees it, and since it says the same of the same
picture for ever, what it says may come from an embedding store instead. Then a step costs what the head costs.

A tower only knows how wide its backbone is. `frugalclip.models` finds the backbone, and hands it over when it is needed for the first time.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from fnmatch import fnmatch
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import ConfigDict, Field, field_serializer, field_validator, model_validator
from torch import Tensor, nn

from frugalclip.core.config import Settings, by_kind, of_kind
from frugalclip.core.errors import ModelError, RecipeError, known_names
from frugalclip.core.random import generator
from frugalclip.core.types import CachedFeatures, Gates, ImageInput, Strings, TextInput, Tokens, TowerOutput
from frugalclip.towers.base import Head, ImageTower, ImageTowerConfig, Side, TextTower, TextTowerConfig, Tower
from frugalclip.towers.heads.caption_words import CaptionWordsConfig
from frugalclip.towers.heads.identity import IdentityConfig
from frugalclip.towers.heads.kernel_ridge import KernelRidgeConfig
from frugalclip.towers.heads.lexical import LexicalConfig
from frugalclip.towers.heads.mlp import MlpConfig
from frugalclip.towers.heads.whitening import WhiteningConfig
from frugalclip.towers.lora import LoraConfig, add_lora

IMAGES_AT_A_TIME = {
    "cpu": 4,
    "cuda": 256,
}  # of a frozen backbone; on a CPU larger activations are mapped and unmapped at every layer


class BackboneOutput(NamedTuple):
    """What a backbone says of a batch."""

    pooled: Tensor  # (batch, width), or (batch, facets, width)
    tokens: Tensor | None = None  # (batch, patches, width), only where asked for


class Backbone(nn.Module, ABC):
    """A pretrained encoder without its own projection. Abstract: every subclass is final, see `readers`."""

    width: int  # of what it says
    fingerprint: str  # of the weights and of everything else that changes what it says
    preprocess: Any = (
        None  # `data.views.Preprocess` that its weights were trained with, where it reads pictures
    )

    @abstractmethod
    def forward(self, inputs: Any, *, with_tokens: bool = False) -> BackboneOutput:
        """Read pictures (batch, 3, height, width of the picture), or texts as `Tokens` or `Strings`."""


HeadChoice = Annotated[
    Annotated[MlpConfig, of_kind("mlp")]
    | Annotated[IdentityConfig, of_kind("identity")]
    | Annotated[WhiteningConfig, of_kind("whitening")]
    | Annotated[KernelRidgeConfig, of_kind("kernel_ridge")]
    | Annotated[LexicalConfig, of_kind("lexical")]
    | Annotated[CaptionWordsConfig, of_kind("caption_words")],
    by_kind("mlp", "identity", "whitening", "kernel_ridge", "lexical", "caption_words"),
]


class PretrainedConfig(Settings):
    """What the settings of both pretrained towers share."""

    model_config = ConfigDict(populate_by_name=True)

    kind: Literal["pretrained"]
    sources: tuple[str, ...] = Field(
        alias="from",
        min_length=1,
        description="where the backbone comes from: package:NAME, timm:NAME@FILE, hf:DIR, or a model; several for texts, side by side",
    )
    width: int = Field(
        gt=0,
        description="channels of what the backbone says, of several backbones together; checked when it is there",
    )
    head: HeadChoice = Field(
        default_factory=MlpConfig,
        description="mlp, identity, lexical, or fitted in closed form: whitening, caption_words (images), kernel_ridge (texts)",
    )
    tune: Literal["none", "all"] | tuple[str, ...] = Field(
        "none",
        description="none: frozen; all; or patterns of parameter names to train, such as [blocks.6.*]; the rest stays frozen",
    )
    lora: LoraConfig | None = Field(
        None, description="train low-rank additions to the backbone's linear maps"
    )
    gflops: float = Field(
        0.0, ge=0, description="10^9 operations of the backbone for one sample, for 'frugalclip plan'"
    )
    options: dict[str, Any] | tuple[dict[str, Any], ...] = Field(
        default_factory=dict,
        description="settings of the backbone's reader, such as the prompts of a language model; of several backbones, a list",
    )

    @field_validator("sources", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _joins_plain_backbones(self) -> "PretrainedConfig":
        if len(self.sources) > 1 and not self.is_frozen:
            raise ValueError(
                f"from names {len(self.sources)} backbones, which are read as they are; leave tune and lora out, or name one"
            )
        if isinstance(self.options, tuple) and len(self.options) != len(self.sources):
            raise ValueError(
                f"options are given for {len(self.options)} backbones, and from names {len(self.sources)}; give one mapping for each"
            )
        if isinstance(self.options, dict) and self.options and len(self.sources) > 1:
            raise ValueError(
                f"from names {len(self.sources)} backbones; give options as a list, one mapping for each"
            )
        return self

    @field_serializer("sources")
    def _one_as_a_word(self, sources: tuple[str, ...]) -> str | list[str]:
        return sources[0] if len(sources) == 1 else list(sources)

    @property
    def source(self) -> str:
        """Where the backbone comes from, in words."""
        return " + ".join(self.sources)

    @property
    def backbones(self) -> list[tuple[str, dict[str, Any]]]:
        """(source, options) of each."""
        return list(
            zip(
                self.sources,
                self.options if isinstance(self.options, tuple) else [self.options] * len(self.sources),
                strict=True,
            )
        )

    @property
    def is_frozen(self) -> bool:
        """Whether the backbone never changes, so that what it says may come from a store."""
        return self.tune == "none" and self.lora is None

    @property
    def stored_gflops(self) -> float:
        """Cost of a frozen backbone, which a feature store saves."""
        return self.gflops if self.is_frozen else 0.0

    def forward_gflops(self, *, tokens: int) -> float:
        """Forward arithmetic for one sample whose backbone runs, in 10^9 operations; the head's is counted for an embedding of the same width."""
        return self.gflops + self.head.forward_gflops(width=self.width, dim=self.width) * max(
            1, tokens if self.head.reads == "tokens" else 1
        )

    def kept_numbers(self, *, tokens: int) -> float:
        """Numbers that backward keeps of one sample: those of the head, unless the backbone is tuned, which is not counted."""
        return self.head.kept_numbers(width=self.width) * max(1, tokens if self.head.reads == "tokens" else 1)


class PretrainedImageConfig(PretrainedConfig, ImageTowerConfig):
    """Settings of an image tower with a pretrained backbone."""

    resolution: int = Field(224, gt=0, description="side of the picture in pixels")
    patches: tuple[int, int] = Field((1, 1), description="rows and columns of the backbone's token outputs")

    @model_validator(mode="after")
    def _is_for_images(self) -> "PretrainedImageConfig":
        if self.head.kind == "kernel_ridge":
            raise ValueError(
                "head.kind kernel_ridge is fitted to texts; image towers take whitening, mlp or identity"
            )
        if len(self.sources) > 1:
            raise ValueError(
                f"from names {len(self.sources)} backbones, and pictures are read by one; several stand side by side for texts only"
            )
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of token outputs."""
        return self.patches

    @property
    def tokens(self) -> int:
        """Length of the sequence that a head may read."""
        return self.patches[0] * self.patches[1]

    def build(self, *, dim: int) -> "PretrainedImageTower":
        """The tower, whose backbone comes later."""
        return PretrainedImageTower(self, dim=dim, side="image")


class PretrainedTextConfig(PretrainedConfig, TextTowerConfig):
    """Settings of a text tower with a pretrained backbone."""

    @model_validator(mode="after")
    def _reads_vectors(self) -> "PretrainedTextConfig":
        if self.head.kind in ("whitening", "caption_words"):
            raise ValueError(
                f"head.kind {self.head.kind} is fitted to images; text towers take kernel_ridge, mlp, lexical or identity"
            )
        if self.head.reads != "pooled":
            raise ValueError(
                f"head.kind {self.head.kind} reads tokens of pictures; a text tower takes one that reads a vector"
            )
        return self

    def build(self, *, vocabulary: int, context: int, dim: int) -> "PretrainedTextTower":
        """The tower, whose backbone comes later; vocabulary and context are the backbone's own."""
        return PretrainedTextTower(self, dim=dim, side="text")


class PretrainedTower(Tower):
    """Base class of both towers with a pretrained backbone."""

    _place: Tensor

    def __init__(self, config: PretrainedConfig, *, dim: int, side: Side) -> None:
        super().__init__()
        self.config, self.side = config, side
        self.description = f"a pretrained {side} tower"
        self.advice = f"give model.{side} another kind"
        self.head: Head = config.head.build(width=config.width, dim=dim)
        self.register_buffer(
            "_place", torch.zeros(0), persistent=False
        )  # says where the tower is: a head may have neither weights nor buffers
        self._opener: Callable[[], Backbone] | None = None
        self._frozen: list[Backbone] = []  # in a list, so that it is no part of the weights
        self._fingerprint: str | None = None
        self._seed = 0

    def reset(self, generator: torch.Generator) -> None:
        """Draw the initial weights of the head, and a seed for the backbone's additions, which come when it is lent."""
        self.head.reset(generator)
        self._seed = int(torch.randint(2**31, (), generator=generator))

    def attach(self, opener: Callable[[], Backbone]) -> None:
        """Say how to get the backbone. One that is tuned is fetched at once and becomes part of the weights; a frozen one when it is first read."""
        self._opener = opener
        if not self.config.is_frozen:
            self.backbone = _tuned(self._fetched(), self.config, seed=self._seed)

    @property
    def fingerprint(self) -> str:
        """Of the backbone: as it was when the head was trained, or where that is not known, as it is."""
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
                f"the {self.side} tower borrows {self.config.source}, and nobody fetched it; load the model with frugalclip.load."
            )
        backbone = self._opener()
        if backbone.width != self.config.width:
            raise RecipeError(
                f"{self.config.source} gives vectors of {backbone.width}; set model.{self.side}.width={backbone.width}."
            )
        if self._fingerprint not in (None, backbone.fingerprint):
            raise ModelError(
                f"{self.config.source} is not the backbone that this model's {self.side} head was trained on ({backbone.fingerprint}, expected "
                f"{self._fingerprint}); restore its files, or train the head again."
            )
        self._fingerprint = backbone.fingerprint
        return backbone

    def clamp(self) -> None:
        """Hold what the head learns in its range."""
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
        """Encode what the backbone reads, or its stored features.

        Args:
            inputs: pixels (batch, 3, height, width of the image) or texts for the backbone, or its features from before.
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
                    f"an objective reads tokens of model.{self.side}, and the store holds one vector a sample; leave 'store' out."
                )
        else:
            output = self.run_backbone(inputs, with_tokens=with_tokens or reads_tokens)
        embedding = self.head(output.tokens if reads_tokens else output.pooled)
        return TowerOutput(output.tokens if with_tokens else None, output.pooled, embedding)

    def run_backbone(self, inputs: Tensor | Tokens | Strings, *, with_tokens: bool = False) -> BackboneOutput:
        """What the backbone says, (batch, width), in float32; a frozen one in the same numbers whatever the precision of the step."""
        backbone = self.attached
        if not self.config.is_frozen:
            return backbone(inputs, with_tokens=with_tokens)
        device = self._place.device
        with torch.no_grad(), _exact(device):
            if not isinstance(inputs, Tensor):
                told = backbone.to(device)(
                    inputs, with_tokens=with_tokens
                )  # some compute on the CPU wherever they are
                return BackboneOutput(
                    told.pooled.to(device), None if told.tokens is None else told.tokens.to(device)
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
        """Encode texts, or features of the backbone (batch, width) or (batch, facets, width); see `encode`."""
        self.check(["gates"] if gates is not None else [])
        return self.encode(texts, with_tokens=with_tokens)


def _exact(device: torch.device) -> AbstractContextManager[Any]:
    return (
        torch.autocast(device.type, enabled=False)
        if torch.is_autocast_enabled(device.type)
        else nullcontext()
    )


def _tuned(backbone: Backbone, config: PretrainedConfig, *, seed: int) -> Backbone:
    """The backbone with those parameters trainable that the settings name."""
    names = [name for name, _ in backbone.named_parameters()]
    if not names:
        raise RecipeError(
            f"{config.source} is read as it is, and its weights cannot be trained; leave tune and lora out."
        )
    patterns = (
        {"none": (), "all": ("*",)}.get(config.tune, config.tune)
        if isinstance(config.tune, str)
        else config.tune
    )
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in names):
            raise RecipeError(
                f"tune names '{pattern}', which matches no parameter of {config.source}; {known_names(pattern, names)}"
            )
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(any(fnmatch(name, pattern) for pattern in patterns))
    if config.lora is not None:
        add_lora(backbone, config.lora, generator=generator(seed, "init/lora"))
    return backbone
