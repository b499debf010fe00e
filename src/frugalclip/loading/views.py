"""Batched augmentation of decoded images.

A view is a crop, a resample and changes of colour. Their parameters are a function of (seed, view, row,
epoch) alone: neither batch mates, processes nor workers change a row's view. Many rows are computed at once,
in float32.

Source: torchvision's RandomResizedCrop, ColorJitter, GaussianBlur and RandomSolarize for the meaning of every
setting (jitter in the order brightness, contrast, saturation, hue); presets from the papers and codes named
beside them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from frugalclip.core.config import Settings
from frugalclip.core.errors import DataError, known_names
from frugalclip.core.preprocess import CLIP_MEAN, CLIP_STD
from frugalclip.core.random import uniform
from frugalclip.loading.colours import change_rows, gaussian_blur, gray, jitter
from frugalclip.loading.crops import boxes_around, crop_boxes, resample
from frugalclip.loading.view_draws import (
    AROUND,
    BLURRED,
    DRAWS,
    FACTORS,
    FLIP,
    GRAY,
    JITTERED,
    SIGMA,
    SOLARIZED,
)

_CHUNK = 2**18  # numbers of one intermediate stack of images on the CPU: it stays in the second-level cache

_PRESETS: dict[str, dict[str, Any]] = {
    "none": {"crop_scale": (1, 1), "crop_ratio": (1, 1)},  # the centre square, as `Preprocess` cuts it
    # SLIP's CLIP run (main.py): crop .5-1, no flip, no colour; our default for small data
    "clip": {"crop_scale": (0.5, 1)},
    "openclip": {"crop_scale": (0.9, 1), "interpolation": "bicubic"},  # open_clip transform.py
    "slip": {  # SLIP main.py, the two self-supervised views (not its CLIP view, which is `clip`)
        "crop_scale": (0.08, 1), "flip": 0.5, "jitter": (0.4, 0.4, 0.4, 0.1), "jitter_probability": 0.8,
        "grayscale": 0.2, "blur": 0.5,
    },
    "simclr": {  # arXiv 2002.05709, appendix A, colour strength 1
        "crop_scale": (0.08, 1), "flip": 0.5, "jitter": (0.8, 0.8, 0.8, 0.2), "jitter_probability": 0.8,
        "grayscale": 0.2, "blur": 0.5,
    },
    "moco": {  # MoCo v2, and both views of DeCLIP (imagenet_dataloader.py, MOCOV2)
        "crop_scale": (0.2, 1), "flip": 0.5, "jitter": (0.4, 0.4, 0.4, 0.1), "jitter_probability": 0.8,
        "grayscale": 0.2, "blur": 0.5,
    },
    # ProtoCLIP open_clip/transform.py, protoclip-light-augmentation; its blur has SimCLR's range
    "protoclip": {
        "crop_scale": (0.5, 1), "interpolation": "bicubic", "flip": 0.5, "jitter": (0.8, 0.8, 0.8, 0.2),
        "jitter_probability": 0.2, "grayscale": 0.2, "blur": 0.2,
    },
    "aclip": {  # A-CLIP main.py, the online views: no flip, since scores of another crop are mapped onto them
        "crop_scale": (0.5, 1), "jitter": (0.4, 0.4, 0.2, 0.1), "jitter_probability": 0.8, "grayscale": 0.2,
        "blur": 0.1, "solarize": 0.2,
    },
}  # fmt: skip


class ViewConfig(Settings):
    """How one view of an image is made: a preset's name, or a mapping such as `{preset: clip, flip: 0.5}`."""

    crop_scale: tuple[float, float] = Field(
        (1, 1), description="area of the crop as a share of the image, smallest and largest"
    )
    crop_ratio: tuple[float, float] = Field(
        (3 / 4, 4 / 3), description="width over height of the crop, smallest and largest"
    )
    contains: tuple[str, ...] = Field(
        (),
        description="other views, whose crops this one holds; crop_scale is not used then",
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
        1, ge=0, le=1, description="probability that an image is jittered at all"
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
            raise ValueError("expected at most 1, the whole image")
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
    """Pixels on a side at which images are worth keeping for these views.

    A crop of the smallest area should still have one stored pixel for each of its own. One and a half times
    the view's size is the limit, since memory and time grow with the square and the smallest crops are rare.
    A large source costs no quality: the resample is antialiased.
    """
    sides = [(view.size or size) * min(1.5, 1 / math.sqrt(view.crop_scale[0])) for view in views]
    return math.ceil(max(sides, default=size))


def view_order(views: Mapping[str, ViewConfig]) -> list[str]:
    """Names of views, those that hold others last.

    Raises:
        DataError: where a view holds an unknown one, or one that holds others itself.
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
        pixels: (batch, 3, side, side) uint8, each image squashed to a square; views are made on its device.
        sizes: (batch, 2) original height and width.
        config: what to do.
        size: pixels on a side of the result, unless `config.size` is given.
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
    draws = uniform(seed, f"view/{name}", counters, DRAWS)
    if inner:
        boxes = boxes_around([box.double().cpu().numpy() for box in inner], originals, draws[:, AROUND])
    else:
        boxes = crop_boxes(originals, draws, scale=config.crop_scale, ratio=config.crop_ratio)
    images = torch.empty(len(pixels), 3, size, size, device=pixels.device)
    centre = torch.tensor(mean, device=pixels.device)[:, None, None]
    spread = torch.tensor(std, device=pixels.device)[:, None, None]
    step = max(1, len(pixels) if pixels.is_cuda else _CHUNK // (3 * max(size, pixels.shape[-1]) ** 2))
    for start in range(0, len(pixels), step):
        part = slice(start, start + step)
        chosen = torch.from_numpy(draws[part]).to(pixels.device, torch.float32)
        is_flipped = chosen[:, FLIP] < config.flip
        source = resample(
            pixels[part],
            originals[part],
            boxes[part],
            size=size,
            filter_name=config.interpolation,
            is_flipped=is_flipped,
        )
        images[part] = (_recolour(source, config, chosen) - centre) / spread
    is_flipped = torch.from_numpy(draws[:, FLIP] < config.flip).to(pixels.device)
    return ImageView(images, torch.from_numpy(boxes).to(pixels.device, torch.float32), is_flipped)


def _recolour(source: Tensor, config: ViewConfig, draws: Tensor) -> Tensor:
    """Jitter, grayscale, blur and solarize, each on the rows that drew it."""
    if max(config.jitter) > 0:
        low = 1 - torch.tensor(config.jitter[:3], device=source.device)
        high = 1 + torch.tensor(config.jitter[:3], device=source.device)
        factors = low.clamp_min(0) + (high - low.clamp_min(0)) * draws[:, FACTORS][:, :3]  # (batch, 3)
        turn = (2 * draws[:, FACTORS][:, 3:] - 1) * config.jitter[3]
        settings = torch.cat([factors, turn], dim=1)
        source = change_rows(source, draws[:, JITTERED] < config.jitter_probability, jitter, settings)
    if config.grayscale > 0:
        source = change_rows(
            source, draws[:, GRAY] < config.grayscale, lambda rows, _: gray(rows).expand_as(rows), draws
        )
    if config.blur > 0:
        smallest, largest = config.blur_sigma
        sigma = (smallest + (largest - smallest) * draws[:, SIGMA]) * source.shape[-1] / 224
        source = change_rows(source, draws[:, BLURRED] < config.blur, gaussian_blur, sigma)
    if config.solarize > 0:
        source = change_rows(
            source,
            draws[:, SOLARIZED] < config.solarize,
            lambda rows, _: torch.minimum(rows, 1 - rows),
            draws,
        )
    return source
