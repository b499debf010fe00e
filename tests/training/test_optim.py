"""Schedules and parameter groups."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from frugalclip.core.errors import RecipeError
from frugalclip.training.depths import depths_below_top
from frugalclip.training.optim import (
    OptimizerConfig,
    ScheduleConfig,
    build_optimizer,
    cosine_schedule,
    learning_rates,
    parameter_groups,
    pull_towards,
    set_learning_rate,
)


def test_the_cosine_ends_just_above_its_goal():
    values = cosine_schedule(1.0, 0.1, steps=30, warmup_steps=10, start=0.0)
    assert len(values) == 30
    assert values[0] == 0 and values[9] == 1.0 and values[10] == 1.0
    assert 0.1 < values[-1] < 0.11 and (np.diff(values[10:]) < 0).all()


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_every_step_has_a_positive_rate(kind: str, steps: int):
    rates = learning_rates(ScheduleConfig(kind=kind, warmup=0.2), peak=1e-3, steps=steps)
    assert len(rates) == steps and (rates > 0).all() and rates.max() <= 1e-3


def test_a_warm_up_of_one_or_more_counts_steps():
    assert ScheduleConfig(warmup=0.1).warmup_steps(200) == 20
    assert ScheduleConfig(warmup=50).warmup_steps(200) == 50
    assert ScheduleConfig(warmup=500).warmup_steps(200) == 200


def test_a_group_may_stop_early_on_the_same_curve():
    config = ScheduleConfig(warmup=0.2, final=0.1)
    ended = learning_rates(config, peak=1.0, steps=30, end=10)
    assert not ended[10:].any() and ended[:6].tolist() == pytest.approx(np.linspace(1 / 6, 1, 6).tolist())


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.positions = nn.Parameter(torch.ones(1, 2, 3))
        self.log_scale = nn.Parameter(torch.tensor(1.0))
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)


def test_gains_biases_scales_and_positions_do_not_decay():
    groups = parameter_groups(Toy().named_parameters(), OptimizerConfig(weight_decay=0.2))
    decayed = {name: g["weight_decay"] for g in groups for name in g["names"]}
    assert decayed == {"linear.weight": 0.2, "linear.bias": 0.0, "positions": 0.0, "log_scale": 0.0}


def test_groups_by_name_scale_the_rate_and_the_first_match_wins():
    groups: Any = ({"match": "^linear", "lr": 0.1}, {"match": "weight", "lr": 5})
    config = OptimizerConfig(groups=groups)
    with pytest.raises(RecipeError, match="'weight' matches no"):
        parameter_groups(Toy().named_parameters(), config)
    groups = ({"match": "^linear", "lr": 0.1, "weight_decay": 0.5},)
    config = OptimizerConfig(groups=groups)
    optimizer = build_optimizer(Toy().named_parameters(), config)
    set_learning_rate(optimizer, 2.0)
    rates = {name: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for name in g["names"]}
    assert (
        rates["linear.weight"] == (0.2, 0.5)
        and rates["linear.bias"] == (0.2, 0.0)
        and rates["log_scale"] == (2.0, 0.0)
    )


def test_a_pattern_that_is_not_one_is_refused():
    with pytest.raises(ValueError, match="regular expression"):
        OptimizerConfig(groups=({"match": "("},))  # pyright: ignore


def test_parameters_that_ascend_have_a_group_of_their_own_and_move_uphill():
    toy = Toy()
    optimizer = build_optimizer(
        toy.named_parameters(),
        OptimizerConfig(groups=({"match": "^positions$", "maximize": True},)),  # pyright: ignore
        ascending=[toy.log_scale],
    )
    uphill = {name: group["maximize"] for group in optimizer.param_groups for name in group["names"]}
    assert uphill == {"linear.weight": False, "linear.bias": False, "positions": True, "log_scale": True}
    before = toy.log_scale.item(), toy.linear.bias.sum().item()
    set_learning_rate(optimizer, 0.1)
    (toy.log_scale + toy.linear.bias.sum()).backward()
    optimizer.step()
    assert toy.log_scale.item() > before[0] and toy.linear.bias.sum().item() < before[1]


NAMES = [
    "network.log_scale",
    "network.image.cls",
    "network.image.patch.weight",
    "network.image.layers.blocks.0.norm.weight",
    "network.image.layers.blocks.1.norm.weight",
    "network.image.norm_after.weight",
    "network.text.lookup.weight",
    "network.text.encoder.layer.0.output.dense.weight",
    "network.text.encoder.layer.1.output.dense.weight",
    "network.text.encoder.layer.2.output.dense.weight",
    "objectives.simclr.head.0.weight",
]


def test_depths_count_layers_from_the_top_of_each_tower():
    depths = depths_below_top(NAMES)
    assert [depths[name] for name in NAMES] == [0, 3, 3, 2, 1, 0, 4, 3, 2, 1, 0]
    nested = [
        f"network.image.{name}" for name in ("stem.w", "layer1.0.c", "layer1.1.c", "layer2.0.c", "fc.w")
    ]
    assert [depths_below_top(nested)[name] for name in nested] == [4, 3, 2, 1, 0]
    assert depths_below_top(["network.text.lookup.weight"]) == {"network.text.lookup.weight": 1}


def test_each_layer_learns_at_a_share_of_the_rate_above_it():
    parameters = [(name, nn.Parameter(torch.zeros(2, 2))) for name in NAMES]
    own = {"match": r"^network\.text\.", "lr": 0.5}
    groups = parameter_groups(parameters, OptimizerConfig(layer_decay=0.5, groups=(own,)))
    factors = {name: group["lr_factor"] for group in groups for name in group["names"]}
    assert factors["network.image.cls"] == 0.125 and factors["network.image.norm_after.weight"] == 1
    assert factors["network.text.lookup.weight"] == 0.5**5 and factors["objectives.simclr.head.0.weight"] == 1


def test_decay_towards_the_start_is_adam_w_of_the_difference():
    generator = torch.Generator().manual_seed(0)
    start, gradients = torch.randn(4, generator=generator), torch.randn(5, 4, generator=generator)
    config = OptimizerConfig(lr=0.1, weight_decay=0.3, decay_towards="start")
    pulled, shifted = nn.Parameter(start.clone()), nn.Parameter(torch.zeros(4))
    own = build_optimizer([("network.image.w", pulled)], config)
    plain = torch.optim.AdamW([shifted], lr=0.1, betas=config.betas, eps=config.eps, weight_decay=0.3)
    for gradient in gradients:  # the gradient does not depend on the weights, so both see the same
        pulled.grad, shifted.grad = gradient.clone(), gradient.clone()
        set_learning_rate(own, 0.1)
        pull_towards({"network.image.w": start}, own)
        own.step()
        plain.step()
    assert torch.allclose(pulled - start, shifted, atol=1e-6)
