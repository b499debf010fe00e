import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frugalclip.core.errors import DataError
from frugalclip.core.numerics import softmax_regression, top_k


def problem(samples: int = 40, width: int = 5, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(samples, width, generator=generator), torch.randint(0, classes, (samples,), generator=generator)


@pytest.mark.parametrize("strength", [1e-6, 1e-3, 0.3, 30.0, 1e4])
def test_the_gradient_written_as_loops_is_zero_at_every_strength(strength):
    x, y = problem()
    fit = softmax_regression(x, y, strength=strength)
    chance = fit.logits(x).softmax(1).numpy()
    weight_gradient, bias_gradient = fit.weight.numpy().copy(), np.zeros(3)
    for row, label, p in zip(x.double().numpy(), y.tolist(), chance, strict=True):
        for c in range(3):
            weight_gradient[c] += strength * (p[c] - (c == label)) * row
            bias_gradient[c] += strength * (p[c] - (c == label))
    scale = strength * len(x)
    assert np.abs(weight_gradient).max() < 1e-7 * max(scale, scale**0.5)
    assert np.abs(bias_gradient).max() < 1e-7 * max(scale, scale**0.5)
    entropy = -sum(np.log(p[label]) for p, label in zip(chance, y.tolist(), strict=True))
    assert fit.objective == pytest.approx(strength * entropy + 0.5 * float(fit.weight.square().sum()), rel=1e-10)
    assert float(fit.bias.mean()) == pytest.approx(0, abs=1e-12)


def test_the_bias_is_free():
    x, y = torch.zeros(10, 2), torch.tensor([0] * 7 + [1] * 3)
    fit = softmax_regression(x, y, strength=1e-3)  # so strong a penalty would leave no trace of the shares in a penalised bias
    assert fit.logits(torch.zeros(1, 2)).softmax(1)[0].tolist() == pytest.approx([0.7, 0.3], abs=1e-6)


def test_what_cannot_be_fitted_is_named():
    x, y = problem()
    with pytest.raises(DataError, match="no training samples"):
        softmax_regression(x[:0], y[:0], strength=1.0)
    with pytest.raises(DataError, match="labels run from 0 to 2, expected 0 to 1"):
        softmax_regression(x, y, strength=1.0, classes=2)
    with pytest.raises(DataError, match="NaN or infinity"):
        softmax_regression(x.masked_fill(x > 1, float("nan")), y, strength=1.0)


@given(st.lists(st.lists(st.integers(-2, 2), min_size=6, max_size=6), min_size=1, max_size=4), st.integers(1, 8))
def test_top_k_takes_the_first_of_equals(rows, k):
    values, columns = top_k(torch.tensor(rows).float(), k)
    for row, value, column in zip(rows, values.tolist(), columns.tolist(), strict=True):
        expected = sorted(range(6), key=lambda j: (-row[j], j))[:k]
        assert column == expected
        assert value == [row[j] for j in expected]


def test_features_that_all_point_one_way_are_fitted_too():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 4
    features = torch.randn(200, 16, generator=generator, dtype=torch.float64) * torch.logspace(0, -3, 16, dtype=torch.float64)
    features[:, 9] += 0.01 * labels
    plain = softmax_regression(features, labels, strength=1e3)
    moved = softmax_regression(features + 50, labels, strength=1e3, steps=200, tolerance=1e-9)  # the bias takes up the shift
    assert moved.gradient < 1e-6
    assert moved.objective == pytest.approx(plain.objective, rel=1e-7)
    assert torch.allclose(moved.weight, plain.weight, atol=1e-3)


def test_more_features_than_samples_are_fitted_on_what_the_samples_span():
    x, y = problem()
    wide = torch.cat([x, torch.zeros(len(x), 2 * len(x))], dim=1)
    fit, narrow = softmax_regression(wide, y, strength=2.0), softmax_regression(x, y, strength=2.0)
    assert fit.objective == pytest.approx(narrow.objective, rel=1e-9)
    assert torch.allclose(fit.weight[:, : x.shape[1]], narrow.weight, atol=1e-6)
