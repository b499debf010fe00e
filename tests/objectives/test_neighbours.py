"""The queue is a true ring, and the loss asks the nearest text in it instead of the own one."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from frugalclip.core.types import Dims, Features, TowerOutput
from frugalclip.functional import info_nce_loss, unit
from frugalclip.objectives.base import Needs
from frugalclip.objectives.neighbours import Config, Neighbours, nearest_rows, neighbour_loss, ring_places

DIMS = Dims(image_width=8, text_width=8, embedding=4, vocabulary=10, context=5, patch_grid=(2, 2), batch=6)


def rows(number: int, dim: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(number, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def an_objective(*, embedding: int = 4, **options: Any) -> Neighbours:
    dims = Dims(
        image_width=8, text_width=8, embedding=embedding, vocabulary=10, context=5, patch_grid=(2, 2), batch=6
    )
    return Neighbours(Config.model_validate({"size": 20} | options), dims).double()


def views(*, batch: int = 6, dim: int = 4, seed: int = 0, scale: float = 5.0) -> Features:
    made = [
        TowerOutput(None, x, x.clone().requires_grad_())
        for x in (rows(batch, dim, seed=10 * seed + i) for i in range(4))
    ]
    learned = torch.tensor(scale, dtype=torch.float64, requires_grad=True)
    return Features({"main": made[0], "second": made[1]}, {"caption": made[2], "augmented": made[3]}, learned)


def in_order(objective: Neighbours) -> Tensor:
    """(filled, dim) what the queue holds, oldest first."""
    size, filled = objective.config.size, int(objective.filled)
    return objective.bank[[(int(objective.pointer) - filled + i) % size for i in range(filled)]]


def test_places_go_around_the_end():
    assert ring_places(3, rows=4, size=5).tolist() == [3, 4, 0, 1]


@given(st.integers(1, 9), st.lists(st.integers(1, 25), min_size=1, max_size=8))
@settings(max_examples=60)
def test_the_queue_is_the_last_rows_in_order_whatever_the_batches(size: int, batches: list[int]):
    objective, pushed = an_objective(size=size), torch.zeros(0, 4, dtype=torch.float64)
    for i, batch in enumerate(batches):
        new = rows(batch, seed=i)
        objective.push(new)
        pushed = torch.cat([pushed, new])
        assert int(objective.filled) == min(size, len(pushed))
        assert in_order(objective).equal(pushed[-size:])


def test_the_last_text_view_enters_first_and_steps_follow_each_other():
    objective = an_objective(size=100)
    first, second = views(), views(seed=1)
    objective.after_step(first)
    objective.after_step(second)
    expected = [
        unit(one.texts[name].embedding.detach())
        for one in (first, second)
        for name in ("augmented", "caption")
    ]
    assert in_order(objective).equal(torch.cat(expected))


def test_the_nearest_row_is_found_as_by_loops_and_without_gradient():
    queries, bank = unit(rows(5)).requires_grad_(), unit(rows(9, seed=1))
    found = nearest_rows(queries, bank)
    for i, query in enumerate(queries.tolist()):
        cosines = [sum(a * b for a, b in zip(query, row, strict=True)) for row in bank.tolist()]
        assert found[i].equal(bank[cosines.index(max(cosines))])
    assert not found.requires_grad


def test_only_filled_places_are_searched():
    objective = an_objective()
    given_views = views(batch=1)
    opposite = -unit(given_views.texts["caption"].embedding.detach())
    objective.push(opposite)  # empty places, at cosine 0, would be nearer
    only = an_objective(texts=["caption"])
    only.load_state_dict(objective.state_dict())
    assert only(given_views).logs["cosine"].item() == pytest.approx(-1)


def test_an_empty_queue_moves_nothing():
    given_views, objective = views(), an_objective()
    outcome = objective(given_views)
    outcome.loss.backward()
    assert outcome.loss.item() == 0 and given_views.scale.grad == 0 and outcome.logs["fill"] == 0
    # a gradient of zero, not none: the loss depends on what later steps train
    gradient = given_views.images["main"].embedding.grad
    assert gradient is not None and not gradient.any()


def test_a_queue_of_the_own_texts_gives_the_images_half_of_every_pair():
    given_views, objective = views(), an_objective()
    objective.after_step(given_views)
    halves = [
        info_nce_loss(unit(image.embedding), unit(text.embedding), given_views.scale)[0].item()
        for image in given_views.images.values()
        for text in given_views.texts.values()
    ]
    outcome = objective(given_views)
    assert outcome.loss.item() == pytest.approx(sum(halves) / 4, abs=1e-12) and outcome.logs[
        "cosine"
    ].item() == pytest.approx(1)
    both = an_objective(symmetric=True)
    both.load_state_dict(objective.state_dict())
    whole = [
        sum(info_nce_loss(unit(image.embedding), unit(text.embedding), given_views.scale)).item() / 2
        for image in given_views.images.values()
        for text in given_views.texts.values()
    ]
    assert both(given_views).loss.item() == pytest.approx(sum(whole) / 4, abs=1e-12)
    assert abs(sum(whole) - sum(halves)) > 1e-3


def test_a_random_queue_gives_about_chance():
    objective = an_objective(embedding=64, size=512)
    objective.push(unit(rows(512, 64, seed=99)))
    outcome = objective(views(batch=100, dim=64, scale=1.0))
    assert outcome.logs["chance"].item() == pytest.approx(math.log(100))
    assert outcome.loss.item() == pytest.approx(math.log(100), abs=0.05)


def test_images_and_scale_get_gradients_and_texts_get_none():
    given_views, objective = views(), an_objective()
    objective.push(unit(rows(8, seed=5)))
    before = objective.bank.clone()
    objective(given_views).loss.backward()
    assert (
        all(one.embedding.grad.abs().max() > 1e-4 for one in given_views.images.values())
        and given_views.scale.grad.abs() > 0
    )
    assert all(one.embedding.grad is None for one in given_views.texts.values())
    assert objective.bank.equal(before), "neighbours are looked up before anything of this step enters"
    assert not list(objective.parameters())


def test_the_loss_of_processes_that_see_all_neighbours_averages_to_the_whole():
    images, neighbours, scale = unit(rows(6)), unit(rows(6, seed=1)), torch.tensor(5.0)
    whole = neighbour_loss(images, neighbours, scale)
    parts = [
        neighbour_loss(
            images[p], neighbours[p], scale, neighbour_candidates=neighbours, own=torch.arange(6)[p]
        )
        for p in (slice(0, 3), slice(3, 6))
    ]
    assert sum(parts).item() / 2 == pytest.approx(whole.item(), abs=1e-12)


def test_a_caption_twice_in_the_queue_is_harmless():
    objective, given_views = an_objective(), views()
    for _ in range(2):
        objective.push(unit(given_views.texts["caption"].embedding.detach()))
    loss = objective(given_views).loss
    loss.backward()
    assert loss.isfinite() and given_views.images["main"].embedding.grad.isfinite().all()


def test_one_neighbour_for_all_is_chance():
    objective = an_objective()
    objective.push(unit(rows(1, seed=3)))
    outcome = objective(views())
    assert outcome.loss.item() == pytest.approx(math.log(6), abs=1e-12) and outcome.logs[
        "fill"
    ].item() == pytest.approx(1 / 20)


def test_a_checkpoint_brings_the_queue_back():
    objective = an_objective(size=10)
    for seed in range(3):
        objective.after_step(views(seed=seed))
    again = an_objective(size=10)
    again.load_state_dict(objective.state_dict())
    for one in (objective, again):
        one.after_step(views(seed=4))
    assert in_order(again).equal(in_order(objective))
    assert again(views(seed=5)).loss.equal(objective(views(seed=5)).loss)


def test_needs():
    objective = an_objective(images=["main"], texts=["caption"])
    assert objective.needs() == Needs(images=frozenset({"main"}), texts=frozenset({"caption"}))
