"""NT-Xent against loops in float64, its known values, and what the head reads."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from frugalclip.core.config import validated
from frugalclip.core.errors import RecipeError
from frugalclip.core.types import Dims, Features, TowerOutput
from frugalclip.functional import unit
from frugalclip.objectives.base import Needs
from frugalclip.objectives.simclr import Config, SimClr, nt_xent_loss

DIMS = Dims(image_width=6, text_width=8, embedding=4, vocabulary=10, context=5, patch_grid=(2, 2), batch=5)


def rows(number: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(number, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loops(first: Tensor, second: Tensor, temperature: float) -> float:
    """The mean over 2 N anchors, each against the 2 N - 1 others."""
    everything, number, total = first.tolist() + second.tolist(), len(first), 0.0
    for i, anchor in enumerate(everything):
        scores = {
            j: sum(a * b for a, b in zip(anchor, other, strict=True)) / temperature
            for j, other in enumerate(everything)
            if j != i
        }
        total += (
            math.log(sum(math.exp(score) for score in scores.values())) - scores[(i + number) % (2 * number)]
        )
    return total / (2 * number)


def an_objective(**settings: Any) -> SimClr:
    torch.manual_seed(0)
    return SimClr(Config.model_validate({"hidden": 16, "out": 8} | settings), DIMS).double()


def views(*, same: bool = False) -> Features:
    made = {}
    for place, name in enumerate(("second", "third")):
        pooled = torch.ones(5, 6, dtype=torch.float64) if same else rows(5, 6, seed=place)
        made[name] = TowerOutput(None, pooled.requires_grad_(), rows(5, 4, seed=7 + place).requires_grad_())
    return Features(made, {}, torch.tensor(1.0))


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_matches_the_mean_over_all_anchors_written_as_loops(temperature: float):
    first, second = unit(rows(5, 3)), unit(rows(5, 3, seed=1))
    loss, _ = nt_xent_loss(first, second, temperature=temperature)
    assert loss.item() == pytest.approx(by_loops(first, second, temperature), abs=1e-12)


def test_processes_that_see_all_candidates_give_the_whole_loss_on_average():
    first, second = unit(rows(6, 3)), unit(rows(6, 3, seed=1))
    whole, hits = nt_xent_loss(first, second, temperature=0.2)
    parts = [
        nt_xent_loss(
            first[p],
            second[p],
            temperature=0.2,
            first_candidates=first,
            second_candidates=second,
            own=torch.arange(6)[p],
        )
        for p in (slice(0, 3), slice(3, 6))
    ]
    assert (parts[0][0] + parts[1][0]).item() / 2 == pytest.approx(whole.item(), abs=1e-12)
    assert torch.cat([parts[0][1], parts[1][1]]).equal(hits)


def test_equal_rows_give_chance_and_orthonormal_ones_the_closed_form():
    same = unit(rows(1, 3)).expand(7, 3)
    assert nt_xent_loss(same, same, temperature=0.1)[0].item() == pytest.approx(math.log(13), abs=1e-12)
    apart = torch.eye(5, dtype=torch.float64)
    assert nt_xent_loss(apart, apart, temperature=0.5)[0].item() == pytest.approx(
        math.log(1 + 8 * math.exp(-2)), abs=1e-12
    )


def test_a_view_against_itself_only_repels():
    first = unit(rows(5, 3))
    cosines = first @ first.T
    others = [sum(math.exp((cosines[i, j].item() - 1) / 0.3) for j in range(5) if j != i) for i in range(5)]
    expected = sum(math.log(1 + 2 * other) for other in others) / 5
    assert nt_xent_loss(first, first, temperature=0.3)[0].item() == pytest.approx(expected, abs=1e-12)


def test_one_image_has_no_loss_and_no_gradient():
    first = rows(1, 3).requires_grad_()
    loss, _ = nt_xent_loss(unit(first), unit(rows(1, 3, seed=1)), temperature=0.1)
    loss.backward()
    assert loss.item() == 0 and first.grad.abs().max() == 0


def test_views_may_be_swapped_and_lengths_do_not_matter():
    first, second = rows(5, 3).requires_grad_(), rows(5, 3, seed=1)
    loss, _ = nt_xent_loss(unit(first), unit(second), temperature=0.2)
    assert nt_xent_loss(unit(second), unit(first), temperature=0.2)[0].item() == pytest.approx(
        loss.item(), abs=1e-12
    )
    assert nt_xent_loss(unit(3 * first), unit(second), temperature=0.2)[0].item() == pytest.approx(
        loss.item(), abs=1e-12
    )
    loss.backward()
    assert first.grad.abs().max() > 1e-3 and (first.grad * first).sum(dim=1).abs().max() < 1e-12


def test_gradients_are_right_where_a_row_meets_itself():
    inputs = (rows(4, 3).requires_grad_(), rows(4, 3, seed=1).requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: nt_xent_loss(unit(a), unit(b), temperature=0.5)[0], inputs)


def test_hits_are_partners_that_beat_every_other_row():
    first = torch.eye(4, dtype=torch.float64)
    assert nt_xent_loss(first, first, temperature=0.1)[1].tolist() == [True] * 4
    assert nt_xent_loss(first, first[[1, 0, 2, 3]], temperature=0.1)[1].tolist() == [False, False, True, True]


@pytest.mark.parametrize(("source", "other"), [("pooled", "embedding"), ("embedding", "pooled")])
def test_the_head_reads_one_feature_and_leaves_the_other_alone(source: str, other: str):
    given, objective = views(), an_objective(input=source)
    objective(given).loss.backward()
    for name in ("second", "third"):
        assert getattr(given.images[name], source).grad.abs().sum() > 0
        assert getattr(given.images[name], other).grad is None, (
            "the projection gets no gradient from what does not pass through it"
        )
    assert all(p.grad is not None for p in objective.parameters())


def test_each_view_has_its_own_batch_statistics_unless_they_go_together():
    given, losses = views(), {}
    for how, passes in (("apart", 2), ("together", 1)):
        objective, twin = an_objective(views=how), an_objective(views=how)
        losses[how] = objective(given).loss.item()
        inputs = [given.images[name].pooled for name in ("second", "third")]
        heads = [twin.head(x) for x in inputs] if how == "apart" else twin.head(torch.cat(inputs)).chunk(2)
        expected, _ = nt_xent_loss(unit(heads[0]), unit(heads[1]), temperature=0.1)
        assert losses[how] == pytest.approx(expected.item(), abs=1e-12)
        assert objective.head[1].num_batches_tracked == passes
    assert abs(losses["apart"] - losses["together"]) > 1e-3


def test_collapsed_features_sit_at_the_chance_that_is_logged():
    outcome = an_objective()(views(same=True))
    assert outcome.loss.item() == pytest.approx(math.log(9)) and outcome.logs[
        "chance"
    ].item() == pytest.approx(math.log(9))


def test_needs_and_mistakes():
    assert an_objective(first="main").needs() == Needs(images=frozenset({"main", "third"}))
    with pytest.raises(RecipeError, match=r"objectives\.simclr\.temperature is 0; expected greater than 0"):
        validated(Config, {"temperature": 0}, where="objectives.simclr")
