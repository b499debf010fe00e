"""Which words are masked and how often, and the loss of guessing them."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from frugalclip.core.config import validated
from frugalclip.core.errors import RecipeError
from frugalclip.core.types import Batch, Dims, Features, Selection, Tokens, TowerOutput
from frugalclip.objectives.base import Needs
from frugalclip.objectives.masked_text import IGNORED, Config, MaskedText, mask_tokens, masked_text_loss

START, END, PAD, MASK, VOCABULARY, CONTEXT = 0, 1, 2, 3, 1000, 24
DIMS = Dims(
    image_width=6,
    text_width=8,
    embedding=4,
    vocabulary=VOCABULARY,
    context=CONTEXT,
    patch_grid=(2, 2),
    batch=5,
    seed=7,
    mask=MASK,
)


def captions(number: int, *, words: int | None = None, length: int = CONTEXT) -> Tokens:
    """Words from 4 on between a start and an end, padded; of random length unless said."""
    draw = torch.Generator().manual_seed(number)
    counts = (
        torch.randint(1, length - 1, (number,), generator=draw)
        if words is None
        else torch.full((number,), words)
    )
    ids, places = torch.randint(4, VOCABULARY, (number, length), generator=draw), torch.arange(length)
    ids[:, 0] = START
    ids = ids.masked_fill(places >= counts[:, None] + 1, PAD)
    ids[torch.arange(number), counts + 1] = END
    return Tokens(ids, counts + 2)


def an_objective(**settings: Any) -> MaskedText:
    torch.manual_seed(0)
    return MaskedText(validated(Config, settings, where="objectives.masked_text"), DIMS).double()


def a_batch(tokens: Tokens, *, first: int = 0, turn: int | None = None) -> Batch:
    rows = torch.arange(len(tokens)) + first
    return Batch(rows, {}, {"caption": tokens}, turns=None if turn is None else torch.full_like(rows, turn))


def masked(tokens: Tokens, **settings: Any) -> Selection:
    return an_objective(**settings).prepare(a_batch(tokens), {})["caption@masked"]


def views(hidden: Tensor, labels: Tensor) -> Features:
    pooled = hidden[:, 0]
    return Features(
        {},
        {"caption@masked": TowerOutput(hidden, pooled, pooled)},
        torch.tensor(1.0),
        selections={"caption@masked": Selection(labels=labels)},
    )


def test_rates_are_those_of_the_paper_over_thousands_of_captions():
    tokens = captions(4000)
    found = masked(tokens)
    chosen = found.labels != IGNORED
    words = (tokens.lengths - 2).sum().item()
    assert chosen.sum().item() / words == pytest.approx(0.15, abs=0.005)
    became, was = found.ids[chosen], tokens.ids[chosen]
    assert (became == MASK).double().mean().item() == pytest.approx(0.8, abs=0.01)
    assert (became == was).double().mean().item() == pytest.approx(0.1, abs=0.01)
    random = became[(became != MASK) & (became != was)]
    assert len(random) / len(was) == pytest.approx(0.1, abs=0.01)
    assert (
        random.min() >= 0
        and random.max() < VOCABULARY
        and random.double().mean().item() == pytest.approx(VOCABULARY / 2, abs=40)
    )


def test_labels_are_the_truth_and_the_rest_is_as_it_was():
    tokens = captions(200)
    found = masked(tokens, probability=0.5)
    chosen = found.labels != IGNORED
    assert found.labels[chosen].equal(tokens.ids[chosen]) and found.ids[~chosen].equal(tokens.ids[~chosen])
    assert 0.4 < chosen[:, 1].double().mean() < 0.6, "the first word counts too"


def test_start_end_padding_and_the_mask_itself_are_never_chosen():
    tokens = captions(500)
    tokens.ids[:, 1] = MASK
    found = masked(tokens, probability=0.999)
    chosen = found.labels != IGNORED
    places = torch.arange(CONTEXT)
    is_word = (places > 1) & (places < tokens.lengths[:, None] - 1)
    assert not (chosen & ~is_word).any() and (chosen & is_word).sum() / is_word.sum() > 0.99


def test_a_caption_of_one_word_has_one_place_and_an_empty_one_none():
    one, none = masked(captions(3000, words=1)), masked(captions(50, words=0), probability=0.999)
    chosen = one.labels != IGNORED
    assert (
        chosen[:, 1].double().mean().item() == pytest.approx(0.15, abs=0.02)
        and not chosen[:, 2:].any()
        and not chosen[:, 0].any()
    )
    assert (none.labels == IGNORED).all() and none.ids.equal(captions(50, words=0).ids)


def test_nothing_to_guess_is_a_loss_of_zero():
    hidden = torch.randn(3, 4, 8, dtype=torch.float64, requires_grad=True)
    objective = an_objective()
    outcome = objective(views(hidden, torch.full((3, 4), IGNORED)))
    outcome.loss.backward()
    assert outcome.loss.item() == 0 and outcome.logs["guesses"] == 0 and outcome.logs["accuracy"] == 0
    assert hidden.grad.abs().max() == 0 and objective.output.weight.grad.abs().max() == 0


def test_what_is_masked_follows_from_row_and_turn_alone():
    objective, tokens = an_objective(), captions(40, words=8)
    whole = objective.prepare(a_batch(tokens, turn=3), {})["caption@masked"]
    short = Tokens(tokens.ids[10:20, :10], tokens.lengths[10:20])  # fewer batch mates, and none of them long
    part = objective.prepare(a_batch(short, first=10, turn=3), {})["caption@masked"]
    assert part.labels.equal(whole.labels[10:20, :10]) and part.ids.equal(whole.ids[10:20, :10])
    assert not objective.prepare(a_batch(tokens, turn=4), {})["caption@masked"].labels.equal(whole.labels)
    assert objective.prepare(a_batch(tokens), {})["caption@masked"].labels.equal(
        objective.prepare(a_batch(tokens, turn=0), {})["caption@masked"].labels
    )


def test_three_draws_decide_a_place():
    tokens = Tokens(torch.tensor([[START, 10, 11, 12, 13, END]]), torch.tensor([6]))
    draws = torch.tensor(
        [[0, 0.1, 0.1, 0.1, 0.2, 0], [0, 0.79, 0.89, 0.9, 0, 0], [0, 0, 0.5, 0.5, 0, 0]], dtype=torch.float64
    ).flatten()[None]
    found = mask_tokens(tokens, draws, config=Config(), mask=MASK, vocabulary=VOCABULARY)
    assert found.ids.tolist() == [[START, MASK, 500, 12, 13, END]]
    assert found.labels.tolist() == [[IGNORED, 10, 11, 12, IGNORED, IGNORED]]


def test_the_loss_matches_loops_and_only_masked_places_count():
    draw = torch.Generator().manual_seed(0)
    hidden, weight = (
        torch.randn(2, 4, 3, generator=draw, dtype=torch.float64),
        torch.randn(5, 3, generator=draw, dtype=torch.float64),
    )
    bias, labels = (
        torch.randn(5, generator=draw, dtype=torch.float64),
        torch.tensor([[-100, 2, -100, 4], [0, -100, -100, -100]]),
    )
    hidden.requires_grad_()
    total, guesses, right = masked_text_loss(hidden, labels, weight, bias)
    expected, hits = 0.0, 0
    for i, j in ((0, 1), (0, 3), (1, 0)):
        logits = [
            sum(a * b for a, b in zip(w, hidden[i, j].tolist(), strict=True)) + c
            for w, c in zip(weight.tolist(), bias.tolist(), strict=True)
        ]
        expected += math.log(sum(math.exp(x) for x in logits)) - logits[labels[i, j]]
        hits += logits.index(max(logits)) == labels[i, j]
    assert total.item() == pytest.approx(expected, abs=1e-12) and guesses.item() == 3 and right.item() == hits
    total.backward()
    assert (hidden.grad.abs().sum(dim=2) > 0).equal(labels != IGNORED)


def test_a_head_that_knows_nothing_pays_the_logarithm_of_the_vocabulary():
    objective, labels = an_objective(), masked(captions(30)).labels
    hidden = torch.randn(30, CONTEXT, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert objective(views(hidden, labels)).loss.item() == pytest.approx(math.log(VOCABULARY), rel=0.01), (
        "the start is nearly so"
    )
    torch.nn.init.zeros_(objective.output.weight)
    outcome = objective(views(hidden, labels))
    assert outcome.loss.item() == pytest.approx(math.log(VOCABULARY), abs=1e-12)
    assert outcome.logs["guesses"] == (labels != IGNORED).sum()


def test_the_loss_is_the_mean_over_guesses_however_they_lie():
    objective, hidden = an_objective(), torch.randn(1, 3, 8, dtype=torch.float64)
    labels = torch.tensor([[IGNORED, 5, 9]])
    once = objective(views(hidden, labels)).loss
    assert objective(views(hidden.expand(4, 3, 8), labels.expand(4, 3))).loss.item() == pytest.approx(
        once.item(), abs=1e-12
    )


def test_needs_and_mistakes():
    name = frozenset({"augmented@masked"})
    assert an_objective(text="augmented").needs() == Needs(texts=name, tokens=name)
    with pytest.raises(
        RecipeError,
        match=r"masked and replaced are shares of the same words and add up to 1\.1; expected at most 1",
    ):
        an_objective(masked=0.9, replaced=0.2)
    an_objective(masked=0.9, replaced=0.1)
