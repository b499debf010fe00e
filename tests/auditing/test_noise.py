import math

import numpy as np
import pytest

from frugalclip.auditing.noise import (
    LemonSettings,
    cosine_suspicion,
    cross_fitted_cosines,
    folds_of,
    lemon_suspicion,
    unit_rows,
)


def pairs(rows: int, dim: int, width: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of ten concepts by two encoders that share no space."""
    random = np.random.default_rng(seed)
    concepts = random.standard_normal((10, 6))[random.integers(0, 10, rows)]
    concepts = concepts + 0.1 * random.standard_normal(concepts.shape)
    return concepts @ random.standard_normal((6, dim)), concepts @ random.standard_normal((6, width))


def auroc(scores: np.ndarray, is_wrong: np.ndarray) -> float:
    above = scores[is_wrong][:, None] - scores[~is_wrong][None]
    return float((above > 0).mean() + 0.5 * (above == 0).mean())


def swapped(texts: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    rows = random.permutation(len(texts))[: int(share * len(texts))]
    result = texts.copy()
    result[rows] = texts[np.roll(rows, 1)]
    return result, np.isin(np.arange(len(texts)), rows)


def test_lemon_matches_the_formula_written_as_loops():
    x, y = (
        unit_rows(np.random.default_rng(0).standard_normal((12, 4))),
        unit_rows(np.random.default_rng(1).standard_normal((12, 4))),
    )
    settings = LemonSettings(3, 2.0, 0.5, 0.7, 1.5)

    def apart(a: np.ndarray, b: np.ndarray) -> float:
        return 1 - float(a.astype(float) @ b.astype(float))

    def term(near: np.ndarray, other: np.ndarray, i: int) -> float:
        order = sorted((j for j in range(12) if j != i), key=lambda j: apart(near[i], near[j]))[:3]
        return sum(
            apart(other[i], other[j])
            * math.exp(-0.7 * apart(near[i], near[j]))
            * math.exp(-1.5 * apart(x[j], y[j]))
            for j in order
        ) / len(order)

    expected = [apart(x[i], y[i]) + 2.0 * term(x, y, i) + 0.5 * term(y, x, i) for i in range(12)]
    assert lemon_suspicion(x, y, settings=settings) == pytest.approx(expected, abs=1e-5)


def test_the_order_of_rows_changes_no_score():
    images, texts = pairs(200, 16, 16)
    order = np.random.default_rng(2).permutation(200)
    assert lemon_suspicion(images[order], texts[order]) == pytest.approx(
        lemon_suspicion(images, texts)[order], abs=1e-5
    )


def test_swapped_captions_are_suspicious_also_for_encoders_that_share_no_space():
    images, texts = pairs(600, 24, 16)
    texts, is_wrong = swapped(texts, 0.3)
    folds = folds_of(np.arange(600, dtype=np.uint64), 5, seed=0)
    cosines = cross_fitted_cosines(images, texts, folds)
    assert auroc(1 - cosines, is_wrong) > 0.9
    assert auroc(lemon_suspicion(images, texts, distances=1 - cosines), is_wrong) > 0.9


def test_a_head_has_not_seen_what_it_scores():
    images, texts = pairs(120, 8, 8)
    folds = folds_of(np.arange(120, dtype=np.uint64), 4, seed=3)
    before = cross_fitted_cosines(images, texts, folds)
    texts[0] = -texts[0]  # changes the heads of other folds only
    after = cross_fitted_cosines(images, texts, folds)
    same = (folds == folds[0]) & (np.arange(120) > 0)
    assert np.array_equal(before[same], after[same])
    assert not np.array_equal(before[folds != folds[0]], after[folds != folds[0]])
    assert after[0] < before[0]


def test_few_rows_have_scores_or_none():
    one = np.ones((1, 4))
    assert lemon_suspicion(one, one).tolist() == pytest.approx([0.0], abs=1e-6)
    assert np.isnan(cross_fitted_cosines(one, one, np.zeros(1, np.int64))).all()
    assert lemon_suspicion(one[:0], one[:0]).shape == (0,)
    assert cosine_suspicion(np.zeros((1, 4)), one).tolist() == [1.0]


def test_folds_do_not_depend_on_other_rows():
    codes = np.arange(100, dtype=np.uint64)
    assert np.array_equal(folds_of(codes, 5, seed=1)[50:], folds_of(codes[50:], 5, seed=1))
    assert set(folds_of(codes, 5, seed=1).tolist()) == set(range(5))
