"""Contrast images with captions by the words of one vocabulary, with a penalty on their number.

Source: LexVLA, arXiv 2407.17827: a contrastive loss and an overuse penalty. No code was published; the form
of the penalty is that of two third-party re-implementations, its weights those of one of them. FLOPS and the
quadratic warm-up of a penalty: SPLADE, arXiv 2107.05720.

Penalties are those of the whole batch: of the mean activation over the rows of all processes and, under a
gradient cache, of all parts.
"""

from typing import Annotated, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from frugalclip.core.config import Settings, shorthand
from frugalclip.core.distributed import gather, mean_over_processes, own_rows
from frugalclip.functional import (
    Contrast,
    flops_loss,
    info_nce_loss,
    lexical_usage,
    mean_non_zeros,
    overuse_loss,
    quadratic_ramp,
    unit,
)
from frugalclip.objectives.base import (
    Dims,
    Features,
    Needs,
    Objective,
    ObjectiveConfig,
    ObjectiveOutput,
    contrast,
    contrast_logs,
)


class PenaltyConfig(Settings):
    """A penalty on the number of words."""

    kind: Literal["overuse", "flops", "none"] = Field(
        "overuse", description="overuse pushes common words down and rare ones up; SPLADE: flops"
    )
    image: float = Field(2e-2, ge=0, description="weight of the images' penalty")
    text: float = Field(5e-2, ge=0, description="weight of the captions' penalty")
    ramp: float = Field(
        0.1,
        ge=0,
        description="quadratic warm-up of both weights: below 1 a share of the run, else steps; 0 starts at "
        "once",
    )
    scale_by_vocab: bool = Field(
        True,
        description="of overuse: weigh words against the mean word; false divides by the size of the "
        "vocabulary",
    )
    detach_weight: bool = Field(
        False,
        description="of overuse: hold the words' weights fixed in the gradient, which then pushes no word up",
    )
    vectors: Literal["compared", "raw"] = Field(
        "compared", description="penalise the vectors that are compared, or those before normalisation"
    )

    def of(self, usage: Tensor) -> Tensor:
        """() penalty of the mean activations (vocab,), without its weight."""
        if self.kind == "overuse":
            return overuse_loss(usage, scale_by_vocab=self.scale_by_vocab, detach_weight=self.detach_weight)
        return flops_loss(usage) if self.kind == "flops" else usage.new_zeros(())


class Config(ObjectiveConfig):
    normalize: Literal["l2", "none"] = Field("l2", description="compare unit vectors, or vectors as they are")
    penalty: Annotated[PenaltyConfig, BeforeValidator(shorthand("kind"))] = Field(
        default_factory=PenaltyConfig,
        description="penalty on the number of words: a kind, or kind, image, text, ramp, …",
    )
    image: str = Field("main", description="image view, whose embedding is one activation a word")
    text: str = Field("caption", description="text view, likewise")


class Lexical(Objective):
    Config = Config

    steps: Tensor

    def __init__(self, config: Config, dims: Dims) -> None:
        super().__init__(config, dims)
        self.config = config
        self.register_buffer(
            "steps", torch.zeros((), dtype=torch.int64)
        )  # of this objective, for a warm-up counted in steps

    def needs(self) -> Needs:
        return Needs(images=frozenset({self.config.image}), texts=frozenset({self.config.text}))

    def forward(self, views: Features) -> ObjectiveOutput:
        c = self.config
        raw = {
            "image": views.images[c.image].embedding,
            "text": views.texts[c.text].embedding,
        }  # (batch, vocab) each
        raw = {side: x if x.dtype == torch.float64 else x.float() for side, x in raw.items()}
        compared = {side: unit(x) for side, x in raw.items()} if c.normalize == "l2" else raw
        found = self._contrast(compared["image"], compared["text"], views.scale)
        logs = contrast_logs([found], batch=len(compared["image"]), with_same=False) | {
            "contrast": found.loss.detach() / 2
        }
        loss, ramp = found.loss / 2, self._ramp(views.progress).to(found.loss.dtype)
        for side, weight in (("image", c.penalty.image), ("text", c.penalty.text)):
            if c.penalty.kind != "none":
                vectors = raw[side] if c.penalty.vectors == "raw" else compared[side]
                penalty = c.penalty.of(_usage_of_all(vectors, absolute=c.penalty.kind == "flops"))
                loss = loss + ramp * weight * penalty
                logs[f"{side}_penalty"] = penalty.detach()
            logs |= {f"{side}_{name}": value for name, value in _words_used(raw[side].detach()).items()}
        return ObjectiveOutput(loss, logs)

    @torch.no_grad()
    def after_step(self, views: Features) -> None:
        """Count the steps of the warm-up."""
        self.steps += 1

    def _ramp(self, progress: float) -> Tensor:
        """() what the weights of the penalties are multiplied by at this step."""
        length = self.config.penalty.ramp
        if not length:
            return torch.ones(())
        return quadratic_ramp(
            torch.tensor(progress / length) if length < 1 else (self.steps + 1) / length
        )  # int(steps) would wait for the device

    def _contrast(self, images: Tensor, texts: Tensor, scale: Tensor) -> Contrast:
        """Both directions between (batch, vocab) and (batch, vocab)."""
        if self.config.normalize == "l2":
            return contrast(images, texts, scale)
        # tiles need logits of at most the scale, which only unit vectors guarantee
        own, everyone = own_rows(len(images), device=images.device), gather(texts)
        directions = info_nce_loss(
            images, texts, scale, image_candidates=gather(images), text_candidates=everyone, own=own
        )
        hits = (images.detach() @ everyone.detach().T).max(dim=1).indices == own
        return Contrast(directions[0] + directions[1], hits, scale.new_zeros(()))


def _usage_of_all(vectors: Tensor, *, absolute: bool) -> Tensor:
    """(vocab,) differentiable mean over the rows of all processes, from (batch, vocab) of this one."""
    return gather(lexical_usage(vectors, absolute=absolute)[None]).mean(dim=0)


def _words_used(vectors: Tensor) -> dict[str, Tensor]:
    """Logs of sparsity: mean non-zeros, and the share of rows that use the commonest word."""
    rows_with = mean_over_processes((vectors != 0).to(vectors.dtype).mean(dim=0))  # (vocab,)
    return {"non_zeros": mean_non_zeros(vectors), "most_used": rows_with.max()}
