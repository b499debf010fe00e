"""Curves of runs, read at equal samples and at equal seconds, and how much sooner an arm reaches a value."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from frugalclip.comparison.paired import LEVEL


@dataclass(frozen=True)
class Curve:
    """A metric of the validation set during one run."""

    samples: np.ndarray  # (points,) samples seen, ascending
    seconds: np.ndarray  # (points,) ascending
    values: np.ndarray  # (points,) percent

    def at(self, axis: str, places: np.ndarray | float) -> np.ndarray:
        """Values at places on an axis, interpolated linearly.

        Args:
            axis: `samples` or `seconds`.
            places: where to read; outside the measured range the value is NaN.
        """
        return np.asarray(np.interp(places, getattr(self, axis), self.values, left=math.nan, right=math.nan))

    def area(self, axis: str, low: float, high: float) -> float:
        """Mean height between two places on an axis, which is the normalised area under the curve.

        It is NaN where the curve was not measured throughout.
        """
        if high <= low:
            return float(self.at(axis, high))
        xs = getattr(self, axis)
        places = np.unique(np.concatenate([[low, high], xs[(xs > low) & (xs < high)]]))
        heights = self.at(axis, places)
        return float(((heights[1:] + heights[:-1]) / 2 * np.diff(places)).sum() / (high - low))

    def monotone(self) -> "Curve":
        """The nearest curve that never falls.

        A lucky point is averaged with its neighbours, where a running maximum would keep it.
        """
        return Curve(self.samples, self.seconds, isotonic(self.values))

    def reaches(self, target: float) -> float | None:
        """Seconds at which the curve first reaches `target`, interpolated linearly; None if it never does."""
        above = np.flatnonzero(self.values >= target - 1e-9)
        if not len(above):
            return None
        i = int(above[0])
        if i == 0:
            return float(self.seconds[0])
        low, high = self.values[i - 1], self.values[i]
        step = self.seconds[i] - self.seconds[i - 1]
        return float(self.seconds[i - 1] + (target - low) / (high - low) * step)


Runs = Mapping[tuple[str, int], Curve]  # (fold, seed) -> curve


@dataclass(frozen=True)
class TargetReached:
    """When an arm reaches the final value of the reference."""

    factor: float  # the reference's seconds / the arm's; 0 if the arm never gets there
    interval: tuple[float, float] | None  # 95 % by bootstrap over runs; None with a single one
    seconds: float  # the arm's; NaN if it never gets there
    reference_seconds: float


def times_sooner(arm: Runs, reference: Runs, *, draws: int = 500, seed: int = 0) -> TargetReached | None:
    """How much sooner an arm reaches the final value of the reference.

    Curves are averaged over runs and made monotone, and both times are read by the same rule. Neither a lucky
    point nor a plateau of the reference then counts for the arm: of two flat noisy curves neither is sooner.

    Args:
        arm: curves of its runs.
        reference: curves of the same folds and seeds.
        draws: of the bootstrap, which draws runs within folds, the same for both arms.
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
    """(runs, places) samples, seconds and values on a grid of the samples that all runs have seen."""
    grid = np.linspace(max(c.samples[0] for c in curves), min(c.samples[-1] for c in curves), places)
    seconds = np.stack([np.interp(grid, c.samples, c.seconds) for c in curves])
    return np.tile(grid, (len(curves), 1)), seconds, np.stack([c.at("samples", grid) for c in curves])


def _run_weights(keys: Sequence[tuple[str, int]], *, draws: int, seed: int) -> np.ndarray | None:
    """Weights of runs, drawn within folds and scaled as in `Pigeonhole`.

    Returns:
        (draws, runs) float64, or None where no fold has two runs.
    """
    random = np.random.default_rng(seed)
    weights = np.ones((draws, len(keys)))
    for fold in dict.fromkeys(f for f, _ in keys):
        own = [i for i, (f, _) in enumerate(keys) if f == fold]
        if len(own) > 1:
            drawn = random.multinomial(len(own), np.full(len(own), 1 / len(own)), size=draws)
            weights[:, own] = 1 + math.sqrt(len(own) / (len(own) - 1)) * (drawn - 1)
    return weights if len(keys) > len({f for f, _ in keys}) else None


def isotonic(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """The nearest sequence that never falls (pool adjacent violators).

    More data or more training is assumed not to hurt, so that noise is averaged away.
    """
    pools: list[list[float]] = []  # mean, count
    for value in values:
        pools.append([float(value), 1.0])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, n), (b, m) = pools[-2:]
            pools[-2:] = [[(a * n + b * m) / (n + m), n + m]]
    return np.concatenate([np.full(int(n), mean) for mean, n in pools])
