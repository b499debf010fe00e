"""Changes of colour and sharpness for a batch of images, each row by its own amount.

Source: torchvision's ColorJitter and GaussianBlur for the meaning of every setting.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow and torchvision


def change_rows(
    source: Tensor, is_chosen: Tensor, change: Callable[[Tensor, Tensor], Tensor], settings: Tensor
) -> Tensor:
    """Apply `change(rows, settings of these rows)` to the chosen rows in place.

    Args:
        source: (batch, 3, height, width).
        is_chosen: (batch,) bool.
        change: (chosen, 3, height, width) and (chosen, ...) to (chosen, 3, height, width).
        settings: (batch, ...) one row for each of the source.
    """
    chosen = is_chosen.nonzero()[:, 0]
    if len(chosen):
        source.index_copy_(
            0, chosen, change(source.index_select(0, chosen), settings.index_select(0, chosen))
        )
    return source


def gray(source: Tensor) -> Tensor:
    """(batch, 1, height, width) brightness of (batch, 3, height, width)."""
    red, green, blue = source.unbind(1)
    return (red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2]).unsqueeze(1)


def jitter(source: Tensor, settings: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue, in this order.

    Args:
        source: (batch, 3, height, width) in [0, 1].
        settings: (batch, 4) three factors, and the turn of hue as a fraction of the circle.
    """
    brightness, contrast, saturation, turn = settings[:, :, None, None].unbind(1)  # (batch, 1, 1) each
    source = (source * brightness[:, None]).clamp_(0, 1)
    mean = gray(source).mean(dim=(2, 3), keepdim=True)
    source = torch.lerp(mean, source, contrast[:, None]).clamp_(0, 1)
    source = torch.lerp(gray(source), source, saturation[:, None]).clamp_(0, 1)
    return _turn_hue(source, turn) if bool(turn.any()) else source


def _turn_hue(source: Tensor, turn: Tensor) -> Tensor:
    """Rotate hue without building HSV: each channel is value - chroma * a trapezium of the hue angle."""
    red, green, blue = source.unbind(1)  # (batch, height, width) each
    value = source.amax(dim=1)
    chroma = value - source.amin(dim=1)
    is_red, is_green = torch.empty_like(value), torch.empty_like(value)
    # masks as numbers: on the CPU `torch.where` takes 30 times as long as a product
    torch.eq(value, red, out=is_red)
    torch.eq(value, green, out=is_green).mul_(1 - is_red)
    is_blue = 1 - is_red - is_green
    angle = (green - blue).mul_(is_red).addcmul_(blue - red, is_green).addcmul_(red - green, is_blue)
    angle.div_(chroma.clamp_min(1e-8))  # a gray pixel has no hue, and no chroma for it to act on
    angle.add_(is_green, alpha=2).add_(is_blue, alpha=4).add_(6 * turn)
    result = torch.empty_like(source)
    for channel, offset in enumerate((5, 3, 1)):
        sixth = (angle + offset).mul_(1 / 6)
        sixth.sub_(sixth.floor()).mul_(6)
        torch.sub(value, torch.minimum(sixth, 4 - sixth).clamp_(0, 1).mul_(chroma), out=result[:, channel])
    return result


def gaussian_blur(source: Tensor, sigma: Tensor) -> Tensor:
    """Blur each row by its own width. At the border, the weights of the pixels inside are scaled up to 1.

    Args:
        source: (batch, 3, size, size).
        sigma: (batch,) standard deviations in pixels, above 0.
    """
    places = torch.arange(source.shape[-1], device=source.device)
    distance = (places - places[:, None]).float()
    exponent = (distance / sigma[:, None, None]).square_().mul_(-0.5)  # (batch, size, size)
    # the cut keeps denormal numbers out, which are 20 times slower
    weights = exponent.clamp_min_(-15).exp_().sub_(math.exp(-15)).clamp_min_(0)
    weights = (weights / weights.sum(-1, keepdim=True))[:, None]
    return weights @ source @ weights.transpose(-1, -2)
