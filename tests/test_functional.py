"""Losses against loops in float64, and their known values."""

import math

import pytest
import torch
from torch import Tensor

from frugalclip.functional import (
    class_weights,
    info_nce_loss,
    same_rows,
    sigmoid_loss,
    tiled_info_nce_loss,
    tiled_sigmoid_loss,
    unit,
)
from frugalclip.functional.losses import unit_or_nan


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
    assert [x.item() for x in info_nce_loss(same, same, SCALE, smoothing=smoothing)] == pytest.approx(
        [math.log(6)] * 2
    )


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
    assert info_nce_loss(images, texts, SCALE, same=same, policy="drop")[0].item() == pytest.approx(
        sum(dropped) / 4, abs=1e-12
    )
    sets = [{0, 2}, {1}, {0, 2}, {3}]
    outside = [sum(softmax_row(scores[i], j) for j in p) / len(p) for i, p in enumerate(sets)]
    assert info_nce_loss(images, texts, SCALE, same=same, policy="outside")[0].item() == pytest.approx(
        sum(outside) / 4, abs=1e-12
    )
    inside = [
        -math.log(sum(math.exp(-softmax_row(scores[i], j)) for j in p) / len(p)) for i, p in enumerate(sets)
    ]
    assert info_nce_loss(images, texts, SCALE, same=same, policy="inside")[0].item() == pytest.approx(
        sum(inside) / 4, abs=1e-12
    )


def test_uniform_targets_over_equal_captions_change_nothing():
    texts = unit_rows(4, 3, seed=1)
    texts[2] = texts[0]  # equal captions have equal embeddings
    codes = torch.tensor([0, 1, 0, 3])
    same = same_rows(codes, codes, torch.arange(4))
    plain = info_nce_loss(unit_rows(4, 3), texts, SCALE)[0]
    assert info_nce_loss(unit_rows(4, 3), texts, SCALE, same=same, policy="outside")[
        0
    ].item() == pytest.approx(plain.item(), abs=1e-12)
    assert info_nce_loss(unit_rows(4, 3), texts, SCALE, same=same, policy="drop")[0] < plain


@pytest.mark.parametrize("policy", ["drop", "outside", "inside"])
def test_gradients_with_several_positives_are_right(policy: str):
    codes = torch.tensor([0, 1, 0, 1])
    same = same_rows(codes, codes, torch.arange(4))
    inputs = (
        unit_rows(4, 3).requires_grad_(),
        unit_rows(4, 3, seed=2).requires_grad_(),
        torch.tensor(3.0, dtype=torch.float64, requires_grad=True),
    )
    assert torch.autograd.gradcheck(
        lambda i, t, s: sum(info_nce_loss(i, t, s, same=same, policy=policy)), inputs
    )


def test_sigmoid_matches_loops_and_its_start():
    images, texts, bias = unit_rows(4, 3), unit_rows(4, 3, seed=1), torch.tensor(-2.0, dtype=torch.float64)
    scores = (7.0 * images @ texts.T - 2.0).tolist()
    expected = (
        sum(
            math.log1p(math.exp(-s if i == j else s))
            for i, row in enumerate(scores)
            for j, s in enumerate(row)
        )
        / 4
    )
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


def test_features_too_long_for_a_unit_vector_are_nan_and_no_zeros():
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0], [3e38, 1e38], [torch.inf, 0.0]])
    found = unit_or_nan(rows)
    assert torch.equal(found[:2], torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    assert found[2:].isnan().all()
    assert torch.equal(unit_or_nan(rows[None])[0, :2], found[:2])  # facets too


def test_class_weights_normalise_before_and_after_the_mean():
    features = torch.tensor([[10.0, 0], [0, 1], [3, 4]])
    weights = class_weights(features, torch.tensor([0, 0, 1]), count=2)
    torch.testing.assert_close(weights, torch.tensor([[2**-0.5, 2**-0.5], [0.6, 0.8]]))


POLICIES = [
    ("drop", 0.0, False),
    ("drop", 0.0, True),
    ("drop", 0.1, False),
    ("outside", 0.0, True),
    ("inside", 0.0, True),
]


@pytest.mark.parametrize("alone", [True, False], ids=["one process", "own rows among candidates"])
@pytest.mark.parametrize(("policy", "smoothing", "several"), POLICIES)
def test_tiles_give_the_loss_and_gradients_of_the_whole_matrix(
    policy: str, smoothing: float, several: bool, alone: bool
):
    codes = torch.randint(0, 5, (11, 2), generator=torch.Generator().manual_seed(1)) if several else None
    images, texts = unit_rows(11, 4).requires_grad_(), unit_rows(11, 4, seed=1).requires_grad_()
    scale = torch.tensor(20.0, dtype=torch.float64, requires_grad=True)
    own = torch.arange(11) if alone else torch.arange(3, 8)
    rows = (images, texts) if alone else (images[3:8], texts[3:8])
    candidates = {} if alone else {"image_candidates": images, "text_candidates": texts, "own": own}
    same = None if codes is None else same_rows(codes[own], codes, own)
    whole = sum(info_nce_loss(*rows, scale, **candidates, same=same, policy=policy, smoothing=smoothing))
    given = {} if codes is None else {"codes": codes[own], "candidate_codes": codes}
    tiled = tiled_info_nce_loss(
        *rows, scale, **candidates, **given, policy=policy, smoothing=smoothing, tile=4
    )
    assert tiled.loss.item() == pytest.approx(whole.item(), abs=1e-12)
    for direct, in_tiles in zip(
        torch.autograd.grad(whole, [images, texts, scale]),
        torch.autograd.grad(3 * tiled.loss, [images, texts, scale]),
        strict=True,
    ):
        torch.testing.assert_close(3 * direct, in_tiles, rtol=0, atol=1e-12)
    assert tiled.hits.tolist() == ((rows[0] @ texts.T).argmax(dim=1) == own).tolist()
    assert tiled.same.item() == pytest.approx(0 if same is None else same.double().mean().item())


@pytest.mark.parametrize("as_match", [False, True])
@pytest.mark.parametrize("several", [False, True])
def test_sigmoid_in_tiles_is_sigmoid(several: bool, as_match: bool):
    codes = torch.tensor([0, 1, 0, 2, 1, 3, 4]) if several else None
    same = None if codes is None else same_rows(codes, codes, torch.arange(7))
    leaves = [unit_rows(7, 4).requires_grad_(), unit_rows(7, 4, seed=1).requires_grad_()]
    leaves += [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (9.0, -3.0)]
    whole = sigmoid_loss(*leaves, same=same, same_is_positive=as_match)
    tiled = tiled_sigmoid_loss(*leaves, codes=codes, same_is_positive=as_match, tile=3)
    assert tiled.item() == pytest.approx(whole.item(), abs=1e-12)
    for direct, in_tiles in zip(
        torch.autograd.grad(whole, leaves), torch.autograd.grad(tiled, leaves), strict=True
    ):
        torch.testing.assert_close(direct, in_tiles, rtol=0, atol=1e-8)  # torch's softplus is linear past 20


def test_tiles_survive_the_largest_scale_and_opposite_vectors():
    images, texts = -unit_rows(6, 3).float(), unit_rows(6, 3).float()  # every pair at cosine -1
    scale = torch.tensor(100.0)
    for left, right in ((images, texts), (texts, texts), (texts[:1].expand(6, 3), -texts[:1].expand(6, 3))):
        left, right = left.clone().requires_grad_(), right.clone().requires_grad_()
        whole = sum(info_nce_loss(left.double(), right.double(), scale.double()))
        tiled = tiled_info_nce_loss(left, right, scale, tile=2).loss
        assert tiled.item() == pytest.approx(whole.item(), rel=1e-5, abs=1e-6)
        for direct, in_tiles in zip(
            torch.autograd.grad(whole, [left, right]), torch.autograd.grad(tiled, [left, right]), strict=True
        ):
            torch.testing.assert_close(direct, in_tiles, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [90.0, 400.0, 1000.0, 30_000.0])
@pytest.mark.parametrize(("policy", "smoothing", "several"), POLICIES)
def test_tiles_are_finite_and_right_at_any_scale(policy: str, smoothing: float, several: bool, size: float):
    codes = torch.randint(0, 4, (9, 2), generator=torch.Generator().manual_seed(1)) if several else None
    same = None if codes is None else same_rows(codes, codes, torch.arange(9))
    scale = torch.tensor(size, requires_grad=True)
    images, texts = (unit_rows(9, 4, seed=seed).float().requires_grad_() for seed in (0, 1))
    leaves = [images, texts, scale]
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    whole = sum(info_nce_loss(*exact, same=same, policy=policy, smoothing=smoothing))
    tiled = tiled_info_nce_loss(*leaves, codes=codes, policy=policy, smoothing=smoothing, tile=4)
    assert tiled.loss.item() == pytest.approx(whole.item(), rel=1e-5)
    for direct, in_tiles in zip(
        torch.autograd.grad(whole, exact), torch.autograd.grad(tiled.loss, leaves), strict=True
    ):
        torch.testing.assert_close(direct.float(), in_tiles, rtol=2e-3, atol=1e-5 * size)
    cosines = images @ texts.T
    competing = cosines if same is None or policy != "drop" else cosines.masked_fill(same, -2)
    assert tiled.hits.tolist() == (competing.argmax(dim=1) == torch.arange(9)).tolist()


def test_equal_logits_are_no_hit():
    same = unit_rows(1, 4).expand(6, 4)
    assert not tiled_info_nce_loss(same, same, SCALE, tile=2).hits.any(), "a collapsed model knows nothing"
