"""Exponential moving averages of modules, for teachers and for heads that belong to an objective."""

import math

import torch
from torch import nn


def momentum_at(progress: float, *, start: float, end: float) -> float:
    """Momentum on a cosine from `start` to `end` over a run (BYOL, arXiv 2006.07733, section 3.3).

    Args:
        progress: share of the run that lies behind, 0 to 1.
        start: momentum of the first step.
        end: momentum that the last step comes near to.
    """
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def follow(average: nn.Module, module: nn.Module, *, momentum: float) -> None:
    """Move the parameters of an average: average = momentum * average + (1 - momentum) * module.

    Buffers stay the average's own: statistics of a normalisation come from what went through it.

    Args:
        average: of the same structure.
        module: what is followed.
        momentum: 1 leaves the average as it is, 0 copies.
    """
    if momentum == 1:
        return
    for own, theirs in zip(average.parameters(), module.parameters(), strict=True):
        own.lerp_(theirs.detach(), 1 - momentum)
