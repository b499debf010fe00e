"""An image tower with descriptors of shape and colour beside it, under a head that is fitted in closed form.

A small tower that is trained from scratch on a few thousand images does not see all that simple descriptors
see, and the other way round: side by side they name more (docs/log.md, "The fit at the end"). The tower is
trained first; then its embedding stands beside the descriptors of `functional.descriptors`, computed from the
same pixels, and counts of typical patches (see `patch_words`), and the head is fitted to all. Nothing here
is trained by gradient afterwards.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from torch import Tensor

from frugalclip.core.config import by_kind, of_kind
from frugalclip.core.numerics import evenly_spaced
from frugalclip.core.types import CachedFeatures, Gates, ImageInput, TowerOutput
from frugalclip.functional import descriptors, unit
from frugalclip.functional.descriptors import DESCRIPTORS, squashed
from frugalclip.towers import patch_words
from frugalclip.towers.base import FitData, ImageTower, ImageTowerConfig
from frugalclip.towers.clip_resnet import ClipResNetConfig
from frugalclip.towers.heads.whitened_parts import WhitenedParts, WhitenedPartsConfig
from frugalclip.towers.heads.whitening import Whitening, WhiteningConfig
from frugalclip.towers.patch_words import PatchWords
from frugalclip.towers.resnet import ResNetConfig
from frugalclip.towers.vit import VitConfig

InnerTower = Annotated[
    Annotated[VitConfig, of_kind("vit")]
    | Annotated[ResNetConfig, of_kind("resnet")]
    | Annotated[ClipResNetConfig, of_kind("clip_resnet")],
    by_kind("vit", "resnet", "clip_resnet"),
]
DescriptorName = Literal[descriptors.DescriptorName, "patches"]
WIDTHS: dict[DescriptorName, int] = {
    **{name: one.width for name, one in DESCRIPTORS.items()},
    "patches": patch_words.WIDTH,
}
FIRST: tuple[DescriptorName, ...] = ("shapes and colours",)  # of models from before there was a choice
Triple = tuple[float, float, float]


class DescribedConfig(ImageTowerConfig):
    """Settings of an image tower with descriptors beside it."""

    kind: Literal["described"]  # without a default, so that it is always written down
    tower: InnerTower = Field(description="the tower that was trained")
    embedding: int = Field(gt=0, description="width of its embedding")
    mean: Triple = Field(description="of the preprocessing, so that pixels are known again")
    std: Triple = Field(description="of the preprocessing")
    descriptors: tuple[DescriptorName, ...] = Field(
        FIRST, min_length=1, description="what stands beside the embedding, in this order"
    )
    head: Annotated[
        Annotated[WhiteningConfig, of_kind("whitening")]
        | Annotated[WhitenedPartsConfig, of_kind("whitened_parts")],
        by_kind("whitening", "whitened_parts"),
    ] = Field(description="the head over both")

    @model_validator(mode="after")
    def _agrees(self) -> "DescribedConfig":
        if isinstance(self.head, WhitenedPartsConfig) and self.head.parts != self.parts:
            raise ValueError(
                f"head.parts are {list(self.head.parts)}, and embedding and descriptors have widths of "
                f"{list(self.parts)}; give these"
            )
        return self

    @model_serializer(mode="wrap")
    def _dump(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the first descriptors, so that older models keep their fingerprints."""
        found, is_first = write(self), self.descriptors == FIRST
        return {name: value for name, value in found.items() if not (is_first and name == "descriptors")}

    @property
    def parts(self) -> tuple[int, ...]:
        """Widths of the embedding and of each descriptor."""
        return (self.embedding, *(WIDTHS[name] for name in self.descriptors))

    @property
    def width(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Width of the embedding and the descriptors together."""
        return sum(self.parts)

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
        self.patches = PatchWords() if "patches" in config.descriptors else None
        self.head: Whitening | WhitenedParts = config.head.build(width=config.width, dim=dim)
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
    def fitted_head(self) -> Whitening | WhitenedParts:
        """The head over the embedding and the descriptors."""
        return self.head

    @torch.no_grad()
    def features(self, images: Tensor, /) -> Tensor:
        """Embedding and the parts of the descriptors side by side, each of length one.

        Args:
            images: pixels (batch, 3, height, width), normalised.

        Returns:
            (batch, embedding + descriptor width) float32.
        """
        with torch.autocast(images.device.type, enabled=False):
            embedding = unit(self.tower(images.float()).embedding.float())
            levels = self._levels(images)
            pixels = squashed(levels)
            described = [self._described(name, pixels, levels) for name in self.config.descriptors]
            return torch.cat([embedding, *described], dim=1)

    def fit_features(self, data: FitData) -> None:
        """Find typical patches of the training images."""
        if self.patches is None:
            return
        rows = evenly_spaced(data.rows, patch_words.MOST_IMAGES)
        small = [patch_words.resized(self._levels(batch.to(self.mean.device))) for batch in data.pixels(rows)]
        self.patches.fit(torch.cat(small))

    def _described(self, name: DescriptorName, pixels: Tensor, levels: Tensor) -> Tensor:
        """(batch, width) unit vectors of one descriptor, of whole pixel values or of levels as they are."""
        if name != "patches":
            return DESCRIPTORS[name].of(pixels)
        assert self.patches is not None
        return self.patches(levels)

    def _levels(self, images: Tensor) -> Tensor:
        """Normalised pixels as levels of 0 to 255."""
        return 255 * (images.float() * self.std + self.mean)

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
