"""Match one vector of an image with several of its caption, such as prompts of a frozen language model.

Source: FLAME, arXiv 2411.11927, as the authors' `open_clip/loss.py` computes it. Their training guide takes
the sigmoid form, with scale 10 and bias -10 at the start; the paper prints the InfoNCE form (their answer in
issue 5 of the repository). Both are here. How many of a caption's stored vectors take part, 6 of 11 with
them, is decided where the data is read.
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from frugalclip.core.distributed import gather, own_rows
from frugalclip.functional import multi_positive_nce_loss, multi_positive_sigmoid_loss, unit
from frugalclip.objectives.base import (
    Dims,
    Features,
    Needs,
    Objective,
    ObjectiveConfig,
    ObjectiveOutput,
    contrast_logs,
)


class Config(ObjectiveConfig):
    loss: Literal["sigmoid", "contrastive"] = Field(
        "sigmoid",
        description="sigmoid: every pair on its own; infonce: facet by facet. The authors find the first "
        "better for "
        "retrieval, the second for classes",
    )
    bias: float | Literal["batch"] = Field(
        -10.0,
        description="initial logit bias of the sigmoid loss; 'batch' starts at the log-odds of a match, "
        "-ln(batch - 1); FLAME: -10",
    )
    image: str = Field("main", description="image view")
    text: str = Field(
        "caption", description="text view, whose embedding is (batch, facets, dim), or (batch, dim) for one"
    )


class Facets(Objective):
    Config = Config

    def __init__(self, config: Config, dims: Dims) -> None:
        super().__init__(config, dims)
        self.config = config
        start = -math.log(max(dims.batch - 1, 1)) if config.bias == "batch" else float(config.bias)
        self.bias = nn.Parameter(torch.tensor(start)) if config.loss == "sigmoid" else None

    def needs(self) -> Needs:
        return Needs(images=frozenset({self.config.image}), texts=frozenset({self.config.text}))

    def forward(self, views: Features) -> ObjectiveOutput:
        images = unit(views.images[self.config.image].embedding)  # (batch, dim)
        given = views.texts[self.config.text].embedding
        texts = unit(given if given.ndim == 3 else given[:, None])  # (batch, facets, dim)
        return (
            self._contrastive(images, texts, views.scale)
            if self.bias is None
            else self._sigmoid(images, texts, views.scale, self.bias)
        )

    def _sigmoid(self, images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> ObjectiveOutput:
        own = own_rows(len(images), device=images.device)
        loss = multi_positive_sigmoid_loss(images, texts, scale, bias, text_candidates=gather(texts), own=own)
        return ObjectiveOutput(loss, {"bias": bias.detach()})

    def _contrastive(self, images: Tensor, texts: Tensor, scale: Tensor) -> ObjectiveOutput:
        own = own_rows(len(images), device=images.device)
        found = multi_positive_nce_loss(
            images, texts, scale, image_candidates=gather(images), text_candidates=gather(texts), own=own
        )
        return ObjectiveOutput(found.loss / 2, contrast_logs([found], batch=len(images), with_same=False))
