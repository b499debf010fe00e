"""The ridge head: both forms of the fit solve the same equations, and heavier texts are met more closely."""

import pytest
import torch

from frugalclip.towers.heads.ridge import Ridge, RidgeConfig


def problem(texts: int, width: int, dim: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(texts, width, generator=generator),
        torch.randn(texts, dim, generator=generator),
        torch.rand(texts, generator=generator) + 0.1,
    )


def fitted(vectors: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, ridge: float = 0.7) -> Ridge:
    head = RidgeConfig(ridge=ridge).build(width=vectors.shape[1], dim=targets.shape[1])
    head.fit_to(vectors, targets, weights)
    return head


@pytest.mark.parametrize(("texts", "width"), [(5, 12), (12, 5)])
def test_the_weighted_squared_error_is_least(texts: int, width: int):
    vectors, targets, weights = problem(texts, width)
    found = fitted(vectors, targets, weights).weight.double().requires_grad_()
    errors = (vectors.double() @ found - targets).square().sum(dim=1)
    (weights * errors).sum().add(0.7 * found.square().sum()).backward()
    assert found.grad is not None
    assert float(found.grad.abs().max()) < 1e-5  # of a convex function, so this is its minimum


def test_a_text_that_is_drawn_often_is_met_more_closely():
    vectors, targets, weights = problem(6, 9)
    heavy = weights.clone()
    heavy[2] *= 100
    before, after = ((fitted(vectors, targets, w)(vectors)[2] - targets[2]).norm() for w in (weights, heavy))
    assert after < before / 3


def test_a_head_without_texts_of_a_direction_gives_zero_there():
    vectors, targets, weights = problem(3, 8)
    vectors[:, 5:] = 0
    assert not fitted(vectors, targets, weights)(torch.eye(8)[5:]).any()
    assert not list(fitted(vectors, targets, weights).parameters()), "nothing is left to train"
