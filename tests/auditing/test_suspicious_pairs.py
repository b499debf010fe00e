"""Planted swaps come first, the rate comes back, and reasons name what stands out."""

import numpy as np
import pytest

from frugalclip.auditing.pair_features import PairFeatures, word_vectors
from frugalclip.auditing.suspicious_pairs import (
    noise_rate,
    pair_scores,
    rate_interval,
    reasons,
    separation,
)
from frugalclip.auditing.words import WordForms
from frugalclip.data.planted_noise import swapped_captions

ROWS = 600


def planted(ratio: float, *, is_joint: bool) -> tuple[PairFeatures, list[str], np.ndarray]:
    """Pairs of forty concepts, of which some captions are swapped."""
    random = np.random.default_rng(0)
    concepts = random.standard_normal((40, 8))
    owner = random.integers(0, 40, ROWS)
    images = concepts[owner] + 0.3 * random.standard_normal((ROWS, 8))
    texts = concepts[owner] + 0.3 * random.standard_normal((ROWS, 8))
    texts = texts if is_joint else texts @ random.standard_normal((8, 12))
    source, mask = swapped_captions(ROWS, ratio=ratio, seed=1)
    captions = [f"concept {owner[row]}" for row in source]
    wrong = mask & (owner[source] != owner)
    return PairFeatures(np.arange(ROWS), images, texts[source], is_joint), captions, wrong


def scores_of(features: PairFeatures, captions: list[str]):
    return pair_scores(features, captions)


@pytest.mark.parametrize("is_joint", [True, False])
@pytest.mark.parametrize("ratio", [0.05, 0.2])
def test_planted_swaps_are_found_and_their_rate_comes_back(is_joint: bool, ratio: float):
    features, captions, wrong = planted(ratio, is_joint=is_joint)
    scores = scores_of(features, captions)
    assert separation(scores.suspicion[~wrong], scores.suspicion[wrong]) > 0.95
    rate = noise_rate(scores.distances, scores.dealt)
    assert rate == pytest.approx(wrong.mean(), abs=0.06)
    low, high = rate_interval(scores.distances, scores.dealt)
    assert low <= rate <= high
    assert separation(scores.distances, scores.dealt) > 0.85


def test_clean_pairs_have_hardly_any_noise_and_random_ones_are_all_noise():
    features, captions, _ = planted(0.0, is_joint=True)
    scores = scores_of(features, captions)
    assert noise_rate(scores.distances, scores.dealt) < 0.03
    random = np.random.default_rng(0).standard_normal((2, 500))
    assert noise_rate(*random) > 0.85
    assert separation(*random) == pytest.approx(0.5, abs=0.05)
    assert noise_rate(random[0], random[0][:0]) == 0
    assert separation(random[0], random[0][:0]) == 0.5
    assert rate_interval(random[0], random[0][:0]) == [0.0, 1.0]


def test_equal_captions_are_not_dealt_to_each_other():
    features, captions, _ = planted(0.0, is_joint=True)
    one = scores_of(features, ["the same"] * ROWS)
    assert not len(one.dealt)
    assert len(scores_of(features, captions).dealt) < ROWS


def test_reasons_name_the_part_that_stands_out():
    features, captions, _ = planted(0.1, is_joint=True)
    scores = scores_of(features, captions)
    found = reasons(scores, features, captions, [f"r{i}" for i in range(ROWS)])
    assert len(found) == ROWS
    kinds = {reason.partition(",")[0] for reason in found}
    assert kinds <= {
        "picture and caption are unlike",
        "similar pictures have other captions",
        "similar captions have other pictures",
    }
    assert any(", such as 'concept " in reason for reason in found)
    assert any(", such as r" in reason for reason in found)


def test_captions_with_the_same_words_have_one_direction():
    vectors = word_vectors(["a red disc", "discs, red", "a blue ring"], WordForms())
    np.testing.assert_allclose(vectors[0], vectors[1])
    assert abs(vectors[0] @ vectors[2]) < 0.7 * (vectors[0] @ vectors[0])
