"""Schedules, parameter groups and the optimiser.

Sources: warm-up and cosine as in SLIP `utils.py: cosine_scheduler` (arXiv 2112.12750), also A-CLIP's momentum
schedule; weight decay as in open_clip: never on parameters with one axis or none (gains, biases, scales), nor
on class tokens and position tables. Decay towards the weights that a run starts from is L2-SP, Li, Grandvalet
& Davoine 2018, arXiv 1802.01483, in the decoupled form of AdamW.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor, nn

from frugalclip.core.config import Settings
from frugalclip.core.errors import RecipeError
from frugalclip.towers.dual import DualEncoder
from frugalclip.training.depths import depths_below_top

_FINETUNING = 0.02  # peak rate times width: 1e-4 at a width of 192, 2.6e-5 at 768
NO_DECAY = re.compile(r"(^|\.)(cls|positions|query|log_scale)$")


class GroupConfig(Settings):
    """Other settings for the parameters whose name matches."""

    match: str = Field(
        description="regular expression searched in the name, such as ^network\\.image\\. or ^objectives\\."
    )
    lr: float = Field(1.0, ge=0, description="multiplies the learning rate; 0 freezes")
    rate: float | None = Field(
        None,
        gt=0,
        description="learning rate of its own, which no schedule changes; TinyCLIP: 0.02 for gates "
        "and multipliers",
    )
    weight_decay: float | None = Field(None, ge=0, description="replaces the weight decay; null keeps it")
    until: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the stage after which the learning rate is 0, on the schedule's own curve",
    )
    maximize: bool = Field(
        False,
        description="true: gradient ascent; parameters that an objective declares as ascending need no group",
    )

    @field_validator("match")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"'{value}' is not a regular expression ({error})") from None
        return value


class OptimizerConfig(Settings):
    """The `optimizer` section of a recipe: AdamW."""

    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    weight_decay: float = Field(0.2, ge=0, description="CLIP: 0.2, SLIP: 0.1")
    decay_towards: Literal["zero", "start"] = Field(
        "zero",
        description="what weight decay pulls to: zero, or the weights that the stage starts from (L2-SP), "
        "then of gains, biases and position tables too",
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="each layer of a tower learns at this share of the rate of the layer above it; "
        "fine-tuning: 0.65 to 0.9",
    )
    betas: tuple[float, float] = Field(
        (0.9, 0.98), description="CLIP ViT: 0.9 and 0.98, SigLIP: 0.9 and 0.95"
    )
    eps: float = Field(1e-6, gt=0, description="CLIP ViT: 1e-6")
    clip: float | None = Field(
        None, gt=0, description="largest gradient norm over all parameters; null: no limit"
    )
    groups: tuple[GroupConfig, ...] = Field((), description="the first match wins")


class ScheduleConfig(Settings):
    """The `schedule` section of a recipe: warm-up, then decay."""

    kind: Literal["cosine", "linear", "constant"] = Field("cosine", description="shape after the warm-up")
    warmup: float = Field(0.1, ge=0, description="below 1: share of the run; from 1: steps; CLIP: 2000")
    start: float = Field(0.0, ge=0, description="first learning rate as a share of the peak")
    final: float = Field(0.0, ge=0, description="last learning rate as a share of the peak")

    def warmup_steps(self, steps: int) -> int:
        """Steps of warm-up in a stage of so many steps."""
        return min(steps, round(self.warmup * steps) if self.warmup < 1 else round(self.warmup))


def cosine_schedule(
    base: float, final: float, *, steps: int, warmup_steps: int = 0, start: float = 0.0
) -> NDArray[np.float64]:
    """Linear warm-up that includes both ends, then a cosine at k / length, which ends just above `final`.

    Args:
        base: value at the end of the warm-up.
        final: value the cosine goes towards.
        steps: values in all.
        warmup_steps: values of the warm-up.
        start: first value of the warm-up.

    Returns:
        (steps,) float64.
    """
    rise = np.linspace(start, base, warmup_steps)
    k = np.arange(steps - warmup_steps)
    fall = final + 0.5 * (base - final) * (1 + np.cos(np.pi * k / max(len(k), 1)))
    return np.concatenate([rise, fall])


def learning_rates(
    config: ScheduleConfig, *, peak: float, steps: int, end: int | None = None
) -> NDArray[np.float64]:
    """Learning rate of each step, set before the step.

    Args:
        config: the `schedule` section.
        peak: full rate.
        steps: of the stage.
        end: steps of the stage after which the rate is 0, for parameters that stop early; the warm-up stays
            that of the whole stage. Rates are those of ProtoCLIP (`training/scheduler.py:
            protoclip_cosine_lr`) for a cosine from 0 to 0.

    Returns:
        (steps,) float64.
    """
    end = steps if end is None else min(end, steps)
    warmup = min(config.warmup_steps(steps), end)
    start, final = config.start * peak, config.final * peak
    if config.kind == "cosine":
        # a warm-up from zero would waste its first step, so it begins one notch up
        rates = cosine_schedule(
            peak, final, steps=end, warmup_steps=warmup, start=start or peak / max(warmup, 1)
        )
    else:
        rise = np.linspace(start or peak / max(warmup, 1), peak, warmup)
        rest = end - warmup
        fall = (
            np.full(rest, peak)
            if config.kind == "constant"
            else peak + (final - peak) * np.arange(rest) / max(rest, 1)
        )
        rates = np.concatenate([rise, fall])
    return np.concatenate([rates, np.zeros(steps - end)])


def parameter_groups(
    parameters: Iterable[tuple[str, nn.Parameter]],
    config: OptimizerConfig,
    *,
    ascending: Collection[nn.Parameter] = (),
) -> list[dict[str, Any]]:
    """Parameters by (learning-rate factor, end, weight decay, direction), in the order of their names.

    Args:
        parameters: (name, parameter); those that need no gradient are left out.
        config: the `optimizer` section.
        ascending: parameters that move uphill, whatever their group says.

    Returns:
        Groups for a torch optimiser, each with `params`, `names`, `lr_factor`, `until`, `rate`,
        `weight_decay`, `maximize`.

    Raises:
        RecipeError: if a group matches nothing, since it would silently have no effect.
    """
    uphill = {id(parameter) for parameter in ascending}
    parameters = list(parameters)
    depths = depths_below_top(name for name, _ in parameters)
    groups: dict[tuple[float, float, float | None, float, bool], dict[str, Any]] = {}
    matched: set[str] = set()
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        own = next((g for g in config.groups if re.search(g.match, name)), None)
        if own is not None:
            matched.add(own.match)
        decay = config.weight_decay if own is None or own.weight_decay is None else own.weight_decay
        if config.decay_towards == "zero" and (parameter.ndim < 2 or NO_DECAY.search(name)):
            decay = 0.0
        factor, until = (1.0, 1.0) if own is None else (own.lr, own.until)
        factor *= config.layer_decay ** depths[name]
        maximize = id(parameter) in uphill or (own is not None and own.maximize)
        rate = None if own is None else own.rate
        settings = {"lr_factor": factor, "until": until, "weight_decay": decay, "maximize": maximize}
        fresh = {"params": [], "names": [], "rate": rate, **settings}
        group = groups.setdefault((factor, until, rate, decay, maximize), fresh)
        group["params"].append(parameter)
        group["names"].append(name)
    for group in config.groups:
        if group.match not in matched:
            raise RecipeError(
                f"optimizer.groups: '{group.match}' matches no trained parameter; names begin with "
                "network.image., network.text., objectives.NAME. or gates."
            )
    return list(groups.values())


def build_optimizer(
    parameters: Iterable[tuple[str, nn.Parameter]],
    config: OptimizerConfig,
    *,
    ascending: Collection[nn.Parameter] = (),
) -> torch.optim.AdamW:
    """AdamW over the groups, as `parameter_groups` makes them; one fused kernel a step.

    Where weight decay pulls towards the start, `pull` applies it and the kernel has none.
    """
    groups = parameter_groups(parameters, config, ascending=ascending)
    if config.decay_towards == "start":
        for group in groups:
            group |= {"pull": group["weight_decay"], "weight_decay": 0.0}
    return torch.optim.AdamW(
        groups, lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay, fused=True
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float | Mapping[float, float]) -> None:
    """Set every group's learning rate to `lr`, or to that of the group's end, times its own factor."""
    for group in optimizer.param_groups:
        scheduled = (lr[group["until"]] if isinstance(lr, Mapping) else lr) * group["lr_factor"]
        group["lr"] = scheduled if group["rate"] is None else group["rate"]


@torch.no_grad()
def pull_towards(start: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    """Decoupled weight decay towards other weights than zero; called right before the optimiser's own step.

    Args:
        start: name of a parameter -> the weights that it is pulled to; parameters without an entry stay.
        optimizer: its groups have `pull`.
    """
    for group in optimizer.param_groups:
        share = group["lr"] * group["pull"]
        for name, parameter in zip(group["names"], group["params"], strict=True):
            if name in start and parameter.grad is not None:
                parameter.lerp_(start[name], share)


def copy_moments(
    before: torch.optim.Optimizer, after: torch.optim.Optimizer, *, prefixes: tuple[str, ...]
) -> None:
    """Give parameters the moments that those of the same name have in another optimiser.

    Args:
        before: where the moments are.
        after: where they go.
        prefixes: beginnings of the names to copy.
    """
    old = {
        name: parameter
        for group in before.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    }
    for group in after.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            if name in old and name.startswith(prefixes) and old[name] in before.state:
                state = before.state[old[name]]
                after.state[parameter] = {key: value.clone() for key, value in state.items()}


def finetuning_rate(network: DualEncoder) -> float:
    """The peak rate to train a model further, by the width of its wider tower: wide layers step less."""
    width = max(network.config.image.width, network.config.text.width)
    return float(f"{_FINETUNING / width:.2g}")
