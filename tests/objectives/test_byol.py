"""BYOL: its range, which side learns, and the average that follows."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from frugalclip.core.averages import momentum_at
from frugalclip.core.types import Dims, Features, TowerOutput
from frugalclip.objectives.base import Needs
from frugalclip.objectives.byol import Byol, Config, byol_loss

DIMS = Dims(image_width=6, text_width=8, embedding=4, vocabulary=10, context=5, patch_grid=(2, 2), batch=5)


def rows(number: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(number, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def an_objective(**settings: Any) -> Byol:
    torch.manual_seed(0)
    return Byol(Config.model_validate({"hidden": 16, "out": 8} | settings), DIMS).double()


def views(*, progress: float = 0.0) -> Features:
    made = [TowerOutput(None, rows(5, 6, seed=i).requires_grad_(), rows(5, 4, seed=i)) for i in range(3)]
    target = Features({"main": made[2]}, {}, torch.tensor(1.0))
    return Features(
        {"main": made[0], "second": made[1]},
        {},
        torch.tensor(1.0),
        targets={"ema": target},
        progress=progress,
    )


def test_matches_squared_distances_of_unit_vectors_written_as_loops():
    predicted, target = rows(5, 3), rows(5, 3, seed=1)
    total = 0.0
    for p, t in zip(predicted, target, strict=True):
        total += sum(
            (a - b) ** 2 for a, b in zip((p / p.norm()).tolist(), (t / t.norm()).tolist(), strict=True)
        )
    assert byol_loss(predicted, target).item() == pytest.approx(total / 5, abs=1e-12)


def test_is_zero_where_predictions_hit_and_four_where_they_are_opposite():
    target = rows(5, 3)
    assert byol_loss(3 * target, target).item() == pytest.approx(0, abs=1e-12)
    assert byol_loss(-target, 0.1 * target).item() == pytest.approx(4, abs=1e-12)


def test_targets_get_no_gradient():
    predicted, target = rows(5, 3).requires_grad_(), rows(5, 3, seed=1).requires_grad_()
    byol_loss(predicted, target).backward()
    assert predicted.grad.abs().max() > 0 and target.grad is None


def test_each_view_is_compared_with_the_one_target_of_its_own_image():
    given, objective, twin = views(), an_objective(), an_objective()
    online = twin.predictor(
        twin.projector(torch.cat([given.images[name].pooled for name in ("main", "second")]))
    )
    target = twin.average(given.targets["ema"].images["main"].pooled)
    expected = (byol_loss(online[:5], target) + byol_loss(online[5:], target)) / 2
    assert objective(given).loss.item() == pytest.approx(expected.item(), abs=1e-12)
    assert {m.num_batches_tracked.item() for m in objective.modules() if isinstance(m, nn.BatchNorm1d)} == {
        1
    }, "both views go together"


def test_gradients_reach_both_online_views_and_nothing_of_the_teacher():
    given, objective = views(), an_objective()
    objective(given).loss.backward()
    assert all(given.images[name].pooled.grad.abs().max() > 1e-5 for name in ("main", "second"))
    assert given.targets["ema"].images["main"].pooled.grad is None
    trained = [*objective.projector.parameters(), *objective.predictor.parameters()]
    assert all(p.grad is not None for p in trained)
    assert all(p.grad is None and not p.requires_grad for p in objective.average.parameters())


def test_heads_have_no_biases_in_their_linear_layers_and_no_normalisation_at_the_end():
    objective = an_objective()
    for head in (objective.projector, objective.predictor):
        assert [type(m).__name__ for m in head] == ["Linear", "SynchronisedBatchNorm1d", "ReLU", "Linear"]
        assert all(m.bias is None for m in head if isinstance(m, nn.Linear))


def test_the_average_starts_as_a_copy_and_follows_in_closed_form():
    objective = an_objective(momentum=(0.9, 0.9))
    first = [p.detach().clone() for p in objective.average.parameters()]
    assert all(a.equal(b) for a, b in zip(first, objective.projector.parameters(), strict=True))
    with torch.no_grad():
        for p in objective.projector.parameters():
            p += 1
    objective(views())  # moves the running statistics of the projector's normalisation
    buffers = {name: b.clone() for name, b in objective.average.named_buffers()}
    for _ in range(7):
        objective.after_step(views())
    for average, start in zip(objective.average.parameters(), first, strict=True):
        torch.testing.assert_close(average, start + 1 - 0.9**7, rtol=0, atol=1e-12)
    assert all(b.equal(buffers[name]) for name, b in objective.average.named_buffers()), (
        "statistics are its own"
    )


@pytest.mark.parametrize(
    ("momentum", "progress"), [((1.0, 1.0), 0.3), ((0.0, 0.0), 0.3), ((0.5, 1.0), 0.5), ((0.5, 1.0), 1.0)]
)
def test_the_momentum_is_that_of_the_moment(momentum: tuple[float, float], progress: float):
    objective = an_objective(momentum=momentum)
    average, projector = (head.get_parameter("0.weight") for head in (objective.average, objective.projector))
    before = average.clone()
    with torch.no_grad():
        projector += 1
    objective.after_step(views(progress=progress))
    expected = 1 - momentum_at(progress, start=momentum[0], end=momentum[1])
    torch.testing.assert_close(average - before, torch.full_like(before, expected), rtol=0, atol=1e-12)


def test_needs():
    assert an_objective(teacher="slow", target="around", images=["main"]).needs() == Needs(
        images=frozenset({"main"}), teachers=frozenset({"slow:around"})
    )
