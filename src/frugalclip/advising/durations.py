"""How long a run will take on this machine: times of our runs, scaled by one step that is measured here."""

from collections.abc import Sequence

import numpy as np

from frugalclip.advising.records import PROBED, AdviceRecord, ShippedRuns
from frugalclip.advising.routes import Candidate
from frugalclip.core.errors import RecipeError
from frugalclip.training.planning import plan_recipe
from frugalclip.training.recipe import load_recipe

_LEAST_RUNS = 3


class Durations:
    """Seconds of candidates.

    A run costs its start, its samples and a pass over its pairs; non-negative least squares says how much of
    each.

    Args:
        shipped: runs, and how long a step of the probed recipe took where they were made.
        step_seconds: how long it takes here.
    """

    def __init__(self, shipped: ShippedRuns, *, step_seconds: float) -> None:
        self.factor = step_seconds / shipped.step_seconds
        self._launch = shipped.launch_seconds
        routes = {one.route for one in shipped.runs}
        self._costs = {name: _costs([one for one in shipped.runs if one.route == name]) for name in routes}

    def seconds(self, candidate: Candidate, *, pairs: int) -> float | None:
        """Seconds of a candidate on so many pairs; None for a route that was not run."""
        costs = self._costs.get(candidate.route.name)
        if costs is None:
            return None
        own = float(costs @ np.array([1.0, candidate.samples or 0, pairs]))
        return self.factor * (self._launch + own)

    def measured(self, expected: float, seconds: float) -> None:
        """Correct the speed of this machine by a run that ended; half of the error, as a power, is its own.

        Args:
            expected: what `seconds` gave for it.
            seconds: that it took.
        """
        self.factor *= max(0.2, min(5.0, seconds / max(expected, 1e-9))) ** 0.5


def probed_step() -> float:
    """Seconds of a step of the probed recipe on this machine."""
    probe = plan_recipe(load_recipe(PROBED, []), probe=True).probe
    if probe is None:
        raise RecipeError(f"recipe '{PROBED}' could not be probed.")
    return probe["seconds_per_step"]


def _costs(runs: Sequence[AdviceRecord]) -> np.ndarray | None:
    """(3,) seconds of a start, of a sample and of a pair; None for too few runs."""
    if len(runs) < _LEAST_RUNS:
        return None
    rows = np.array([[1.0, one.samples or 0, one.profile.pairs] for one in runs])
    seconds = np.array([one.seconds for one in runs])
    kept = [column for column in range(3) if rows[:, column].any()]
    while True:  # drop what comes out negative, which three causes settle in three turns
        found = np.linalg.lstsq(rows[:, kept] / seconds[:, None], np.ones(len(runs)), rcond=None)[0]
        if (found >= 0).all():
            break
        kept.pop(int(found.argmin()))
    costs = np.zeros(3)
    costs[kept] = found
    return costs
