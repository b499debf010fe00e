"""Whitening: the whitened covariance has the stated power, and outputs are centred."""

import pytest
import torch
from torch import Tensor

from frugalclip.towers.heads.whitening import Whitening, WhiteningConfig


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def whiten(*, power: float, width: int = 8, dim: int = 5) -> Whitening:
    return WhiteningConfig(kind="whitening", power=power).build(width=width, dim=dim).double()


PICTURES = normal(200, 8) @ normal(8, 8, seed=1) + 3


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_the_covariance_has_the_stated_power(power: float):
    head = whiten(power=power)
    head.fit_to(PICTURES)
    projected = ((PICTURES - head.mean) @ head.projection)[:, :4]  # the last channel is kept free
    found = torch.cov(projected.T, correction=0)
    standard = (PICTURES - PICTURES.mean(0)) / (PICTURES.std(0) + 1e-3)
    spread = torch.linalg.eigvalsh(standard.T @ standard / len(standard)).flip(0)[:4]
    torch.testing.assert_close(found.diagonal(), spread[0] ** power * spread ** (1 - power))
    torch.testing.assert_close(found, torch.diag(found.diagonal()), atol=1e-9, rtol=0)


def test_the_output_is_centred_and_was_of_length_one_before():
    head = whiten(power=0.5)
    head.fit_to(PICTURES)
    out = head(PICTURES)
    torch.testing.assert_close(out.mean(0), torch.zeros(5, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close((out + head.centre).norm(dim=-1), torch.ones(200, dtype=torch.float64))
    assert not list(head.parameters())


def test_few_images_and_a_constant_channel_leave_no_noise():
    head = whiten(power=1.0, dim=7)
    few = PICTURES[:4].clone()
    few[:, 2] = 5.0
    head.fit_to(few)
    assert torch.isfinite(head(PICTURES)).all()
    assert not head.projection[:, 3:].any()  # four centred images have three directions
    assert head.projection[2].abs().max() < 1e-6


def test_the_last_channel_of_images_is_the_constant_beside_a_vector_of_length_one():
    head = whiten(power=0.5)
    head.fit_to(PICTURES)
    before = head(PICTURES)
    head.level.fill_(0.3)
    after = head(PICTURES)
    assert not before[:, 4].any() and (after[:, 4] == 0.3).all()
    torch.testing.assert_close(after[:, :4], torch.nn.functional.normalize(before, dim=-1)[:, :4])
