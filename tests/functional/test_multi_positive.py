"""Several texts an image against loops; one text is SigLIP's and CLIP's loss."""

import math

import pytest
import torch
from torch import Tensor

from frugalclip.functional import (
    info_nce_loss,
    multi_positive_nce_loss,
    multi_positive_sigmoid_loss,
    sigmoid_loss,
    unit,
)

SCALE, BIAS = torch.tensor(7.0, dtype=torch.float64), torch.tensor(-2.0, dtype=torch.float64)


def rows(*shape: int, seed: int = 0) -> Tensor:
    return unit(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def log_sum(scores: list[float]) -> float:
    return math.log(sum(math.exp(score) for score in scores))


def test_sigmoid_matches_loops():
    images, texts = rows(4, 3), rows(4, 5, 3, seed=1)
    total = 0.0
    for i in range(4):
        for j in range(4):
            for text in texts[j]:
                z = float(7 * images[i] @ text - 2)
                total += math.log1p(math.exp(-z if i == j else z))
    assert multi_positive_sigmoid_loss(images, texts, SCALE, BIAS).item() == pytest.approx(
        total / 20, abs=1e-12
    )


def test_nce_matches_loops():
    images, texts = rows(4, 3), rows(4, 5, 3, seed=1)
    total = 0.0
    for i in range(4):
        for m in range(5):
            to_text = [float(7 * images[i] @ texts[j, m]) for j in range(4)]
            to_image = [float(7 * images[j] @ texts[i, m]) for j in range(4)]
            total += log_sum(to_text) - to_text[i] + log_sum(to_image) - to_image[i]
    found = multi_positive_nce_loss(images, texts, SCALE)
    assert found.loss.item() == pytest.approx(total / 20, abs=1e-12) and found.hits.shape == (20,)


def test_one_text_is_siglip_and_clip_to_the_last_bit():
    images, texts = rows(6, 4), rows(6, 1, 4, seed=1)
    assert multi_positive_sigmoid_loss(images, texts, SCALE, BIAS).equal(
        sigmoid_loss(images, texts[:, 0], SCALE, BIAS)
    )
    assert multi_positive_nce_loss(images, texts, SCALE).loss.equal(
        sum(info_nce_loss(images, texts[:, 0], SCALE))
    )


def test_order_of_a_images_texts_does_not_matter_to_sigmoid_and_must_be_everyones_to_nce():
    images, texts = rows(5, 4), rows(5, 3, 4, seed=1)
    order = torch.tensor([[2, 0, 1], [0, 2, 1], [1, 2, 0], [0, 1, 2], [2, 1, 0]])
    each, all_alike = texts.take_along_dim(order[:, :, None], dim=1), texts[:, [2, 0, 1]]
    sigmoid = multi_positive_sigmoid_loss(images, texts, SCALE, BIAS).item()
    nce = multi_positive_nce_loss(images, texts, SCALE).loss.item()
    assert multi_positive_sigmoid_loss(images, each, SCALE, BIAS).item() == pytest.approx(sigmoid, abs=1e-12)
    assert multi_positive_nce_loss(images, all_alike, SCALE).loss.item() == pytest.approx(nce, abs=1e-12)
    assert abs(multi_positive_nce_loss(images, each, SCALE).loss.item() - nce) > 1e-3


def test_every_text_twice_changes_nothing():
    images, texts = rows(5, 4), rows(5, 3, 4, seed=1)
    twice = texts.repeat_interleave(2, dim=1)
    once = multi_positive_sigmoid_loss(images, texts, SCALE, BIAS)
    assert multi_positive_sigmoid_loss(images, twice, SCALE, BIAS).item() == pytest.approx(
        once.item(), abs=1e-12
    )
    assert multi_positive_nce_loss(images, twice, SCALE).loss.item() == pytest.approx(
        multi_positive_nce_loss(images, texts, SCALE).loss.item()
    )


def test_values_at_the_start_and_at_collapse():
    apart = torch.eye(20, dtype=torch.float64)
    start = multi_positive_sigmoid_loss(
        apart[:4], apart[4:16].view(4, 3, 20), torch.tensor(10.0), torch.tensor(-10.0)
    )
    assert start.item() == pytest.approx(math.log1p(math.exp(10)) + 3 * math.log1p(math.exp(-10)), rel=1e-6)
    same = rows(1, 4)
    collapsed = multi_positive_nce_loss(same.expand(6, 4), same.expand(6, 3, 4), SCALE)
    assert collapsed.loss.item() == pytest.approx(2 * math.log(6))


def test_shares_of_the_rows_average_to_the_whole():
    images, texts = rows(6, 4), rows(6, 3, 4, seed=1)
    parts = torch.arange(6).split(2)
    sigmoid = [
        multi_positive_sigmoid_loss(images[own], texts[own], SCALE, BIAS, text_candidates=texts, own=own)
        for own in parts
    ]
    nce = [
        multi_positive_nce_loss(
            images[own], texts[own], SCALE, image_candidates=images, text_candidates=texts, own=own
        ).loss
        for own in parts
    ]
    assert torch.stack(sigmoid).mean().item() == pytest.approx(
        multi_positive_sigmoid_loss(images, texts, SCALE, BIAS).item(), abs=1e-12
    )
    assert torch.stack(nce).mean().item() == pytest.approx(
        multi_positive_nce_loss(images, texts, SCALE).loss.item(), abs=1e-12
    )


@pytest.mark.parametrize("kind", ["sigmoid", "nce"])
def test_gradients_are_right_and_tiles_give_the_same(kind: str, monkeypatch: pytest.MonkeyPatch):
    inputs = [x.clone().requires_grad_() for x in (rows(5, 3), rows(5, 2, 3, seed=1), SCALE, BIAS)]

    def loss(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        return (
            multi_positive_sigmoid_loss(images, texts, scale, bias)
            if kind == "sigmoid"
            else multi_positive_nce_loss(images, texts, scale).loss
        )

    assert torch.autograd.gradcheck(loss, inputs)
    whole = torch.autograd.grad(loss(*inputs), inputs, allow_unused=True)
    monkeypatch.setattr("frugalclip.functional.tiled.TILE", 12)  # a few rows at a time
    tiled = torch.autograd.grad(loss(*inputs), inputs, allow_unused=True)
    for one, other in zip(whole, tiled, strict=True):
        assert one is None or torch.allclose(one, other, rtol=0, atol=1e-12)
