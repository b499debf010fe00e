"""Contrast pictures with captions over the batch: CLIP, ALIGN, and their multi-positive forms.

Source: CLIP, arXiv 2103.00020, section 2.3 and figure 3. ALIGN, arXiv 2102.05918, section 4.2: both directions summed, label smoothing 0.1.
Supervised-contrastive forms: Khosla et al. 2020, arXiv 2004.11362, eq. 2 and 3. The gather passes gradients back, as in open_clip's
`local_loss` with `gather_with_grad`; SLIP's gather without gradient biases them and is not followed.
"""

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from frugalclip.core.distributed import gather, own_rows
from frugalclip.functional import SamePolicy, info_nce_loss, same_rows, unit
from frugalclip.objectives.base import Dims, Fields, Needs, Objective, ObjectiveConfig, Outcome, Views


class Config(ObjectiveConfig):
    smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all candidates; ALIGN: 0.1")
    reduction: Literal["mean", "sum"] = Field("mean", description="of the two directions; CLIP: mean, ALIGN: sum")
    positives: Fields = Field((), description="rows that agree in one of these fields are positives of each other: id, caption, label, …")
    same: SamePolicy = Field("drop", description="other positives leave the denominator (drop) or share the target (outside, inside)")
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

    def forward(self, views: Views) -> Outcome:
        images, texts = unit(views.images[self.config.image].embedding), unit(views.texts[self.config.text].embedding)  # (batch, dim)
        image_candidates, text_candidates = gather(images), gather(texts)  # (candidates, dim)
        own = own_rows(len(images), device=images.device)
        same = self._same(views, own)
        directions = info_nce_loss(
            images,
            texts,
            views.scale,
            image_candidates=image_candidates,
            text_candidates=text_candidates,
            own=own,
            same=same,
            policy=self.config.same,
            smoothing=self.config.smoothing,
        )
        loss = sum(directions, torch.zeros_like(directions[0]))
        logs = {"chance": torch.tensor(float(len(text_candidates))).log(), "accuracy": self._accuracy(images, text_candidates, own)}
        if same is not None:
            logs["same_share"] = same.float().mean()
        return Outcome(loss / 2 if self.config.reduction == "mean" else loss, logs)

    def _same(self, views: Views, own: Tensor) -> Tensor | None:
        if not self.config.positives:
            return None
        codes = torch.stack([views.fields[name] for name in self.config.positives], dim=1)  # (batch, fields)
        return same_rows(codes, gather(codes), own)

    @staticmethod
    @torch.no_grad()
    def _accuracy(images: Tensor, texts: Tensor, own: Tensor) -> Tensor:
        return ((images @ texts.T).max(dim=1).indices == own).float().mean()
