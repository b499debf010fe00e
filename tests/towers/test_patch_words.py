"""Typical patches: found without labels, blind to flat places and to brightness."""

import pytest
import torch

from frugalclip.towers.patch_words import GRID, SIDE, WIDTH, WORDS, PatchWords


def stripes(images: int, *, across: bool, seed: int) -> torch.Tensor:
    """(images, 3, 32, 32) stripes of period 4 with some noise."""
    draws = torch.Generator().manual_seed(seed)
    wave = 90 * torch.sin(torch.arange(SIDE) * torch.pi / 2 + 0.3)
    picture = wave[None, :].expand(SIDE, SIDE) if across else wave[:, None].expand(SIDE, SIDE)
    return 120 + picture + 10 * torch.randn(images, 3, SIDE, SIDE, generator=draws)


@pytest.fixture
def fitted() -> PatchWords:
    words = PatchWords()
    words.fit(torch.cat([stripes(20, across=True, seed=0), stripes(20, across=False, seed=1)]))
    return words


def test_pictures_with_the_same_patches_are_alike(fitted):
    first, second = (fitted(stripes(6, across=across, seed=9)) for across in (True, False))
    assert first.shape == (6, WIDTH) and WIDTH == 2 * WORDS * GRID**2
    torch.testing.assert_close(first.norm(dim=1), torch.ones(6))
    assert (first @ first.T).min() > (first @ second.T).max() + 0.1


def test_a_darker_picture_with_less_contrast_has_the_same_words(fitted):
    pictures = stripes(3, across=True, seed=4)
    likeness = (fitted(pictures) * fitted(0.6 * pictures + 20)).sum(dim=1)
    assert likeness.min() > 0.99


def test_words_are_counted_where_they_are(fitted):
    half = stripes(1, across=True, seed=5)
    half[..., SIDE // 2 :] = 200  # no patch there has contrast
    places = fitted(half).view(2 * WORDS, GRID, GRID).sum(dim=0)
    assert places[:, 0].min() > 0 and not places[:, -1].any()


def test_pictures_without_contrast_have_no_words():
    words = PatchWords()
    words.fit(torch.full((4, 3, SIDE, SIDE), 7.0))
    assert not words(torch.full((2, 3, SIDE, SIDE), 7.0)).any()


def test_larger_pictures_are_scaled(fitted):
    large = stripes(2, across=False, seed=6).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(fitted(large).norm(dim=1), torch.ones(2))


def test_the_same_pictures_give_the_same_words(fitted):
    again = PatchWords()
    again.fit(torch.cat([stripes(20, across=True, seed=0), stripes(20, across=False, seed=1)]))
    torch.testing.assert_close(again.words, fitted.words, rtol=0, atol=0)
