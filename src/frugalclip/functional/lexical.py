"""Lexical vectors: activations, and penalties that keep them sparse.

Sources: the activation ln(1 + max(0, x)), and FLOPS, L1 and L0 as SPLADE uses them (arXiv 2107.05720,
`splade/losses/regularization.py`); ELU(x) + 1 of VDR (arXiv 2212.07699). LexVLA (arXiv 2407.17827) published
no code: the overuse penalty follows two third-party implementations, which agree in all but the factor
`vocab`.

Penalties depend on `usage`, the mean activation of each word over the whole batch: the mean of penalties
would be something else.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

LexicalActivation = Literal["log1p_relu", "elu1p"]
TINY = 1e-8  # sums of activations below this count as zero


def lexical_activation(scores: Tensor, *, kind: LexicalActivation) -> Tensor:
    """Scores of words to activations that are never negative; both kinds are monotonic.

    Args:
        scores: (..., vocab).
        kind: `log1p_relu`, ln(1 + max(0, x)), has exact zeros; `elu1p`, x + 1 above zero and e^x below, has
            none.

    Returns:
        (..., vocab); zero where a score is minus infinity.
    """
    if kind == "log1p_relu":
        return F.relu(scores).log1p()
    return torch.where(
        scores > 0, scores + 1, scores.clamp(max=0).exp()
    )  # elu(x) + 1 rounds scores far below zero to zero


def lexical_usage(vectors: Tensor, *, absolute: bool = False) -> Tensor:
    """Mean activation of each word.

    Args:
        vectors: (batch, vocab) activations.
        absolute: mean of absolute values, as in SPLADE's FLOPS, whose gradient at zero is zero.

    Returns:
        (vocab,) mean over the rows.
    """
    return (vectors.abs() if absolute else vectors).mean(dim=0)


def flops_loss(usage: Tensor) -> Tensor:
    """FLOPS: squares of the mean activations, a smooth form of the cost of a search in an inverted index.

    Args:
        usage: (vocab,) mean activations.

    Returns:
        () vocab * c^2 where all words are used alike at c; c^2 where only one is.
    """
    return usage.square().sum()


def overuse_weights(usage: Tensor) -> Tensor:
    """Usage of each word relative to the average word.

    Args:
        usage: (vocab,) mean activations, none negative.

    Returns:
        (vocab,) of mean one; zeros where no word is used.
    """
    return usage * len(usage) / usage.sum().clamp(min=TINY)


def overuse_loss(usage: Tensor, *, scale_by_vocab: bool = True, detach_weight: bool = False) -> Tensor:
    """Squares of the words' mean activations, weighted by their usage relative to the average word.

    Unlike FLOPS it pushes rarely used words up while it pushes the others down: its gradient is negative
    below the square root of a third of sum(usage^3) / sum(usage). It is never below FLOPS, and equals it
    where all words are used alike.

    Args:
        usage: (vocab,) mean activations, none negative.
        scale_by_vocab: weights of mean one; false divides them, and the loss, by the number of words.
        detach_weight: hold the weights fixed in the gradient, which then pushes no word up.

    Returns:
        () vocab * c^2 if all words have the usage c, or one word has; 0 if none is used.
    """
    weights = overuse_weights(usage.detach() if detach_weight else usage)
    total = (weights * usage.square()).sum()
    return total if scale_by_vocab else total / len(usage)


def l1_loss(vectors: Tensor) -> Tensor:
    """() mean over the rows of (batch, vocab) of the sum of absolute values."""
    return vectors.abs().sum(dim=1).mean()


def mean_non_zeros(vectors: Tensor) -> Tensor:
    """() mean number of words that are not zero in a row of (batch, vocab); without gradient."""
    return (vectors != 0).sum(dim=1).double().mean().to(vectors.dtype)


def quadratic_ramp(share: Tensor) -> Tensor:
    """Warm-up of a penalty: the square of its progress, then 1 (SPLADE's RegWeightScheduler).

    Args:
        share: () steps taken, this one included, divided by the steps of the warm-up; or any other share of
            it.

    Returns:
        () what the weight of the penalty is multiplied by.
    """
    return share.clamp(0, 1).square()
