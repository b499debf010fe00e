"""NMTune's terms: degenerate values, gradients, and the settings in which it is something simpler."""

import pytest
import torch
from torch import nn

from frugalclip.adaptation.nmtune import (
    NMTuneWeights,
    ResidualMLP,
    consistency_loss,
    covariance_loss,
    dominant_share,
    nmtune_terms,
)


def rows(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_whitened_features_have_no_covariance_and_it_grows_with_the_fourth_power():
    x = torch.linalg.qr(rows(12, 4) - rows(12, 4).mean(dim=0))[0]
    assert covariance_loss(x).item() == pytest.approx(0, abs=1e-12)
    y = rows(12, 4)
    assert covariance_loss(2 * y).item() == pytest.approx(16 * covariance_loss(y).item())


def test_gradients_are_those_of_finite_differences():
    x, targets = rows(6, 4).requires_grad_(), rows(6, 4, seed=1)
    losses = (covariance_loss, lambda z: dominant_share(z, largest=2), lambda z: consistency_loss(z, targets))
    for loss in losses:
        assert torch.autograd.gradcheck(loss, (x,))


def test_no_gradient_reaches_the_targets():
    targets = rows(6, 4, seed=1).requires_grad_()
    consistency_loss(rows(6, 4).requires_grad_(), targets).backward()
    assert targets.grad is None


def test_with_weights_of_zero_only_cross_entropy_is_left():
    x, labels = rows(8, 4), torch.arange(8) % 3
    terms = nmtune_terms(x, rows(8, 3), x, labels, weights=NMTuneWeights(0, 0, 0))
    assert terms.total.item() == terms.cross_entropy.item()


def test_a_network_of_zero_leaves_the_features_as_they_are():
    network = ResidualMLP(4).double()
    last = network.network[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    x = rows(6, 4)
    assert torch.equal(network(x), x)
    terms = nmtune_terms(
        network(x), rows(6, 3), x, torch.arange(6) % 3, weights=NMTuneWeights(), variant="paper"
    )
    assert terms.mse.item() == 0


def test_the_paper_has_one_weight_and_one_singular_value():
    x, labels = rows(8, 6), torch.arange(8) % 3
    paper = NMTuneWeights.paper(0.5)
    terms = nmtune_terms(x, rows(8, 3), x, labels, weights=paper, variant="paper")
    assert terms.dominant.item() == dominant_share(x, largest=1).item()
    expected = terms.cross_entropy + 0.5 * (terms.mse + terms.cov - terms.dominant)
    assert terms.total.item() == pytest.approx(expected.item())
