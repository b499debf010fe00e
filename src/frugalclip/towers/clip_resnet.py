"""OpenAI CLIP's residual network, so that its published weights can be loaded and trained further.

Source: CLIP, arXiv 2103.00020, section 2.4 and its released code. The stem has three convolutions and average
pooling, strides are average pooling before the last convolution of a block (Zhang 2019, arXiv 1904.11486),
and the query of the attention pooling is the mean of the last map. Batch normalisation is shared by all
processes. The gradient cache refuses this tower, since the statistics of a micro-batch are not those of the
batch.
"""

import itertools
import math
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from frugalclip.core.distributed import gather, is_active, world_size
from frugalclip.core.types import Gates, ImageInput, TowerOutput
from frugalclip.towers.base import ImageTower, ImageTowerConfig
from frugalclip.towers.blocks import attend
from frugalclip.towers.sizes import Blocks, from_size
from frugalclip.towers.vit import resampled_positions

SIZES: dict[str, tuple[int, tuple[int, ...]]] = {  # name: (channels of the last stage, blocks of each stage)
    "rn50": (2048, (3, 4, 6, 3)),
    "rn101": (2048, (3, 4, 23, 3)),
    "rn50x4": (2560, (4, 6, 10, 6)),
    "rn50x16": (3072, (6, 8, 18, 8)),
    "rn50x64": (4096, (3, 15, 36, 10)),
}
RESOLUTIONS = {"rn50x4": 288, "rn50x16": 384, "rn50x64": 448}  # of the published weights; 224 for the others
GROWTH = 4  # output channels of a block for each channel inside it
STRIDE = 32  # pixels for each position of the last map, along a side


class ClipResNetConfig(ImageTowerConfig):
    """Settings of CLIP's convolutional image tower."""

    kind: Literal["clip_resnet"]  # without a default, so that it is always written down
    size: str | None = Field(
        None, description="named width, blocks and resolution: rn50, rn101, rn50x4, rn50x16, rn50x64"
    )
    width: int = Field(
        0, ge=0, description="channels of the last stage, 32 times those of the stem. 0: from size"
    )
    blocks: tuple[Blocks, ...] = Field((), description="residual blocks of each of the four stages")
    resolution: int = Field(0, ge=0, description="side of the image in pixels; 0: from size")
    head_dim: int = Field(64, gt=0, description="channels of a head of the attention pooling")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        if values.get("size") is None and not values.get("width"):
            values = {**values, "size": "rn50"}
        filled = from_size({**values, "size": values.get("size") or "rn50"}, SIZES, second="blocks")
        resolution = values.get("resolution") or RESOLUTIONS.get(filled["size"], 224)
        return {**filled, "size": values.get("size"), "resolution": resolution}

    @model_validator(mode="after")
    def _fits(self) -> "ClipResNetConfig":
        if self.resolution % STRIDE:
            raise ValueError(
                f"resolution {self.resolution} is not a multiple of {STRIDE}, the stride of this tower; "
                f"choose one that is"
            )
        if self.width % 64 or self.width % self.head_dim:  # half the stem's channels are width / 64
            raise ValueError(
                f"width {self.width} is not a multiple of 64 and of head_dim {self.head_dim}; "
                f"set width or head_dim"
            )
        if len(self.blocks) != 4 or min(self.blocks) < 1:
            raise ValueError(
                f"blocks {list(self.blocks)} are not four numbers of at least 1, such as [3, 4, 6, 3]"
            )
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the last map."""
        return self.resolution // STRIDE, self.resolution // STRIDE

    @property
    def tokens(self) -> int:
        """Positions of the last map."""
        return self.grid[0] * self.grid[1]

    def narrower_widths(self) -> range:
        """Widths of whole heads of the attention pooling, and of a stem that can be halved."""
        step = math.lcm(64, self.head_dim)
        return range(step, self.width + 1, step)

    def _convolutions(self) -> list[tuple[int, int, int, int]]:
        """(positions for each of the last map, channels in, channels out, weights a pair) by convolution."""
        stem = self.width // 32
        found = [(256, 3, stem // 2, 9), (256, stem // 2, stem // 2, 9), (256, stem // 2, stem, 9)]
        before, places = stem, 64
        for stage, blocks in enumerate(self.blocks):
            inner = stem * 2**stage
            for block in range(blocks):
                after_places = places // 4 if stage and not block else places
                found += [
                    (places, before, inner, 1),
                    (places, inner, inner, 9),
                    (after_places, inner, GROWTH * inner, 1),
                ]
                if not block:
                    found.append((after_places, before, GROWTH * inner, 1))
                before, places = GROWTH * inner, after_places
        return found

    def forward_gflops(self, *, tokens: int) -> float:
        """Forward arithmetic for one image, in 10^9 operations; `tokens` positions of the last map."""
        total = sum(
            tokens * places * before * after * weights
            for places, before, after, weights in self._convolutions()
        )
        pooling = (
            self.width**2 * (1 + 2 * (tokens + 1)) + 2 * (tokens + 1) * self.width
        )  # projections, then scores and mixture of one query
        return 2 * (total + pooling) * 1e-9

    def kept_numbers(self, *, tokens: int) -> float:
        """Numbers that the backward pass keeps for one image, those of normalisations too."""
        return (
            sum(2 * tokens * places * after for places, _, after, _ in self._convolutions())
            + 3 * (tokens + 1) * self.width
        )

    def build(self, *, dim: int) -> "ClipResNet":
        """The tower of these sizes."""
        return ClipResNet(self, dim=dim)


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over all processes; unlike torch's synchronised one it also runs on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """(batch, channels, height, width) to the same."""
        if not (self.training and is_active()):
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            x = input.float()
            own = torch.stack([x.mean(dim=(0, 2, 3)), x.square().mean(dim=(0, 2, 3))])  # (2, channels)
            mean, square = gather(own[None]).mean(dim=0)
            variance = (square - mean.square()).clamp_min(0)
            self._remember(mean.detach(), variance.detach(), number=world_size() * x.numel() // x.shape[1])
            scale = torch.rsqrt(variance + self.eps) * self.weight
            return (x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, *, number: int) -> None:
        assert (
            self.running_mean is not None
            and self.running_var is not None
            and self.num_batches_tracked is not None
            and self.momentum is not None
        )
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(
            variance * number / max(number - 1, 1), self.momentum
        )  # torch keeps the unbiased variance too


def convolved(before: int, after: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    """A convolution and its normalisation."""
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False), SynchronisedBatchNorm2d(after)
    )


class Bottleneck(nn.Module):
    """Bottleneck block: 1 x 1, 3 x 3 and 1 x 1 convolutions; a shortcut of the same stride is added."""

    def __init__(self, before: int, inner: int, *, stride: int) -> None:
        super().__init__()
        after = GROWTH * inner
        self.stride = stride
        self.first, self.second, self.third = (
            convolved(before, inner, 1),
            convolved(inner, inner, 3),
            convolved(inner, after, 1),
        )
        self.shortcut = convolved(before, after, 1) if before != after or stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """(batch, before, height, width) to (batch, 4 * inner, height / stride, width / stride)."""
        y = F.relu(self.second(F.relu(self.first(x))))
        if self.stride > 1:
            x, y = F.avg_pool2d(x, self.stride), F.avg_pool2d(y, self.stride)
        return F.relu(self.third(y) + (x if self.shortcut is None else self.shortcut(x)))


class MeanQuery(nn.Module):
    """Attention pooling whose query is the mean over positions.

    Keys have no bias: it would add the same number to all scores of a query, which softmax does not see.
    """

    def __init__(self, width: int, *, heads: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.heads, self.grid = heads, grid
        self.positions = nn.Parameter(torch.empty(1, 1 + grid[0] * grid[1], width))
        self.q, self.k, self.v = (
            nn.Linear(width, width),
            nn.Linear(width, width, bias=False),
            nn.Linear(width, width),
        )

    def reset(self, generator: torch.Generator) -> None:
        """Draw the initial weights."""
        width = self.q.in_features
        for weight in (self.positions, self.q.weight, self.k.weight, self.v.weight):
            nn.init.normal_(weight, std=width**-0.5, generator=generator)
        nn.init.zeros_(self.q.bias)
        nn.init.zeros_(self.v.bias)

    def forward(self, tokens: Tensor, *, grid: tuple[int, int]) -> Tensor:
        """(batch, positions, width) of a map of `grid` to (batch, width)."""
        positions = (
            self.positions
            if grid == self.grid
            else resampled_positions(self.positions, own=self.grid, grid=grid)
        )
        x = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1) + positions.to(
            tokens.dtype
        )  # (batch, 1 + positions, width)
        q, k, v = (
            self._by_head(layer(part)) for layer, part in ((self.q, x[:, :1]), (self.k, x), (self.v, x))
        )
        return attend(q, k, v, mask=None).transpose(1, 2).flatten(1)  # (batch, width)

    def _by_head(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        return x.view(batch, length, self.heads, width // self.heads).transpose(
            1, 2
        )  # (batch, heads, length, head_dim)


class ClipResNet(ImageTower):
    """CLIP's convolutional image tower."""

    description = "a clip_resnet tower"
    advice = "set model.image.kind=vit"

    def __init__(self, config: ClipResNetConfig, *, dim: int) -> None:
        super().__init__()
        self.config = config
        stem = config.width // 32
        self.stem = nn.ModuleList(
            [
                convolved(3, stem // 2, 3, stride=2),
                convolved(stem // 2, stem // 2, 3),
                convolved(stem // 2, stem, 3),
            ]
        )
        inner = [stem * 2**stage for stage in range(4)]
        channels = [stem, *(GROWTH * each for each in inner)]
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    Bottleneck(after if block else before, each, stride=2 if stage and not block else 1)
                    for block in range(config.blocks[stage])
                )
            )
            for stage, (each, (before, after)) in enumerate(
                zip(inner, itertools.pairwise(channels), strict=True)
            )
        )
        self.pool = MeanQuery(config.width, heads=config.width // config.head_dim, grid=config.grid)
        self.project = nn.Linear(config.width, dim)

    def reset(self, generator: torch.Generator) -> None:
        """Draw the initial weights (He et al.

        2015, arXiv 1502.01852); each block starts as its shortcut, as in CLIP.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=(2 / module.weight[0].numel()) ** 0.5, generator=generator)
        for module in self.modules():
            if isinstance(module, Bottleneck):
                last: Any = module.third[1]
                nn.init.zeros_(last.weight)
        self.pool.reset(generator)
        nn.init.normal_(self.project.weight, std=self.config.width**-0.5, generator=generator)
        nn.init.zeros_(self.project.bias)

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
            images: (batch, 3, height, width of the image), normalised; sides are multiples of 32. For another
                size than the tower's own, the position embedding of the pooling is interpolated.
            keep: (batch, kept) of other towers; must be None: a convolution has no tokens to drop.
            with_tokens: also return the positions of the last map.
            with_attention: must be False: there is no [CLS] token.
            gates: must be None.

        Returns:
            TowerOutput; tokens are (batch, positions, width) before the pooling, pooled is (batch, width).

        Raises:
            RecipeError: if patches are dropped, or attention or gates are requested.
        """
        assert isinstance(images, Tensor), "only a frozen backbone has cached features"
        self.check_forward(keep=keep, with_attention=with_attention, gates=gates)
        x = images
        for layer in self.stem:
            x = F.relu(layer(x))
        x = F.avg_pool2d(x, 2)
        for stage in self.stages:
            x = stage(x)
        tokens = x.flatten(2).transpose(1, 2)  # (batch, positions, width)
        pooled = self.pool(tokens, grid=(x.shape[2], x.shape[3]))
        return TowerOutput(tokens if with_tokens else None, pooled, self.project(pooled))
