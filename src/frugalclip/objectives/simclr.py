"""Contrast two views of each image with all other images, without captions.

Source: SimCLR, arXiv 2002.05709, eq. 1 (NT-Xent), as SLIP (arXiv 2112.12750, section 3; `losses.py:
SIMCLRLoss`) adds it to CLIP: the head reads the pooled feature before the joint projection, and each view has
its own batch statistics (`views: apart`). A-CLIP (arXiv 2212.08653) puts both views through the head
together. A-CLIP's released code compares a view with itself; ours compares the two views, as its paper says.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from frugalclip.core.distributed import gather, own_rows, world_size
from frugalclip.functional import unit
from frugalclip.objectives.base import Dims, Features, Needs, Objective, ObjectiveOutput, TwoViewsConfig
from frugalclip.towers.heads.projection import ProjectionHead


class Config(TwoViewsConfig):
    first: str = Field("second", description="image view")
    second: str = Field("third", description="another view of the same image")
    temperature: float = Field(0.1, gt=0, description="divides cosines; SLIP: 0.1, not learned")
    hidden: int = Field(4096, gt=0, description="width of the head's hidden layers; SLIP: 4096")
    out: int = Field(256, gt=0, description="width of the head's output; SLIP: 256")
    input: Literal["pooled", "embedding"] = Field(
        "pooled", description="input of the head; SLIP: the feature before the joint projection"
    )
    views: Literal["apart", "together"] = Field(
        "apart", description="batch statistics of each view, or of both; SLIP: apart, A-CLIP: together"
    )


def nt_xent_loss(
    first: Tensor,
    second: Tensor,
    *,
    temperature: float,
    first_candidates: Tensor | None = None,
    second_candidates: Tensor | None = None,
    own: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Softmax cross-entropy of each row against its other view, among all rows of both views but itself.

    Args:
        first: (batch, dim) unit vectors of one view.
        second: (batch, dim) unit vectors of the other.
        temperature: divides cosines.
        first_candidates: (candidates, dim) of all processes; default the own ones.
        second_candidates: likewise.
        own: (batch,) int64 position of the own rows among the candidates; default 0, 1, 2, …

    Returns:
        () mean over the rows of both views, in nats: ln(2 candidates - 1) when all rows are equal; and
        (batch,) bool, whether the rows of the first view found their partner.
    """
    first_candidates = first if first_candidates is None else first_candidates
    second_candidates = second if second_candidates is None else second_candidates
    own = torch.arange(len(first), device=first.device) if own is None else own

    def logits(anchors: Tensor, others: Tensor, same: Tensor) -> Tensor:
        against_same = (anchors @ same.T).index_put(
            (torch.arange(len(own), device=own.device), own), anchors.new_tensor(float("-inf"))
        )
        return torch.cat([anchors @ others.T, against_same], dim=1) / temperature  # (batch, 2 * candidates)

    from_first = logits(first, second_candidates, first_candidates)
    from_second = logits(second, first_candidates, second_candidates)
    loss = (F.cross_entropy(from_first, own) + F.cross_entropy(from_second, own)) / 2
    return loss, from_first.detach().argmax(dim=1) == own


class SimClr(Objective):
    Config = Config

    def __init__(self, config: Config, dims: Dims) -> None:
        super().__init__(config, dims)
        self.config = config
        width = dims.image_width if config.input == "pooled" else dims.embedding
        self.head = ProjectionHead([width, config.hidden, config.hidden, config.out])

    def needs(self) -> Needs:
        return Needs(images=frozenset({self.config.first, self.config.second}))

    def forward(self, views: Features) -> ObjectiveOutput:
        inputs = [
            getattr(views.images[name], self.config.input) for name in (self.config.first, self.config.second)
        ]  # (batch, width) each
        if self.config.views == "together":
            first, second = unit(self.head(torch.cat(inputs))).chunk(2)
        else:
            first, second = unit(self.head(inputs[0])), unit(self.head(inputs[1]))
        loss, hits = nt_xent_loss(
            first,
            second,
            temperature=self.config.temperature,
            first_candidates=gather(first),
            second_candidates=gather(second),
            own=own_rows(len(first), device=first.device),
        )
        return ObjectiveOutput(
            loss,
            {
                "chance": torch.tensor(2.0 * len(first) * world_size() - 1).log(),
                "accuracy": hits.float().mean(),
            },
        )
