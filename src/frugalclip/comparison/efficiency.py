"""Data efficiency: on how many times fewer pairs an arm reaches the value of the reference on all pairs.

Nothing is extrapolated: outside the measured fractions a factor is censored, `> 8` or `< 1`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from frugalclip.comparison.curves import isotonic
from frugalclip.comparison.paired import LEVEL, FoldOutcomes, Pigeonhole


@dataclass(frozen=True)
class Censored:
    """A factor, or its bound."""

    value: float
    bound: str = ""  # "", ">" or "<"

    def __str__(self) -> str:
        number = f"{self.value:.2f}" if self.value < 9.95 else f"{self.value:.0f}"
        return f"{self.bound} {number}".strip() + " ×"

    def as_json(self) -> dict[str, float | str]:
        """`{"value": 2.1, "bound": ""}`."""
        return {"value": round(self.value, 4), "bound": self.bound}


def data_efficiency(pairs: Sequence[float], values: Sequence[float] | np.ndarray, target: float) -> float:
    """How many times fewer pairs than all of them reach a target.

    Args:
        pairs: (fractions,) ascending, the last is all pairs.
        values: (fractions,) of the metric; made monotone first.
        target: the value to reach.

    Returns:
        All pairs / pairs needed, interpolated linearly over the logarithm of pairs. It is `inf` if the
        smallest fraction is above the target, and 0 if all pairs do not reach it.
    """
    curve = isotonic(values)
    if curve[-1] < target - 1e-9:
        return 0.0
    if len(curve) == 1:
        return 1.0
    if curve[0] > target + 1e-9:
        return math.inf
    i = int(np.flatnonzero(curve >= target - 1e-9)[0])
    logs = np.log(np.asarray(pairs, np.float64))
    needed = logs[0]
    if i:
        needed = logs[i - 1] + (target - curve[i - 1]) / (curve[i] - curve[i - 1]) * (logs[i] - logs[i - 1])
    return float(np.exp(logs[-1] - needed))


def censor(factor: float, *, most: float) -> Censored:
    """A factor of `data_efficiency` with `inf` as `> most` and 0 as `< 1`."""
    if math.isinf(factor):
        return Censored(most, ">")
    return Censored(1.0, "<") if factor == 0 else Censored(factor)


def estimate_efficiency(
    arm: Mapping[float, Sequence[FoldOutcomes]],
    reference: Sequence[FoldOutcomes],
    pairs: Mapping[float, float],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[Censored, tuple[Censored, Censored] | None]:
    """The data efficiency of an arm against the reference on all pairs.

    Args:
        arm: fraction -> outcomes, one block for each fold, with the same runs and families throughout.
        reference: outcomes of the reference on all pairs.
        pairs: fraction -> number of pairs.
        draws: of the pigeonhole bootstrap, which draws runs and families once for all fractions and both
            arms.
        seed: of the bootstrap.

    Returns:
        The factor and its 95 % interval, None with a single run.
    """
    fractions = sorted(arm)
    numbers, most = [pairs[f] for f in fractions], pairs[fractions[-1]] / pairs[fractions[0]]
    means = [float(np.mean([b.means().mean() for b in arm[f]])) for f in fractions]
    target = float(np.mean([b.means().mean() for b in reference]))
    factor = censor(data_efficiency(numbers, means, target), most=most)
    if max(len(b.seeds) for b in reference) < 2:
        return factor, None
    holes = Pigeonhole(reference, draws=draws, seed=seed)
    drawn = np.stack([holes.means(arm[f]) for f in fractions], axis=1)  # (draws, fractions)
    factors = np.array(
        [
            data_efficiency(numbers, row, target)
            for row, target in zip(drawn, holes.means(reference), strict=True)
            if np.isfinite(row).all()
        ]
    )
    # the nearest draw: between 2 and > 8 there is nothing to interpolate
    low, high = np.quantile(factors, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return factor, (censor(float(low), most=most), censor(float(high), most=most))
