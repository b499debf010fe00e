"""The text tower: grouping by length is exact, padding never leaks, order is kept."""

import pytest
import torch
from pydantic import ValidationError

from frugalclip.core.random import generator
from frugalclip.core.types import Gates, Tokens
from frugalclip.towers.text import TextConfig, TextTransformer, length_groups


def small_text(**settings: object) -> TextTransformer:
    config = TextConfig.model_validate({"width": 32, "depth": 2, "head_dim": 16} | settings)
    tower = TextTransformer(config, vocabulary=50, context=12, dim=8).double()
    tower.reset(generator(0, "test"))
    return tower.eval()


def captions(lengths: list[int]) -> Tokens:
    ids = torch.randint(1, 50, (len(lengths), 12), generator=torch.Generator().manual_seed(0))
    real = torch.arange(12)[None] < torch.tensor(lengths)[:, None]
    return Tokens(ids * real, torch.tensor(lengths))


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("pool", ["end", "mean"])
def test_a_caption_alone_equals_the_caption_in_a_batch(attention: str, pool: str):
    tower, texts = small_text(attention=attention, pool=pool), captions([3, 12, 7, 2, 9, 12, 4])
    together = tower(texts, with_tokens=True)
    for i, length in enumerate(texts.lengths.tolist()):
        alone = tower(Tokens(texts.ids[i : i + 1, :length], texts.lengths[i : i + 1]), with_tokens=True)
        torch.testing.assert_close(together.embedding[i], alone.embedding[0])
        torch.testing.assert_close(together.tokens[i, :length], alone.tokens[0])
        assert (together.tokens[i, length:] == 0).all()


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_groups_give_the_values_and_gradients_of_no_groups(attention: str):
    texts = captions([3, 12, 7, 2, 9, 12, 4])
    gradients = []
    for groups in (1, 4):
        tower = small_text(attention=attention, length_groups=groups)
        tower(texts).embedding.square().sum().backward()
        gradients.append([p.grad.clone() for p in tower.parameters()])
    for one, four in zip(*gradients, strict=True):
        torch.testing.assert_close(four, one, rtol=1e-9, atol=1e-12)


def test_open_gates_change_nothing_bit_for_bit():
    tower, texts = small_text(), captions([3, 12, 7, 2])
    ones = Gates(
        hidden=torch.ones(32),
        heads=(torch.ones(2),) * 2,
        neurons=(torch.ones(128),) * 2,
        layers=torch.ones(2, 2),
    )
    assert torch.equal(tower(texts, gates=ones).embedding, tower(texts).embedding)


def test_what_stands_in_the_padding_does_not_matter():
    tower, texts = small_text(attention="bidirectional"), captions([3, 5])
    junk = texts.ids.clone()
    junk[0, 3:] = 49
    torch.testing.assert_close(tower(Tokens(junk, texts.lengths)).embedding, tower(texts).embedding)


def test_a_causal_tower_sees_no_later_token_and_a_bidirectional_one_does():
    texts = captions([6])
    changed = texts.ids.clone()
    changed[0, 4] = (changed[0, 4] + 1) % 50
    for attention, is_same in (("causal", True), ("bidirectional", False)):
        tower = small_text(attention=attention)
        before, after = (
            tower(Tokens(ids, texts.lengths), with_tokens=True).tokens[0, :4] for ids in (texts.ids, changed)
        )
        assert torch.allclose(before, after) == is_same


def test_length_groups_hold_every_row_once():
    groups = length_groups(torch.tensor([5, 1, 9, 3, 3]), 3)
    assert sorted(torch.cat(groups).tolist()) == [0, 1, 2, 3, 4]
    assert len(length_groups(torch.tensor([4, 4]), 8)) == 2


@pytest.mark.parametrize("pool", ["last", "end", "mean"])
def test_a_filled_text_is_what_its_whole_context_gives_and_does_not_depend_on_its_batch(pool: str):
    tower = small_text(attention="bidirectional", pool=pool, fill=1)
    texts = captions([3, 12, 5])
    whole = torch.where(torch.arange(12) < texts.lengths[:, None], texts.ids, 1)
    x, _ = tower.layers(tower.lookup(whole) + tower.positions)
    x = tower.norm_after(x)
    rows = [
        x[i, -1] if pool == "last" else x[i, n - 1] if pool == "end" else x[i, :n].mean(0)
        for i, n in enumerate([3, 12, 5])
    ]
    together = tower(texts, with_tokens=True)
    torch.testing.assert_close(together.pooled, torch.stack(rows))
    torch.testing.assert_close(tower(texts).embedding, together.embedding)
    alone = tower(Tokens(texts.ids[:1, :4], texts.lengths[:1]), with_tokens=True)
    torch.testing.assert_close(alone.embedding[0], together.embedding[0])
    assert alone.tokens.shape == (1, 4, 32) and (alone.tokens[0, 3] == 0).all()


def test_reading_the_last_place_needs_filled_texts():
    with pytest.raises(ValidationError, match="set fill to the padding id"):
        small_text(pool="last")
