"""Losses against loops in float64, and their known values."""

import math

import pytest
import torch
from torch import Tensor

from frugalclip.functional import class_weights, info_nce_loss, same_rows, sigmoid_loss, unit


def unit_rows(rows: int, dim: int, seed: int = 0) -> Tensor:
    return unit(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


SCALE = torch.tensor(7.0, dtype=torch.float64)


def softmax_row(scores: list[float], target: int, excluded: set[int] = frozenset()) -> float:
    total = sum(math.exp(s) for j, s in enumerate(scores) if j not in excluded)
    return math.log(total) - scores[target]


def test_info_nce_matches_loops():
    images, texts = unit_rows(5, 3), unit_rows(5, 3, seed=1)
    scores = (7.0 * images @ texts.T).tolist()
    expected = sum(softmax_row(scores[i], i) for i in range(5)) / 5
    assert info_nce_loss(images, texts, SCALE)[0].item() == pytest.approx(expected, abs=1e-12)
    swapped = info_nce_loss(texts, images, SCALE)
    assert swapped[1].item() == pytest.approx(expected, abs=1e-12), "swapping towers swaps the directions"


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equal_features_give_the_logarithm_of_the_batch(smoothing: float):
    same = unit_rows(1, 4).expand(6, 4)
    assert [x.item() for x in info_nce_loss(same, same, SCALE, smoothing=smoothing)] == pytest.approx([math.log(6)] * 2)


def test_one_pair_has_no_loss_and_no_gradient():
    images = unit_rows(1, 4).requires_grad_()
    loss = sum(info_nce_loss(images, unit_rows(1, 4, seed=3), SCALE))
    loss.backward()
    assert loss.item() == 0 and images.grad.abs().max() == 0


def test_other_positives_leave_the_denominator_or_share_the_target():
    images, texts = unit_rows(4, 3), unit_rows(4, 3, seed=1)
    codes, own = torch.tensor([7, 8, 7, 9]), torch.arange(4)
    same = same_rows(codes, codes, own)
    assert same.nonzero().tolist() == [[0, 2], [2, 0]]
    scores = (7.0 * images @ texts.T).tolist()
    dropped = [softmax_row(scores[i], i, {2} if i == 0 else {0} if i == 2 else set()) for i in range(4)]
    assert info_nce_loss(images, texts, SCALE, same=same, policy="drop")[0].item() == pytest.approx(sum(dropped) / 4, abs=1e-12)
    sets = [{0, 2}, {1}, {0, 2}, {3}]
    outside = [sum(softmax_row(scores[i], j) for j in p) / len(p) for i, p in enumerate(sets)]
    assert info_nce_loss(images, texts, SCALE, same=same, policy="outside")[0].item() == pytest.approx(sum(outside) / 4, abs=1e-12)
    inside = [-math.log(sum(math.exp(-softmax_row(scores[i], j)) for j in p) / len(p)) for i, p in enumerate(sets)]
    assert info_nce_loss(images, texts, SCALE, same=same, policy="inside")[0].item() == pytest.approx(sum(inside) / 4, abs=1e-12)


def test_uniform_targets_over_equal_captions_change_nothing():
    texts = unit_rows(4, 3, seed=1)
    texts[2] = texts[0]  # equal captions have equal embeddings
    codes = torch.tensor([0, 1, 0, 3])
    same = same_rows(codes, codes, torch.arange(4))
    plain = info_nce_loss(unit_rows(4, 3), texts, SCALE)[0]
    assert info_nce_loss(unit_rows(4, 3), texts, SCALE, same=same, policy="outside")[0].item() == pytest.approx(plain.item(), abs=1e-12)
    assert info_nce_loss(unit_rows(4, 3), texts, SCALE, same=same, policy="drop")[0] < plain


@pytest.mark.parametrize("policy", ["drop", "outside", "inside"])
def test_gradients_with_several_positives_are_right(policy: str):
    codes = torch.tensor([0, 1, 0, 1])
    same = same_rows(codes, codes, torch.arange(4))
    inputs = (unit_rows(4, 3).requires_grad_(), unit_rows(4, 3, seed=2).requires_grad_(), torch.tensor(3.0, dtype=torch.float64, requires_grad=True))
    assert torch.autograd.gradcheck(lambda i, t, s: sum(info_nce_loss(i, t, s, same=same, policy=policy)), inputs)


def test_sigmoid_matches_loops_and_its_start():
    images, texts, bias = unit_rows(4, 3), unit_rows(4, 3, seed=1), torch.tensor(-2.0, dtype=torch.float64)
    scores = (7.0 * images @ texts.T - 2.0).tolist()
    expected = sum(math.log1p(math.exp(-s if i == j else s)) for i, row in enumerate(scores) for j, s in enumerate(row)) / 4
    assert sigmoid_loss(images, texts, SCALE, bias).item() == pytest.approx(expected, abs=1e-12)
    apart = sigmoid_loss(torch.eye(8)[:4], torch.eye(8)[4:], torch.tensor(10.0), torch.tensor(-10.0))
    assert apart.item() == pytest.approx(math.log1p(math.exp(10)) + 3 * math.log1p(math.exp(-10)), rel=1e-6)


def test_sigmoid_leaves_other_positives_out_or_counts_them():
    images, texts, bias = unit_rows(3, 3), unit_rows(3, 3, seed=1), torch.tensor(-2.0, dtype=torch.float64)
    codes = torch.tensor([5, 5, 6])
    same = same_rows(codes, codes, torch.arange(3))
    scores = 7.0 * images @ texts.T - 2.0
    signs = torch.tensor([[1.0, 1, -1], [1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    each = torch.nn.functional.softplus(-signs * scores)
    counted = sigmoid_loss(images, texts, SCALE, bias, same=same, same_is_positive=True)
    assert counted.item() == pytest.approx(each.sum().item() / 3)
    left_out = sigmoid_loss(images, texts, SCALE, bias, same=same)
    assert left_out.item() == pytest.approx((each.sum() - each[0, 1] - each[1, 0]).item() / 3)


def test_unit_is_single_precision_under_half_and_keeps_zero():
    assert unit(torch.ones(2, 3, dtype=torch.bfloat16)).dtype == torch.float32
    assert unit(torch.zeros(1, 3)).tolist() == [[0, 0, 0]]


def test_class_weights_normalise_before_and_after_the_mean():
    features = torch.tensor([[10.0, 0], [0, 1], [3, 4]])
    weights = class_weights(features, torch.tensor([0, 0, 1]), count=2)
    torch.testing.assert_close(weights, torch.tensor([[2**-0.5, 2**-0.5], [0.6, 0.8]]))
