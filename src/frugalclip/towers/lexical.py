"""The head that says of a picture, or of a text, how much each word of a vocabulary applies.

Source: LexVLA, arXiv 2407.17827, whose code is not public and whose figures show an adapter, a mapper and a codebook of word vectors for each
modality, the text's frozen and the picture's trained. What the parts are is our choice: one transformer layer, a normalised linear map, and the
scores of SPLADE (arXiv 2107.05720) with its activation and its maximum over tokens. A text has one state, a picture has patches.
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from frugalclip.core.config import Settings
from frugalclip.core.errors import ModelError
from frugalclip.core.numerics import keep_top_k
from frugalclip.functional import LexicalActivation, best_word_scores, lexical_activation, unit, word_scores
from frugalclip.towers.blocks import Norm, Transformer

MOST = math.log(100)  # of the learned scale, as for the model's own


class LexicalHeadConfig(Settings):
    """Settings of the head from states to words."""

    adapter_depth: int = Field(
        1,
        ge=0,
        description="transformer layers over the patches before they are mapped; 0 for one state of a text",
    )
    head_dim: int = Field(64, gt=0, description="channels of an attention head of the adapter")
    mapper: bool = Field(
        True, description="normalise and map states to the width of the words; false takes them as they are"
    )
    score: Literal["dot", "cosine"] = Field(
        "dot", description="of a state with a word; cosine where words differ in length, with a learned scale"
    )
    scale: float = Field(10.0, gt=0, le=100, description="initial multiplier of cosines; at most 100")
    activation: LexicalActivation = Field(
        "log1p_relu", description="log1p_relu (SPLADE) has exact zeros, elu1p (VDR) has none"
    )
    start: Literal["drawn", "captions"] = Field(
        "drawn",
        description="of the mapper: drawn weights, or ridge regression from pictures to what the frozen text backbone says of their captions",
    )
    train_codebook: bool = Field(
        True, description="whether the words' vectors are trained; LexVLA: pictures' yes, texts' no"
    )
    centre: bool = Field(
        False,
        description="take each word's mean score over the training data, before the first step, off: else what all have in common outweighs the rest",
    )

    def forward_gflops(self, *, tokens: int, width: int, vocab: int, inside: int) -> float:
        """Forward arithmetic for one picture of `tokens` states and words of the width `inside`, in 10^9 operations."""
        adapter = self.adapter_depth * (24 * tokens * width**2 + 4 * tokens**2 * width)
        return (adapter + 2 * tokens * inside * ((width if self.mapper else 0) + vocab)) * 1e-9

    def kept_numbers(self, *, tokens: int, width: int, vocab: int, inside: int) -> float:
        """Numbers that backward keeps of one picture of `tokens`: of the words only the best score and its place, never all scores."""
        adapter = self.adapter_depth * tokens * (17 * width + 2 * (width // self.head_dim) * tokens)
        return float(adapter + tokens * ((2 * width if self.mapper else 0) + inside) + 3 * vocab)

    def build(self, *, width: int, codebook: Tensor) -> "LexicalHead":
        """The head for states of `width` and the words of a codebook (vocab, inside)."""
        return LexicalHead(self, width=width, codebook=codebook)


class LexicalHead(nn.Module):
    """States to one activation a word.

    Args:
        config: its settings.
        width: channels of a state.
        codebook: (vocab, inside) vectors to start from, such as the head of a language model; copied where it is trained.

    Raises:
        ModelError: where states and words have no width in common and nothing maps them, or the adapter's width is no multiple of its heads.
    """

    centre: Tensor | None

    def __init__(self, config: LexicalHeadConfig, *, width: int, codebook: Tensor) -> None:
        super().__init__()
        self.config, inside = config, codebook.shape[1]
        if not config.mapper and width != inside:
            raise ModelError(
                f"states are {width} wide and words {inside}, so something has to map them; set mapper: true."
            )
        if config.adapter_depth and width % config.head_dim:
            raise ModelError(
                f"states are {width} wide, which is no multiple of head_dim {config.head_dim}; set a head_dim that divides it."
            )
        depth = config.adapter_depth
        self.adapter = _layers(width, depth=depth, head_dim=config.head_dim) if depth else None
        self.norm = Norm(width) if config.mapper else None
        self.mapper = nn.Linear(width, inside) if config.mapper else None
        trained = config.train_codebook
        self.codebook = nn.Parameter(
            codebook.detach().clone() if trained else codebook.detach(), requires_grad=trained
        )
        self.log_scale = (
            nn.Parameter(torch.tensor(math.log(config.scale))) if config.score == "cosine" else None
        )
        self.register_buffer("centre", torch.zeros(len(codebook)) if config.centre else None)

    def reset(self, generator: torch.Generator) -> None:
        """Draw the initial weights; the words keep what they were given."""
        if self.adapter is not None:
            self.adapter.reset(generator)
        if self.mapper is not None:
            nn.init.normal_(self.mapper.weight, std=self.mapper.in_features**-0.5, generator=generator)
            nn.init.zeros_(self.mapper.bias)

    def forward(self, tokens: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """How much each word applies to a picture or a text.

        Args:
            tokens: (batch, patches, width), or (batch, width) for one state each.
            mask: (batch, patches) bool, False for patches that do not take part in the maximum; the adapter does not look at them either.

        Returns:
            (batch, vocab), none negative; zeros where no patch takes part.
        """
        return self._activated(self.scores(tokens, mask=mask))

    def of_patches(self, tokens: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """(batch, patches, width) to (batch, patches, vocab): what `forward` takes the maximum of, for looking into pictures; mask as there."""
        return self._activated(word_scores(*self._compared(tokens, mask)))

    @torch.no_grad()
    def start_mapper(self, tokens: Tensor, states: Tensor, *, ridge: float = 0.1) -> None:
        """Let the mapper start as ridge regression: few pairs do not find thirty thousand words from drawn weights before all words are lost.

        Args:
            tokens: (pictures, patches, width) or (pictures, width).
            states: (pictures, inside) what the language model says of their captions.
            ridge: relative to the mean spread of a channel.

        Raises:
            ModelError: where the head has no mapper.
        """
        if self.mapper is None or self.norm is None:
            raise ModelError(
                "the head maps nothing, so there is nothing to start; leave start: captions out, or set mapper: true."
            )
        x = tokens if self.adapter is None else self.adapter(tokens)[0]
        x = self.norm(x).double()
        x, y = (
            x if x.ndim == 2 else x.mean(dim=1),
            states.double(),
        )  # the mean of what is mapped is what the mean maps to
        mean, middle = x.mean(dim=0), y.mean(dim=0)
        x, y = x - mean, y - middle
        spread = x.T @ x
        weight = torch.linalg.solve(
            spread
            + ridge * spread.diagonal().mean() * torch.eye(len(spread), dtype=x.dtype, device=x.device),
            x.T @ y,
        )
        self.mapper.weight.copy_(weight.T)
        self.mapper.bias.copy_(middle - mean @ weight)

    @torch.no_grad()
    def set_centre(self, mean_scores: Tensor) -> None:
        """Take these means (vocab,), of `scores` over a corpus, off every score from now on.

        Raises:
            ModelError: where the head has no place for them.
        """
        if self.centre is None:
            raise ModelError("the head takes nothing off its scores; set centre: true before it is built.")
        self.centre.copy_(mean_scores)

    def scores(self, tokens: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """What `forward` gives before centring and activation, (batch, vocab), whose mean over a corpus is what `set_centre` takes."""
        states, codebook = self._compared(tokens[:, None] if tokens.ndim == 2 else tokens, mask)
        return (
            word_scores(states[:, 0], codebook)
            if tokens.ndim == 2
            else best_word_scores(states, codebook, mask=mask)
        )

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Hold the scale of cosines between 1 and 100; called after every step."""
        if self.log_scale is not None:
            self.log_scale.clamp_(0, MOST)

    def _compared(self, tokens: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """(batch, patches, inside) states and (vocab, inside) codebook whose products are the scores."""
        x = tokens
        if self.adapter is not None:
            x, _ = self.adapter(x, mask=None if mask is None else _closed(mask, x.dtype))
        if self.norm is not None and self.mapper is not None:
            x = self.mapper(self.norm(x))
        if self.log_scale is None:
            return x, self.codebook
        return unit(x) * self.log_scale.exp(), unit(self.codebook)

    def _activated(self, scores: Tensor) -> Tensor:
        """In single precision or better: what adds up to a penalty must not round to nothing."""
        scores = scores if scores.dtype == torch.float64 else scores.float()
        return lexical_activation(
            scores if self.centre is None else scores - self.centre, kind=self.config.activation
        )


def _layers(width: int, *, depth: int, head_dim: int) -> Transformer:
    return Transformer(
        width,
        heads=(width // head_dim,) * depth,
        head_dim=head_dim,
        neurons=(4 * width,) * depth,
        activation="gelu",
    )


def _closed(mask: Tensor, kind: torch.dtype) -> Tensor:
    """(batch, 1, 1, patches) to add to attention scores: the least number at keys that do not take part, which leaves a row of them finite."""
    return torch.zeros(mask.shape, dtype=kind, device=mask.device).masked_fill(~mask, torch.finfo(kind).min)[
        :, None, None
    ]


def truncated(vectors: Tensor, *, threshold: float = 0.0, top_k: int | None = None) -> Tensor:
    """Leave of each row what an inverted index stores.

    Args:
        vectors: (batch, vocab), none negative.
        threshold: activations up to it become zero.
        top_k: words kept of a row at most, the largest, of equal ones the first.

    Returns:
        (batch, vocab).
    """
    above = vectors.masked_fill(vectors <= threshold, 0)
    return above if top_k is None else keep_top_k(above, top_k)
