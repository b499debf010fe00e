"""An image tower with descriptors of shape and colour beside it, under a head that is fitted in closed form.

A small tower that is trained from scratch on a few thousand images does not see all that simple descriptors
see, and the other way round: side by side they name more (docs/log.md, "The fit at the end"). The tower is
trained first; then its embedding stands beside the descriptors of `functional.descriptors`, computed from the
same pixels, and the head is fitted to both. Nothing here is trained by gradient afterwards.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from frugalclip.core.config import by_kind, of_kind
from frugalclip.core.types import CachedFeatures, Gates, ImageInput, TowerOutput
from frugalclip.functional import unit
from frugalclip.functional.descriptors import SIDE, WIDTH, describe
from frugalclip.towers.base import ImageTower, ImageTowerConfig
from frugalclip.towers.clip_resnet import ClipResNetConfig
from frugalclip.towers.heads.whitening import Whitening, WhiteningConfig
from frugalclip.towers.resnet import ResNetConfig
from frugalclip.towers.vit import VitConfig

InnerTower = Annotated[
    Annotated[VitConfig, of_kind("vit")]
    | Annotated[ResNetConfig, of_kind("resnet")]
    | Annotated[ClipResNetConfig, of_kind("clip_resnet")],
    by_kind("vit", "resnet", "clip_resnet"),
]
Triple = tuple[float, float, float]


class DescribedConfig(ImageTowerConfig):
    """Settings of an image tower with descriptors beside it."""

    kind: Literal["described"]  # without a default, so that it is always written down
    tower: InnerTower = Field(description="the tower that was trained")
    embedding: int = Field(gt=0, description="width of its embedding")
    mean: Triple = Field(description="of the preprocessing, so that pixels are known again")
    std: Triple = Field(description="of the preprocessing")
    head: WhiteningConfig = Field(description="the head over both")

    @property
    def width(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Width of the embedding and the descriptors together."""
        return self.embedding + WIDTH

    @property
    def resolution(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Side of the image in pixels."""
        return self.tower.resolution

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the token outputs."""
        return self.tower.grid

    @property
    def tokens(self) -> int:
        """Length of the token outputs of a whole image."""
        return self.tower.tokens

    def forward_gflops(self, *, tokens: int) -> float:
        """Forward arithmetic for one image, in 10^9 operations; the descriptors' is little and left out."""
        return self.tower.forward_gflops(tokens=tokens)

    def kept_numbers(self, *, tokens: int) -> float:
        """Numbers that the backward pass keeps for one image: nothing is trained."""
        return 0.0

    def build(self, *, dim: int) -> "DescribedTower":
        """The tower, with weights that are not drawn yet."""
        return DescribedTower(self, dim=dim)


class DescribedTower(ImageTower):
    """Image tower with descriptors beside it."""

    description = "a tower with descriptors beside it"
    advice = "give model.image another kind, or let the objective count in an earlier stage"
    has_steps = True  # descriptors are of whole pixel values
    mean: Tensor
    std: Tensor

    def __init__(self, config: DescribedConfig, *, dim: int) -> None:
        super().__init__()
        self.config = config
        self.tower: ImageTower = config.tower.build(dim=config.embedding)
        self.tower.requires_grad_(False)
        self.head: Whitening = config.head.build(width=config.width, dim=dim)
        for name, values in (("mean", config.mean), ("std", config.std)):
            self.register_buffer(name, _channels(values), persistent=False)

    def reset(self, generator: torch.Generator) -> None:
        """Draw the weights of the inner tower."""
        self.tower.reset(generator)

    def train(self, mode: bool = True) -> "DescribedTower":
        """The inner tower is never in training mode."""
        super().train(mode)
        self.tower.eval()
        return self

    @property
    def fitted_head(self) -> Whitening:
        """The head over the embedding and the descriptors."""
        return self.head

    @torch.no_grad()
    def features(self, images: Tensor, /) -> Tensor:
        """Embedding and descriptors side by side, each of length one.

        Args:
            images: pixels (batch, 3, height, width), normalised.

        Returns:
            (batch, embedding + descriptor width) float32.
        """
        with torch.autocast(images.device.type, enabled=False):
            embedding = unit(self.tower(images.float()).embedding.float())
            pixels = 255 * (images.float() * self.std + self.mean)
            size = (SIDE, SIDE)
            squashed = F.interpolate(pixels, size=size, mode="bilinear", antialias=True, align_corners=False)
            return torch.cat([embedding, describe(squashed.round().clamp(0, 255).to(torch.uint8))], dim=1)

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
            images: pixels (batch, 3, height, width), normalised, or features from before.
            keep: (batch, kept) patches; must be None.
            with_tokens: must be False.
            with_attention: must be False.
            gates: must be None.

        Returns:
            TowerOutput; pooled is the embedding of the inner tower beside the descriptors.

        Raises:
            RecipeError: if something else is requested.
        """
        self.check_forward(keep=keep, with_attention=with_attention, gates=gates)
        self.check(["token_outputs"] if with_tokens else [])
        features = images.values if isinstance(images, CachedFeatures) else self.features(images)
        return TowerOutput(None, features, self.head(features))


def _channels(values: Sequence[float]) -> Tensor:
    return torch.tensor(values)[:, None, None]  # (3, 1, 1)
