"""Hold the expected size of gated towers at a goal, with multipliers that ascend.

Source: TinyCLIP, arXiv 2309.12314, section 3.2, and its code (`l0module.py`, `train.py`): a goal that is
approached linearly, a penalty that ends once the goal is met, and one constraint over the parameters of both
towers. The paper, like CoFi, also pulls back a network that is too small; `one_sided: false` does that.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from frugalclip.core.types import SampledGates
from frugalclip.functional import goal_at, size_penalty
from frugalclip.objectives.base import (
    Dims,
    Features,
    Needs,
    Objective,
    ObjectiveConfig,
    ObjectiveOutput,
)


class Config(ObjectiveConfig):
    start: float = Field(1.0, gt=0, le=1, description="share that stays at the first step")
    ramp: float = Field(
        0.33,
        ge=0,
        le=1,
        description="share of the stage over which the goal moves; TinyCLIP: 1,000 of 3,000 steps",
    )
    per_tower: bool = Field(False, description="true: each tower keeps the share; false: both together")
    one_sided: bool = Field(True, description="no penalty once the goal is met, as in the code")
    multiplier: float = Field(10.0, ge=0, description="both multipliers at the start")


class Sparsity(Objective):
    """Lagrangian of a constraint on the share of the parameters that gates remove."""

    Config = Config
    trains_embeddings = False

    def __init__(self, config: Config, dims: Dims) -> None:
        super().__init__(config, dims)
        self.config = config
        count = 2 if config.per_tower else 1
        self.linear = nn.Parameter(torch.full((count,), config.multiplier))
        self.quadratic = nn.Parameter(torch.full((count,), config.multiplier))

    def needs(self) -> Needs:
        return Needs(gates=True)

    def ascending_parameters(self) -> list[nn.Parameter]:
        return [self.linear, self.quadratic]

    def forward(self, views: Features) -> ObjectiveOutput:
        c = self.config
        assert views.gates is not None, "in the needs"
        removed = self._removed(views.gates)  # (constraints,)
        goal = goal_at(views.progress, start=1 - c.start, target=1 - views.gates.keep, ramp=c.ramp)
        linear, quadratic = self.linear[: len(removed)], self.quadratic[: len(removed)]
        loss = size_penalty(removed, goal, linear=linear, quadratic=quadratic, one_sided=c.one_sided)
        return ObjectiveOutput(
            loss.mean(),
            {"kept": 1 - removed.mean(), "goal": torch.tensor(1 - goal), "multiplier": linear.mean()},
        )

    def _removed(self, gates: SampledGates) -> Tensor:
        kept, full = gates.expected_size, gates.full_size
        if self.config.per_tower:
            return torch.stack([1 - kept[side] / full[side] for side in sorted(kept)])
        return (1 - torch.stack(list(kept.values())).sum() / sum(full.values()))[None]
