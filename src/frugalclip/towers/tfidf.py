"""Texts as weighted counts of their tokens (TF-IDF), with a head that is fitted in closed form.

Source: Spärck Jones 1972, weights by inverse document frequency, smoothed as in scikit-learn. Nothing is
trained by gradient: the weights are counted in the training texts, and ridge regression maps the counts to
the images of the texts. A text of tokens that the training texts do not hold has the embedding 0.
"""

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from frugalclip.core.types import CachedFeatures, Gates, TextInput, Tokens, TowerOutput
from frugalclip.functional import unit
from frugalclip.towers.base import FitData, TextTower, TextTowerConfig
from frugalclip.towers.heads.ridge import Ridge, RidgeConfig


class TfidfConfig(TextTowerConfig):
    """Settings of a text tower of weighted token counts."""

    kind: Literal["tfidf"]  # without a default, so that it is always written down
    width: int = Field(0, ge=0, le=0, description="0: as wide as the vocabulary, which the tokenizer knows")
    head: RidgeConfig = Field(default_factory=RidgeConfig, description="the regression from counts to images")

    def forward_gflops(self, *, tokens: int) -> float:
        """Forward arithmetic for one text of `tokens`, in 10^9 operations: additions alone."""
        return tokens * 1e-9

    def kept_numbers(self, *, tokens: int) -> float:
        """Numbers that the backward pass keeps for one text: nothing is trained."""
        return 0.0

    def build(self, *, vocabulary: int, context: int, dim: int) -> "TfidfText":
        """The tower of these sizes."""
        return TfidfText(self, vocabulary=vocabulary, context=context, dim=dim)


class TfidfText(TextTower):
    """Text tower of weighted token counts."""

    description = "a tower of token counts"
    advice = "set model.text.kind=transformer"
    rarity: Tensor  # (vocabulary,) log of texts for each text that holds the token; 0: not seen

    def __init__(self, config: TfidfConfig, *, vocabulary: int, context: int, dim: int) -> None:
        super().__init__()
        self.config, self.context = config, context
        self.register_buffer("rarity", torch.zeros(vocabulary))
        self.head: Ridge = config.head.build(width=vocabulary, dim=dim)

    def reset(self, generator: torch.Generator) -> None:
        """Nothing is drawn."""

    @property
    def fitted_head(self) -> Ridge:
        """The regression from counts to images."""
        return self.head

    def fit_features(self, data: FitData) -> None:
        """Count in how many of the training texts each token stands."""
        texts = data.texts()
        found_in = torch.zeros_like(self.rarity, dtype=torch.float64)  # (vocabulary,)
        for part in np.array_split(texts, max(1, len(texts) // 4096)):  # counts are dense
            found_in += (self._counts(data.text_tokens(part).to(self.rarity.device)) > 0).sum(dim=0)
        rarity = ((1 + len(texts)) / (1 + found_in)).log() + 1
        self.rarity.copy_(torch.where(found_in > 0, rarity, 0))

    def features(self, texts: Tokens, /) -> Tensor:
        """(batch, vocabulary) unit vectors; 0 for a text without a known token."""
        return unit(self._counts(texts) * self.rarity)

    def forward(
        self, texts: TextInput, *, with_tokens: bool = False, gates: Gates | None = None
    ) -> TowerOutput:
        """Encode texts.

        Args:
            texts: ids (batch, length), the first token the start and the last the end; or features from
                before.
            with_tokens: must be False, since counts have no order.
            gates: must be None.

        Raises:
            RecipeError: if tokens or gates are requested.
        """
        self.check(["gates"] if gates is not None else [])
        self.check(["token_outputs"] if with_tokens else [])
        assert isinstance(texts, Tokens | CachedFeatures), "strings are read by backbones with a tokenizer"
        features = texts.values if isinstance(texts, CachedFeatures) else self.features(texts)
        return TowerOutput(None, features, self.head(features))

    def _counts(self, texts: Tokens) -> Tensor:
        """(batch, vocabulary) how often each token stands in a text, without the start and the end."""
        places = torch.arange(texts.ids.shape[1], device=texts.ids.device)
        is_word = (places > 0) & (places < texts.lengths[:, None] - 1)  # (batch, length)
        counts = torch.zeros(texts.ids.shape[0], self.rarity.shape[0], device=texts.ids.device)
        return counts.scatter_add_(1, texts.ids, is_word.to(counts.dtype))
