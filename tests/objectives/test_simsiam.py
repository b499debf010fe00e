"""SimSiam: its range, its stop-gradient, and what happens without it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frugalclip.core.types import Dims, Features, TowerOutput
from frugalclip.objectives.base import Needs
from frugalclip.objectives.simsiam import Config, SimSiam, simsiam_loss

DIMS = Dims(image_width=6, text_width=8, embedding=4, vocabulary=10, context=5, patch_grid=(2, 2), batch=5)


def rows(number: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(number, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def an_objective(**settings: Any) -> SimSiam:
    torch.manual_seed(0)
    return SimSiam(Config.model_validate({"hidden": 16, "bottleneck": 8} | settings), DIMS).double()


def views(first: Tensor, second: Tensor) -> Features:
    made = {
        "main": TowerOutput(None, rows(len(first), 6, seed=8), first),
        "second": TowerOutput(None, rows(len(first), 6, seed=9), second),
    }
    return Features(made, {}, torch.tensor(1.0))


def test_matches_cosines_written_as_loops():
    p1, z1, p2, z2 = (rows(5, 3, seed=i) for i in range(4))

    def cosine(a: Tensor, b: Tensor) -> float:
        return (
            sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))
            / (a.square().sum() * b.square().sum()).sqrt().item()
        )

    expected = -sum(cosine(p1[i], z2[i]) + cosine(p2[i], z1[i]) for i in range(5)) / 10
    assert simsiam_loss((p1, z1), (p2, z2)).item() == pytest.approx(expected, abs=1e-12)
    assert simsiam_loss((p2, z2), (p1, z1)).item() == pytest.approx(expected, abs=1e-12)


def test_is_least_where_predictions_hit_whatever_their_length():
    z1, z2 = rows(5, 3), rows(5, 3, seed=1)
    assert simsiam_loss((2 * z2, z1), (7 * z1, z2)).item() == pytest.approx(-1, abs=1e-12)
    assert simsiam_loss((-z2, z1), (-z1, z2)).item() == pytest.approx(1, abs=1e-12)


def test_projections_get_no_gradient():
    leaves = [rows(5, 3, seed=i).requires_grad_() for i in range(4)]
    simsiam_loss((leaves[0], leaves[1]), (leaves[2], leaves[3])).backward()
    assert [leaf.grad is None for leaf in leaves] == [False, True, False, True]


def test_gradients_reach_both_views_through_their_predictions_and_both_heads():
    first, second = rows(5, 4).requires_grad_(), rows(5, 4, seed=1).requires_grad_()
    objective = an_objective()
    objective(views(first, second)).loss.backward()
    assert first.grad.abs().max() > 1e-4 and second.grad.abs().max() > 1e-4
    assert all(p.grad is not None for p in objective.parameters())


def test_each_view_has_its_own_batch_statistics():
    first, second = rows(5, 4), rows(5, 4, seed=1)
    objective, twin = an_objective(), an_objective()
    loss = objective(views(first, second)).loss
    z1, z2 = twin.projector(first), twin.projector(second)
    assert loss.item() == pytest.approx(
        simsiam_loss((twin.predictor(z1), z1), (twin.predictor(z2), z2)).item(), abs=1e-12
    )
    assert {m.num_batches_tracked.item() for m in objective.modules() if isinstance(m, nn.BatchNorm1d)} == {2}


def test_the_projector_is_normalised_at_its_end_and_the_predictor_is_not():
    objective = an_objective()
    assert isinstance(objective.projector[-1], nn.BatchNorm1d) and isinstance(
        objective.predictor[-1], nn.Linear
    )
    assert [type(m).__name__ for m in objective.projector].count("Linear") == 3
    assert [type(m).__name__ for m in objective.predictor].count("Linear") == 2


@pytest.mark.parametrize(("source", "width"), [("embedding", 4), ("pooled", 6)])
def test_what_the_projector_reads(source: str, width: int):
    objective = an_objective(input=source, first="third")
    assert objective.projector[0].in_features == width
    assert objective.needs() == Needs(images=frozenset({"third", "second"}))


def test_the_spread_is_one_at_random_and_zero_at_collapse():
    torch.manual_seed(0)
    objective = SimSiam(Config(hidden=512, bottleneck=8), DIMS).double()
    objective.projector = nn.Identity()  # so that the spread is that of what is put in
    objective.predictor = nn.Identity()
    assert objective(views(rows(256, 32), rows(256, 32, seed=1))).logs["spread"].item() == pytest.approx(
        1, abs=0.03
    )
    same = torch.ones(6, 4, dtype=torch.float64)
    assert objective(views(same, same)).logs["spread"].item() == 0


@pytest.mark.parametrize("stops", [True, False], ids=["with stop-gradient", "without"])
def test_only_the_stop_gradient_keeps_a_toy_from_collapsing(stops: bool, monkeypatch: pytest.MonkeyPatch):
    if not stops:
        monkeypatch.setattr(
            "frugalclip.objectives.simsiam.negative_cosine",
            lambda p, z: -F.cosine_similarity(p, z, dim=-1).mean(),
        )
    objective, content = an_objective().float(), rows(64, 4).float()
    optimiser = torch.optim.SGD(objective.parameters(), lr=0.5, momentum=0.9)
    draw = torch.Generator().manual_seed(2)
    spread = 1.0
    for _ in range(200):
        noise = 0.5 * torch.randn(2, 64, 4, generator=draw)
        outcome = objective(views(content + noise[0], content + noise[1]))
        optimiser.zero_grad()
        outcome.loss.backward()
        optimiser.step()
        spread = outcome.logs["spread"].item()
    assert spread > 0.6 if stops else spread < 0.05
