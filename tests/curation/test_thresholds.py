import numpy as np
import pytest

from frugalclip.curation.thresholds import datacomp_threshold, highest_rows


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.5, 1.0])
def test_exactly_the_fraction_stays_whatever_ties(fraction: float):
    scores, draws = np.repeat([0.1, 0.2, 0.3], 10), np.random.default_rng(0).random(30)
    mask, lowest = highest_rows(scores, fraction, draws=draws)
    assert mask.sum() == round(fraction * 30)
    if 0 < fraction < 1:
        assert scores[mask].min() == lowest >= scores[~mask].max()


def test_ties_go_by_their_draws_and_unknown_scores_come_last():
    scores = np.array([0.5, 0.5, np.nan, 0.5])
    mask, _ = highest_rows(scores, 0.5, draws=np.array([0.9, 0.1, 0.0, 0.2]))
    assert mask.tolist() == [False, True, False, True]


def test_datacomp_keeps_one_more():
    scores = np.arange(10.0)
    assert (scores >= datacomp_threshold(scores, 0.3)).sum() == 4
