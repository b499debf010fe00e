"""Heads that leave out each pair in one fit: what they compute, and what they find."""

import numpy as np
import pytest

from frugalclip.auditing.left_out import LeftOutHeads
from frugalclip.auditing.noise import unit_rows
from frugalclip.auditing.suspicious_pairs import separation


def pairs(rows: int, *, noise: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images and captions that a linear map relates."""
    random = np.random.default_rng(seed)
    images, shared = random.standard_normal((rows, 20)), random.standard_normal((20, 12))
    return images, images @ shared + noise * random.standard_normal((rows, 12))


def refitted(images: np.ndarray, texts: np.ndarray, row: int, *, ridge: float) -> np.ndarray:
    """(12,) what a ridge regression with a constant, fitted to all rows but one, predicts for that one."""
    others = np.arange(len(images)) != row
    x, y = images[others], texts[others]
    means = x.mean(axis=0), y.mean(axis=0)
    x, y = x - means[0], y - means[1]
    weights = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y)
    return (images[row] - means[0]) @ weights + means[1]


@pytest.mark.parametrize("rows", [15, 60])  # fewer than features, and more
def test_one_fit_predicts_each_row_as_a_fit_to_all_others_does(rows: int):
    images, texts = (unit_rows(one).astype(np.float64) for one in pairs(rows))
    heads = LeftOutHeads(images, texts, penalty=1.0)
    x = images - images.mean(axis=0)
    ridge = float(np.square(x).sum()) / x.shape[1]
    for row in range(0, rows, 7):
        there = refitted(images, texts, row, ridge=ridge) - texts.mean(axis=0)
        found = heads._left[row, :12] * np.sqrt(2)
        assert found == pytest.approx(there / np.linalg.norm(there), abs=1e-4)


def test_shares_are_of_pairs_dealt_at_random():
    images, texts = pairs(400, noise=0.1)
    heads = LeftOutHeads(images, texts)
    random = np.random.default_rng(1).permutation(400)
    own, dealt = heads.scores(), heads.scores(random)
    assert own.shares.max() < 0.2 and own.cosines.min() > 0.3
    assert dealt.shares.mean() == pytest.approx(0.5, abs=0.05)
    assert np.all((dealt.shares >= 0) & (dealt.shares <= 1))


def test_captions_that_are_near_to_everything_gain_nothing_by_it():
    images, texts = pairs(400, noise=4.0)
    texts[:80] = 0.2 * texts[:80] + 3 * texts[80]  # one fifth of the captions are alike
    images[:80] = 0.5 * images[:80] + images[80]
    order = np.roll(np.arange(400), 37)
    heads = LeftOutHeads(images, texts)
    own, dealt = heads.scores(), heads.scores(order)
    by_cosine, by_share = (
        separation(-own.cosines, -dealt.cosines),
        separation(own.shares, dealt.shares),
    )
    assert by_share > by_cosine


def test_heads_that_leave_out_what_fits_worst_find_more_wrong_pairs():
    images, texts = pairs(200, noise=8.0)
    wrong = np.arange(200) < 66
    texts[wrong] *= -2
    found = [LeftOutHeads(images, texts, doubted=share).scores().cosines for share in (0.0, 0.3)]
    apart = [separation(-one[~wrong], -one[wrong]) for one in found]
    assert apart[0] + 0.02 < apart[1]


def test_the_order_of_rows_changes_no_score():
    images, texts = pairs(150)
    order = np.random.default_rng(2).permutation(150)
    here, there = (
        LeftOutHeads(*both, doubted=0.3).scores() for both in ((images, texts), (images[order], texts[order]))
    )
    assert there.shares == pytest.approx(here.shares[order], abs=1e-5)


@pytest.mark.parametrize("rows", [0, 1])
def test_pairs_that_nothing_can_be_fitted_to_have_no_score(rows: int):
    one = np.ones((rows, 3))
    found = LeftOutHeads(one, one, doubted=0.3).scores()
    assert len(found.cosines) == rows and np.isnan(found.cosines).all() and np.isnan(found.shares).all()
