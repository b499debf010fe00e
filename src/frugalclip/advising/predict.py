"""Predicts what a run will reach on a data set, from runs of ours on other data.

The model is small on purpose, since there are few data sets: in log-odds, a run stands above the baselines
of its data by an amount that depends on the route, on how hard the data are, on how many pairs there are and
on how often each is seen. Ridge regression shrinks every dependence but the route's own level. Intervals come
from predictions of data sets of other kinds, each left out whole, and from the number of rows measured.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from frugalclip.advising.profile import DataProfile
from frugalclip.advising.records import AdviceRecord, shipped_runs
from frugalclip.advising.routes import FINETUNE, ROUTES, Candidate
from frugalclip.training.guard import TOP1

RIDGES = (0.3, 1.0, 3.0, 10.0, 30.0)
LEAST_KINDS = 3  # of data that a route was run on, for a prediction
# (degrees of freedom, quantile .9 of Student's t); more are taken as normal
_T90 = {1: 3.078, 2: 1.886, 3: 1.638, 4: 1.533, 5: 1.476, 6: 1.440, 7: 1.415, 8: 1.397, 9: 1.383, 10: 1.372}
_NORMAL90 = 1.282


@dataclass(frozen=True)
class Prediction:
    """A headline metric before a run, with an 80 % interval that is symmetric in log-odds."""

    log_odds: float
    width: float  # half of the interval, in log-odds

    @property
    def value(self) -> float:
        """In percent, as are `low` and `high`."""
        return _percent(self.log_odds)

    @property
    def low(self) -> float:
        return _percent(self.log_odds - self.width)

    @property
    def high(self) -> float:
        return _percent(self.log_odds + self.width)

    def after(self, other: "Prediction", measured: float) -> "Prediction":
        """The prediction of a longer run once a shorter one of its route is measured.

        Args:
            other: what was predicted of the shorter run.
            measured: what it reached, in percent.
        """
        share = min(max(measured / 100, 1e-4), 1 - 1e-4)
        moved = self.log_odds + math.log(share / (1 - share)) - other.log_odds
        return Prediction(moved, self.width / 2)  # two lengths of a route err alike


class Predictor:
    """Predicts the headline metric of candidates.

    Args:
        records: of runs.
    """

    def __init__(self, records: Sequence[AdviceRecord]) -> None:
        origins = {FINETUNE: "model"} | {route.name: route.origin for route in ROUTES}
        own: dict[str, list[AdviceRecord]] = {origin: [] for origin in origins.values()}
        for record in records:
            own[origins[record.route]].append(record)
        self._fits = {origin: _fit(rows) for origin, rows in own.items()}

    def predict(self, profile: DataProfile, candidate: Candidate) -> Prediction | None:
        """What a candidate will reach; None where too little like it was run.

        Args:
            profile: of the data.
            candidate: a route at one length.
        """
        route = candidate.route
        fit = self._fits.get(route.origin)
        if fit is None or route.name not in fit.routes:
            return None
        return fit.predict(_Case(profile, route.name, candidate.samples, route.start))


def measured(value: float, *, queries: int) -> Prediction:
    """A metric that was measured, in percent, with the interval that so many queries leave."""
    middle = _log_odds(value, queries)
    return Prediction(middle, _NORMAL90 * math.sqrt(_sampling(middle, queries)))


@cache
def shipped_predictor() -> Predictor:
    """The predictor of the records that ship with the package."""
    return Predictor(shipped_runs().runs)


class _Fit:
    """Ridge regression of log-odds above the baselines, for the routes of one family.

    Args:
        records: to fit.
        ridge: strength of the penalty, in records.
    """

    def __init__(self, records: Sequence[AdviceRecord], ridge: float) -> None:
        self.routes = tuple(sorted({one.route for one in records}))
        cases = [_Case.of(one) for one in records]
        raw = np.array([_features(one) for one in cases])
        self._mean, self._deviation = raw.mean(0), np.maximum(raw.std(0), 1e-6)
        rows = np.stack([self._row(one) for one in cases])
        gains = np.array([_log_odds(one.value, one.profile.queries) - _level(one.profile) for one in records])
        kinds = [one.kind for one in records]
        weights = np.array([1 / kinds.count(kind) for kind in kinds]) * len(records) / len(set(kinds))
        penalty = np.diag([1e-3] * len(self.routes) + [ridge] * raw.shape[1])
        weighted = rows * weights[:, None]
        self._coefficients = np.linalg.solve(weighted.T @ rows + penalty, weighted.T @ gains)
        self.spread, self.kinds = 0.0, len(set(kinds))  # set by `_fit`

    def log_odds(self, case: "_Case") -> float:
        """The predicted metric in log-odds."""
        return _level(case.profile) + float(self._row(case) @ self._coefficients)

    def predict(self, case: "_Case") -> Prediction:
        """The predicted metric with its interval, in percent."""
        middle = self.log_odds(case)
        width = _T90.get(self.kinds - 1, _NORMAL90) * math.sqrt(
            self.spread + _sampling(middle, case.profile.queries)
        )
        return Prediction(middle, width)

    def _row(self, case: "_Case") -> np.ndarray:
        scaled = (np.array(_features(case)) - self._mean) / self._deviation
        return np.concatenate([[float(case.route == name) for name in self.routes], scaled])


@dataclass(frozen=True)
class _Case:
    """A run as predictions see it."""

    profile: DataProfile
    route: str
    samples: int | None
    start: float | None  # headline of the model that it goes on from

    @classmethod
    def of(cls, record: AdviceRecord) -> "_Case":
        return cls(record.profile, record.route, record.samples, record.start)


def _fit(records: Sequence[AdviceRecord]) -> _Fit | None:
    """The fit whose ridge predicts left-out kinds best, with the spread of its errors."""
    kinds = sorted({one.kind for one in records})
    if len(kinds) < LEAST_KINDS:
        return None
    spreads = {ridge: _spread(records, kinds, ridge) for ridge in RIDGES}
    best = min(spreads, key=lambda ridge: spreads[ridge])
    fit = _Fit(records, best)
    fit.spread = spreads[best]
    return fit


def _spread(records: Sequence[AdviceRecord], kinds: Sequence[str], ridge: float) -> float:
    """Variance of the errors on kinds that are left out, less what the few rows of a metric explain."""
    found = []
    for kind in kinds:
        inside, outside = [], []
        for one in records:
            (outside if one.kind == kind else inside).append(one)
        fit = _Fit(inside, ridge)
        errors = []
        for one in outside:
            if one.route in fit.routes:
                expected = fit.log_odds(_Case.of(one))
                error = _log_odds(one.value, one.profile.queries) - expected
                errors.append(error**2 - _sampling(expected, one.profile.queries))
        if errors:
            found.append(sum(errors) / len(errors))
    return max(sum(found) / len(found), 0.01)


def _features(case: _Case) -> list[float]:
    """What the gain over the baselines depends on beside the route."""
    profile = case.profile
    fit, copied = _landmarks(profile)
    seen = 0.0 if case.samples is None else math.log10(case.samples / profile.pairs)
    known = [] if case.start is None else [_log_odds(case.start, profile.queries) - (fit + copied) / 2]
    return [
        *known,
        (fit + copied) / 2,
        fit - copied,
        math.log10(profile.pairs),
        seen,
        max(seen - 1, 0.0),  # pairs seen more than ten times gain less
        float(profile.metric == TOP1),
        profile.distinct,
    ]


def _landmarks(profile: DataProfile) -> tuple[float, float]:
    """Log-odds of the fit of descriptors, and of the best copy of neighbours."""
    values, n = profile.baselines, profile.queries
    fit = values.get("feature_fit", profile.chance)
    copied = max((value for name, value in values.items() if "_nn_" in name), default=profile.chance)
    return _log_odds(fit, n), _log_odds(copied, n)


def _level(profile: DataProfile) -> float:
    return sum(_landmarks(profile)) / 2


def _log_odds(percent: float, n: int) -> float:
    share = (percent / 100 * n + 0.5) / (n + 1)
    return math.log(share / (1 - share))


def _percent(log_odds: float) -> float:
    return 100 / (1 + math.exp(-log_odds))


def _sampling(log_odds: float, n: int) -> float:
    """Variance of measured log-odds by the number of rows."""
    share = 1 / (1 + math.exp(-log_odds))
    return 1 / (n * share * (1 - share) + 0.5)
