"""Heads in closed form: the whitened covariance has the stated power, and the kernel head is weighted ridge regression."""

import math

import pytest
import torch
from torch import Tensor

from frugalclip.towers.fitted import Kernel, KernelConfig, Whiten, WhitenConfig


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def whiten(*, power: float, width: int = 8, dim: int = 5) -> Whiten:
    return WhitenConfig(kind="whiten", power=power).build(width=width, dim=dim).double()


PICTURES = normal(200, 8) @ normal(8, 8, seed=1) + 3
TEXTS, TARGETS = normal(30, 6, seed=2) + 1, normal(30, 4, seed=3)
WEIGHTS = 0.2 + torch.rand(30, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_the_covariance_has_the_stated_power(power: float):
    head = whiten(power=power)
    head.fit(PICTURES)
    projected = (PICTURES - head.mean) @ head.projection
    found = torch.cov(projected.T, correction=0)
    standard = (PICTURES - PICTURES.mean(0)) / (PICTURES.std(0) + 1e-3)
    spread = torch.linalg.eigvalsh(standard.T @ standard / len(standard)).flip(0)[:5]
    torch.testing.assert_close(found.diagonal(), spread[0] ** power * spread ** (1 - power))
    torch.testing.assert_close(found, torch.diag(found.diagonal()), atol=1e-9, rtol=0)


def test_the_output_is_centred_and_was_of_length_one_before():
    head = whiten(power=0.5)
    head.fit(PICTURES)
    out = head(PICTURES)
    torch.testing.assert_close(out.mean(0), torch.zeros(5, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close((out + head.centre).norm(dim=-1), torch.ones(200, dtype=torch.float64))
    assert not list(head.parameters())


def test_fewer_pictures_than_dimensions_and_a_channel_that_says_nothing_leave_no_noise():
    head = whiten(power=1.0, dim=7)
    few = PICTURES[:4].clone()
    few[:, 2] = 5.0
    head.fit(few)
    assert torch.isfinite(head(PICTURES)).all()
    assert not head.projection[:, 3:].any()  # four centred pictures have three directions
    assert head.projection[2].abs().max() < 1e-6


def kernel(texts: Tensor, others: Tensor, *, sharpness: float) -> Tensor:
    """Written as loops."""
    return torch.tensor([[math.exp(-sharpness * float((a - b).square().sum())) for b in others] for a in texts], dtype=torch.float64)


def test_the_kernel_head_is_weighted_kernel_ridge_regression():
    head = KernelConfig(kind="kernel", sharpness=0.7, ridge=0.3).build(width=6, dim=4).double()
    head.fit(TEXTS, TARGETS, WEIGHTS)
    mean = (WEIGHTS[:, None] * TEXTS).sum(0) / WEIGHTS.sum()
    centred = TEXTS - mean
    unit = centred / centred.norm(dim=1, keepdim=True)
    among = kernel(unit, unit, sharpness=0.7)
    # the weights a that minimise sum_i w_i |y_i - (K a)_i|^2 + ridge a' K a, from its normal equations
    solved = torch.linalg.solve(among @ torch.diag(WEIGHTS) @ among + 0.3 * among, among @ (WEIGHTS[:, None] * TARGETS))
    new = normal(9, 6, seed=5)
    unit_new = (new - mean) / (new - mean).norm(dim=1, keepdim=True)
    torch.testing.assert_close(head(new), kernel(unit_new, unit, sharpness=0.7) @ solved, atol=1e-8, rtol=1e-6)


def test_fewer_anchors_that_span_all_texts_give_the_same():
    """One text stands twice: its weight is shared, and the rarer copy is no anchor."""
    texts, targets = torch.cat([TEXTS, TEXTS[3:4]]), torch.cat([TARGETS, TARGETS[3:4]])
    weights = torch.cat([WEIGHTS, WEIGHTS.new_tensor([0.05])])
    weights[3] -= 0.05
    whole = KernelConfig(kind="kernel").build(width=6, dim=4).double()
    whole.fit(TEXTS, TARGETS, WEIGHTS)
    fewer = KernelConfig(kind="kernel", anchors=30).build(width=6, dim=4).double()
    fewer.fit(texts, targets, weights)
    assert fewer.anchors.shape == (30, 6)
    torch.testing.assert_close(fewer(TEXTS), whole(TEXTS), atol=1e-6, rtol=1e-6)


def test_the_anchors_are_the_texts_that_are_drawn_most_often():
    head = KernelConfig(kind="kernel", anchors=5).build(width=6, dim=4).double()
    head.fit(TEXTS, TARGETS, WEIGHTS)
    unit = torch.nn.functional.normalize(TEXTS - head.mean, dim=-1)
    assert torch.equal(head.anchors, unit[torch.sort(torch.topk(WEIGHTS, 5).indices).values])


def fitted(*, anchors: int = 6000, train: bool = False) -> Kernel:
    head = KernelConfig(kind="kernel", anchors=anchors, train=train).build(width=6, dim=4)
    head.fit(TEXTS, TARGETS, WEIGHTS)
    return head


@pytest.mark.parametrize("anchors", [30, 7])
def test_a_saved_head_is_loaded_whatever_its_number_of_anchors(anchors: int):
    saved = fitted(anchors=anchors)
    fresh, other = KernelConfig(kind="kernel").build(width=6, dim=4), fitted(anchors=12)
    for head in (fresh, other):
        head.load_state_dict(saved.state_dict())
        assert torch.equal(head(TEXTS.float()), saved(TEXTS.float()))


def test_loading_keeps_the_weight_that_an_optimiser_holds():
    head = fitted(train=True)
    held = head.weight
    head.load_state_dict({name: value + 1 for name, value in head.state_dict().items()})
    assert head.weight is held


@pytest.mark.parametrize("train", [False, True])
def test_the_weights_move_only_where_that_is_asked_for(train: bool):
    head = fitted(train=train)
    assert [p.requires_grad for p in head.parameters()] == [train]
    assert head(TEXTS.float()).requires_grad == train
