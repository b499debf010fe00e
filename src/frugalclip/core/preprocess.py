"""The preprocessing of an encoder: from a PIL image to normalised pixels."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor

from frugalclip.core.config import Settings
from frugalclip.core.errors import DataError
from frugalclip.core.images import upright_rgb

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
Triple = tuple[float, float, float]


class Preprocess(Settings):
    """How an encoder resizes, crops and normalises images; stored with every checkpoint and every result.

    Source: CLIP's convention: the shorter side is resized to `size` by an antialiased bicubic filter, and the
    centre square is cut out. `crop` is that of ImageNet's convention, 224 of 256, which DINOv2 and others
    follow.
    """

    size: int = Field(ge=1, description="pixels on a side")
    resize: Literal["shorter", "squash"] = Field(
        "shorter", description="shorter: cut out the centre square; squash: resize both sides"
    )
    crop: float = Field(
        1.0,
        gt=0,
        le=1,
        description="size as a share of the resized shorter side; DINOv2: 224 of 256",
    )
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    mean: Triple = CLIP_MEAN
    std: Triple = CLIP_STD

    @model_serializer(mode="wrap")
    def _dump(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `crop` out at its default, so that older models keep their fingerprints."""
        return {name: value for name, value in write(self).items() if name != "crop" or value != 1}

    def __call__(self, images: Image.Image | Sequence[Image.Image]) -> Tensor:
        """Preprocess one image or several.

        Args:
            images: of any mode and size; transparency becomes white.

        Returns:
            (images, 3, size, size) float32, normalised.
        """
        sources = [images] if isinstance(images, Image.Image) else list(images)
        arrays = np.empty((len(sources), self.size, self.size, 3), dtype=np.uint8)
        for i, source in enumerate(sources):
            arrays[i] = np.asarray(self.resized(source))
        return self.normalised(torch.from_numpy(arrays).permute(0, 3, 1, 2))

    def resized(self, image: Image.Image) -> Image.Image:
        """RGB of size x size, before normalisation."""
        if not isinstance(image, Image.Image):
            raise DataError(
                f"expected a PIL image, found {type(image).__name__}; open files with PIL.Image.open."
            )
        image = upright_rgb(image)
        filter_name = (
            Image.Resampling.BICUBIC if self.interpolation == "bicubic" else Image.Resampling.BILINEAR
        )
        box = centre_box(image.size, self.size, crop=self.crop, is_squashed=self.resize == "squash")
        return image.resize((self.size, self.size), filter_name, box=box)

    def normalised(self, pixels: Tensor) -> Tensor:
        """(batch, 3, height, width) uint8 to float32, normalised."""
        mean, std = (
            torch.tensor(values, device=pixels.device)[:, None, None] for values in (self.mean, self.std)
        )
        return (pixels.float() / 255 - mean) / std


def centre_box(
    shape: tuple[int, int], size: int, *, crop: float = 1.0, is_squashed: bool = False
) -> tuple[float, float, float, float]:
    """The box of an image that resizing and cutting out the centre keep.

    Only that part is resampled, so an image of 1 x 60,000 pixels costs no more than a square one.

    Args:
        shape: width and height.
        size: pixels on a side of the result.
        crop: `size` as a share of the pixels that the shorter side is resized to.
        is_squashed: both sides are resized to what the shorter one would be.

    Returns:
        left, top, right, bottom in pixels of the image.
    """
    width, height = shape
    shorter, target = min(width, height), round(size / crop)
    box = []
    for side in (width, height):
        # torchvision rounds the longer side down and the offset to the nearest
        resized = target if is_squashed else target * side // shorter
        offset = round((resized - size) / 2)
        box.append((offset * side / resized, (offset + size) * side / resized))
    (left, right), (top, bottom) = box
    return left, top, min(right, width), min(bottom, height)
