"""Contrast images with captions over the batch: CLIP, ALIGN, and their multi-positive forms.

Source: CLIP, arXiv 2103.00020, section 2.3 and figure 3. ALIGN, arXiv 2102.05918, section 4.2: both
directions summed, label smoothing 0.1. Supervised-contrastive forms: Khosla et al. 2020, arXiv 2004.11362,
eq. 2 and 3. The gather passes gradients back, as in open_clip's `local_loss` with `gather_with_grad`; SLIP's
gather without gradient biases them and is not followed.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from frugalclip.functional import SamePolicy, unit
from frugalclip.objectives.base import (
    Dims,
    Features,
    Fields,
    Needs,
    Objective,
    ObjectiveConfig,
    ObjectiveOutput,
    contrast,
    contrast_logs,
    field_codes,
)


class Config(ObjectiveConfig):
    smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the target spread over all candidates; ALIGN: 0.1"
    )
    reduction: Literal["mean", "sum"] = Field(
        "mean", description="of the two directions; CLIP: mean, ALIGN: sum"
    )
    positives: Fields = Field(
        (),
        description="rows that agree in one of these fields are positives of each other: id, caption, label, "
        "…",
    )
    same: SamePolicy = Field(
        "drop",
        description="further positives leave the denominator (drop) or share the target (outside, inside)",
    )
    image: str = Field("main", description="image view")
    text: str = Field("caption", description="text view")

    @model_validator(mode="after")
    def _exclusive(self) -> Self:
        if self.smoothing and self.positives:
            raise ValueError("smoothing and positives exclude each other; set smoothing: 0 or positives: []")
        return self


class Contrastive(Objective):
    Config = Config

    def __init__(self, config: Config, dims: Dims) -> None:
        super().__init__(config, dims)
        self.config = config

    def needs(self) -> Needs:
        c = self.config
        return Needs(images=frozenset({c.image}), texts=frozenset({c.text}), fields=frozenset(c.positives))

    def forward(self, views: Features) -> ObjectiveOutput:
        c = self.config
        images, texts = (
            unit(views.images[c.image].embedding),
            unit(views.texts[c.text].embedding),
        )  # (batch, dim)
        found = contrast(
            images,
            texts,
            views.scale,
            codes=field_codes(views, c.positives),
            policy=c.same,
            smoothing=c.smoothing,
        )
        logs = contrast_logs([found], batch=len(images), with_same=bool(c.positives))
        return ObjectiveOutput(found.loss / 2 if c.reduction == "mean" else found.loss, logs)
