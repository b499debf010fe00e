"""Bag of words: a text tower that averages token embeddings.

Source: the simplest text encoder of CLIP, arXiv 2103.00020, section 2.3 and figure 2, which learns faster
from few pairs than a transformer does. Start, end and padding do not count as words; order does not matter.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from frugalclip.core.types import Gates, TextInput, Tokens, TowerOutput
from frugalclip.towers.base import TextTower, TextTowerConfig
from frugalclip.towers.blocks import Lookup


class BagConfig(TextTowerConfig):
    """Settings of a bag of words."""

    kind: Literal["bag"]  # without a default, so that it is always written down
    width: int = Field(
        0,
        ge=0,
        description="channels of a word; 0: model.dim, and then there is no projection",
    )

    def forward_gflops(self, *, tokens: int) -> float:
        """Forward arithmetic for one text of `tokens`, in 10^9 operations: additions only."""
        return tokens * self.width * 1e-9

    def kept_numbers(self, *, tokens: int) -> float:
        """Numbers that the backward pass keeps for one text of `tokens`: none but the ids."""
        return 0.0 * tokens

    def build(self, *, vocabulary: int, context: int, dim: int) -> "BagOfWords":
        """The tower of these sizes."""
        return BagOfWords(self, vocabulary=vocabulary, context=context, dim=dim)


class BagOfWords(TextTower):
    """Text tower without layers."""

    description = "a bag of words"
    advice = "set model.text.kind=transformer, or leave the objective out"

    def __init__(self, config: BagConfig, *, vocabulary: int, context: int, dim: int) -> None:
        super().__init__()
        self.config, self.context = config, context
        width = config.width or dim
        self.lookup = Lookup(vocabulary, width)
        self.project = nn.Linear(width, dim, bias=False) if width != dim else None

    @property
    def token_embedding(self) -> Lookup:
        """The vectors of the tokens."""
        return self.lookup

    def reset(self, generator: torch.Generator) -> None:
        """Draw the initial weights: words have unit length on average."""
        width = self.lookup.weight.shape[1]
        self.lookup.reset(generator, deviation=width**-0.5)
        if self.project is not None:
            nn.init.normal_(self.project.weight, std=width**-0.5, generator=generator)

    def forward(
        self, texts: TextInput, *, with_tokens: bool = False, gates: Gates | None = None
    ) -> TowerOutput:
        """Encode texts.

        Args:
            texts: `Tokens` with ids (batch, length); the first token is the start and the last the end.
            with_tokens: also return the token embeddings.
            gates: must be None.

        Returns:
            TowerOutput; tokens are (batch, length, width), zero at padding. A text without words averages
            start and end.

        Raises:
            RecipeError: if gates are given.
        """
        assert isinstance(texts, Tokens), "a bag of words encodes token ids"
        self.check(["gates"] if gates is not None else [])
        words = self.lookup(texts.ids)  # (batch, length, width)
        places = torch.arange(words.shape[1], device=words.device)
        is_real = places < texts.lengths[:, None].to(words.device)  # (batch, length)
        is_word = (places > 0) & (places < texts.lengths[:, None].to(words.device) - 1)
        is_word = is_word | (is_real & ~is_word.any(dim=1, keepdim=True))
        pooled = torch.bmm(is_word[:, None].to(words.dtype), words)[:, 0] / is_word.sum(
            dim=1, keepdim=True
        )  # (batch, width)
        tokens = words * is_real[:, :, None] if with_tokens else None
        return TowerOutput(tokens, pooled, pooled if self.project is None else self.project(pooled))
