"""Reproduce a teacher's image-text affinities: TinyCLIP's distillation, and MobileCLIP's with an ensemble.

Sources: TinyCLIP, arXiv 2309.12314, section 3.1 and its code (`clip_soft_loss.py`), which halves the sum of
the two directions that the paper writes; MobileCLIP, arXiv 2311.17049, section 3.1 and `DRClipLoss`: a loss
for each kind of caption, added up, and teachers averaged after the softmax. Both softmaxes run over the
captions of all processes, with gradients through the gathered rows.
"""

from collections.abc import Sequence
from functools import cached_property
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
            teachers=frozenset(f"{teacher}:{view}" for teacher in self._teachers for view in views),
        )

    @property
    def _teachers(self) -> tuple[str, ...]:
        """Those that are read: none where all of the loss is InfoNCE."""
        return self.config.teachers if self.config.alpha else ()

    def forward(self, views: Features) -> ObjectiveOutput:
        c = self.config
        encoders = [_EncoderRows(views, c.image, views.scale)]  # the student, then its teachers
        for number, name in enumerate(self._teachers):
            given = views.targets[name]
            scale = torch.as_tensor(c.scales[number]) if c.scales else given.scale
            encoders.append(_EncoderRows(given, c.image, scale))
        losses, entropies = zip(*(self._of_text(encoders, text) for text in c.texts), strict=True)
        return ObjectiveOutput(torch.stack(losses).sum(), {"teacher_entropy": torch.stack(entropies).sum()})

    def _of_text(self, encoders: Sequence["_EncoderRows"], text: str) -> tuple[Tensor, Tensor]:
        """The loss of one kind of caption, mean over both directions, and the teachers' entropy likewise."""
        alpha, student = self.config.alpha, encoders[0]
        loss, entropy = student.scale.new_zeros(()), student.scale.new_zeros(())
        if alpha:
            for own, *theirs in zip(*(one.directions(text) for one in encoders), strict=True):
                found = affinity_loss(own, theirs, average=self.config.average)
                loss, entropy = loss + alpha * found[0] / 2, entropy + found[1] / 2
        if alpha < 1:
            hard = contrast(student.images, student.texts(text), student.scale).loss / 2
            loss = loss + (1 - alpha) * hard
        return loss, entropy


class _EncoderRows:
    """The rows of one encoder; its images are gathered once, whatever the number of texts."""

    def __init__(self, views: Features, image: str, scale: Tensor) -> None:
        self.views, self.scale = views, scale
        self.images = unit(views.images[image].embedding)  # (batch, dim)

    @cached_property
    def every_image(self) -> Tensor:
        """(candidates, dim) unit vectors of all processes; InfoNCE alone does not read them."""
        return gather(self.images)

    def texts(self, name: str) -> Tensor:
        """(batch, dim) unit vectors."""
        return unit(self.views.texts[name].embedding)

    def directions(self, text: str) -> tuple[Affinity, Affinity]:
        """Image-to-text and text-to-image affinities."""
        texts = self.texts(text)
        return (
            Affinity(self.images, gather(texts), self.scale),
            Affinity(texts, self.every_image, self.scale),
        )
