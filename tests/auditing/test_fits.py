"""Fits of accuracy against frequency, on numbers where the answer is known."""

import math
from pathlib import Path

import numpy as np
import pytest

from frugalclip.auditing.fits import Line, average_ranks, binned, centred, concept_fit, within_line

ARRAYS = Path(__file__).resolve().parents[1] / "parity" / "arrays"


def planted(concepts: int = 600, *, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    counts = np.round(10 ** random.uniform(0, 5, concepts)).astype(np.int64)
    return counts, 7 + 9 * np.log10(counts) + noise * random.standard_normal(concepts)


def test_a_planted_slope_comes_back():
    counts, accuracies = planted()
    fit = concept_fit(counts, accuracies)
    assert fit.slope == pytest.approx(9)
    assert fit.intercept == pytest.approx(7)
    assert (fit.r_all, fit.r_found, fit.spearman) == pytest.approx((1, 1, 1))
    noisy = concept_fit(*planted(noise=8))
    assert noisy.slope == pytest.approx(9, abs=0.5)
    assert 0.7 < noisy.r_found < 0.9


def test_bins_hold_every_concept_once_and_the_upper_edge_is_inside():
    counts, accuracies = np.array([0, 1, 2, 9, 90, 1000]), np.arange(6.0)
    bins = binned(counts, accuracies, edges=4)
    np.testing.assert_allclose(bins.edges, [1, 10, 100, 1000])
    assert bins.sizes.tolist() == [2, 2, 1, 1]
    np.testing.assert_allclose(bins.means, [0.5, 2.5, 4, 5])
    assert binned(*planted()).sizes.sum() == 600


def test_bins_without_concepts_are_left_out_of_the_line():
    bins = binned(np.array([0, 3, 3, 20_000]), np.array([0.0, 5, 7, 90]), edges=5)
    assert np.isnan(bins.means).any()
    assert math.isfinite(bins.line(drop_last=0).slope)


def test_equal_counts_and_few_points_have_no_line():
    line = Line.through(np.ones(3), np.arange(3.0))
    assert all(math.isnan(x) for x in (line.slope, line.intercept, line.r))
    assert binned(np.ones(4), np.arange(4.0)).sizes.sum() == 4


def test_the_base_of_the_logarithm_only_scales_the_slope():
    counts, accuracies = planted(noise=5)
    natural = Line.through(np.log(counts), accuracies)
    assert natural.per_decade().slope == pytest.approx(Line.through(np.log10(counts), accuracies).slope)


def test_equal_values_share_their_ranks():
    assert average_ranks(np.array([3, 1, 3, 2])).tolist() == [3.5, 1, 3.5, 2]


def test_centring_takes_the_difference_between_data_sets_away():
    counts, accuracies = planted()
    groups = (np.arange(len(counts)) % 3).astype(np.int64)
    shifted = accuracies + 20 * groups
    assert within_line(counts, shifted, groups).slope == pytest.approx(9)
    np.testing.assert_allclose(centred(np.array([1.0, 3, 5]), np.array([0, 0, 1])), [-1, 1, 0])


@pytest.mark.parametrize(
    ("corpus", "model", "kind", "r"),
    [
        ("cc3m", "RN50", "joint", 0.961),
        ("cc3m", "ViT-B-16", "joint", 0.970),
        ("cc3m", "RN50", "image", 0.977),
        ("cc3m", "ViT-B-16", "text", 0.927),
        ("yfcc15m", "RN50", "joint", 0.9415),
        ("yfcc15m", "RN101", "joint", 0.959),
        ("yfcc15m", "ViT-B-16", "joint", 0.975),
    ],
)
def test_published_correlations_are_recomputed(corpus: str, model: str, kind: str, r: float):
    table = np.load(ARRAYS / f"concept_frequency_{corpus}.npz")
    counts, accuracies = table[f"freq_{kind}"], table[f"acc_ensemble_{model}"]
    released = counts >= 0
    assert binned(counts[released], accuracies[released]).line().r == pytest.approx(r, abs=5e-4)


def test_the_published_sensitivity_to_edges_and_the_within_data_set_slope():
    table = np.load(ARRAYS / "concept_frequency_cc3m.npz")
    counts, accuracies = table["freq_joint"], table["acc_ensemble_RN50"]
    wanted = {5: 0.993, 8: 0.978, 12: 0.961, 20: 0.937, 30: 0.925}
    found = {edges: binned(counts, accuracies, edges=edges).line().r for edges in wanted}
    assert found == pytest.approx(wanted, abs=5e-4)
    assert binned(counts, accuracies).line(drop_last=0).r == pytest.approx(0.943, abs=5e-4)
    groups = np.unique(table["dataset"], return_inverse=True)[1]
    line = within_line(counts, accuracies, groups)
    assert (round(line.slope, 1), round(line.r, 2)) == (9.7, 0.41)
