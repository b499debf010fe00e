"""Predict the masked words of a caption from the rest.

Source: BERT, arXiv 1810.04805, section 3.1, task 1 (15 % of the tokens are chosen; of these 80 % become the
mask token, 10 % a random one, 10 % stay), as the text self-supervision of DeCLIP (arXiv 2110.05208, section
3.2, TSS). Start, end and padding are never chosen. DeCLIP's text tower is causal, so it predicts from
earlier words only; a bidirectional tower (`model.text.attention`) predicts from both sides. Masked positions
are selected before the product with the vocabulary; the released code multiplies all positions.
"""

from collections.abc import Mapping
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from frugalclip.core.distributed import mean_over_processes
from frugalclip.core.types import Tokens
from frugalclip.objectives.base import (
    Batch,
    Dims,
    Features,
    Needs,
    Objective,
    ObjectiveConfig,
    ObjectiveOutput,
    Selection,
    row_draws,
)

IGNORED = -100  # label of a position that is not predicted


class Config(ObjectiveConfig):
    text: str = Field(
        "caption",
        description="text view; the view with masked words is called VIEW@masked, and other objectives may "
        "read it too",
    )
    probability: float = Field(
        0.15, gt=0, lt=1, description="share of the words that are predicted; BERT: 0.15"
    )
    masked: float = Field(0.8, ge=0, le=1, description="share of these that become the mask token; BERT: 0.8")
    replaced: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of these that become a random token; BERT: 0.1. The rest stay as they are",
    )

    @model_validator(mode="after")
    def _is_share(self) -> Self:
        if self.masked + self.replaced > 1 + 1e-9:
            raise ValueError(
                "masked and replaced are shares of the same words and add up to "
                f"{self.masked + self.replaced:g}; expected at most 1"
            )
        return self


def mask_tokens(tokens: Tokens, draws: Tensor, *, config: Config, mask: int, vocabulary: int) -> Selection:
    """Choose the words to predict, and mask them.

    Args:
        tokens: of the batch; the first token of each text is its start and the last its end.
        draws: (batch, 3 * length) uniform numbers in [0, 1): whether a position is chosen, how it is
            replaced, and the random token.
        config: shares.
        mask: id of the mask token; where a text has it already, it stays.
        vocabulary: ids to draw random tokens from.

    Returns:
        ids (batch, length) after replacement, and labels (batch, length): the true id where it is predicted,
        -100 elsewhere.
    """
    chosen, fate, random = draws.to(tokens.ids.device).chunk(3, dim=1)
    places = torch.arange(tokens.ids.shape[1], device=tokens.ids.device)
    is_word = (places > 0) & (places < tokens.lengths[:, None] - 1) & (tokens.ids != mask)  # (batch, length)
    is_chosen = is_word & (chosen < config.probability)
    labels = tokens.ids.masked_fill(~is_chosen, IGNORED)
    ids = tokens.ids.masked_fill(is_chosen & (fate < config.masked), mask)
    is_random = is_chosen & (fate >= config.masked) & (fate < config.masked + config.replaced)
    return Selection(ids=torch.where(is_random, (random * vocabulary).long(), ids), labels=labels)


def masked_text_loss(
    hidden: Tensor, labels: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of predicted tokens, summed over their positions.

    Args:
        hidden: (batch, length, width) token outputs.
        labels: (batch, length) int64, -100 where nothing is predicted.
        weight: (vocab, width) of the output layer.
        bias: (vocab,) of the output layer.

    Returns:
        () sum in nats, () number of predictions, and () number of correct ones; the mean is the first divided
        by the second.
    """
    is_masked = labels != IGNORED
    truth = labels[is_masked]  # (predictions,)
    logits = F.linear(
        hidden[is_masked], weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype)
    )  # (predictions, vocab)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return (
        F.cross_entropy(logits, truth, reduction="sum"),
        truth.new_tensor(len(truth)),
        (logits.detach().argmax(dim=1) == truth).sum(),
    )


class MaskedText(Objective):
    Config = Config
    trains_embeddings = False

    def __init__(self, config: Config, dims: Dims) -> None:
        super().__init__(config, dims)
        self.config = config
        self.view = f"{config.text}@masked"
        self.output = nn.Linear(dims.text_width, dims.vocabulary)
        nn.init.normal_(self.output.weight, std=0.02)
        nn.init.zeros_(self.output.bias)

    def needs(self) -> Needs:
        return Needs(texts=frozenset({self.view}), tokens=frozenset({self.view}))

    def makes(self) -> frozenset[str]:
        return frozenset({self.view})

    def prepare(self, batch: Batch, targets: Mapping[str, Features]) -> dict[str, Selection]:
        tokens = batch.texts[self.config.text]
        assert isinstance(tokens, Tokens), "DualEncoder.check refuses pretrained text towers"
        draws = row_draws(
            batch, 3 * self.dims.context, seed=self.dims.seed, stream=f"masked/{self.config.text}"
        )
        # each place has its own numbers, however long the batch's longest text is
        draws = torch.cat([part[:, : tokens.ids.shape[1]] for part in draws.chunk(3, dim=1)], dim=1)
        return {
            self.view: mask_tokens(
                tokens, draws, config=self.config, mask=self.dims.mask, vocabulary=self.dims.vocabulary
            )
        }

    def forward(self, views: Features) -> ObjectiveOutput:
        hidden, labels = views.texts[self.view].tokens, views.selections[self.view].labels
        assert hidden is not None, "in the needs"
        assert labels is not None, "made in prepare"
        total, guesses, right = masked_text_loss(hidden, labels, self.output.weight, self.output.bias)
        everywhere = mean_over_processes(guesses.float()).clamp(
            min=1 / 1024
        )  # of all processes, so that N of them weigh words as one would
        return ObjectiveOutput(
            total / everywhere, {"accuracy": right / guesses.clamp(min=1), "guesses": guesses.float()}
        )
