"""The size constraint: where it ends, whose gradient it has, and which way its multipliers move."""

from typing import Any

import pytest
import torch
from torch import Tensor

from frugalclip.core.types import Features, Gates, SampledGates
from frugalclip.objectives.base import Dims, ObjectiveOutput
from frugalclip.objectives.sparsity import Config, Sparsity

DIMS = Dims(8, 8, 6, 16, 8, (2, 2), 10)


def score(image: float, text: float, *, progress: float = 1.0, keep: float = 0.5, **settings: Any):
    kept = {
        side: torch.tensor(value, requires_grad=True) for side, value in (("image", image), ("text", text))
    }
    gates = SampledGates(Gates(), Gates(), dict(kept), {"image": 300.0, "text": 100.0}, keep)
    objective = Sparsity(Config(**settings), DIMS)
    output = objective(Features({}, {}, torch.ones(()), progress=progress, gates=gates))
    return output, kept, objective


def grad(output: ObjectiveOutput, of: Tensor) -> float:
    (found,) = torch.autograd.grad(output.loss, of, retain_graph=True, allow_unused=True)
    return 0.0 if found is None else float(found.sum())


def test_one_constraint_over_both_towers():
    output, kept, _ = score(200.0, 80.0, keep=0.5)  # 280 of 400 stay, 200 may
    gap = 0.2
    assert float(output.loss.detach()) == pytest.approx(10 * gap + 10 * gap**2, rel=1e-5)
    assert float(output.logs["kept"].detach()) == pytest.approx(0.7)
    assert grad(output, kept["image"]) == pytest.approx(grad(output, kept["text"]))


def test_the_penalty_ends_where_the_goal_is_met():
    output, kept, objective = score(150.0, 20.0, keep=0.5)  # 170 of 400 stay, 200 may
    assert float(output.loss.detach()) == 0
    assert grad(output, kept["image"]) == grad(output, kept["text"]) == 0
    assert all(grad(output, one) == 0 for one in objective.ascending_parameters())


def test_the_two_sided_form_also_counts_what_is_removed_beyond_the_goal():
    output, kept, _ = score(80.0, 20.0, keep=0.5, one_sided=False)  # a gap of -0.25
    assert grad(output, kept["image"]) == pytest.approx((10 + 2 * 10 * -0.25) / 400)
    assert float(output.loss.detach()) == pytest.approx(10 * -0.25 + 10 * 0.25**2)


def test_each_tower_may_have_a_constraint_of_its_own():
    output, kept, _ = score(100.0, 100.0, keep=0.5, per_tower=True)  # image 1/3, text whole
    assert grad(output, kept["image"]) == 0
    assert grad(output, kept["text"]) > 0


def test_the_goal_moves_over_the_ramp():
    goals = [
        float(score(300.0, 100.0, progress=progress, keep=0.5, ramp=0.5)[0].logs["goal"])
        for progress in (0.0, 0.25, 0.5, 1.0)
    ]
    assert goals == pytest.approx([1.0, 0.75, 0.5, 0.5])


def test_multipliers_grow_while_the_goal_is_missed():
    output, _, objective = score(300.0, 100.0, keep=0.5)
    assert all(grad(output, one) > 0 for one in objective.ascending_parameters())
