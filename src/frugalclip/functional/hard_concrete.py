"""Gates between 0 and 1 that gradients can close: the hard-concrete distribution.

Sources: Louizos et al. 2018, arXiv 1712.01312, section 2.2 and eq. 10 to 12; TinyCLIP, arXiv 2309.12314,
section 3.2, and its code (`open_clip/l0module.py`), from which the constants are.
"""

import math

import torch
from torch import Tensor

TEMPERATURE = 2 / 3
LOW, HIGH = -0.1, 1.1  # the interval that the sigmoid is stretched to, before it is cut to [0, 1]
ALWAYS = 1e-6  # probabilities are kept this far from 0 and 1
SHARPNESS = 0.8  # of deterministic gates


def sampled_gates(log_alpha: Tensor, noise: Tensor) -> Tensor:
    """Gates of one step.

    Args:
        log_alpha: (units,) any real number; a large one keeps the gate open.
        noise: (units,) uniform in (0, 1).

    Returns:
        (units,) in [0, 1], exactly 0 or 1 with positive probability.
    """
    soft = torch.sigmoid((torch.log(noise) - torch.log1p(-noise) + log_alpha) / TEMPERATURE)
    return (soft * (HIGH - LOW) + LOW).clamp(0, 1)


def open_probability(log_alpha: Tensor) -> Tensor:
    """(units,) to (units,): the probability that a sampled gate is not 0."""
    threshold = TEMPERATURE * math.log(-LOW / HIGH)
    return torch.sigmoid(log_alpha - threshold).clamp(ALWAYS, 1 - ALWAYS)


def soft_gates(log_alpha: Tensor) -> Tensor:
    """(units,) to (units,) in (0, 1): gates without noise, before the lowest are closed."""
    return torch.sigmoid(SHARPNESS * log_alpha / TEMPERATURE)


def expected_kept(log_alpha: Tensor) -> int:
    """How many of (units,) gates are open in expectation; of a half, closed gates are rounded to even."""
    return len(log_alpha) - round(len(log_alpha) - float(open_probability(log_alpha.detach()).double().sum()))


def highest(log_alpha: Tensor, count: int) -> Tensor:
    """(units,) bool: the highest `count` of (units,); of equal ones the first."""
    chosen = torch.argsort(log_alpha, descending=True, stable=True)[:count]
    return torch.zeros(len(log_alpha), dtype=torch.bool, device=log_alpha.device).index_fill(0, chosen, True)


def size_penalty(
    removed: Tensor, goal: float, *, linear: Tensor, quadratic: Tensor, one_sided: bool = True
) -> Tensor:
    """Lagrangian of a size constraint.

    Args:
        removed: () share of the parameters that the gates remove in expectation.
        goal: share that has to be removed by now.
        linear: () multiplier of the gap.
        quadratic: () multiplier of its square.
        one_sided: TinyCLIP's code: no penalty once the goal is met. False: CoFi's form, which also pulls a
            network back that is too small.

    Returns:
        ().
    """
    gap = goal - removed
    gap = gap.clamp(min=0) if one_sided else gap
    return linear * gap + quadratic * gap.square()


def goal_at(step: float, *, start: float, target: float, ramp: float) -> float:
    """The share to be removed at a step: linear from `start` to `target` over `ramp` steps."""
    return target if ramp <= 0 else start + (target - start) * min(1.0, step / ramp)
