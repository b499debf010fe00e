"""Discrete codes of patch features: quantisation with straight-through gradients, and how codes are used.

Source: TL;DR (arXiv 2305.20087, `vq_compress_model/models/quantize.py`). Both conventions have the same value
and other gradients. `standard` weighs the commitment of the features by beta, as VQ-VAE does; the authors'
`legacy` weighs the codebook's term by it.
"""

from typing import Literal

import torch
from torch import Tensor

Convention = Literal["standard", "legacy"]


def nearest_codes(features: Tensor, codebook: Tensor) -> Tensor:
    """The code nearest to each feature in Euclidean distance.

    Args:
        features: (..., dim).
        codebook: (codes, dim).

    Returns:
        (...) int64.
    """
    distances = codebook.pow(2).sum(1) - 2 * features @ codebook.T  # (..., codes), up to the feature's norm
    return distances.argmin(dim=-1)


def quantised(features: Tensor, codebook: Tensor, codes: Tensor) -> Tensor:
    """The codes' vectors, with the gradient of the features (straight through).

    Args:
        features: (..., dim).
        codebook: (codes, dim).
        codes: (...) as `nearest_codes` gives them.

    Returns:
        (..., dim).
    """
    return features + (codebook[codes] - features).detach()


def codebook_loss(
    features: Tensor,
    codebook: Tensor,
    codes: Tensor,
    *,
    beta: float = 0.25,
    convention: Convention = "standard",
) -> Tensor:
    """Mean squared distance of features and codes, pulled from both sides.

    Args:
        features: (..., dim).
        codebook: (codes, dim).
        codes: (...) as `nearest_codes` gives them.
        beta: weight of one side, see `convention`.
        convention: `standard` weighs the features' side, `legacy` the codebook's.

    Returns:
        () at least 0.
    """
    chosen = codebook[codes]
    to_codes = (chosen.detach() - features).pow(2).mean()
    to_features = (chosen - features.detach()).pow(2).mean()
    first, second = (beta, 1.0) if convention == "standard" else (1.0, beta)
    return first * to_codes + second * to_features


def code_perplexity(codes: Tensor, count: int) -> Tensor:
    """How many codes are in use, as the exponential of the entropy of their usage.

    Args:
        codes: (...) int64.
        count: codes in the codebook.

    Returns:
        () from 1 to `count`.
    """
    usage = torch.bincount(codes.flatten(), minlength=count).double() / codes.numel()
    return torch.exp(-(usage * torch.log(usage + 1e-10)).sum())
