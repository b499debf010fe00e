"""Texts as weighted token counts."""

import math

import numpy as np
import pytest
import torch

from frugalclip.core.errors import RecipeError
from frugalclip.core.types import CachedFeatures, Tokens
from frugalclip.towers.tfidf import TfidfConfig, TfidfText

START, END, PAD = 7, 8, 9


class Texts:
    """Training data of three texts: 'a b', 'a a', 'a'."""

    IDS = ([0, 1], [0, 0], [0])

    def texts(self) -> np.ndarray:
        return np.arange(3)

    def text_tokens(self, texts: np.ndarray) -> Tokens:
        return tokens(*(self.IDS[i] for i in texts))


def tokens(*rows: list[int]) -> Tokens:
    full = [[START, *row, END] for row in rows]
    longest = max(map(len, full))
    ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in full])
    return Tokens(ids, torch.tensor([len(row) for row in full]))


@pytest.fixture
def tower() -> TfidfText:
    tower = TfidfConfig(kind="tfidf").build(vocabulary=10, context=8, dim=3)
    tower.fit_features(Texts())
    return tower


def test_rare_tokens_weigh_more_and_unseen_ones_nothing(tower: TfidfText):
    assert tower.rarity[0] == pytest.approx(math.log(4 / 4) + 1)
    assert tower.rarity[1] == pytest.approx(math.log(4 / 2) + 1)
    assert not tower.rarity[2:].any(), "start, end and padding are no words, and 2 was not seen"


def test_features_are_unit_vectors_of_counts_times_rarity(tower: TfidfText):
    found = tower.features(tokens([0, 0, 1], [2]))
    expected = torch.tensor([2 * 1.0, math.log(2) + 1])
    torch.testing.assert_close(found[0, :2], expected / expected.norm())
    assert not found[1].any(), "a text without a known word has no direction"


def test_order_and_padding_change_nothing(tower: TfidfText):
    alone, mixed = tower.features(tokens([1, 0])), tower.features(tokens([0, 1], [0, 0, 0, 0]))
    torch.testing.assert_close(alone[0], mixed[0])


def test_the_embedding_is_the_heads_of_the_features(tower: TfidfText):
    tower.head.weight.copy_(torch.randn(10, 3))
    texts = tokens([0, 1])
    output = tower(texts)
    torch.testing.assert_close(output.embedding, tower.features(texts) @ tower.head.weight)
    torch.testing.assert_close(tower(CachedFeatures(output.pooled)).embedding, output.embedding)


def test_what_has_no_order_gives_no_tokens(tower: TfidfText):
    with pytest.raises(
        RecipeError, match=r"reads token outputs, which a tower of token counts does not support"
    ):
        tower(tokens([0]), with_tokens=True)
    with pytest.raises(RecipeError, match="predicts masked words"):
        tower.check(["masked_words"])
