"""Smaller vocabularies: rows are cut exactly, factors are the nearest of their rank, both are counted."""

from typing import Any

import numpy as np
import pytest
import torch

from frugalclip.compression.base import ChangeConfig
from frugalclip.compression.vocabulary import (
    Vocabulary,
    VocabularyConfig,
    chosen_tokens,
    factors,
    smaller_vocabulary,
)
from frugalclip.core.config import validated
from frugalclip.core.errors import RecipeError
from frugalclip.data.token_cut import TokenCut
from frugalclip.data.tokens import Tokenizer, train_tokenizer
from frugalclip.towers.dual import DualEncoder, ModelConfig

CAPTIONS = [
    f"{colour} {thing} number {i}"
    for colour in ("red", "green")
    for thing in ("cat", "ship")
    for i in range(9)
]
OTHERS = ["a purple zeppelin", "\u8d64\u3044\u65d7", ""]
TOKENIZER = train_tokenizer([*CAPTIONS, *["a purple zeppelin over berlin"] * 3], vocabulary=700, context=12)
TEXTS: dict[str, dict[str, Any]] = {
    "transformer": {"width": 16, "depth": 1, "head_dim": 8},
    "filled": {
        "width": 16,
        "depth": 1,
        "head_dim": 8,
        "attention": "bidirectional",
        "pool": "last",
        "fill": 0,
    },
    "bag": {"kind": "bag", "width": 16},
}


def network(kind: str = "transformer", *, tokenizer: Tokenizer = TOKENIZER) -> DualEncoder:
    text = TEXTS[kind] | ({"fill": tokenizer.pad} if kind == "filled" else {})
    image = {"width": 16, "depth": 1, "head_dim": 8, "patch": 8, "resolution": 16}
    config = ModelConfig.model_validate({"image": image, "text": text, "dim": 8})
    return DualEncoder(config, vocabulary=tokenizer.vocabulary, context=tokenizer.context).eval()


def smaller(made: DualEncoder, **settings: Any) -> tuple[DualEncoder, Tokenizer]:
    config = VocabularyConfig(**settings)
    found, vocabulary = smaller_vocabulary(made, config, Vocabulary(TOKENIZER, lambda: CAPTIONS))
    assert vocabulary.tokenizer is not None
    return found.eval(), vocabulary.tokenizer


@torch.no_grad()
def embeddings(made: DualEncoder, tokenizer: Tokenizer, texts: list[str]) -> torch.Tensor:
    return made.text(tokenizer.encode(texts)).embedding


@pytest.mark.parametrize("kind", TEXTS)
def test_captions_have_the_same_embedding_bit_for_bit_and_other_texts_have_one(kind: str):
    made = network(kind)
    cut, tokenizer = smaller(made, keep="captions")
    assert cut.vocabulary == tokenizer.vocabulary < made.vocabulary
    assert cut.text.embedding_parameters == 16 * cut.vocabulary
    assert torch.equal(embeddings(cut, tokenizer, CAPTIONS), embeddings(made, TOKENIZER, CAPTIONS))
    assert torch.isfinite(embeddings(cut, tokenizer, OTHERS)).all()
    assert all(
        torch.equal(a, b) for a, b in zip(cut.image.parameters(), made.image.parameters(), strict=True)
    )


@pytest.mark.parametrize("keep", [525, 540, 5000])
def test_a_number_keeps_so_many_rows_the_most_frequent_first(keep: int):
    made = network()
    cut, tokenizer = smaller(made, keep=keep)
    assert cut.vocabulary == min(keep, made.vocabulary)
    counts = Vocabulary(TOKENIZER, lambda: CAPTIONS).counts()
    assert counts is not None
    often = TOKENIZER.backend.id_to_token(int(np.argsort(-counts)[2]))  # after start and end
    assert often in tokenizer.backend.get_vocab()


def test_too_few_rows_are_refused_with_the_least_number():
    least = len(TokenCut(TOKENIZER).always())
    with pytest.raises(RecipeError, match=rf"give at least {least}"):
        smaller(network(), keep=least - 1)
    assert smaller(network(), keep=least)[0].vocabulary == least


def test_what_is_kept_does_not_depend_on_the_order_of_captions():
    cut = TokenCut(TOKENIZER)
    forward, backward = (
        chosen_tokens(cut, 530, counts=Vocabulary(TOKENIZER, lambda texts=texts: texts).counts())
        for texts in (CAPTIONS, CAPTIONS[::-1])
    )
    assert forward == backward


def test_factors_are_the_nearest_of_their_rank():
    whole = torch.randn(40, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first, second = factors(whole, 5)
    u, s, v = torch.linalg.svd(whole, full_matrices=False)
    torch.testing.assert_close(first @ second.T, (u[:, :5] * s[:5]) @ v[:5])
    low = first[:, :4] @ second[:, :4].T
    exact = factors(low, 4)
    assert exact[0].shape == (40, 4) and exact[1].shape == (12, 4)
    torch.testing.assert_close(exact[0] @ exact[1].T, low)


def test_a_factored_embedding_is_counted_and_can_be_cut_and_factored_again():
    made = network()
    factored, tokenizer = smaller(made, rank=8)
    assert factored.text.embedding_parameters == 8 * (made.vocabulary + 16)
    assert tokenizer is TOKENIZER
    lookup, whole = factored.text.token_embedding, made.text.token_embedding
    assert lookup is not None and whole is not None
    torch.testing.assert_close(lookup.product(), (whole.weight @ lookup.widen.weight) @ lookup.widen.weight.T)
    cut, shorter = smaller(factored, keep="captions")
    assert torch.equal(embeddings(cut, shorter, CAPTIONS), embeddings(factored, TOKENIZER, CAPTIONS))
    again, _ = smaller(factored, rank=3)
    assert again.config.text.embedding_rank == 3
    assert again.text.embedding_parameters == 3 * (made.vocabulary + 16)


@pytest.mark.parametrize("rank", [16, 500])
def test_a_rank_that_saves_nothing_is_refused(rank: int):
    with pytest.raises(RecipeError, match=rf"rank {rank} saves nothing"):
        smaller(network(), rank=rank)


def test_towers_that_cannot_are_refused_in_a_sentence():
    with pytest.raises(RecipeError, match="a bag of words does not support"):
        smaller(network("bag"), rank=4)
    config = {
        "image": {"kind": "resnet", "size": "nano", "resolution": 32},
        "text": {"kind": "tfidf"},
        "dim": 8,
    }
    counts = DualEncoder(ModelConfig.model_validate(config), vocabulary=700, context=12)
    with pytest.raises(RecipeError, match="a tower of token counts has none of its own"):
        smaller(counts, keep="captions")


def test_captions_that_are_not_known_keep_all_rows():
    made = network()
    for vocabulary in (Vocabulary(), Vocabulary(TOKENIZER)):
        assert smaller_vocabulary(made, VocabularyConfig(keep="captions"), vocabulary)[0] is made
    with torch.device("meta"):
        counted = DualEncoder(made.config, vocabulary=made.vocabulary, context=12, seed=None)
        known, _ = smaller_vocabulary(counted, VocabularyConfig(keep=530, rank=8), Vocabulary(TOKENIZER))
    assert known.text.embedding_parameters == 8 * (530 + 16)


@pytest.mark.parametrize("value", [0, -3, "words", 2.5])
def test_a_wrong_setting_is_refused(value: Any):
    with pytest.raises(RecipeError, match=r"vocabulary\.keep"):
        validated(ChangeConfig, {"kind": "inherit", "vocabulary": {"keep": value}}, where="change")
