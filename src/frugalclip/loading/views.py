"""Batched augmentation of decoded pictures, and the one preprocessing that evaluation uses.

A view is a crop, a resample and colour operations whose parameters are a function of (seed, view, row, epoch) alone: neither batch mates,
processes nor workers change what a row looks like. Everything is computed for many rows at once, in float32.

Source: torchvision's RandomResizedCrop, ColorJitter, GaussianBlur and RandomSolarize for the meaning of every setting (jitter in the order
brightness, contrast, saturation, hue); presets from the papers and codes named beside them.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator
from torch import Tensor

from frugalclip.core.config import Settings
from frugalclip.core.errors import DataError, known_names
from frugalclip.core.random import uniform
from frugalclip.data.images import upright_rgb

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # OpenAI CLIP
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Triple = tuple[float, float, float]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow and torchvision
_TRIES = 10  # torchvision's number of attempts before the centre crop
_AREA, _RATIO = (
    slice(0, _TRIES),
    slice(_TRIES, 2 * _TRIES),
)  # which draws of a row decide what; adding an option must not move the others
_TOP, _LEFT, _FLIP, _JITTERED, _FACTORS, _GRAY, _BLURRED, _SIGMA, _SOLARIZED, _DRAWS = (
    20,
    21,
    22,
    23,
    slice(24, 28),
    28,
    29,
    30,
    31,
    32,
)
_AROUND = slice(0, 4)  # a view around others draws no crop of its own
_CHUNK = 2**18  # numbers of one intermediate picture stack on the CPU: it stays in the second-level cache

_PRESETS: dict[str, dict[str, Any]] = {
    "none": {"crop_scale": (1, 1), "crop_ratio": (1, 1)},  # the centre square, as `Preprocess` cuts it
    "clip": {"crop_scale": (0.5, 1)},  # SLIP's CLIP run (main.py): crop .5-1, no flip, no colour; our default for small data
    "openclip": {"crop_scale": (0.9, 1), "interpolation": "bicubic"},  # open_clip transform.py
    "slip": {  # SLIP main.py, the two self-supervised views (not its CLIP view, which is `clip`)
        "crop_scale": (0.08, 1), "flip": 0.5, "jitter": (0.4, 0.4, 0.4, 0.1), "jitter_probability": 0.8, "grayscale": 0.2, "blur": 0.5,
    },
    "simclr": {  # arXiv 2002.05709, appendix A, colour strength 1
        "crop_scale": (0.08, 1), "flip": 0.5, "jitter": (0.8, 0.8, 0.8, 0.2), "jitter_probability": 0.8, "grayscale": 0.2, "blur": 0.5,
    },
    "moco": {  # MoCo v2, and both views of DeCLIP (imagenet_dataloader.py, MOCOV2)
        "crop_scale": (0.2, 1), "flip": 0.5, "jitter": (0.4, 0.4, 0.4, 0.1), "jitter_probability": 0.8, "grayscale": 0.2, "blur": 0.5,
    },
    "protoclip": {  # ProtoCLIP open_clip/transform.py, protoclip-light-augmentation; its blur has SimCLR's range
        "crop_scale": (0.5, 1), "interpolation": "bicubic", "flip": 0.5, "jitter": (0.8, 0.8, 0.8, 0.2), "jitter_probability": 0.2,
        "grayscale": 0.2, "blur": 0.2,
    },
    "aclip": {  # A-CLIP main.py, the online views: no flip, since scores of another crop are mapped onto them
        "crop_scale": (0.5, 1), "jitter": (0.4, 0.4, 0.2, 0.1), "jitter_probability": 0.8, "grayscale": 0.2, "blur": 0.1, "solarize": 0.2,
    },
}  # fmt: skip


class ViewConfig(Settings):
    """How one view of a picture is made. A recipe gives a preset's name, or a mapping such as `{preset: clip, flip: 0.5}`."""

    crop_scale: tuple[float, float] = Field(
        (1, 1), description="area of the crop as a fraction of the picture, smallest and largest"
    )
    crop_ratio: tuple[float, float] = Field(
        (3 / 4, 4 / 3), description="width over height of the crop, smallest and largest"
    )
    contains: tuple[str, ...] = Field(
        (),
        description="other views: the crop is a random one that holds all of theirs, and crop_scale is not used",
    )
    interpolation: Literal["bilinear", "bicubic"] = Field(
        "bilinear", description="filter of the resample; both are antialiased"
    )
    size: int | None = Field(
        None, ge=1, description="pixels on a side when this view differs from the recipe's image size"
    )
    flip: float = Field(0, ge=0, le=1, description="probability of mirroring left and right")
    jitter: tuple[float, float, float, float] = Field(
        (0, 0, 0, 0), description="strength of brightness, contrast, saturation, hue"
    )
    jitter_probability: float = Field(
        1, ge=0, le=1, description="probability that a picture is jittered at all"
    )
    grayscale: float = Field(0, ge=0, le=1, description="probability of losing colour")
    blur: float = Field(0, ge=0, le=1, description="probability of a Gaussian blur")
    blur_sigma: tuple[float, float] = Field(
        (0.1, 2),
        description="its standard deviation, in pixels of a view of 224; scaled with the view's size",
    )
    solarize: float = Field(
        0, ge=0, le=1, description="probability of inverting what is brighter than one half"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"preset": value}
        if not isinstance(value, Mapping) or "preset" not in value:
            return value
        name = str(value["preset"])
        if name not in _PRESETS:
            raise ValueError(f"'{name}' is not a view; {known_names(name, _PRESETS)}")
        return {**_PRESETS[name], **{key: setting for key, setting in value.items() if key != "preset"}}

    @field_validator("crop_scale", "crop_ratio", "blur_sigma")
    @classmethod
    def _is_range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError("expected [smallest, largest], both above 0")
        return value

    @field_validator("crop_scale")
    @classmethod
    def _is_fraction(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[1] > 1:
            raise ValueError("expected at most 1, the whole picture")
        return value

    @field_validator("jitter")
    @classmethod
    def _is_strength(cls, value: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        if min(value) < 0 or value[3] > 0.5:
            raise ValueError(
                "expected [brightness, contrast, saturation, hue], none below 0 and hue at most 0.5"
            )
        return value


PRESETS: dict[str, ViewConfig] = {
    name: ViewConfig.model_validate(settings) for name, settings in _PRESETS.items()
}


def source_size(views: Iterable[ViewConfig], *, size: int) -> int:
    """Pixels on a side at which pictures are worth keeping for these views.

    A crop of the smallest area should still have one stored pixel for each of its own; one and a half times the view's size is the limit,
    since memory and time grow with the square and the smallest crops are rare. A large source costs no quality: the resample is antialiased.
    """
    sides = [(view.size or size) * min(1.5, 1 / math.sqrt(view.crop_scale[0])) for view in views]
    return math.ceil(max(sides, default=size))


def crop_boxes(sizes: np.ndarray, config: ViewConfig, draws: np.ndarray) -> np.ndarray:
    """Random resized crops in original pixels, by torchvision's rule for all rows at once.

    Args:
        sizes: (batch, 2) original height and width.
        config: scale and ratio.
        draws: (batch, 22 or more) uniform numbers: 10 areas, 10 ratios, top, left.

    Returns:
        (batch, 4) float64 whole numbers: top, left, height, width.
    """
    height, width = np.asarray(sizes, dtype=np.float64).T  # (batch,) each
    (low, high), (narrow, wide) = config.crop_scale, config.crop_ratio
    area = (height * width)[:, None] * (low + (high - low) * draws[:, _AREA])  # (batch, tries)
    ratio = np.exp(math.log(narrow) + (math.log(wide) - math.log(narrow)) * draws[:, _RATIO])
    widths, heights = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (widths > 0) & (widths <= width[:, None]) & (heights > 0) & (heights <= height[:, None])
    every, first = np.arange(len(fits)), fits.argmax(axis=1)
    is_random = fits[every, first]
    own = width / height
    centre_width = np.where(own > wide, np.rint(height * wide), width)
    centre_height = np.where(own < narrow, np.rint(width / narrow), height)
    w = np.where(is_random, widths[every, first], centre_width)
    h = np.where(is_random, heights[every, first], centre_height)
    top = np.where(is_random, np.floor(draws[:, _TOP] * (height - h + 1)), (height - h) // 2)
    left = np.where(is_random, np.floor(draws[:, _LEFT] * (width - w + 1)), (width - w) // 2)
    return np.stack([top, left, h, w], axis=1)


def boxes_around(inner: Sequence[np.ndarray], sizes: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Random crops that hold other crops of the same pictures, each edge anywhere between theirs and the picture's.

    Source: the intent of A-CLIP, arXiv 2212.08653, section 3.2; the box of the released code misses part of a view in seven of ten draws.

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


def view_order(views: Mapping[str, ViewConfig]) -> list[str]:
    """Names of views, those that hold others last.

    Raises:
        DataError: where a view holds one that is not there, or one that holds others itself.
    """
    for name, config in views.items():
        for inner in config.contains:
            if inner not in views or views[inner].contains:
                known = known_names(
                    inner, [other for other in views if other != name and not views[other].contains]
                )
                raise DataError(
                    f"views.{name}.contains names '{inner}', expected a view with a crop of its own; {known}"
                )
    return sorted(views, key=lambda name: (bool(views[name].contains), list(views).index(name)))


class ImageView(NamedTuple):
    """One view of a batch."""

    images: Tensor  # (batch, 3, size, size) float32, normalised
    boxes: Tensor  # (batch, 4) float32 crops: top, left, height, width in original pixels
    mirrored: Tensor  # (batch,) bool, where left and right are swapped


def make_view(
    pixels: Tensor,
    sizes: Tensor | np.ndarray,
    config: ViewConfig,
    *,
    size: int,
    rows: Tensor | np.ndarray,
    epoch: int | np.ndarray,
    seed: int,
    name: str,
    inner: Sequence[Tensor] = (),
    mean: Sequence[float] = CLIP_MEAN,
    std: Sequence[float] = CLIP_STD,
) -> ImageView:
    """One augmented view of a batch.

    Args:
        pixels: (batch, 3, side, side) uint8, each picture squashed to a square; the result is computed on its device.
        sizes: (batch, 2) original height and width.
        config: what to do.
        size: pixels on a side of the result, unless `config.size` says otherwise.
        rows: (batch,) rows of the data set: with `epoch`, `seed` and `name` they decide every random choice.
        epoch: passes over the data so far, one number or (batch,).
        seed: of the run.
        name: of the view; another name gives independent choices.
        inner: (batch, 4) boxes of the views that this one holds.
        mean: of the normalisation, in [0, 1].
        std: of the normalisation.
    """
    size = config.size or size
    originals = np.asarray(sizes)
    counters = np.stack(
        [np.asarray(rows, dtype=np.int64), np.full(len(pixels), epoch, dtype=np.int64)], axis=1
    )
    draws = uniform(seed, f"view/{name}", counters, _DRAWS)
    if inner:
        boxes = boxes_around([box.double().cpu().numpy() for box in inner], originals, draws[:, _AROUND])
    else:
        boxes = crop_boxes(originals, config, draws)
    images = torch.empty(len(pixels), 3, size, size, device=pixels.device)
    centre = torch.tensor(mean, device=pixels.device)[:, None, None]
    spread = torch.tensor(std, device=pixels.device)[:, None, None]
    step = max(1, len(pixels) if pixels.is_cuda else _CHUNK // (3 * max(size, pixels.shape[-1]) ** 2))
    for start in range(0, len(pixels), step):
        part = slice(start, start + step)
        chosen = torch.from_numpy(draws[part]).to(pixels.device, torch.float32)
        is_flipped = chosen[:, _FLIP] < config.flip
        source = _resample(
            pixels[part],
            originals[part],
            boxes[part],
            size=size,
            filter_name=config.interpolation,
            is_flipped=is_flipped,
        )
        images[part] = (_recolour(source, config, chosen) - centre) / spread
    is_flipped = torch.from_numpy(draws[:, _FLIP] < config.flip).to(pixels.device)
    return ImageView(images, torch.from_numpy(boxes).to(pixels.device, torch.float32), is_flipped)


def _resample(
    pixels: Tensor, sizes: np.ndarray, boxes: np.ndarray, *, size: int, filter_name: str, is_flipped: Tensor
) -> Tensor:
    """Cut a box out of each squashed picture and resample it to a square, in [0, 1].

    The filter is separable and the boxes are upright, so a crop, its resample and its mirror image are two matrix products. A bilinear
    `grid_sample` needs half the time, but it aliases when the picture shrinks and knows no bicubic; this is Pillow's resize at any reduction.
    """
    side = pixels.shape[-1]
    spans = (
        np.stack([boxes[:, :2] / sizes, boxes[:, 2:] / sizes], axis=2) * side
    )  # (batch, axes, (start, length)) in squashed pixels
    where = torch.from_numpy(spans).to(pixels.device, torch.float32)
    mirrored = torch.stack(
        [where[:, 1, 0] + where[:, 1, 1], -where[:, 1, 1]], dim=1
    )  # walk the crop from its right edge
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
        spans: (batch, 2) start and length of the crop along one axis, in stored pixels; a negative length walks backwards.
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
    distance = (
        (torch.arange(side, device=device) + 0.5 - centres[:, :, None]) / stretch
    ).abs_()  # (batch, size, side)
    weights = _triangle(distance) if filter_name == "bilinear" else _keys(distance)
    return weights / weights.sum(-1, keepdim=True)


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance).clamp_min_(0)


def _keys(distance: Tensor) -> Tensor:
    inner, outer = (
        distance.clamp(max=1),
        distance.clamp(1, 2),
    )  # each piece is 0 at the other end of its range
    near = inner.mul(1.5).sub_(2.5).mul_(inner).mul_(inner).add_(1)
    far = outer.mul(-0.5).add_(2.5).mul_(outer).sub_(4).mul_(outer).add_(2)
    return near.add_(far)


def _recolour(source: Tensor, config: ViewConfig, draws: Tensor) -> Tensor:
    """Jitter, grayscale, blur and solarize, each on the rows that drew it."""
    if max(config.jitter) > 0:
        low = 1 - torch.tensor(config.jitter[:3], device=source.device)
        high = 1 + torch.tensor(config.jitter[:3], device=source.device)
        factors = low.clamp_min(0) + (high - low.clamp_min(0)) * draws[:, _FACTORS][:, :3]  # (batch, 3)
        turn = (2 * draws[:, _FACTORS][:, 3:] - 1) * config.jitter[3]
        settings = torch.cat([factors, turn], dim=1)
        source = _on_rows(source, draws[:, _JITTERED] < config.jitter_probability, _jitter, settings)
    if config.grayscale > 0:
        source = _on_rows(
            source, draws[:, _GRAY] < config.grayscale, lambda rows, _: _gray(rows).expand_as(rows), draws
        )
    if config.blur > 0:
        smallest, largest = config.blur_sigma
        sigma = (smallest + (largest - smallest) * draws[:, _SIGMA]) * source.shape[-1] / 224
        source = _on_rows(source, draws[:, _BLURRED] < config.blur, gaussian_blur, sigma)
    if config.solarize > 0:
        source = _on_rows(
            source,
            draws[:, _SOLARIZED] < config.solarize,
            lambda rows, _: torch.minimum(rows, 1 - rows),
            draws,
        )
    return source


def _on_rows(
    source: Tensor, is_chosen: Tensor, change: Callable[[Tensor, Tensor], Tensor], settings: Tensor
) -> Tensor:
    """Apply `change(rows, settings of these rows)` to the chosen rows in place."""
    chosen = is_chosen.nonzero()[:, 0]
    if len(chosen):
        source.index_copy_(
            0, chosen, change(source.index_select(0, chosen), settings.index_select(0, chosen))
        )
    return source


def _gray(source: Tensor) -> Tensor:
    """(batch, 1, height, width) brightness."""
    red, green, blue = source.unbind(1)
    return (red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2]).unsqueeze(1)


def _jitter(source: Tensor, settings: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue, in this order.

    Args:
        picture: (batch, 3, height, width) in [0, 1].
        settings: (batch, 4) three factors, and the turn of hue as a fraction of the circle.
    """
    brightness, contrast, saturation, turn = settings[:, :, None, None].unbind(1)  # (batch, 1, 1) each
    source = (source * brightness[:, None]).clamp_(0, 1)
    mean = _gray(source).mean(dim=(2, 3), keepdim=True)
    source = torch.lerp(mean, source, contrast[:, None]).clamp_(0, 1)
    source = torch.lerp(_gray(source), source, saturation[:, None]).clamp_(0, 1)
    return _turn_hue(source, turn) if bool(turn.any()) else source


def _turn_hue(source: Tensor, turn: Tensor) -> Tensor:
    """Rotate hue in HSV without building HSV: each channel is value - chroma * a trapezium of the hue angle."""
    red, green, blue = source.unbind(1)  # (batch, height, width) each
    value = source.amax(dim=1)
    chroma = value - source.amin(dim=1)
    is_red, is_green = torch.empty_like(value), torch.empty_like(value)
    torch.eq(
        value, red, out=is_red
    )  # masks as numbers: `torch.where` takes 30 times as long as a product on the CPU
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
    """Blur each row by its own width; at the border the weights of the pixels inside are scaled up to 1.

    Args:
        picture: (batch, 3, size, size).
        sigma: (batch,) standard deviations in pixels, above 0.
    """
    places = torch.arange(source.shape[-1], device=source.device)
    distance = (places - places[:, None]).float()
    exponent = (distance / sigma[:, None, None]).square_().mul_(-0.5)  # (batch, size, size)
    weights = (
        exponent.clamp_min_(-15).exp_().sub_(math.exp(-15)).clamp_min_(0)
    )  # the cut keeps denormal numbers out: they are 20 times slower
    weights = (weights / weights.sum(-1, keepdim=True))[:, None]
    return weights @ source @ weights.transpose(-1, -2)


class Preprocess(Settings):
    """Pictures as evaluation and inference see them; stored with every checkpoint and every number.

    Source: CLIP's convention: bicubic with antialias so that the shorter side is `size`, then the centre square. `crop` is that of ImageNet's
    convention, 224 of 256, which DINOv2 and others keep.
    """

    size: int = Field(ge=1, description="pixels on a side")
    resize: Literal["shorter", "squash"] = Field(
        "shorter", description="shorter: keep the shape and cut the centre square; squash: keep all"
    )
    crop: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the resized side that is kept around the centre; DINOv2: 224 of 256",
    )
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    mean: Triple = CLIP_MEAN
    std: Triple = CLIP_STD

    @model_serializer(mode="wrap")
    def _dump(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a crop that keeps all: models from before there was one keep their fingerprints."""
        return {name: value for name, value in write(self).items() if name != "crop" or value != 1}

    def __call__(self, images: Image.Image | Sequence[Image.Image]) -> Tensor:
        """One picture or several.

        Args:
            images: of any mode and size; transparency becomes white.

        Returns:
            (pictures, 3, size, size) float32, normalised.
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
        """(batch, 3, height, width) uint8 to float32 with the mean and standard deviation of this preprocessing."""
        mean, std = (
            torch.tensor(values, device=pixels.device)[:, None, None] for values in (self.mean, self.std)
        )
        return (pixels.float() / 255 - mean) / std


def centre_box(
    shape: tuple[int, int], size: int, *, crop: float = 1.0, is_squashed: bool = False
) -> tuple[float, float, float, float]:
    """The part of a picture that resizing it and cutting out its centre would keep.

    Only that part is resampled, so a picture of 1 x 60,000 pixels costs no more than a square one.

    Args:
        shape: width and height.
        size: pixels on a side of the result.
        crop: `size` as a share of the pixels that the shorter side is resized to.
        is_squashed: both sides are resized to what the shorter one would be.

    Returns:
        left, top, right, bottom in the picture's own pixels.
    """
    width, height = shape
    shorter, target = min(width, height), round(size / crop)
    box = []
    for side in (width, height):
        resized = (
            target if is_squashed else target * side // shorter
        )  # torchvision rounds the longer side down and the offset to the nearest
        offset = round((resized - size) / 2)
        box.append((offset * side / resized, (offset + size) * side / resized))
    (left, right), (top, bottom) = box
    return left, top, min(right, width), min(bottom, height)
