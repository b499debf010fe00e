"""ProtoCLIP's objective with an imposed gap between the modalities: captions are shifted before clustering.

A fixed vector of a given length is added to the projected captions, which are then normalised again, before
they are clustered and scored. A plain offset would leave half of the loss unchanged: k-means is invariant to
it, and the scores of an image against all shifted centres shift alike. Used by benchmarks/gap.py.
"""

import torch
from pydantic import Field
from torch import Tensor

from frugalclip.core.random import generator
from frugalclip.functional import unit
from frugalclip.objectives.base import Dims, Features
from frugalclip.objectives.prototypes import Config as PrototypesConfig
from frugalclip.objectives.prototypes import Prototypes


class Config(PrototypesConfig):
    gap: float = Field(
        0, ge=0, description="length of the vector that captions are moved by, beside unit vectors"
    )


class GapPrototypes(Prototypes):
    Config = Config
    aside: Tensor

    def __init__(self, config: Config, dims: Dims) -> None:
        super().__init__(config, dims)
        direction = torch.randn(config.out, generator=generator(0, "gap_prototypes"))
        self.register_buffer("aside", config.gap * unit(direction))  # (out,)

    def project(self, views: Features) -> tuple[Tensor, Tensor]:
        """Unit vectors (batch, out) of pictures, and of captions moved aside."""
        image, text = super().project(views)
        return image, unit(text + self.aside)
