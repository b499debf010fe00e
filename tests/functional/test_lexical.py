"""Activations and penalties of vectors over words: their known values, and where their gradients point."""

import math

import pytest
import torch
from torch import Tensor

from frugalclip.functional import (
    flops_loss,
    l1_loss,
    lexical_activation,
    lexical_usage,
    mean_non_zeros,
    overuse_loss,
    overuse_weights,
    quadratic_ramp,
)

WORDS = 12


def sparse(rows: int = 5, *, seed: int = 0) -> Tensor:
    return torch.randn(rows, WORDS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).clamp(
        min=0
    )


def usage_gradient(usage: Tensor, **settings: bool) -> Tensor:
    leaf = usage.clone().requires_grad_()
    overuse_loss(leaf, **settings).backward()
    assert leaf.grad is not None
    return leaf.grad


def test_penalties_match_loops():
    vectors = sparse()
    usage = [sum(row[v] for row in vectors.tolist()) / 5 for v in range(WORDS)]
    total = sum(usage)
    assert flops_loss(lexical_usage(vectors)).item() == pytest.approx(sum(a * a for a in usage), abs=1e-12)
    assert overuse_loss(lexical_usage(vectors)).item() == pytest.approx(
        WORDS * sum(a**3 for a in usage) / total, abs=1e-12
    )
    assert overuse_loss(lexical_usage(vectors), scale_by_vocab=False).item() == pytest.approx(
        sum(a**3 for a in usage) / total, abs=1e-12
    )
    assert l1_loss(-vectors).item() == pytest.approx(total, abs=1e-12)
    assert mean_non_zeros(vectors).item() == pytest.approx(
        sum(x > 0 for row in vectors.tolist() for x in row) / 5
    )


def test_words_used_alike_cost_the_same_by_both_and_one_word_costs_vocab_times_more():
    even, one = torch.full((WORDS,), 0.3, dtype=torch.float64), torch.zeros(WORDS, dtype=torch.float64)
    one[4] = 0.3
    assert flops_loss(even).item() == pytest.approx(WORDS * 0.09) and overuse_loss(
        even
    ).item() == pytest.approx(WORDS * 0.09)
    assert flops_loss(one).item() == pytest.approx(0.09) and overuse_loss(one).item() == pytest.approx(
        WORDS * 0.09
    )


@pytest.mark.parametrize("seed", range(5))
def test_overuse_is_never_below_flops_and_both_grow_with_the_square(seed: int):
    usage = lexical_usage(sparse(seed=seed))
    assert overuse_loss(usage) > flops_loss(usage)
    for penalty in (flops_loss, overuse_loss):
        assert penalty(3 * usage).item() == pytest.approx(9 * penalty(usage).item())


def test_overuse_pushes_rare_words_up_unless_its_weights_are_held():
    usage = torch.tensor([1.0, 0.8, 0.5, 0.1, 0.01], dtype=torch.float64)
    border = math.sqrt(float((usage**3).sum() / (3 * usage.sum())))
    gradient = usage_gradient(usage)
    assert torch.equal(gradient < 0, usage < border) and (gradient < 0).any() and (gradient > 0).any()
    held = usage_gradient(usage, detach_weight=True)
    torch.testing.assert_close(held, 2 * overuse_weights(usage) * usage)
    assert (held >= 0).all()
    torch.testing.assert_close(usage_gradient(usage, scale_by_vocab=False), gradient / 5)


@pytest.mark.parametrize("settings", [{}, {"scale_by_vocab": False}, {"detach_weight": True}])
def test_words_that_nobody_uses_cost_nothing_and_give_no_nan(settings: dict[str, bool]):
    nothing = torch.zeros(WORDS)
    assert overuse_loss(nothing, **settings).item() == 0 and flops_loss(nothing).item() == 0
    assert usage_gradient(nothing, **settings).tolist() == [0] * WORDS
    assert overuse_weights(nothing).tolist() == [0] * WORDS


def test_gradients_of_the_penalties_are_right():
    usage = (lexical_usage(sparse()) + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(overuse_loss, (usage,)) and torch.autograd.gradcheck(flops_loss, (usage,))


def test_a_zero_has_no_gradient_by_flops_of_absolute_values():
    vectors = sparse().requires_grad_()
    flops_loss(lexical_usage(vectors, absolute=True)).backward()
    assert torch.equal(vectors.grad != 0, vectors != 0)


def test_activations_are_what_they_are_called_and_keep_the_order():
    scores = torch.tensor([-math.inf, -50, -1, 0, 1e-9, 2], dtype=torch.float64)
    expected = {
        "log1p_relu": [math.log1p(max(0, x)) for x in scores.tolist()],
        "elu1p": [x + 1 if x > 0 else math.exp(x) for x in scores.tolist()],
    }
    for kind, values in expected.items():
        assert lexical_activation(scores, kind=kind).tolist() == pytest.approx(values, rel=1e-14)
        assert (lexical_activation(scores, kind=kind).diff() >= 0).all()
    assert lexical_activation(torch.tensor(-50.0), kind="elu1p") > 0, "never zero, however far below"


@pytest.mark.parametrize("kind", ["log1p_relu", "elu1p"])
def test_what_no_patch_speaks_for_has_no_gradient(kind: str):
    scores = torch.tensor([-math.inf, 1.0], requires_grad=True)
    lexical_activation(scores, kind=kind).sum().backward()
    assert scores.grad.isfinite().all() and scores.grad[0] == 0 and scores.grad[1] > 0


def test_the_ramp_is_the_square_and_ends_at_one():
    assert [
        quadratic_ramp(torch.tensor(share)).item() for share in (0.0, 0.1, 0.5, 1.0, 7.0)
    ] == pytest.approx([0, 0.01, 0.25, 1, 1])
