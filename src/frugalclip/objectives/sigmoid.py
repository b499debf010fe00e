"""Classify every image-caption pair of the batch as match or no match.

Source: SigLIP, arXiv 2303.15343, eq. 1 and algorithm 1; sum over pairs divided by the rows, scale 10 and bias
-10 at the start.
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from frugalclip.core.distributed import gather, own_rows
from frugalclip.functional import needs_tiles, same_rows, sigmoid_loss, tiled_sigmoid_loss, unit
from frugalclip.objectives.base import (
    Dims,
    Features,
    Fields,
    Needs,
    Objective,
    ObjectiveConfig,
    ObjectiveOutput,
)


class Config(ObjectiveConfig):
    bias: float | Literal["batch"] = Field(
        -10.0,
        description="initial logit bias; 'batch' starts at the log-odds of a match, -ln(batch - 1); paper: "
        "-10",
    )
    positives: Fields = Field(
        (),
        description="rows that agree in one of these fields are not negatives of each other: id, caption, "
        "label, …",
    )
    same: Literal["drop", "positive"] = Field(
        "drop", description="such pairs are left out (drop) or count as matches (positive)"
    )
    image: str = Field("main", description="image view")
    text: str = Field("caption", description="text view")


class Sigmoid(Objective):
    Config = Config

    def __init__(self, config: Config, dims: Dims) -> None:
        super().__init__(config, dims)
        self.config = config
        start = -math.log(max(dims.batch - 1, 1)) if config.bias == "batch" else float(config.bias)
        self.bias = nn.Parameter(torch.tensor(start))

    def needs(self) -> Needs:
        c = self.config
        return Needs(images=frozenset({c.image}), texts=frozenset({c.text}), fields=frozenset(c.positives))

    def forward(self, views: Features) -> ObjectiveOutput:
        images, texts = (
            unit(views.images[self.config.image].embedding),
            unit(views.texts[self.config.text].embedding),
        )  # (batch, dim)
        candidates, own = (
            gather(texts),
            own_rows(len(images), device=images.device),
        )  # (candidates, dim), (batch,)
        codes = (
            torch.stack([views.fields[name] for name in self.config.positives], dim=1)
            if self.config.positives
            else None
        )  # (batch, fields)
        candidate_codes = None if codes is None else gather(codes)
        as_match = self.config.same == "positive"
        if needs_tiles(len(images), len(candidates)):
            loss = tiled_sigmoid_loss(
                images,
                texts,
                views.scale,
                self.bias,
                text_candidates=candidates,
                own=own,
                codes=codes,
                candidate_codes=candidate_codes,
                same_is_positive=as_match,
            )
        else:
            same = (
                None if codes is None or candidate_codes is None else same_rows(codes, candidate_codes, own)
            )
            loss = sigmoid_loss(
                images,
                texts,
                views.scale,
                self.bias,
                text_candidates=candidates,
                own=own,
                same=same,
                same_is_positive=as_match,
            )
        return ObjectiveOutput(loss, {"bias": self.bias.detach()})
