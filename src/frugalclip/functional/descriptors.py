"""Descriptors of images without any learning: shapes and colours.

Histograms of oriented gradients (Dalal & Triggs, CVPR 2005: cells of 8 x 8 pixels, nine unsigned
orientations, the channel with the steepest gradient, blocks of 2 x 2 cells with clipped L2 norm; votes are
interpolated between orientations, not between cells) beside a joint colour histogram of 4 x 4 x 4 bins,
compared by its roots (the Hellinger kernel). Each half has length one, and so has the whole.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from frugalclip.functional.losses import unit

SIDE = 64  # pixels on a side of the images that are described
CELL = 8
ORIENTATIONS = 9
LEVELS = 4  # of each colour
CLIP = 0.2
COARSE_CELL = 16
GRID = 8  # places on a side of a colour layout


def gradient_histograms(pixels: Tensor, *, cell: int = CELL) -> Tensor:
    """Histograms of oriented gradients.

    Args:
        pixels: (images, 3, side, side) of 0 to 255, side a multiple of the cell.
        cell: pixels on a side of a cell.

    Returns:
        (images, blocks * 36) float32.
    """
    x = pixels.float().sqrt()  # gamma: equal steps for dark and light pixels
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    across, down = (
        padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2],
        padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1],
    )
    strength, channel = (
        (across.square() + down.square()).sqrt().max(dim=1, keepdim=True)
    )  # (images, 1, side, side)
    angle = (
        torch.atan2(down.gather(1, channel), across.gather(1, channel)) % math.pi
    )  # without direction: 0 to pi
    place = angle / math.pi * ORIENTATIONS
    votes = []
    for orientation in range(ORIENTATIONS):
        apart = (place - orientation - 0.5).abs()
        weight = (1 - torch.minimum(apart, ORIENTATIONS - apart)).clamp(min=0)  # the circle closes
        votes.append(F.avg_pool2d(weight * strength, cell))
    cells = torch.cat(votes, dim=1)  # (images, orientations, rows, columns)
    blocks = F.unfold(cells, kernel_size=2).transpose(1, 2)  # (images, blocks, 4 * orientations)
    return _normalised(_normalised(blocks).clamp(max=CLIP)).flatten(1)


def _normalised(blocks: Tensor) -> Tensor:
    return blocks / (blocks.square().sum(-1, keepdim=True) + 1e-4).sqrt()  # an empty block stays empty


def colour_histograms(pixels: Tensor) -> Tensor:
    """Roots of the shares of 64 colours.

    Args:
        pixels: (images, 3, side, side) uint8.

    Returns:
        (images, 64) unit vectors.
    """
    levels = pixels.long() * LEVELS // 256
    bins = (levels[:, 0] * LEVELS + levels[:, 1]) * LEVELS + levels[:, 2]  # (images, side, side)
    ones = torch.ones(bins.flatten(1).shape, device=pixels.device)
    counts = torch.zeros(pixels.shape[0], LEVELS**3, device=pixels.device)
    return (counts.scatter_add_(1, bins.flatten(1), ones) / bins[:1].flatten(1).shape[1]).sqrt()


def colour_layout(pixels: Tensor) -> Tensor:
    """Mean colours on a grid of 8 x 8 places, as thumbnails have them.

    Args:
        pixels: (images, 3, side, side) of 0 to 255.

    Returns:
        (images, 192) float32 in [0, 1].
    """
    return F.adaptive_avg_pool2d(pixels.float() / 255, GRID).flatten(1)


def describe(pixels: Tensor) -> Tensor:
    """Shape and colour together.

    Args:
        pixels: (images, 3, side, side) uint8.

    Returns:
        (images, width) unit vectors: their dot product is the mean of the two halves' cosines.
    """
    return unit(torch.cat([unit(gradient_histograms(pixels)), unit(colour_histograms(pixels))], dim=1))


def squashed(levels: Tensor) -> Tensor:
    """Whole pixel values of the size that is described.

    Args:
        levels: (images, 3, height, width) of about 0 to 255.

    Returns:
        (images, 3, 64, 64) uint8.
    """
    size = (SIDE, SIDE)
    small = F.interpolate(levels, size=size, mode="bilinear", antialias=True, align_corners=False)
    return small.round().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class Descriptor:
    """A kind of descriptor."""

    of: Callable[[Tensor], Tensor]  # (images, 3, side, side) uint8 to (images, width) unit vectors
    width: int


def _shapes_width(cell: int) -> int:
    return (SIDE // cell - 1) ** 2 * 4 * ORIENTATIONS


DescriptorName = Literal["shapes and colours", "shapes", "coarse shapes", "colours", "layout"]
DESCRIPTORS: dict[DescriptorName, Descriptor] = {
    "shapes": Descriptor(lambda pixels: unit(gradient_histograms(pixels)), _shapes_width(CELL)),
    "coarse shapes": Descriptor(
        lambda pixels: unit(gradient_histograms(pixels, cell=COARSE_CELL)), _shapes_width(COARSE_CELL)
    ),
    "colours": Descriptor(lambda pixels: unit(colour_histograms(pixels)), LEVELS**3),
    "layout": Descriptor(lambda pixels: unit(colour_layout(pixels)), 3 * GRID**2),
    "shapes and colours": Descriptor(describe, _shapes_width(CELL) + LEVELS**3),
}
