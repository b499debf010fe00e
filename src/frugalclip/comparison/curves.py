"""Curves of runs, read at equal samples and at equal seconds, and how many pairs or seconds an arm saves.

Nothing is extrapolated: outside the measured range a factor is censored, `> 8` or `< 1`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from frugalclip.comparison.paired import LEVEL, Block, Pigeonhole


@dataclass(frozen=True)
class Curve:
    """The watched figure of one run."""

    samples: np.ndarray  # (points,) samples seen, ascending
    seconds: np.ndarray  # (points,) ascending
    values: np.ndarray  # (points,) percent

    def at(self, axis: str, places: np.ndarray | float) -> np.ndarray:
        """Values at places on an axis, `samples` or `seconds`, between points on straight lines; NaN outside them."""
        return np.asarray(np.interp(places, getattr(self, axis), self.values, left=math.nan, right=math.nan))

    def area(self, axis: str, low: float, high: float) -> float:
        """The mean height between two places on an axis: the area under the curve, normalised; NaN where it is not measured throughout."""
        if high <= low:
            return float(self.at(axis, high))
        xs = getattr(self, axis)
        places = np.unique(np.concatenate([[low, high], xs[(xs > low) & (xs < high)]]))
        heights = self.at(axis, places)
        return float(((heights[1:] + heights[:-1]) / 2 * np.diff(places)).sum() / (high - low))

    def monotone(self) -> "Curve":
        """The nearest curve that never falls: a lucky point is averaged with its neighbours, where a running maximum would keep it."""
        return Curve(self.samples, self.seconds, isotonic(self.values))

    def reaches(self, target: float) -> float | None:
        """Seconds at which the curve first stands at `target`, on straight lines between points; None where it never does."""
        above = np.flatnonzero(self.values >= target - 1e-9)
        if not len(above):
            return None
        i = int(above[0])
        if i == 0:
            return float(self.seconds[0])
        low, high = self.values[i - 1], self.values[i]
        return float(
            self.seconds[i - 1] + (target - low) / (high - low) * (self.seconds[i] - self.seconds[i - 1])
        )


Runs = Mapping[tuple[str, int], Curve]  # (rotation, seed) -> curve


@dataclass(frozen=True)
class TargetReached:
    """When an arm stands where the reference ends."""

    factor: float  # the reference's seconds / the arm's; 0 where the arm never gets there
    interval: tuple[float, float] | None  # 95 % by bootstrap over runs; None with a single one
    seconds: float  # the arm's; NaN where it never gets there
    reference_seconds: float


def times_sooner(arm: Runs, reference: Runs, *, draws: int = 500, seed: int = 0) -> TargetReached | None:
    """How much sooner an arm stands at the height at which the reference ends.

    Curves are averaged over runs and made monotone, and both times are read by the same rule, so that neither a lucky point nor a plateau of the
    reference counts for the arm: of two flat noisy curves neither is sooner.

    Args:
        arm: curves of its runs.
        reference: curves of the same rotations and seeds.
        draws: of the bootstrap, which draws runs within rotations, the same for both.
        seed: of the bootstrap.

    Returns:
        The factor with its interval, or None where there are no runs.
    """
    keys = [key for key in arm if key in reference]
    if not keys:
        return None
    ours, theirs = _on_one_grid([arm[k] for k in keys]), _on_one_grid([reference[k] for k in keys])

    def read(weights: np.ndarray) -> tuple[float, float]:
        mine, standard = (
            Curve(*(rows.T @ weights / weights.sum() for rows in three)).monotone()
            for three in (ours, theirs)
        )
        target = float(standard.values[-1])
        return mine.reaches(target) or math.nan, standard.reaches(target) or math.nan

    mine, standard = read(np.ones(len(keys)))
    weights = _run_weights(keys, draws=draws, seed=seed)
    if weights is None:
        return TargetReached(_factor(mine, standard), None, mine, standard)
    drawn = [_factor(*read(row)) for row in weights]
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return TargetReached(_factor(mine, standard), (float(low), float(high)), mine, standard)


def _factor(mine: float, standard: float) -> float:
    return 0.0 if math.isnan(mine) else standard / max(mine, 1e-9)


def _on_one_grid(curves: Sequence[Curve], places: int = 41) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(runs, places) samples, seconds and values at the same shares of what all runs have seen."""
    grid = np.linspace(max(c.samples[0] for c in curves), min(c.samples[-1] for c in curves), places)
    seconds = np.stack([np.interp(grid, c.samples, c.seconds) for c in curves])
    return np.tile(grid, (len(curves), 1)), seconds, np.stack([c.at("samples", grid) for c in curves])


def _run_weights(keys: Sequence[tuple[str, int]], *, draws: int, seed: int) -> np.ndarray | None:
    """(draws, runs) how much each run counts, drawn within its rotation and stretched as in `Pigeonhole`; None where no rotation has two."""
    random = np.random.default_rng(seed)
    weights = np.ones((draws, len(keys)))
    for rotation in dict.fromkeys(r for r, _ in keys):
        own = [i for i, (r, _) in enumerate(keys) if r == rotation]
        if len(own) > 1:
            drawn = random.multinomial(len(own), np.full(len(own), 1 / len(own)), size=draws)
            weights[:, own] = 1 + math.sqrt(len(own) / (len(own) - 1)) * (drawn - 1)
    return weights if len(keys) > len({r for r, _ in keys}) else None


@dataclass(frozen=True)
class Censored:
    """A factor, or the bound behind which it lies."""

    value: float
    bound: str = ""  # "", ">" or "<"

    def __str__(self) -> str:
        number = f"{self.value:.2f}" if self.value < 9.95 else f"{self.value:.0f}"
        return f"{self.bound} {number}".strip() + " ×"

    def as_json(self) -> dict[str, float | str]:
        """`{"value": 2.1, "bound": ""}`."""
        return {"value": round(self.value, 4), "bound": self.bound}


def isotonic(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """The nearest sequence that never falls (pool adjacent violators): more data is taken not to hurt, noise is averaged away."""
    pools: list[list[float]] = []  # mean, count
    for value in values:
        pools.append([float(value), 1.0])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, n), (b, m) = pools[-2:]
            pools[-2:] = [[(a * n + b * m) / (n + m), n + m]]
    return np.concatenate([np.full(int(n), mean) for mean, n in pools])


def data_efficiency(pairs: Sequence[float], values: Sequence[float] | np.ndarray, target: float) -> float:
    """How many times fewer pairs than all of them reach a figure.

    Args:
        pairs: (fractions,) ascending, the last is all pairs.
        values: (fractions,) figures; made monotone first.
        target: the figure to reach.

    Returns:
        all pairs / pairs needed, by straight lines over the logarithm of pairs; `inf` where the smallest fraction is already above the target,
        0 where all pairs do not reach it.
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
    needed = (
        logs[0]
        if i == 0
        else logs[i - 1] + (target - curve[i - 1]) / (curve[i] - curve[i - 1]) * (logs[i] - logs[i - 1])
    )
    return float(np.exp(logs[-1] - needed))


def censor(factor: float, *, most: float) -> Censored:
    """A factor of `data_efficiency` with `inf` as `> most` and 0 as `< 1`."""
    return (
        Censored(most, ">") if math.isinf(factor) else Censored(1.0, "<") if factor == 0 else Censored(factor)
    )


def saved_with_interval(
    arm: Mapping[float, Sequence[Block]],
    reference: Sequence[Block],
    pairs: Mapping[float, float],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[Censored, tuple[Censored, Censored] | None]:
    """The pairs-saved factor of an arm against the reference on all pairs, with a 95 % pigeonhole bootstrap interval.

    Args:
        arm: fraction -> outcomes, a rotation each, of the same runs and families throughout.
        reference: outcomes of the reference on all pairs.
        pairs: fraction -> how many pairs that is.
        draws: of the bootstrap; runs and families are drawn once for every fraction and for the reference together.
        seed: of the bootstrap.

    Returns:
        The factor and its interval, None with a single run.
    """
    fractions = sorted(arm)
    numbers, most = [pairs[f] for f in fractions], pairs[fractions[-1]] / pairs[fractions[0]]
    means = [float(np.mean([b.means().mean() for b in arm[f]])) for f in fractions]
    factor = censor(
        data_efficiency(numbers, means, float(np.mean([b.means().mean() for b in reference]))), most=most
    )
    if max(len(b.seeds) for b in reference) < 2:
        return factor, None
    holes = Pigeonhole(reference, draws=draws, seed=seed)
    drawn = np.stack([holes.means(arm[f]) for f in fractions], axis=1)  # (draws, fractions)
    targets = holes.means(reference)
    factors = np.array(
        [
            data_efficiency(numbers, row, target)
            for row, target in zip(drawn, targets, strict=True)
            if np.isfinite(row).all()
        ]
    )
    low, high = np.quantile(
        factors, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest"
    )  # nearest: between 2 and > 8 there is nothing
    return factor, (censor(float(low), most=most), censor(float(high), most=most))
