"""The same images, altered: how much a metric depends on colour, side, sharpness, wholeness or clean pixels.

Decoded images are altered before the model's own preprocessing, so any model can be evaluated. The strength
follows the size of the image, and an alteration is a function of the image's id alone. Differences are
against the unaltered images; their intervals are paired, since both metrics are computed on the same
bootstrap draws.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from frugalclip.core.progress import counter
from frugalclip.core.random import uniform
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.encoding import DataEncoder
from frugalclip.evaluation.metrics import in_unit
from frugalclip.evaluation.statistics import Statistic, bootstrap, on_the_sample, percentiles
from frugalclip.models import readable_images

Alteration = Callable[[Image.Image, int], Image.Image]  # an RGB image and a number derived from its id
_BATCH = 32  # decoded images in memory


class RankedTask(Protocol):
    """A task whose metrics follow from features of images and texts."""

    @property
    def rows(self) -> np.ndarray: ...

    @property
    def group_count(self) -> int: ...

    def statistics(self, image_features: Tensor, text_features: Tensor) -> dict[str, Statistic]:
        """The metrics as functions of how often each group was drawn.

        Args:
            image_features: (samples, dim).
            text_features: (texts, dim).
        """
        ...


def _hue(image: Image.Image, number: int) -> Image.Image:
    bands = list(image.convert("HSV").split())
    bands[0] = bands[0].point([(value + 85) % 256 for value in range(256)])  # a third of the circle
    return Image.merge("HSV", bands).convert("RGB")


def _mirrored(image: Image.Image, number: int) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _blurred(image: Image.Image, number: int) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(0.04 * min(image.size)))


def _occluded(image: Image.Image, number: int) -> Image.Image:
    across, down = uniform(0, "robustness/occluded", np.array([number]), 2)[0]
    side = max(1, round(0.4 * min(image.size)))
    result = image.copy()
    result.paste(
        (128, 128, 128),
        (
            left := int(across * (image.width - side + 1)),
            top := int(down * (image.height - side + 1)),
            left + side,
            top + side,
        ),
    )
    return result


def _noisy(image: Image.Image, number: int) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    noise = np.random.default_rng([0, number]).standard_normal(pixels.shape, dtype=np.float32)
    return Image.fromarray(np.clip(np.rint(pixels + 0.12 * 255 * noise), 0, 255).astype(np.uint8))


def _compressed(image: Image.Image, number: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=10)
    with Image.open(buffer) as compressed:
        return compressed.convert("RGB")


def _grayscale(image: Image.Image, number: int) -> Image.Image:
    return image.convert("L").convert("RGB")


ALTERATIONS: dict[str, tuple[str, Alteration]] = {
    "hue": ("hue turned by a third of the circle", _hue),
    "grayscale": ("without colour", _grayscale),
    "mirrored": ("left and right exchanged", _mirrored),
    "blurred": ("Gaussian blur, standard deviation 4 % of the shorter side", _blurred),
    "occluded": ("a grey square of 40 % of the shorter side, its place by the image's id", _occluded),
    "noisy": ("Gaussian noise, standard deviation 12 % of full scale", _noisy),
    "compressed": ("JPEG of quality 10", _compressed),
}


def altered_features(model: DataEncoder, manifest: Manifest) -> dict[str, Tensor]:
    """Features of every alteration of every image; each image is decoded once.

    Args:
        model: encodes images.
        manifest: rows whose images can be read.

    Returns:
        alteration -> (rows, dim).
    """
    numbers = manifest.codes("id").view(np.uint64)
    parts: dict[str, list[Tensor]] = {name: [] for name in ALTERATIONS}
    faults: list[tuple[int, str]] = []
    count = counter("encoding altered images", len(manifest))
    for rows, images in readable_images(manifest, batch=_BATCH, faults=faults):
        for name, (_, alter) in ALTERATIONS.items():
            altered = [alter(image, int(numbers[row])) for row, image in zip(rows, images, strict=True)]
            parts[name].append(model.encode_image(altered).float().cpu())
        count(len(rows))
    assert not faults, "the caller gives rows that were read before"
    return {name: torch.cat(found) for name, found in parts.items()}


def evaluate_robustness(
    task: RankedTask,
    model: DataEncoder,
    manifest: Manifest,
    images: Tensor,
    texts: Tensor,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Evaluate a task on altered copies of its images.

    Args:
        task: the task.
        model: encodes images.
        manifest: the data set that `task.rows` count; all these rows can be read.
        images: (samples, dim) features of the unaltered images.
        texts: (texts, dim) features of the texts of the task.
        draws: bootstrap draws; 0 leaves intervals out.
        seed: of the draws.

    Returns:
        See `robustness`.
    """
    altered = altered_features(model, manifest.take(task.rows))
    return robustness(
        task.statistics(images, texts),
        {name: task.statistics(features, texts) for name, features in altered.items()},
        groups=task.group_count,
        draws=draws,
        seed=seed,
    )


def robustness(
    clean: Mapping[str, Statistic],
    altered: Mapping[str, Mapping[str, Statistic]],
    *,
    groups: int,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Metrics on altered images beside those on the unaltered ones.

    Args:
        clean: metric -> statistic on the unaltered images.
        altered: alteration -> the same on altered images.
        groups: how many groups are drawn from.
        draws: bootstrap draws; 0 leaves intervals out.
        seed: of the draws.

    Returns:
        alteration -> `about`, `metrics`, `difference` (altered minus unaltered) and the `interval` of the
        difference.
    """
    before = {name: on_the_sample(statistic, groups=groups) for name, statistic in clean.items()}
    reference = bootstrap(clean, groups=groups, draws=draws, seed=seed) if draws else {}
    found = {}
    for kind, statistics in altered.items():
        after = {name: on_the_sample(statistic, groups=groups) for name, statistic in statistics.items()}
        drawn = bootstrap(statistics, groups=groups, draws=draws, seed=seed) if draws else {}
        spread = {name: percentiles(drawn[name] - reference[name]) for name in drawn}
        found[kind] = {
            "about": ALTERATIONS[kind][0],
            "metrics": {name: _rounded(name, value) for name, value in after.items()},
            "difference": {
                name: round(in_unit(name, value) - in_unit(name, before[name]), 6)
                for name, value in after.items()
            },
            "interval": {
                name: [_rounded(name, limit) for limit in limits] for name, limits in spread.items()
            },
        }
    return found


def _rounded(metric: str, value: float) -> float:
    return round(in_unit(metric, value), 6)
