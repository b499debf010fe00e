"""Contrast pictures with captions over the batch: CLIP, ALIGN, and their multi-positive forms.

Source: CLIP, arXiv 2103.00020, section 2.3 and figure 3. ALIGN, arXiv 2102.05918, section 4.2: both directions summed, label smoothing 0.1.
Supervised-contrastive forms: Khosla et al. 2020, arXiv 2004.11362, eq. 2 and 3. The gather passes gradients back, as in open_clip's
`local_loss` with `gather_with_grad`; SLIP's gather without gradient biases them and is not followed.
"""

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from frugalclip.core.distributed import gather, own_rows, world_size
from frugalclip.functional import Contrast, SamePolicy, info_nce_loss, needs_tiles, same_rows, tiled_info_nce_loss, unit
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
        codes = torch.stack([views.fields[name] for name in self.config.positives], dim=1) if self.config.positives else None  # (batch, fields)
        tiled = needs_tiles(len(images), len(images) * world_size())
        total, hits, same = (self._tiled if tiled else self._plain)(images, texts, views.scale, codes)
        logs = {"chance": torch.tensor(float(len(images) * world_size())).log(), "accuracy": hits.float().mean()}
        if codes is not None:
            logs["same_share"] = same
        return Outcome(total / 2 if self.config.reduction == "mean" else total, logs)

    def _plain(self, images: Tensor, texts: Tensor, scale: Tensor, codes: Tensor | None) -> Contrast:
        image_candidates, text_candidates = gather(images), gather(texts)  # (candidates, dim)
        own = own_rows(len(images), device=images.device)
        same = None if codes is None else same_rows(codes, gather(codes), own)
        directions = info_nce_loss(
            images,
            texts,
            scale,
            image_candidates=image_candidates,
            text_candidates=text_candidates,
            own=own,
            same=same,
            policy=self.config.same,
            smoothing=self.config.smoothing,
        )
        with torch.no_grad():
            hits = (images @ text_candidates.T).max(dim=1).indices == own
        return Contrast(directions[0] + directions[1], hits, torch.zeros(()) if same is None else same.float().mean())

    def _tiled(self, images: Tensor, texts: Tensor, scale: Tensor, codes: Tensor | None) -> Contrast:
        alone = world_size() == 1  # then rows and candidates are the same, and one pass serves both directions
        return tiled_info_nce_loss(
            images,
            texts,
            scale,
            image_candidates=None if alone else gather(images),
            text_candidates=None if alone else gather(texts),
            own=own_rows(len(images), device=images.device),
            codes=codes,
            candidate_codes=None if codes is None else gather(codes),
            policy=self.config.same,
            smoothing=self.config.smoothing,
        )
