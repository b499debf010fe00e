"""NMTune: a residual network and a linear head on frozen features, with terms that reshape their spectrum.

Source: Noisy Model Learning, ICLR 2024, arXiv 2309.17002 (`src/models/nml_tune.py`, `modeling.py`). Paper and
code differ, so both are here. `official` weighs three terms singly, rewards the mean of the five largest
singular values, and compares only the strong view with the weak one. `paper` has one weight, the largest
singular value, and compares every row with its own features.
"""

from dataclasses import dataclass
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugalclip.functional import unit

Variant = Literal["official", "paper"]
LARGEST = 5  # singular values that the authors' code rewards; the paper: 1


@dataclass(frozen=True)
class NMTuneWeights:
    """Weights of the terms beside cross-entropy; those of the authors' code by default."""

    mse: float = 1.0
    cov: float = 0.04
    svd: float = 0.001

    @classmethod
    def paper(cls, weight: float = 0.01) -> "NMTuneWeights":
        """One weight for all three terms."""
        return cls(weight, weight, weight)


def consistency_loss(features: Tensor, targets: Tensor) -> Tensor:
    """Mean squared difference of rows of length one.

    Args:
        features: (batch, width).
        targets: (batch, width); no gradient flows into them.

    Returns:
        () mean over all entries.
    """
    return F.mse_loss(unit(features), unit(targets.detach()))


def covariance_loss(features: Tensor) -> Tensor:
    """Squared covariances of different channels, summed, over their number; grows with the fourth power.

    Args:
        features: (rows, width), rows >= 2.

    Returns:
        () at least 0; 0 for whitened features.
    """
    rows, width = features.shape
    apart = features - features.mean(dim=0)
    covariance = apart.T @ apart / (rows - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / width


def dominant_share(features: Tensor, *, largest: int) -> Tensor:
    """Mean share of the largest singular values in the sum of all.

    Args:
        features: (rows, width), not centred.
        largest: how many.

    Returns:
        () between 0 and 1.
    """
    values = torch.linalg.svdvals(features)  # its gradient is stable where that of U and V is not
    return (values[:largest] / values.sum()).mean()


@final
class ResidualMLP(nn.Module):
    """Features plus a scaled network of them: linear, batch norm, ReLU, and a linear layer at the end.

    Args:
        width: of the features.
        ratio: width of a hidden layer in widths of the features.
        layers: hidden layers.
    """

    def __init__(self, width: int, *, ratio: int = 4, layers: int = 1) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        inputs = width
        for _ in range(layers):
            parts += [nn.Linear(inputs, ratio * width), nn.BatchNorm1d(ratio * width), nn.ReLU()]
            inputs = ratio * width
        self.network = nn.Sequential(*parts, nn.Linear(inputs, width))
        self.scale = nn.Parameter(torch.ones(1, width))

    def forward(self, features: Tensor) -> Tensor:
        """(batch, width) -> (batch, width); the scale multiplies the network and not the features."""
        return features + self.scale * self.network(features)


@dataclass(frozen=True)
class NMTuneTerms:
    """The terms of a step, each () and unweighted, and their weighted sum."""

    cross_entropy: Tensor
    mse: Tensor
    cov: Tensor
    dominant: Tensor  # the share that the total rewards
    total: Tensor


def nmtune_terms(
    features: Tensor,
    logits: Tensor,
    originals: Tensor,
    labels: Tensor,
    *,
    weights: NMTuneWeights,
    variant: Variant = "official",
) -> NMTuneTerms:
    """The loss of one step on two views; one view is given twice.

    Args:
        features: (2 * batch, width) outputs of the network: those of the weak view, then of the strong one.
        logits: (2 * batch, classes).
        originals: (2 * batch, width) inputs of the network in the same order.
        labels: (2 * batch,) int64.
        weights: of the terms.
        variant: whose terms.
    """
    batch = len(features) // 2
    is_paper = variant == "paper"
    outputs, targets = (features, originals) if is_paper else (features[batch:], originals[:batch])
    cross_entropy = F.cross_entropy(logits, labels)
    mse, cov = consistency_loss(outputs, targets), covariance_loss(features)
    dominant = dominant_share(features, largest=1 if is_paper else LARGEST)
    total = cross_entropy + weights.mse * mse + weights.cov * cov - weights.svd * dominant
    return NMTuneTerms(cross_entropy, mse, cov, dominant, total)
