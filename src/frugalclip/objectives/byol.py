"""Predict the features of an average of the image tower for the same image.

Source: BYOL, arXiv 2006.07733, eq. 2, as the online-to-EMA term of A-CLIP (arXiv 2212.08653, section 3.3;
`losses.py: ACLIPLoss`): projector and predictor without bias, both online views through the head together,
one target of the EMA tower for all of them. The projector's own average normalises by the statistics of what
goes through it; only its parameters are averaged.
"""

import copy

import torch
from pydantic import Field
from torch import Tensor

from frugalclip.core.averages import follow, momentum_at
from frugalclip.functional import negative_cosine
from frugalclip.objectives.base import Dims, Features, Needs, Objective, ObjectiveConfig, ObjectiveOutput
from frugalclip.towers.heads.projection import ProjectionHead


class Config(ObjectiveConfig):
    images: tuple[str, ...] = Field(("main", "second"), min_length=1, description="image views that predict")
    teacher: str = Field("ema", description="name of the teacher")
    target: str = Field("main", description="image view that the teacher encodes")
    hidden: int = Field(4096, gt=0, description="width of the hidden layers; A-CLIP: 4096")
    out: int = Field(256, gt=0, description="width of projector and predictor outputs; A-CLIP: 256")
    momentum: tuple[float, float] = Field(
        (0.996, 1.0), description="of the projector's average, at the start and towards the end of the run"
    )


def byol_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Squared distance of unit vectors, 2 - 2 cos, mean over rows.

    Args:
        predicted: (batch, dim).
        target: (batch, dim); no gradient flows into it.

    Returns:
        () in [0, 4]; 0 where predictions hit.
    """
    return 2 + 2 * negative_cosine(predicted, target)


class Byol(Objective):
    Config = Config
    trains_embeddings = False

    def __init__(self, config: Config, dims: Dims) -> None:
        super().__init__(config, dims)
        self.config = config
        self.projector = ProjectionHead([dims.image_width, config.hidden, config.out], bias=False)
        self.predictor = ProjectionHead([config.out, config.hidden, config.out], bias=False)
        self.average = copy.deepcopy(self.projector).requires_grad_(False)

    def needs(self) -> Needs:
        return Needs(
            images=frozenset(self.config.images),
            teachers=frozenset({f"{self.config.teacher}:{self.config.target}"}),
        )

    def forward(self, views: Features) -> ObjectiveOutput:
        online = torch.cat(
            [views.images[name].pooled for name in self.config.images]
        )  # (views * batch, width)
        with torch.no_grad():
            target = self.average(
                views.targets[self.config.teacher].images[self.config.target].pooled
            )  # (batch, out)
        return ObjectiveOutput(
            byol_loss(self.predictor(self.projector(online)), target.repeat(len(self.config.images), 1))
        )

    def after_step(self, views: Features) -> None:
        """The average follows the projector."""
        start, end = self.config.momentum
        follow(self.average, self.projector, momentum=momentum_at(views.progress, start=start, end=end))
