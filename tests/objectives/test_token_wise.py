"""Words and patches against loops: padding is nobody's best word, and chunks change nothing."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from frugalclip.core.types import Dims, Features, TowerOutput
from frugalclip.functional import unit
from frugalclip.objectives.base import Needs
from frugalclip.objectives.token_wise import Config, TokenWise, token_similarity

DIMS = Dims(image_width=6, text_width=8, embedding=4, vocabulary=10, context=5, patch_grid=(2, 2), batch=5)
LENGTHS = torch.tensor([5, 2, 3, 1, 4])


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def is_word(lengths: Tensor = LENGTHS, length: int = 5) -> Tensor:
    return torch.arange(length) < lengths[:, None]


def an_objective(**settings: Any) -> TokenWise:
    torch.manual_seed(0)
    return TokenWise(Config.model_validate({"out": 3} | settings), DIMS).double()


def views(*, same: bool = False, extra: int = 0) -> Features:
    patches, words = rows(5, 4, 6), rows(5, 5, 8, seed=1)
    if same:
        patches, words = torch.ones_like(patches), torch.ones_like(words)
    words = torch.nn.functional.pad(
        words * is_word()[:, :, None], (0, 0, 0, extra)
    )  # zeros at padding, as towers give them
    images, texts = (TowerOutput(x.clone().requires_grad_(), x[:, 0], x[:, 0]) for x in (patches, words))
    return Features({"main": images}, {"caption": texts}, torch.tensor(1.0))


def by_loops(patches: Tensor, words: Tensor) -> tuple[float, float]:
    """One image, (patches, dim), and the words, (words, dim), of one text."""
    cosines = [
        [sum(a * b for a, b in zip(p, w, strict=True)) for w in words.tolist()] for p in patches.tolist()
    ]
    from_image = sum(max(line) for line in cosines) / len(cosines)
    from_text = sum(max(line[j] for line in cosines) for j in range(len(words))) / len(words)
    return from_image, from_text


def test_similarities_match_loops_over_words_without_padding():
    images, texts = unit(rows(5, 4, 3)), unit(rows(5, 5, 3, seed=1))
    from_image, from_text = token_similarity(images, texts, is_word())
    for i in range(5):
        for j in range(5):
            expected = by_loops(images[i], texts[j, : LENGTHS[j]])
            assert (from_image[i, j].item(), from_text[i, j].item()) == pytest.approx(expected, abs=1e-12)


def test_what_stands_at_padding_does_not_matter():
    images, texts = unit(rows(5, 4, 3)), unit(rows(5, 5, 3, seed=1))
    spoilt = torch.where(
        is_word()[:, :, None], texts, images[:, :1].expand(5, 5, 3)
    )  # the best word there could be
    for one, other in zip(
        token_similarity(images, texts, is_word()), token_similarity(images, spoilt, is_word()), strict=True
    ):
        assert one.equal(other)


def test_all_cosines_negative_and_padding_still_loses():
    images, texts = torch.tensor([[[1.0, 0]]]), torch.tensor([[[-1.0, 0], [0, 0]]])
    assert [x.item() for x in token_similarity(images, texts, torch.tensor([[True, False]]))] == [-1, -1]


def test_the_loss_is_the_softmax_of_each_direction_over_its_own_similarity():
    given, objective = views(), an_objective(scale=4)
    images = unit(given.images["main"].tokens @ objective.image_map.weight.T)
    texts = unit(given.texts["caption"].tokens @ objective.text_map.weight.T)
    pairs = [[by_loops(images[i], texts[j, : LENGTHS[j]]) for j in range(5)] for i in range(5)]
    total = 0.0
    for i in range(5):
        to_text, to_image = [4 * pairs[i][j][0] for j in range(5)], [4 * pairs[j][i][1] for j in range(5)]
        total += sum(math.log(sum(math.exp(x) for x in scores)) - scores[i] for scores in (to_text, to_image))
    outcome = objective(given)
    assert outcome.loss.item() == pytest.approx(total / 10, abs=1e-7), "the initial scale is float32"
    hits = sum(max(range(5), key=lambda j, i=i: pairs[i][j][0]) == i for i in range(5)) / 5
    assert outcome.logs["accuracy"].item() == pytest.approx(hits) and outcome.logs[
        "scale"
    ].item() == pytest.approx(4)


def test_longer_padding_changes_nothing():
    objective = an_objective()
    assert objective(views(extra=7)).loss.item() == pytest.approx(objective(views()).loss.item(), abs=1e-12)


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_texts_a_few_at_a_time_give_the_same_loss_and_gradients(chunk: int):
    found = []
    for size in (64, chunk):
        given, objective = views(), an_objective(chunk=size)
        loss = objective(given).loss
        loss.backward()
        found.append(
            [
                loss.detach(),
                given.images["main"].tokens.grad,
                given.texts["caption"].tokens.grad,
                objective.text_map.weight.grad,
            ]
        )
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-12)


def test_gradients_reach_patches_words_maps_and_scale_but_no_padding():
    given, objective = views(), an_objective()
    objective(given).loss.backward()
    assert given.images["main"].tokens.grad.abs().sum() > 0
    grads = given.texts["caption"].tokens.grad.abs().sum(dim=2)
    assert (grads[~is_word()] == 0).all() and (grads[is_word()] > 0).any()
    assert all(p.grad.abs().sum() > 0 for p in objective.parameters())


def test_equal_tokens_sit_at_the_chance_that_is_logged():
    outcome = an_objective()(views(same=True))
    assert outcome.loss.item() == pytest.approx(math.log(5), abs=1e-9) and outcome.logs[
        "chance"
    ].item() == pytest.approx(math.log(5))


def test_permuting_pairs_changes_nothing():
    given, objective, order = views(), an_objective(), torch.tensor([3, 1, 4, 0, 2])
    shuffled = [
        TowerOutput(one.tokens[order], one.pooled, one.embedding)
        for one in (given.images["main"], given.texts["caption"])
    ]
    moved = objective(Features({"main": shuffled[0]}, {"caption": shuffled[1]}, given.scale))
    assert moved.loss.item() == pytest.approx(objective(given).loss.item(), abs=1e-12)


@pytest.mark.parametrize(("reached", "after"), [(1e4, 100), (1e-4, 1), (7, 7)])
def test_the_scale_is_held_between_one_and_a_hundred(reached: float, after: float):
    objective = an_objective()
    objective.log_scale.data.fill_(math.log(reached))
    objective.after_step(views())
    assert objective.log_scale.exp().item() == pytest.approx(after, rel=1e-6)


def test_needs_tokens_of_both_towers():
    assert an_objective(text="augmented").needs() == Needs(
        images=frozenset({"main"}), texts=frozenset({"augmented"}), tokens=frozenset({"main", "augmented"})
    )
