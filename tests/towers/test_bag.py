"""Texts as bags of words: order, padding and the end do not matter, words do."""

import pytest
import torch

from frugalclip.core.random import generator
from frugalclip.core.types import Tokens
from frugalclip.towers.bag import BagConfig, BagOfWords
from frugalclip.towers.dual import DualEncoder, ModelConfig

START, END, PAD = 1, 2, 0


def bag(**settings: object) -> BagOfWords:
    tower = BagConfig.model_validate({"kind": "bag"} | settings).build(vocabulary=50, context=8, dim=16)
    tower.reset(generator(0, "test"))
    return tower.double()


def texts(*words: list[int]) -> Tokens:
    rows = [[START, *one, END] for one in words]
    longest = max(map(len, rows))
    return Tokens(
        torch.tensor([row + [PAD] * (longest - len(row)) for row in rows]),
        torch.tensor([len(row) for row in rows]),
    )


def test_a_text_is_the_mean_of_its_words():
    tower = bag()
    found = tower(texts([5, 6, 9], [7]), with_tokens=True)
    torch.testing.assert_close(found.embedding[0], tower.lookup.weight[[5, 6, 9]].mean(0))
    torch.testing.assert_close(found.embedding[1], tower.lookup.weight[7])
    assert found.tokens is not None
    assert found.tokens.shape == (2, 5, 16) and not found.tokens[1, 3:].any()


def test_order_and_batch_mates_do_not_matter():
    tower = bag(width=12)
    torch.testing.assert_close(
        tower(texts([5, 6, 9], [7])).embedding[0], tower(texts([9, 5, 6])).embedding[0]
    )


def test_a_text_without_words_is_its_start_and_end():
    tower = bag()
    torch.testing.assert_close(tower(texts([], [4])).embedding[0], tower.lookup.weight[[START, END]].mean(0))


def test_start_end_and_padding_learn_nothing_from_texts_with_words():
    tower = bag()
    tower(texts([5, 6, 9], [7])).embedding.sum().backward()
    assert tower.lookup.weight.grad is not None
    assert tower.lookup.weight.grad.abs().sum(1).nonzero().flatten().tolist() == [5, 6, 7, 9]


@pytest.mark.parametrize("width", [0, 12])
def test_a_dual_encoder_is_built_again_from_its_description(width: int):
    config = ModelConfig.model_validate(
        {"image": {"kind": "resnet", "size": "nano"}, "text": {"kind": "bag", "width": width}, "dim": 32}
    )
    network = DualEncoder(config, vocabulary=50, context=8)
    again = DualEncoder.build(network.architecture())
    again.load_state_dict(network.state_dict())
    assert torch.equal(again.text(texts([3, 4])).embedding, network.text(texts([3, 4])).embedding)
    assert network.dims(batch=4).text_width == (width or 32)
