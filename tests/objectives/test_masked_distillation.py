"""What is hidden, what is compared, and who learns from whom."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from frugalclip.core.types import Batch, Dims, Features, Selection, TowerOutput
from frugalclip.objectives.base import Needs
from frugalclip.objectives.masked_distillation import Config, MaskedDistillation, distillation_loss


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def an_objective(*, grid: tuple[int, int] = (4, 4), **settings: Any) -> MaskedDistillation:
    torch.manual_seed(0)
    dims = Dims(
        image_width=16, text_width=8, embedding=4, vocabulary=10, context=5, patch_grid=grid, batch=5, seed=2
    )
    return MaskedDistillation(Config.model_validate({"codes": 7} | settings), dims).double()


def drawn(objective: MaskedDistillation, number: int = 5, *, first: int = 0, turn: int = 0) -> Tensor:
    batch = Batch(torch.arange(number) + first, {}, {}, turns=torch.full((number,), turn))
    keep = objective.prepare(batch, {})["main@visible"].keep
    assert keep is not None
    return keep


def views(
    keep: Tensor, seen: Tensor, truth: Tensor, *, with_cls: bool = True, progress: float = 0.0
) -> Features:
    if with_cls:
        seen, truth = (torch.cat([rows(len(x), 1, 16, seed=50), x], dim=1) for x in (seen, truth))
    encoded, target = (TowerOutput(x.detach().requires_grad_(), x[:, 0], x[:, 0]) for x in (seen, truth))
    targets = {"ema": Features({"main": target}, {}, torch.tensor(1.0))}
    selections = {"main@visible": Selection(keep=keep)}
    return Features(
        {"main@visible": encoded},
        {},
        torch.tensor(1.0),
        targets=targets,
        selections=selections,
        progress=progress,
    )


def test_the_loss_matches_loops():
    student, teacher, total = rows(6, 5), rows(6, 5, seed=1), 0.0
    for s, t in zip((student / 0.3).tolist(), (teacher / 0.3).tolist(), strict=True):
        target = [math.exp(x) / sum(math.exp(y) for y in t) for x in t]
        total -= sum(q * (x - math.log(sum(math.exp(y) for y in s))) for q, x in zip(target, s, strict=True))
    assert distillation_loss(student, teacher, temperature=0.3).item() == pytest.approx(total / 6, abs=1e-12)


def test_is_chance_for_an_indifferent_student_and_least_for_an_equal_one():
    teacher = rows(6, 5)
    assert distillation_loss(torch.ones_like(teacher), teacher, temperature=0.1).item() == pytest.approx(
        math.log(5), abs=1e-12
    )
    student = teacher.clone().requires_grad_()
    distillation_loss(student, teacher, temperature=0.5).backward()
    assert student.grad.abs().max() < 1e-12
    assert distillation_loss(teacher.half(), teacher.half(), temperature=0.1).dtype == torch.float32


def test_teachers_logits_get_no_gradient():
    student, teacher = rows(6, 5).requires_grad_(), rows(6, 5, seed=1).requires_grad_()
    distillation_loss(student, teacher, temperature=0.1).backward()
    assert student.grad.abs().max() > 0 and teacher.grad is None


@pytest.mark.parametrize(
    ("grid", "hidden", "visible"),
    [
        ((4, 4), 0.75, 4),
        ((5, 5), 0.8, 5),
        ((3, 3), 0.5, 4),
        ((2, 2), 0.9, 1),
        ((10, 10), 0.7, 30),
        ((10, 10), 0.9, 10),
    ],
)
def test_the_share_is_what_is_hidden_rounded_up(grid: tuple[int, int], hidden: float, visible: int):
    keep = drawn(an_objective(grid=grid, hidden=hidden))
    assert keep.shape == (5, visible) and all(row == sorted(set(row)) for row in keep.tolist())


def test_what_is_visible_follows_from_row_and_turn_alone_and_every_patch_is_as_often():
    objective = an_objective()
    keep = drawn(objective, 3000)
    assert drawn(objective, 10, first=20).equal(keep[20:30]) and not drawn(objective, 3000, turn=1).equal(
        keep
    )
    assert (torch.bincount(keep.flatten(), minlength=16) / 3000 - 0.25).abs().max() < 0.04


@pytest.mark.parametrize("with_cls", [True, False])
def test_the_teacher_is_read_at_hidden_places_only(with_cls: bool):
    objective = an_objective()
    keep, seen, truth = drawn(objective), rows(5, 4, 16), rows(5, 16, 16, seed=1)
    loss = objective(views(keep, seen, truth, with_cls=with_cls)).loss
    at_visible = truth.scatter(1, keep[:, :, None].expand(-1, -1, 16), 9.0)
    assert objective(views(keep, seen, at_visible, with_cls=with_cls)).loss.equal(loss)
    hidden = next(p for p in range(16) if p not in keep[0].tolist())
    elsewhere = truth.clone()
    elsewhere[0, hidden] = rows(16, seed=2)
    assert abs(objective(views(keep, seen, elsewhere, with_cls=with_cls)).loss.item() - loss.item()) > 1e-6


def test_visible_tokens_stand_at_their_places():
    objective = an_objective()
    keep, seen, truth = drawn(objective), rows(5, 4, 16), rows(5, 16, 16, seed=1)
    loss = objective(views(keep, seen, truth)).loss.item()
    order = torch.tensor([2, 0, 3, 1])
    assert objective(views(keep[:, order], seen[:, order], truth)).loss.item() == pytest.approx(
        loss, abs=1e-12
    )
    assert abs(objective(views(keep, seen[:, order], truth)).loss.item() - loss) > 1e-6, (
        "another token at a place is another image"
    )


def test_a_image_does_not_depend_on_its_batch_mates():
    objective = an_objective()
    keep, seen, truth = drawn(objective), rows(5, 4, 16), rows(5, 16, 16, seed=1)
    alone = [
        objective(views(keep[i : i + 1], seen[i : i + 1], truth[i : i + 1])).loss.item() for i in range(5)
    ]
    assert objective(views(keep, seen, truth)).loss.item() == pytest.approx(sum(alone) / 5, abs=1e-12)


def test_gradients_reach_the_visible_tokens_and_every_part_but_the_average():
    objective = an_objective()
    given = views(drawn(objective), rows(5, 4, 16), rows(5, 16, 16, seed=1))
    objective(given).loss.backward()
    grads = given.images["main@visible"].tokens.grad
    assert grads[:, 0].abs().max() == 0 and (grads[:, 1:].abs().sum(dim=2) > 0).all(), (
        "[CLS] takes no part, every visible patch does"
    )
    assert given.targets["ema"].images["main"].tokens.grad is None and objective.average.weight.grad is None
    for name in ("blank", "places", "tokeniser.weight"):
        assert objective.get_parameter(name).grad.abs().sum() > 0


def test_the_loss_stays_in_double_precision_and_a_tokeniser_of_zeros_pays_chance():
    objective = an_objective()
    torch.nn.init.zeros_(objective.tokeniser.weight)
    outcome = objective(views(drawn(objective), rows(5, 4, 16), rows(5, 16, 16, seed=1)))
    assert outcome.loss.dtype == torch.float64 and outcome.loss.item() == pytest.approx(
        math.log(7), abs=1e-12
    )
    assert outcome.logs["chance"].item() == pytest.approx(math.log(7))


def test_the_tokenisers_average_starts_as_its_copy_and_follows():
    objective = an_objective(momentum=(0.8, 0.8))
    start = objective.average.weight.clone()
    assert start.equal(objective.tokeniser.weight)
    with torch.no_grad():
        objective.tokeniser.weight += 1
    for _ in range(3):
        objective.after_step(views(drawn(objective), rows(5, 4, 16), rows(5, 16, 16)))
    torch.testing.assert_close(objective.average.weight, start + 1 - 0.8**3, rtol=0, atol=1e-12)


def test_needs():
    assert an_objective(view="second", teacher="slow").needs() == Needs(
        images=frozenset({"second@visible"}),
        tokens=frozenset({"second@visible", "slow:second"}),
        teachers=frozenset({"slow:second"}),
    )
