"""Reproduce a teacher's image-text affinities: TinyCLIP's distillation, and MobileCLIP's with an ensemble.

Sources: TinyCLIP, arXiv 2309.12314, section 3.1 and its code (`clip_soft_loss.py`), which halves the sum of
the two directions that the paper writes; MobileCLIP, arXiv 2311.17049, section 3.1 and `DRClipLoss`: a loss
for each kind of caption, added up, and teachers averaged after the softmax. Both softmaxes run over the
captions of all processes, with gradients through the gathered rows.
"""

from collections.abc import Sequence
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from frugalclip.core.distributed import gather
from frugalclip.functional import Affinity, Average, affinity_loss, unit
from frugalclip.objectives.base import (
    Dims,
    Features,
    Fields,
    Needs,
    Objective,
    ObjectiveConfig,
    ObjectiveOutput,
    contrast,
)


class Config(ObjectiveConfig):
    teachers: Fields = Field(("teacher",), min_length=1, description="names of one or several teachers")
    scales: tuple[float, ...] = Field(
        (),
        description="scale of each teacher's cosines; empty: the teachers' own. TinyCLIP: 50, MobileCLIP: 70 "
        "and 60",
    )
    average: Average = Field(
        "after_softmax", description="of several teachers: their probabilities, or their logits"
    )
    alpha: float = Field(
        1.0, ge=0, le=1, description="share of the affinities in the loss; the rest is InfoNCE. TinyCLIP: 1"
    )
    image: str = Field("main", description="image view")
    texts: Fields = Field(
        ("caption",),
        min_length=1,
        description="text views, such as a real and a generated caption; losses add up",
    )

    @model_validator(mode="after")
    def _has_a_scale_each(self) -> Self:
        if self.scales and len(self.scales) != len(self.teachers):
            raise ValueError(
                f"{len(self.scales)} scales for {len(self.teachers)} teachers; give one each, or none to "
                "take the teachers' own"
            )
        return self


class AffinityMimicking(Objective):
    """Soft cross-entropy between the affinities of the student and those of its teachers."""

    Config = Config

    def __init__(self, config: Config, dims: Dims) -> None:
        super().__init__(config, dims)
        self.config = config

    def needs(self) -> Needs:
        c = self.config
        views = (c.image, *c.texts)
        return Needs(
            images=frozenset({c.image}),
            texts=frozenset(c.texts),
            teachers=frozenset(f"{teacher}:{view}" for teacher in c.teachers for view in views),
        )

    def forward(self, views: Features) -> ObjectiveOutput:
        c = self.config
        losses, logs = [], []
        for text in c.texts:
            loss, entropy = self._mimic(views, text) if c.alpha else (views.scale.new_zeros(()),) * 2
            if c.alpha < 1:
                images, texts = (
                    unit(views.images[c.image].embedding),
                    unit(views.texts[text].embedding),
                )  # (batch, dim)
                loss = c.alpha * loss + (1 - c.alpha) * contrast(images, texts, views.scale).loss / 2
            losses.append(loss)
            logs.append(entropy)
        return ObjectiveOutput(torch.stack(losses).sum(), {"teacher_entropy": torch.stack(logs).sum()})

    def _mimic(self, views: Features, text: str) -> tuple[Tensor, Tensor]:
        """The loss of one kind of caption, mean over both directions, and the teachers' entropy likewise."""
        student = _directions(views, self.config.image, text, scale=views.scale)
        teachers = [
            _directions(views.targets[name], self.config.image, text, scale=scale)
            for name, scale in zip(self.config.teachers, self._scales(views), strict=True)
        ]
        found = [
            affinity_loss(own, theirs, average=self.config.average)
            for own, theirs in zip(student, zip(*teachers, strict=True), strict=True)
        ]
        return (found[0][0] + found[1][0]) / 2, (found[0][1] + found[1][1]) / 2

    def _scales(self, views: Features) -> Sequence[Tensor]:
        c = self.config
        if not c.scales:
            return [views.targets[name].scale for name in c.teachers]
        return [views.scale.new_tensor(scale).detach() for scale in c.scales]


def _directions(views: Features, image: str, text: str, *, scale: Tensor) -> tuple[Affinity, Affinity]:
    """Image-to-text and text-to-image affinities of one encoder."""
    images, texts = unit(views.images[image].embedding), unit(views.texts[text].embedding)  # (batch, dim)
    return Affinity(images, gather(texts), scale), Affinity(texts, gather(images), scale)
