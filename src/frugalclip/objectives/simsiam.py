"""Predict one view of an image from another, without negatives; the target view has no gradient.

Source: SimSiam, arXiv 2011.10566, eq. 1 and algorithm 1, with the heads of DeCLIP (arXiv 2110.05208, section
3.2, ISS; `prototype/model/declip.py`): they read the joint embedding, so that the term shapes the projection
too, and each view has its own batch statistics.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor

from frugalclip.functional import negative_cosine, unit
from frugalclip.objectives.base import Dims, Features, Needs, Objective, ObjectiveOutput, TwoViewsConfig
from frugalclip.towers.heads.projection import ProjectionHead


class Config(TwoViewsConfig):
    first: str = Field("main", description="image view")
    second: str = Field("second", description="another view of the same image")
    hidden: int = Field(1024, gt=0, description="width of the projector's layers; DeCLIP: 1024")
    bottleneck: int = Field(512, gt=0, description="width of the predictor's hidden layer; DeCLIP: 512")
    input: Literal["embedding", "pooled"] = Field(
        "embedding", description="input of the projector; DeCLIP: the joint embedding"
    )


def simsiam_loss(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """Negative cosine of each view's prediction with the other view's projection, mean of both directions.

    Args:
        first: prediction and projection of one view, (batch, dim) each; no gradient flows into projections.
        second: likewise of the other view.

    Returns:
        () in [-1, 1]; -1 where predictions hit.
    """
    return (negative_cosine(first[0], second[1]) + negative_cosine(second[0], first[1])) / 2


class SimSiam(Objective):
    Config = Config

    def __init__(self, config: Config, dims: Dims) -> None:
        super().__init__(config, dims)
        self.config = config
        width = dims.embedding if config.input == "embedding" else dims.image_width
        self.projector = ProjectionHead([width, config.hidden, config.hidden, config.hidden], last_norm=True)
        self.predictor = ProjectionHead([config.hidden, config.bottleneck, config.hidden])

    def needs(self) -> Needs:
        return Needs(images=frozenset({self.config.first, self.config.second}))

    def forward(self, views: Features) -> ObjectiveOutput:
        projected = [
            self.projector(getattr(views.images[name], self.config.input))
            for name in (self.config.first, self.config.second)
        ]
        first, second = ((self.predictor(z), z) for z in projected)
        spread = (
            unit(projected[0].detach()).std(dim=0).mean() * projected[0].shape[1] ** 0.5
        )  # 1 for directions at random, 0 at collapse
        return ObjectiveOutput(simsiam_loss(first, second), {"spread": spread})
