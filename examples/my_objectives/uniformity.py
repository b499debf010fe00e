"""Spread image embeddings over the sphere: an objective of one's own, whole.

Source: Wang & Isola 2020, arXiv 2005.10242, uniformity loss with t = 2. Pairs of a row with itself
are left out.
"""

import math

import torch
from pydantic import Field
from torch import Tensor

from frugalclip.core.distributed import gather
from frugalclip.objectives.base import Features, Needs, Objective, ObjectiveConfig, ObjectiveOutput


class Config(ObjectiveConfig):  # `weight` and `during` are in the base
    sharpness: float = Field(2.0, gt=0, description="multiplies squared distances; paper: 2")


def uniformity_loss(embeddings: Tensor, *, sharpness: float) -> Tensor:
    """Log of the mean Gaussian potential over distinct pairs.

    Args:
        embeddings: (batch, dim) unit vectors, batch >= 2.
        sharpness: multiplies the squared distances.

    Returns:
        () at most 0; 0 when all rows coincide.
    """
    count = len(embeddings)
    first, second = torch.triu_indices(count, count, offset=1, device=embeddings.device)
    cosines = (embeddings @ embeddings.T)[first, second]  # (pairs,)
    return torch.logsumexp(-sharpness * (2 - 2 * cosines), dim=0) - math.log(len(cosines))


class Uniformity(Objective):
    Config = Config

    def needs(self) -> Needs:
        return Needs(images=frozenset({"main"}))  # the step encodes the union of all needs once

    def forward(self, features: Features) -> ObjectiveOutput:
        embeddings = gather(features.images["main"].embedding)  # (candidates, dim)
        unit = torch.nn.functional.normalize(embeddings, dim=-1)
        return ObjectiveOutput(uniformity_loss(unit, sharpness=self.config.sharpness))
