"""Spectra of matrices whose singular values are known."""

import math

import pytest
import torch

from frugalclip.adaptation.spectra import CENTRES, spectrum


def test_an_orthogonal_matrix_is_flat_and_one_direction_is_not():
    flat = spectrum(torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))[0])
    assert flat.entropy == pytest.approx(math.log(8))
    assert flat.largest_ratio == pytest.approx(math.log(8))
    one = spectrum(torch.outer(torch.arange(1.0, 6), torch.tensor([1.0, 2, 3])))
    assert one.entropy == pytest.approx(0, abs=1e-6)
    assert one.largest_ratio == pytest.approx(0, abs=1e-6)


def test_scale_and_rotation_change_nothing():
    random = torch.Generator().manual_seed(1)
    x = torch.randn(20, 5, generator=random, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(5, 5, generator=random, dtype=torch.float64))[0]
    for l2 in (True, False):
        entropy = spectrum(x, l2=l2).entropy
        assert spectrum(7 * x, l2=l2).entropy == pytest.approx(entropy)
        assert spectrum(x @ turn, l2=l2).entropy == pytest.approx(entropy)


def test_every_centring_is_its_own_and_is_named():
    x = torch.randn(20, 5, generator=torch.Generator().manual_seed(2)) + 1
    found = [spectrum(x, centre=centre) for centre in CENTRES]
    assert len({round(one.entropy, 6) for one in found}) == 3
    assert [one.centre for one in found] == list(CENTRES)
