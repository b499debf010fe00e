"""Residual convolutions for small images: an image tower that is local by construction and has no attention.

Source: pre-activation residual blocks, He et al. 2016, arXiv 1603.05027, figure 4e. The second convolution of
a block starts at zero, so that a block starts as its shortcut (Goyal et al. 2017, arXiv 1706.02677, section
5.1). Group normalisation (Wu & He 2018, arXiv 1803.08494) replaces batch normalisation: the features of an
image do not depend on the rest of its batch, so the gradient cache and N processes stay exact.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from frugalclip.core.types import Gates, ImageInput, TowerOutput
from frugalclip.towers.base import ImageTower, ImageTowerConfig
from frugalclip.towers.sizes import Blocks, from_size

SIZES: dict[str, tuple[int, tuple[int, ...]]] = {  # name: (channels of the last stage, blocks of each stage)
    "nano": (128, (1, 1, 1)),
    "micro": (192, (1, 1, 1)),
    "tiny": (256, (2, 2, 2)),
    "small": (384, (2, 2, 2)),
    "base": (512, (2, 3, 3)),
}
GROUPS = 8


class ResNetConfig(ImageTowerConfig):
    """Settings of a convolutional image tower."""

    kind: Literal["resnet"]  # without a default, so that it is always written down
    size: str | None = Field(None, description="named width and blocks: nano, micro, tiny, small, base")
    width: int = Field(
        0,
        ge=0,
        description="channels of the last stage; each stage before has half of the next. 0: from size",
    )
    blocks: tuple[Blocks, ...] = Field(
        (), description="residual blocks of each stage; the first of a stage halves height and width"
    )
    stem: int = Field(
        1,
        ge=1,
        description="stride of the first convolution: 1 for images up to 48 pixels, 2 up to 96, 4 beyond",
    )
    resolution: int = Field(32, gt=0, description="side of the image in pixels")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: object) -> object:
        return from_size(values, SIZES, second="blocks") if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _fits(self) -> "ResNetConfig":
        if self.resolution % self.stride:
            raise ValueError(
                f"resolution {self.resolution} is not a multiple of {self.stride}, the stride of this tower; "
                f"choose one that is"
            )
        least = GROUPS * 2 ** len(self.blocks)  # the stem's channels come in whole groups
        if self.width % least or min(self.blocks) < 1:
            raise ValueError(
                f"width {self.width} is not a multiple of {least}, or a stage has no block; "
                f"set width and blocks"
            )
        return self

    def narrower_widths(self) -> range:
        """Widths of whole groups of the normalisation, in the stem too."""
        step = GROUPS * 2 ** len(self.blocks)
        return range(step, self.width + 1, step)

    @property
    def stride(self) -> int:
        """Pixels of the image for each position of the last map, along a side."""
        return self.stem * 2 ** len(self.blocks)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels after the stem and after each stage."""
        return tuple(self.width // 2**k for k in range(len(self.blocks), -1, -1))

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the last map."""
        return self.resolution // self.stride, self.resolution // self.stride

    @property
    def tokens(self) -> int:
        """Positions of the last map."""
        return self.grid[0] * self.grid[1]

    def forward_gflops(self, *, tokens: int) -> float:
        """Forward arithmetic for one image, in 10^9 operations; `tokens` positions of the last map."""
        places = [
            tokens * 4 ** (len(self.blocks) - k) for k in range(len(self.blocks) + 1)
        ]  # after the stem, after each stage
        total = places[0] * 27 * self.channels[0]
        for stage, (blocks, before, after) in enumerate(
            zip(self.blocks, self.channels, self.channels[1:], strict=False)
        ):
            total += places[stage + 1] * (13 * before * after + 9 * after**2 + (blocks - 1) * 18 * after**2)
        return 2 * total * 1e-9

    def kept_numbers(self, *, tokens: int) -> float:
        """Numbers that the backward pass keeps for one image; `tokens` positions of the last map."""
        places = [tokens * 4 ** (len(self.blocks) - k) for k in range(len(self.blocks) + 1)]
        inputs = sum(
            3 * places[k] * self.channels[k] for k in range(len(self.blocks))
        )  # input, normalised, activated
        inside = sum(
            places[k + 1] * self.channels[k + 1] * (4 + 6 * (blocks - 1))
            for k, blocks in enumerate(self.blocks)
        )
        return inputs + inside

    def build(self, *, dim: int) -> "ResNet":
        """The tower of these sizes."""
        return ResNet(self, dim=dim)


class ResidualBlock(nn.Module):
    """Normalise, activate and convolve, twice; a shortcut is added."""

    def __init__(self, before: int, after: int, *, stride: int) -> None:
        super().__init__()
        self.norm_first, self.first = (
            nn.GroupNorm(GROUPS, before),
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
        )
        self.norm_second, self.second = (
            nn.GroupNorm(GROUPS, after),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
        )
        # one product of stride x stride patches: pooling first takes as long as a third of all convolutions
        # on a CPU
        self.shortcut = (
            nn.Conv2d(before, after, stride, stride, bias=False) if before != after or stride > 1 else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, before, height, width) to (batch, after, height / stride, width / stride)."""
        y = self.first(F.gelu(self.norm_first(x)))
        y = self.second(F.gelu(self.norm_second(y)))
        return y + (x if self.shortcut is None else self.shortcut(x))


class ResNet(ImageTower):
    """Convolutional image tower."""

    description = "a resnet tower"
    advice = "set model.image.kind=vit"

    def __init__(self, config: ResNetConfig, *, dim: int) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.stem = nn.Conv2d(
            3, channels[0], max(3, config.stem + config.stem % 2 + 1), config.stem, max(1, config.stem // 2)
        )
        self.stages = nn.Sequential(
            *(
                ResidualBlock(before if block == 0 else after, after, stride=2 if block == 0 else 1)
                for before, after, blocks in zip(channels, channels[1:], config.blocks, strict=False)
                for block in range(blocks)
            )
        )
        self.norm_after = nn.GroupNorm(GROUPS, config.width)
        self.project = nn.Linear(config.width, dim, bias=False)

    def reset(self, generator: torch.Generator) -> None:
        """Draw the initial weights (He et al.

        2015, arXiv 1502.01852); the last convolution of a block is zero.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=(2 / module.weight[0].numel()) ** 0.5, generator=generator)
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                nn.init.zeros_(module.second.weight)
        assert self.stem.bias is not None
        nn.init.zeros_(self.stem.bias)
        nn.init.normal_(self.project.weight, std=self.config.width**-0.5, generator=generator)

    def forward(
        self,
        images: ImageInput,
        *,
        keep: Tensor | None = None,
        with_tokens: bool = False,
        with_attention: bool = False,
        gates: Gates | None = None,
    ) -> TowerOutput:
        """Encode images.

        Args:
            images: (batch, 3, height, width of the image), normalised; sides are multiples of the stride.
            keep: (batch, kept) of other towers; must be None: a convolution has no tokens to drop.
            with_tokens: also return the positions of the last map.
            with_attention: must be False: there is no [CLS] token.
            gates: must be None.

        Returns:
            TowerOutput; tokens are (batch, positions, width) after the last normalisation.

        Raises:
            RecipeError: if patches are dropped, or attention or gates are requested.
        """
        assert isinstance(images, Tensor), "only a frozen backbone has cached features"
        self.check_forward(keep=keep, with_attention=with_attention, gates=gates)
        # not in channels-last order: on a CPU group normalisation in bfloat16 is ten times slower there
        x = self.stages(self.stem(images))  # (batch, width, rows, columns)
        tokens = F.gelu(self.norm_after(x)).flatten(2).transpose(1, 2)  # (batch, positions, width)
        pooled = tokens.mean(dim=1)
        return TowerOutput(tokens if with_tokens else None, pooled, self.project(pooled))
