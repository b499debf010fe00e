"""Predict each caption word by word from the image, through discrete codes of its patches.

Source: TL;DR, arXiv 2305.20087, and its code `datacentric.vlp` (`blip_pretrain_vq_compress.py`): every token
of the image is replaced by the nearest vector of one codebook, with straight-through gradients, and a text
decoder reads these. The loss is the cross-entropy of the next word and the codebook's loss, both of weight
one. The codebook's loss follows VQ-VAE (`standard`); the authors' code weighs the other side (`legacy`).

The authors' codebook begins near zero and loses most codes. Here a code that nothing was nearest to for a
while becomes a token of the batch; before the first step every code counts as such.
"""

from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from frugalclip.core.distributed import mean_over_processes, own_rows, world_size
from frugalclip.core.errors import RecipeError
from frugalclip.core.random import uniform
from frugalclip.core.types import Tokens
from frugalclip.functional import Convention, code_perplexity, codebook_loss, nearest_codes, quantised
from frugalclip.objectives.base import (
    Batch,
    Dims,
    Features,
    Needs,
    Objective,
    ObjectiveConfig,
    ObjectiveOutput,
    Selection,
)
from frugalclip.towers.decoder import TextDecoder

IGNORED = -100  # label of a place that has no next word
_TURNS = 2**40  # places of a stage that get draws of their own


class Config(ObjectiveConfig):
    image: str = Field("main", description="image view")
    text: str = Field("caption", description="text view; the text tower must be causal")
    codes: int = Field(
        1024, ge=0, description="vectors of the codebook; TL;DR's code: 1,024. 0: the decoder reads features"
    )
    beta: float = Field(0.25, ge=0, description="weight of one side of the codebook's loss; VQ-VAE: 0.25")
    convention: Convention = Field(
        "standard", description="beta weighs the features' side (standard) or the codebook's (legacy)"
    )
    codebook_weight: float = Field(1.0, ge=0, description="weight of the codebook's loss; TL;DR: 1")
    reseed_after: int = Field(
        50, ge=0, description="steps after which an unused code becomes a token of the batch; 0: never"
    )
    depth: int = Field(2, ge=1, description="layers of the decoder over the text tower; BERT-base has 12")
    heads: int = Field(4, ge=1, description="of attention in the decoder; they divide its width")
    smoothing: float = Field(0.0, ge=0, lt=1, description="of the labels; BLIP: 0.1, TL;DR: 0")

    @model_validator(mode="after")
    def _has_two_codes(self) -> Self:
        if self.codes == 1:
            raise ValueError("codes is 1, and one code says nothing; set codes=1024, or 0 for no codebook")
        return self


def next_words(tokens: Tokens) -> Tensor:
    """(batch, length) int64 the id behind each place of a text, -100 where there is none."""
    places = torch.arange(tokens.ids.shape[1], device=tokens.ids.device)
    following = F.pad(tokens.ids[:, 1:], (0, 1), value=IGNORED)
    return following.masked_fill(places >= tokens.lengths[:, None] - 1, IGNORED)


def caption_loss(
    states: Tensor, labels: Tensor, output: nn.Linear, *, smoothing: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of next words, summed over the places that have one.

    Args:
        states: (batch, length, width) of the decoder.
        labels: (batch, length) int64, -100 where nothing is predicted.
        output: from width to vocabulary.
        smoothing: of the labels.

    Returns:
        () sum in nats, () number of words, and () number of correct ones.
    """
    has_next = labels != IGNORED
    truth = labels[has_next]  # (words,)
    logits = output(states[has_next])  # (words, vocab)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    loss = F.cross_entropy(logits, truth, reduction="sum", label_smoothing=smoothing)
    return loss, truth.new_tensor(len(truth)), (logits.detach().argmax(dim=1) == truth).sum()


class Captioning(Objective):
    Config = Config
    trains_embeddings = False

    codebook: nn.Parameter
    unused: Tensor

    def __init__(self, config: Config, dims: Dims) -> None:
        super().__init__(config, dims)
        self.config, self.view = config, f"{config.text}@next"
        width = dims.text_width
        if width % config.heads:
            raise RecipeError(
                f"objectives.captioning.heads is {config.heads}, which does not divide the width of the text "
                f"tower, {width}; set a divisor."
            )
        self.decoder = TextDecoder(
            width,
            image_width=dims.image_width,
            vocabulary=dims.vocabulary,
            depth=config.depth,
            heads=config.heads,
        )
        if config.codes:
            bound = 1 / config.codes
            self.codebook = nn.Parameter(torch.empty(config.codes, dims.image_width).uniform_(-bound, bound))
            waiting = torch.full((config.codes,), max(config.reseed_after - 1, 0))
            self.register_buffer("unused", waiting)  # (codes,) steps since a token was nearest

    def needs(self) -> Needs:
        text = frozenset({self.view})
        image = frozenset({self.config.image})
        return Needs(images=image, texts=text, tokens=text | image, causal=text)

    def makes(self) -> frozenset[str]:
        return frozenset({self.view})

    def prepare(self, batch: Batch, targets: Mapping[str, Features]) -> dict[str, Selection]:
        tokens = batch.texts[self.config.text]
        assert isinstance(tokens, Tokens), "DualEncoder.check refuses pretrained text towers"
        return {self.view: Selection(ids=tokens.ids, labels=next_words(tokens))}

    def forward(self, views: Features) -> ObjectiveOutput:
        texts, labels = _whole(views.texts[self.view].tokens), views.selections[self.view].labels
        assert labels is not None, "made in prepare"
        image, loss, logs = self._image_tokens(views)
        states = self.decoder(texts, image.to(texts.dtype))
        total, words, right = caption_loss(
            states, labels, self.decoder.output, smoothing=self.config.smoothing
        )
        everywhere = mean_over_processes(words.float()).clamp(min=1 / 1024)  # N processes weigh words as one
        caption = total / everywhere
        logs |= {"caption": caption, "accuracy": right / words.clamp(min=1)}
        return ObjectiveOutput(caption + loss, {name: value.detach() for name, value in logs.items()})

    def _image_tokens(self, views: Features) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """(batch, patches, width) what the decoder reads, the weighted loss of the codebook, and logs."""
        features = _whole(views.images[self.config.image].tokens)
        if not self.config.codes:
            return features, features.new_zeros(()), {}
        c = self.config
        codes = nearest_codes(features.detach(), self.codebook.detach())
        loss = codebook_loss(features, self.codebook, codes, beta=c.beta, convention=c.convention)
        logs = {"codebook": loss, "perplexity": code_perplexity(codes, c.codes)}
        return quantised(features, self.codebook, codes), c.codebook_weight * loss, logs

    @torch.no_grad()
    def after_step(self, views: Features) -> None:
        """Put a token of the batch in the place of every code that was not used for a while."""
        c = self.config
        if not c.codes or not c.reseed_after:
            return
        features = _whole(views.images[c.image].tokens)
        codes = nearest_codes(features, self.codebook)
        counts = mean_over_processes(torch.bincount(codes.flatten(), minlength=c.codes).float())
        self.unused.copy_(torch.where(counts > 0, 0, self.unused + 1))
        is_dead = self.unused >= c.reseed_after  # (codes,)
        drawn = _drawn_tokens(features, c.codes, seed=self.dims.seed, progress=views.progress)
        self.codebook.copy_(torch.where(is_dead[:, None], drawn.to(self.codebook.dtype), self.codebook))
        self.unused.masked_fill_(is_dead, 0)


def _whole(tokens: Tensor | None) -> Tensor:
    """(batch, length, width) token outputs in float32 at least, which towers compute in bf16 too."""
    assert tokens is not None, "in the needs"
    return tokens if tokens.dtype == torch.float64 else tokens.float()


def _drawn_tokens(features: Tensor, number: int, *, seed: int, progress: float) -> Tensor:
    """(number, width) tokens of the batch of all processes, from (batch, patches, width) of this one.

    The same on every process, whatever their number; drawn by seed and place in the run.
    """
    batch, patches = features.shape[:2]
    counters = np.stack([np.full(number, round(progress * _TURNS)), np.arange(number)], axis=1)
    draws = uniform(seed, "captioning/codes", counters, 2)
    places = torch.from_numpy((draws * [batch * world_size(), patches]).astype(np.int64)).to(features.device)
    first = own_rows(batch, device=features.device)[0]
    row = places[:, 0] - first
    is_own = (row >= 0) & (row < batch)
    own = features[row.clamp(0, batch - 1), places[:, 1]] * is_own[:, None]  # (number, width)
    return mean_over_processes(own) * world_size()
