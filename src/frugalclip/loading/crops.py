"""Crops of a batch of images: random boxes, and the resample of a box to a square."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from frugalclip.loading.view_draws import AREA, LEFT, RATIO, TOP


def crop_boxes(
    sizes: np.ndarray,
    draws: np.ndarray,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> np.ndarray:
    """Random resized crops in original pixels, by torchvision's rule for all rows at once.

    Args:
        sizes: (batch, 2) original height and width.
        draws: (batch, 22 or more) uniform numbers: 10 areas, 10 ratios, top, left.
        scale: smallest and largest area, as a share of the image.
        ratio: smallest and largest width over height.

    Returns:
        (batch, 4) float64 whole numbers: top, left, height, width.
    """
    height, width = np.asarray(sizes, dtype=np.float64).T  # (batch,) each
    (low, high), (narrow, wide) = scale, ratio
    area = (height * width)[:, None] * (low + (high - low) * draws[:, AREA])  # (batch, tries)
    shape = np.exp(math.log(narrow) + (math.log(wide) - math.log(narrow)) * draws[:, RATIO])
    widths, heights = np.rint(np.sqrt(area * shape)), np.rint(np.sqrt(area / shape))
    fits = (widths > 0) & (widths <= width[:, None]) & (heights > 0) & (heights <= height[:, None])
    every, first = np.arange(len(fits)), fits.argmax(axis=1)
    is_random = fits[every, first]
    own = width / height
    centre_width = np.where(own > wide, np.rint(height * wide), width)
    centre_height = np.where(own < narrow, np.rint(width / narrow), height)
    w = np.where(is_random, widths[every, first], centre_width)
    h = np.where(is_random, heights[every, first], centre_height)
    top = np.where(is_random, np.floor(draws[:, TOP] * (height - h + 1)), (height - h) // 2)
    left = np.where(is_random, np.floor(draws[:, LEFT] * (width - w + 1)), (width - w) // 2)
    return np.stack([top, left, h, w], axis=1)


def boxes_around(inner: Sequence[np.ndarray], sizes: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Random crops that hold other crops of the same images.

    Each edge lies anywhere between theirs and the image's. Source: the intent of A-CLIP, arXiv 2212.08653,
    section 3.2. The box of the released code misses part of a view in seven of ten draws.

    Args:
        inner: (batch, 4) boxes each: top, left, height, width.
        sizes: (batch, 2) original height and width.
        draws: (batch, 4) uniform numbers: top, left, bottom, right.

    Returns:
        (batch, 4) float64 whole numbers: top, left, height, width.
    """
    first = np.minimum.reduce([box[:, :2] for box in inner])  # (batch, 2)
    last = np.maximum.reduce([box[:, :2] + box[:, 2:] for box in inner])
    start = np.floor(draws[:, :2] * (first + 1))
    end = last + np.floor(draws[:, 2:4] * (np.asarray(sizes) - last + 1))
    return np.concatenate([start, end - start], axis=1)


def resample(
    pixels: Tensor, sizes: np.ndarray, boxes: np.ndarray, *, size: int, filter_name: str, is_flipped: Tensor
) -> Tensor:
    """Cut a box out of each squashed image and resample it to a square.

    The filter is separable and the boxes are upright, so a crop, its resample and its mirror image are two
    matrix products. A bilinear `grid_sample` needs half the time, but it aliases when the image shrinks, and
    it has no bicubic filter. This is Pillow's resize at any reduction.

    Args:
        pixels: (batch, 3, side, side) uint8.
        sizes: (batch, 2) original height and width.
        boxes: (batch, 4) top, left, height, width in original pixels.
        size: pixels on a side of the result.
        filter_name: bilinear or bicubic.
        is_flipped: (batch,) bool, whose left and right are swapped.

    Returns:
        (batch, 3, size, size) float32 in [0, 1].
    """
    side = pixels.shape[-1]
    spans = np.stack([boxes[:, :2] / sizes, boxes[:, 2:] / sizes], axis=2) * side
    # (batch, axes, (start, length)) in squashed pixels
    where = torch.from_numpy(spans).to(pixels.device, torch.float32)
    mirrored = torch.stack([where[:, 1, 0] + where[:, 1, 1], -where[:, 1, 1]], dim=1)  # from its right edge
    horizontal = torch.where(is_flipped[:, None], mirrored, where[:, 1])
    down = _filter_matrix(where[:, 0], side=side, size=size, filter_name=filter_name)  # (batch, size, side)
    across = _filter_matrix(horizontal, side=side, size=size, filter_name=filter_name)
    batch = len(pixels)
    wide = torch.bmm(pixels.reshape(batch, 3 * side, side).float(), across.transpose(1, 2)).view(
        batch, 3, side, size
    )
    return torch.matmul(down[:, None], wide).div_(255).clamp_(0, 1)  # bicubic overshoots


def _filter_matrix(spans: Tensor, *, side: int, size: int, filter_name: str) -> Tensor:
    """Weights of the stored pixels in each pixel of the result.

    Args:
        spans: (batch, 2) start and length of the crop along one axis, in stored pixels; a negative length is
            backwards.
        side: stored pixels.
        size: pixels of the result.
        filter_name: bilinear (a triangle) or bicubic (Keys with a = -0.5, as Pillow).

    Returns:
        (batch, size, side), rows that sum to 1.
    """
    device = spans.device
    start, step = spans[:, :1], spans[:, 1:] / size  # (batch, 1)
    centres = start + (torch.arange(size, device=device) + 0.5) * step  # (batch, size)
    stretch = step.abs().clamp_min(1)[:, :, None]  # the filter widens when the picture shrinks
    places = torch.arange(side, device=device) + 0.5
    distance = ((places - centres[:, :, None]) / stretch).abs_()  # (batch, size, side)
    weights = _triangle(distance) if filter_name == "bilinear" else _keys(distance)
    return weights / weights.sum(-1, keepdim=True)


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance).clamp_min_(0)


def _keys(distance: Tensor) -> Tensor:
    inner, outer = distance.clamp(max=1), distance.clamp(1, 2)  # each is 0 at the other end of its range
    near = inner.mul(1.5).sub_(2.5).mul_(inner).mul_(inner).add_(1)
    far = outer.mul(-0.5).add_(2.5).mul_(outer).sub_(4).mul_(outer).add_(2)
    return near.add_(far)
