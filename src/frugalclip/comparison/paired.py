"""Paired differences between arms, with runs and concept families both treated as random samples.

The unit is d[k, s, f]: on fold k, in run s and for family f, how much more often the arm was right than the
reference. Runs are nested in folds (each fold has its own runs), families are crossed with both, and the
folds are all there are:

    d = mean of the fold + family + run + residual.

The mean over all has the variance V_families + V_runs - V_residual. The spread over families and the spread
over runs both contain the residual, so it is subtracted once (moments of a two-way layout, Searle, Casella &
McCulloch 1992, chapter 4). Tests use Student's t with Satterthwaite's degrees of freedom, which accounts for
few runs.

The pigeonhole bootstrap (Owen 2007, arXiv 0711.1634) draws runs and families independently. It counts the
residual three times and is therefore wider. Statistics that are no means, such as data efficiency, use it.
docs/decisions/0007 has the simulation.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

LEVEL = 0.95
PERCENT, POINTS = (0.0, 100.0), (-100.0, 100.0)  # where values, and differences of values, can lie
Bounds = tuple[float, float]


@dataclass(frozen=True)
class FoldOutcomes:
    """Outcomes of the runs of one fold on the same samples."""

    values: np.ndarray  # (runs, samples) such as hits, or differences of hits
    groups: (
        np.ndarray
    )  # (samples,) of str, the family of each; the same name is the same family in every fold
    weights: np.ndarray  # (samples,) how much each counts
    ids: np.ndarray  # (samples,) of str
    seeds: tuple[int, ...]  # (runs,) index of each run

    def minus(self, other: "FoldOutcomes") -> "FoldOutcomes":
        """Differences on the runs and samples that both have."""
        mine, theirs = self.shared_with(other), other.shared_with(self)
        return replace(mine, values=mine.values - theirs.values)

    def shared_with(self, other: "FoldOutcomes") -> "FoldOutcomes":
        """The outcomes on the runs and samples that another fold's outcomes have too."""
        seeds = tuple(s for s in self.seeds if s in other.seeds)
        ids, mine, _ = np.intersect1d(self.ids, other.ids, return_indices=True)
        values = self.values[[self.seeds.index(s) for s in seeds]][:, mine]
        return FoldOutcomes(values, self.groups[mine], self.weights[mine], ids, seeds)

    def means(self) -> np.ndarray:
        """(runs,) weighted mean over samples."""
        return self.values @ self.weights / self.weights.sum()


@dataclass(frozen=True)
class Estimate:
    """A mean over families, runs and folds in the unit of the values, with its uncertainty."""

    value: float
    standard_error: float | None  # None where one run, or one family, leaves it unknown
    df: float | None  # Satterthwaite's degrees of freedom
    interval: tuple[float, float] | None  # 95 %
    p: float | None  # two-sided, against 0
    pigeonhole: tuple[float, float] | None  # 95 % by bootstrap
    runs: int
    families: int
    folds: int
    variance: dict[str, float] = field(default_factory=dict)  # families, runs, residual

    def brief(self) -> dict[str, Any]:
        """Value and interval for JSON."""
        return {"value": eight_digits(self.value), "interval": _rounded_pair(self.interval)}

    def as_json(self) -> dict[str, Any]:
        """The estimate as `compare.json` holds it; what is not known is null."""
        return {
            **self.brief(),
            "standard_error": eight_digits(self.standard_error),
            "df": eight_digits(self.df),
            "p": eight_digits(self.p),
            "pigeonhole": _rounded_pair(self.pigeonhole),
            "runs": self.runs,
            "families": self.families,
            "folds": self.folds,
            "variance": {name: eight_digits(v) for name, v in self.variance.items()},
        }


def eight_digits(value: float | None) -> float | None:
    """Eight digits of a number for JSON; None for what is not known or not finite."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.8g}")


def _rounded_pair(interval: Sequence[float] | None) -> list[float | None] | None:
    return None if interval is None else [eight_digits(v) for v in interval]


def estimate(
    blocks: Sequence[FoldOutcomes], *, draws: int = 0, seed: int = 0, bounds: Bounds | None = None
) -> Estimate:
    """The mean of outcomes with its uncertainty.

    Args:
        blocks: one for each fold.
        draws: of the pigeonhole bootstrap; 0 leaves it out.
        seed: of the bootstrap.
        bounds: where the mean can lie; an interval ends there.

    Returns:
        The estimate. It has no interval with a single run in every fold, since the spread over runs is
        unknown.
    """
    blocks = [block for block in blocks if block.values.size]
    if not blocks:
        return Estimate(math.nan, None, None, None, None, None, 0, 0, 0)
    names = _names(blocks)
    cells = [_cells(block, names) for block in blocks]
    value = float(np.mean([means.mean() for means, _, _ in cells]))
    runs, families = sum(len(means) for means, _, _ in cells), cells[0][1].shape[1]
    spare = sum(len(means) - 1 for means, _, _ in cells)
    counts = (runs, families, len(blocks))
    if spare < 1 or families < 2:
        return Estimate(value, None, None, None, None, None, *counts)
    v_families, v_runs, v_residual = _moments(cells, families=families, spare=spare)
    variance = max(v_families + v_runs - v_residual, v_families, v_runs)
    components = {"families": v_families, "runs": v_runs, "residual": v_residual}
    drawn = _within(pigeonhole_interval(blocks, draws=draws, seed=seed), bounds) if draws else None
    if variance <= 1e-24:  # all cells are equal: without a spread, each run counts as one toss of a coin
        p = 1.0 if abs(value) < 1e-12 else min(1.0, 2.0 ** (1 - runs))
        return Estimate(value, 0.0, None, (value, value), p, drawn, *counts, components)
    df = variance**2 / (v_families**2 / (families - 1) + v_runs**2 / spare)
    error = math.sqrt(variance)
    reach = student_quantile(LEVEL, df) * error
    p = student_p(value / error, df)
    interval = _within((value - reach, value + reach), bounds)
    return Estimate(value, error, df, interval, p, drawn, *counts, components)


def paired(
    arm: Mapping[str, FoldOutcomes], reference: Mapping[str, FoldOutcomes], *, draws: int = 0, seed: int = 0
) -> Estimate:
    """How much better an arm is than the reference, on the folds, runs and samples that both have.

    Args:
        arm: fold -> outcomes.
        reference: likewise.
        draws: see `estimate`.
        seed: of the bootstrap.
    """
    differences = [arm[name].minus(reference[name]) for name in arm if name in reference]
    return estimate(differences, draws=draws, seed=seed, bounds=POINTS)


def common_means(
    arm: Mapping[str, FoldOutcomes], reference: Mapping[str, FoldOutcomes]
) -> tuple[float, float]:
    """The means of an arm and of the reference on the folds, runs and samples that both have."""
    pairs = [(arm[name], reference[name]) for name in arm if name in reference]
    left = [one.shared_with(other) for one, other in pairs]
    right = [other.shared_with(one) for one, other in pairs]
    return estimate(left).value, estimate(right).value


def _within(interval: tuple[float, float], bounds: Bounds | None) -> tuple[float, float]:
    low, high = bounds or (-math.inf, math.inf)
    return min(max(interval[0], low), high), min(max(interval[1], low), high)


def over_runs(values: Sequence[Sequence[float]], *, bounds: Bounds | None = None) -> Estimate:
    """The mean over runs of a number of the whole run, such as seconds; families play no part.

    Args:
        values: for each fold, the value of each run.
        bounds: where the mean can lie; an interval ends there.
    """
    folds = [np.asarray(v, np.float64) for v in values if len(v)]
    if not folds:
        return Estimate(math.nan, None, None, None, None, None, 0, 0, 0)
    value, spare = float(np.mean([f.mean() for f in folds])), sum(len(f) - 1 for f in folds)
    runs = sum(map(len, folds))
    if spare < 1:
        return Estimate(value, None, None, None, None, None, runs, 0, len(folds))
    pooled = sum(float(((f - f.mean()) ** 2).sum()) for f in folds) / spare
    error = math.sqrt(pooled * sum(1 / len(f) for f in folds)) / len(folds)
    reach = student_quantile(LEVEL, spare) * error
    p = student_p(value / error, spare) if error > 0 else (1.0 if value == 0 else min(1.0, 2.0 ** (1 - runs)))
    interval = _within((value - reach, value + reach), bounds)
    return Estimate(value, error, float(spare), interval, p, None, runs, 0, len(folds))


def _names(blocks: Sequence[FoldOutcomes]) -> np.ndarray:
    return np.unique(np.concatenate([block.groups for block in blocks]))


def _cells(block: FoldOutcomes, names: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means and deviations of a block.

    Returns:
        (runs,) means; (runs, families) deviations that sum to mean of the run - mean of all; (families,)
        share of the weight.
    """
    place = np.searchsorted(names, block.groups)
    share = np.bincount(place, weights=block.weights, minlength=len(names)) / block.weights.sum()
    onto = np.zeros((len(place), len(names)))
    onto[np.arange(len(place)), place] = block.weights / block.weights.sum()
    sums = block.values @ onto  # (runs, families)
    means = sums.sum(1)
    return means, sums - share * means.mean(), share


def _moments(
    cells: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], *, families: int, spare: int
) -> tuple[float, float, float]:
    """Variances of the mean due to families, runs and residual; the first two contain the third."""
    folds, inflate = len(cells), families / (families - 1)
    by_family = np.sum([deviations.mean(0) for _, deviations, _ in cells], axis=0) / folds  # (families,)
    v_families = inflate * float((by_family**2).sum())
    share_of_mean = sum(1 / len(means) for means, _, _ in cells) / folds**2
    v_runs = share_of_mean * sum(float(((means - means.mean()) ** 2).sum()) for means, _, _ in cells) / spare
    squares = 0.0
    for means, deviations, share in cells:
        left = deviations - deviations.mean(0) - share * (means - means.mean())[:, None]
        squares += float((left**2).sum())
    return v_families, v_runs, inflate * share_of_mean * squares / spare


class Pigeonhole:
    """Weights that draw families and runs independently, the same for every statistic of them.

    Runs count 1 + sqrt(runs / (runs - 1)) * (times drawn - 1), which removes the bias of drawing from few.

    Args:
        blocks: one for each fold; their groups and runs are drawn.
        draws: how often.
        seed: equal seeds give equal draws.
    """

    def __init__(self, blocks: Sequence[FoldOutcomes], *, draws: int, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.names = _names(blocks)
        families = len(self.names)
        times = random.multinomial(families, np.full(families, 1 / families), size=draws)
        self.families = times.astype(np.float64)  # (draws, families)
        self.runs: list[dict[int, np.ndarray]] = []
        for block in blocks:
            number = len(block.seeds)
            drawn = random.multinomial(number, np.full(number, 1 / number), size=draws)  # (draws, runs)
            scale = math.sqrt(number / (number - 1)) if number > 1 else 0.0
            self.runs.append({s: 1 + scale * (drawn[:, i] - 1) for i, s in enumerate(block.seeds)})

    def means(self, blocks: Sequence[FoldOutcomes]) -> np.ndarray:
        """The mean over folds in every draw.

        Args:
            blocks: in the order of those that were drawn from.

        Returns:
            (draws,) float64, NaN for a draw without any of their families.
        """
        total = np.zeros(len(self.families))
        for block, weights in zip(blocks, self.runs, strict=True):
            place = np.searchsorted(self.names, block.groups)
            onto = np.zeros((len(place), len(self.names)))
            onto[np.arange(len(place)), place] = block.weights
            above = self.families @ (block.values @ onto).T  # (draws, runs)
            below = self.families @ onto.sum(0)  # (draws,)
            means = np.divide(
                above, below[:, None], out=np.full(above.shape, np.nan), where=below[:, None] > 0
            )
            counts = np.stack([weights[s] for s in block.seeds], axis=1)  # (draws, runs)
            total += (means * counts).sum(1) / counts.sum(1)
        return total / len(blocks)


def pigeonhole_interval(
    blocks: Sequence[FoldOutcomes], *, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of the mean by the pigeonhole bootstrap."""
    low, high = np.nanquantile(
        Pigeonhole(blocks, draws=draws, seed=seed).means(blocks), [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    )
    return float(low), float(high)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p values (Holm 1979), which bound the probability of any false claim among all tests.

    Args:
        ps: one for each comparison; None takes no part.
    """
    order = sorted((i for i, p in enumerate(ps) if p is not None), key=lambda i: ps[i] or 0.0)
    adjusted: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * (ps[i] or 0.0)))
        adjusted[i] = largest
    return adjusted


def verdict(found: Estimate, p: float | None, *, level: float = 1 - LEVEL) -> str:
    """The conclusion of a test: `better`, `worse`, `not distinguishable`, or `one seed: cannot say`.

    Args:
        found: the paired difference.
        p: its p value after Holm.
        level: of the test.
    """
    if found.runs == 0:
        return "no finished pair of runs"
    if p is None:
        return "one seed: cannot say" if found.runs <= found.folds else "one group: cannot say"
    if p > level or found.value == 0:
        return "not distinguishable"
    return "better" if found.value > 0 else "worse"


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)


def student_p(t: float, df: float) -> float:
    """Two-sided probability that Student's t is further from 0 than `t`.

    With t = sqrt(df) tan(u) the density is cos(u)^(df - 1) up to a constant. It is smooth on a bounded range,
    where Gauss-Legendre quadrature is exact enough.
    """
    if not math.isfinite(t):
        return 0.0
    angle = math.atan2(abs(t), math.sqrt(df))
    u = angle + (math.pi / 2 - angle) * (_NODES + 1) / 2  # the tail, so that small values keep their digits
    constant = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(math.pi)
    tail = float((_WEIGHTS * np.cos(u) ** (df - 1)).sum()) * (math.pi / 2 - angle) / 2
    return min(1.0, max(0.0, 2 * constant * tail))


def student_quantile(level: float, df: float) -> float:
    """The distance from 0 within which Student's t stays with probability `level`."""
    low, high = 0.0, 1.0
    while student_p(high, df) > 1 - level:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if student_p(middle, df) > 1 - level else (low, middle)
    return (low + high) / 2
