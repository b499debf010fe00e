"""Scores of all words for a state, and the best over many states, without a tensor of all scores."""

from typing import Any

import torch
from torch import Tensor

SCORES = 2**24  # scores computed at a time; 64 MiB in float32


def word_scores(states: Tensor, codebook: Tensor) -> Tensor:
    """Products of states with the vectors of words, in the wider of their two types.

    Args:
        states: (..., width).
        codebook: (vocab, width).

    Returns:
        (..., vocab); cosines where both are unit vectors.
    """
    kind = torch.promote_types(states.dtype, codebook.dtype)
    return states.to(kind) @ codebook.to(kind).T


def best_word_scores(
    states: Tensor, codebook: Tensor, *, mask: Tensor | None = None, chunk: int | None = None
) -> Tensor:
    """The largest score of each word over the states of a row, without holding all scores at once.

    This is the max pooling of SPLADE and STAIR. Words are scored in chunks; only the best state of a word is
    kept, the first of equal ones, and gets its gradient. The backward pass multiplies matrices that are zero
    but for the best states: more arithmetic than a lookup, but faster on a CPU, where a lookup waits for
    memory. Sums are in float32 at least. Not differentiable twice.

    Args:
        states: (batch, patches, width).
        codebook: (vocab, width).
        mask: (batch, patches) bool, False for masked states.
        chunk: words scored at a time; default as many as keep `SCORES` scores.

    Returns:
        (batch, vocab); minus infinity for a row whose states are all masked.
    """
    words = max(1, SCORES // max(1, states.shape[0] * states.shape[1])) if chunk is None else chunk
    return _BestWordScores.apply(states, codebook, mask, words)  # pyright: ignore[reportReturnType]


class _BestWordScores(torch.autograd.Function):
    """The forward pass keeps the index of each maximum; the backward pass multiplies a sparse gradient."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, codebook: Tensor, mask: Tensor | None, words: int) -> Tensor:
        kind = torch.promote_types(states.dtype, codebook.dtype)
        best = torch.empty(len(states), len(codebook), dtype=_at_least_single(kind), device=states.device)
        places = torch.empty(
            best.shape, dtype=torch.int32, device=states.device
        )  # half of what int64 would keep
        left, closed = states.to(kind), None if mask is None else ~mask[:, :, None]
        for start in range(0, len(codebook), words):
            scores = left @ codebook[start : start + words].to(kind).T  # (batch, patches, words)
            scores = scores if closed is None else scores.masked_fill_(closed, float("-inf"))
            best[:, start : start + words], places[:, start : start + words] = scores.max(dim=1)
        ctx.save_for_backward(states, codebook, places)
        ctx.words, ctx.kind = (
            words,
            torch.get_autocast_dtype(states.device.type)
            if torch.is_autocast_enabled(states.device.type)
            else kind,
        )
        return best

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        states, codebook, places = ctx.saved_tensors
        batch, patches, width = states.shape
        flat = states.reshape(batch * patches, width).to(ctx.kind)
        to_states = torch.zeros(flat.shape, dtype=gradients[0].dtype, device=flat.device)
        to_words = torch.empty(codebook.shape, dtype=gradients[0].dtype, device=flat.device)
        for start in range(0, len(codebook), ctx.words):
            some = slice(start, start + ctx.words)
            where, gradient = (
                places[:, None, some].long(),
                gradients[0][:, None, some].to(ctx.kind),
            )  # (batch, 1, words)
            spread = (
                gradient.new_zeros(batch, patches, where.shape[2])
                .scatter_(1, where, gradient)
                .view(batch * patches, -1)
            )
            to_words[some] = spread.T @ flat
            to_states += spread @ codebook[some].to(ctx.kind)
        return to_states.view_as(states).to(states.dtype), to_words.to(codebook.dtype), None, None


def _at_least_single(kind: torch.dtype) -> torch.dtype:
    return kind if kind == torch.float64 else torch.float32
