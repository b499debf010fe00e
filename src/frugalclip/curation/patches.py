"""Features of the patches of images, from which codes are made: hand-made ones, or those of a MODEL."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from frugalclip.core.devices import pick_device
from frugalclip.core.errors import RecipeError
from frugalclip.curation.base import StageRows
from frugalclip.curation.captioner import Captioner, read_captioner
from frugalclip.functional import unit
from frugalclip.functional.descriptors import CELL, SIDE, gradient_histograms
from frugalclip.models import Model, load

BATCH = 256  # images whose features are in memory
_BLOCK = 2 * CELL  # pixels on a side of a patch of the descriptors
_COLOUR = 0.5  # length of the colour beside the unit vector of the shape, for a white patch


class PatchSource(ABC):
    """Where patch features come from; every subclass is final."""

    codebook: Tensor | None = None  # (codes, width) where one was learned with the features

    @abstractmethod
    def describe(self) -> Mapping[str, Any]:
        """What decides the features, as JSON values."""

    @abstractmethod
    def batches(self, rows: StageRows, places: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Features of some rows.

        Args:
            rows: of a stage.
            places: (some,) which of them.

        Yields:
            (batch,) places whose image can be read, and (batch, patches, width) float32 features.
        """


@final
class DescriptorPatches(PatchSource):
    """Hand-made features of measured thumbnails: shape and mean colour of 7 x 7 patches that overlap.

    Shapes are blocks of histograms of oriented gradients, see `functional.descriptors`.
    """

    def describe(self) -> Mapping[str, Any]:
        return {"patches": "descriptors"}

    def batches(self, rows: StageRows, places: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor]]:
        """(batch,) places and (batch, 49, 39) features."""
        for start in range(0, len(places), BATCH):
            some = places[start : start + BATCH]
            thumbnails = rows.images.take(some).thumbnails()
            yield some, _described(torch.from_numpy(thumbnails))


def _described(thumbnails: Tensor) -> Tensor:
    """(images, 49, 39) features of thumbnails (images, 3, side, side) uint8."""
    pixels = F.interpolate(thumbnails.float(), size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    blocks = (SIDE // CELL - 1) ** 2
    shapes = unit(gradient_histograms(pixels).view(len(pixels), blocks, -1))
    colours = F.avg_pool2d(pixels / 255, _BLOCK, stride=CELL).flatten(2).transpose(1, 2)  # (images, 49, 3)
    return torch.cat([shapes, colours * _COLOUR * 3**-0.5], dim=2)


@final
class ModelPatches(PatchSource):
    """Token outputs of the image tower of a model, in evaluation mode and with its preprocessing.

    Args:
        model: any MODEL whose image tower has token outputs.
        captioner: what was trained together with it, if that is a captioner.
    """

    def __init__(self, model: Model, captioner: Captioner | None = None) -> None:
        self.model = model
        self.codebook = None if captioner is None else captioner.codebook
        self.fingerprint = model.fingerprint if captioner is None else captioner.fingerprint

    def describe(self) -> Mapping[str, Any]:
        return {"patches": self.fingerprint}

    @torch.inference_mode()
    def batches(self, rows: StageRows, places: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor]]:
        """(batch,) places and (batch, patches, width) features."""
        faults: list[tuple[int, str]] = []  # of rows that do not decode: they are missing in what is given
        network = self.model.network.eval()
        manifest = rows.manifest.take(places)
        for found, inputs in self.model.image_inputs(manifest, batch=BATCH, faults=faults):
            tokens = network.image(inputs.to(self.model.device), with_tokens=True).tokens
            if tokens is None:
                raise RecipeError(
                    "the image tower of the stage's model gives one vector an image; expected token outputs, "
                    "such as those of a vision transformer."
                )
            yield places[found], tokens.float().cpu()


def patch_source(place: str | None) -> PatchSource:
    """The source of patch features that a plan names.

    Args:
        place: a run of a captioner, another MODEL with token outputs, or None for descriptors.
    """
    if place is None:
        return DescriptorPatches()
    captioner = read_captioner(place)
    return ModelPatches(
        load(place, device=pick_device("auto")) if captioner is None else captioner.model, captioner
    )
