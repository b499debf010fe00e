"""Is one arm better than another? Paired differences with runs and concept families both drawn at random.

The unit is d[r, s, f]: in rotation r, for run s and family f, how much more often the arm was right than the reference. Runs are nested in
rotations (each rotation has runs of its own), families are crossed with both, rotations are all there are. Hence

    d = mean of its rotation + family + run + residual,   and the mean over all has the variance  V_families + V_runs - V_residual:

the spread over families holds the residual once and so does the spread over runs, so it is taken off once (moments of a two-way layout,
Searle, Casella & McCulloch 1992, chapter 4). It is referred to Student's t with Satterthwaite's degrees of freedom, so that three runs are
paid for as three. The pigeonhole bootstrap (Owen 2007, arXiv 0711.1634), which draws runs and families independently, stands beside it: it
counts the residual three times, is therefore wider, and is what shaped statistics (`PairsSaved`) use. docs/decisions/0007 has the simulation.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Block:
    """Outcomes of the runs of one rotation on the same samples."""

    values: np.ndarray  # (runs, samples) such as hits, or differences of hits
    groups: (
        np.ndarray
    )  # (samples,) of str: what stands or falls together; the same word is the same group in every rotation
    weights: np.ndarray  # (samples,) how much each counts
    ids: np.ndarray  # (samples,) of str
    seeds: tuple[int, ...]  # (runs,) index of each run

    def minus(self, other: "Block") -> "Block":
        """Differences on the runs and samples that both have."""
        seeds = tuple(s for s in self.seeds if s in other.seeds)
        ids, mine, theirs = np.intersect1d(self.ids, other.ids, return_indices=True)
        left, right = [self.seeds.index(s) for s in seeds], [other.seeds.index(s) for s in seeds]
        values = self.values[left][:, mine] - other.values[right][:, theirs]
        return Block(values, self.groups[mine], self.weights[mine], ids, seeds)

    def means(self) -> np.ndarray:
        """(runs,) weighted mean over samples."""
        return self.values @ self.weights / self.weights.sum()


@dataclass(frozen=True)
class Estimate:
    """A mean over families, runs and rotations, in the unit of the values, and what is known about it."""

    value: float
    standard_error: float | None  # None where one run, or one family, leaves it unknown
    df: float | None  # Satterthwaite's degrees of freedom
    interval: tuple[float, float] | None  # 95 %
    p: float | None  # two-sided, against 0
    pigeonhole: tuple[float, float] | None  # 95 % by bootstrap
    runs: int
    families: int
    rotations: int
    variance: dict[str, float] = field(default_factory=dict)  # families, runs, residual


def estimate(blocks: Sequence[Block], *, draws: int = 0, seed: int = 0) -> Estimate:
    """The mean of outcomes with its uncertainty.

    Args:
        blocks: a rotation each.
        draws: of the pigeonhole bootstrap; 0 leaves it out.
        seed: of the bootstrap.

    Returns:
        The estimate. With one run in every rotation there is no interval: how much a second run would differ is not known.
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
    parts = {"families": v_families, "runs": v_runs, "residual": v_residual}
    drawn = pigeonhole_interval(blocks, draws=draws, seed=seed) if draws else None
    if variance <= 1e-24:  # every cell is the same: no spread to refer to, but a run still counts as one coin
        p = 1.0 if abs(value) < 1e-12 else min(1.0, 2.0 ** (1 - runs))
        return Estimate(value, 0.0, None, (value, value), p, drawn, *counts, parts)
    df = variance**2 / (v_families**2 / (families - 1) + v_runs**2 / spare)
    error = math.sqrt(variance)
    reach = student_quantile(LEVEL, df) * error
    p = student_p(value / error, df)
    return Estimate(value, error, df, (value - reach, value + reach), p, drawn, *counts, parts)


def paired(
    arm: Mapping[str, Block], reference: Mapping[str, Block], *, draws: int = 0, seed: int = 0
) -> Estimate:
    """How much better an arm is than the reference, on the rotations, runs and samples that both have.

    Args:
        arm: rotation -> outcomes.
        reference: likewise.
        draws: see `estimate`.
        seed: of the bootstrap.
    """
    return estimate(
        [arm[name].minus(reference[name]) for name in arm if name in reference], draws=draws, seed=seed
    )


def over_runs(values: Sequence[Sequence[float]]) -> Estimate:
    """The mean over runs of a number that a run has as a whole, such as seconds; families play no part.

    Args:
        values: a rotation each, a value a run.
    """
    parts = [np.asarray(v, np.float64) for v in values if len(v)]
    if not parts:
        return Estimate(math.nan, None, None, None, None, None, 0, 0, 0)
    value, spare = float(np.mean([p.mean() for p in parts])), sum(len(p) - 1 for p in parts)
    runs = sum(map(len, parts))
    if spare < 1:
        return Estimate(value, None, None, None, None, None, runs, 0, len(parts))
    pooled = sum(float(((p - p.mean()) ** 2).sum()) for p in parts) / spare
    error = math.sqrt(pooled * sum(1 / len(p) for p in parts)) / len(parts)
    reach = student_quantile(LEVEL, spare) * error
    p = student_p(value / error, spare) if error > 0 else (1.0 if value == 0 else min(1.0, 2.0 ** (1 - runs)))
    return Estimate(value, error, float(spare), (value - reach, value + reach), p, None, runs, 0, len(parts))


def _names(blocks: Sequence[Block]) -> np.ndarray:
    return np.unique(np.concatenate([block.groups for block in blocks]))


def _cells(block: Block, names: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(runs,) means; (runs, families) deviations that sum to mean of the run - mean of all; (families,) share of the weight."""
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
    """Variances of the mean over all that families, runs and residual account for; the first two hold the third."""
    rotations, inflate = len(cells), families / (families - 1)
    by_family = np.sum([deviations.mean(0) for _, deviations, _ in cells], axis=0) / rotations  # (families,)
    v_families = inflate * float((by_family**2).sum())
    share_of_mean = sum(1 / len(means) for means, _, _ in cells) / rotations**2
    v_runs = share_of_mean * sum(float(((means - means.mean()) ** 2).sum()) for means, _, _ in cells) / spare
    squares = 0.0
    for means, deviations, share in cells:
        left = deviations - deviations.mean(0) - share * (means - means.mean())[:, None]
        squares += float((left**2).sum())
    return v_families, v_runs, inflate * share_of_mean * squares / spare


class Pigeonhole:
    """Weights that draw families and runs independently, the same for every statistic of them.

    Runs count 1 + sqrt(runs / (runs - 1)) * (times drawn - 1), which takes away the bias of drawing from few.

    Args:
        blocks: a rotation each; their groups and runs are drawn.
        draws: how often.
        seed: equal seeds give equal draws.
    """

    def __init__(self, blocks: Sequence[Block], *, draws: int, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.names = _names(blocks)
        families = len(self.names)
        self.families = random.multinomial(families, np.full(families, 1 / families), size=draws).astype(
            np.float64
        )  # (draws, families)
        self.runs: list[dict[int, np.ndarray]] = []
        for block in blocks:
            number = len(block.seeds)
            drawn = random.multinomial(number, np.full(number, 1 / number), size=draws)  # (draws, runs)
            scale = math.sqrt(number / (number - 1)) if number > 1 else 0.0
            self.runs.append({s: 1 + scale * (drawn[:, i] - 1) for i, s in enumerate(block.seeds)})

    def means(self, blocks: Sequence[Block]) -> np.ndarray:
        """(draws,) of the mean over rotations; blocks in the order of those it was made of, NaN where a draw has none of their families."""
        total = np.zeros(len(self.families))
        for block, weights in zip(blocks, self.runs, strict=True):
            place = np.searchsorted(self.names, block.groups)
            onto = np.zeros((len(place), len(self.names)))
            onto[np.arange(len(place)), place] = block.weights
            above, below = (
                self.families @ (block.values @ onto).T,
                self.families @ onto.sum(0),
            )  # (draws, runs), (draws,)
            means = np.divide(
                above, below[:, None], out=np.full(above.shape, np.nan), where=below[:, None] > 0
            )
            counts = np.stack([weights[s] for s in block.seeds], axis=1)  # (draws, runs)
            total += (means * counts).sum(1) / counts.sum(1)
        return total / len(blocks)


def pigeonhole_interval(blocks: Sequence[Block], *, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean by the pigeonhole bootstrap."""
    low, high = np.nanquantile(
        Pigeonhole(blocks, draws=draws, seed=seed).means(blocks), [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    )
    return float(low), float(high)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p values: the probability of any false claim among all of them stays below the level (Holm 1979).

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
    """What may be said: `better`, `worse`, `not distinguishable`, or `one seed: cannot say`.

    Args:
        found: the paired difference.
        p: its p value after Holm.
        level: of the test.
    """
    if found.runs == 0:
        return "no finished pair of runs"
    if p is None:
        return "one seed: cannot say" if found.runs <= found.rotations else "one group: cannot say"
    if p > level or found.value == 0:
        return "not distinguishable"
    return "better" if found.value > 0 else "worse"


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)


def student_p(t: float, df: float) -> float:
    """Probability that Student's t is further from 0 than `t`, either way.

    With t = sqrt(df) tan(u) the density is cos(u)^(df - 1) up to a constant, smooth on a bounded range, so Gauss-Legendre serves.
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
