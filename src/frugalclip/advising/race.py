"""Runs candidates until the time is over or none of the rest can win.

The cheapest goes first, so that there is a model however short the time is. Then longer runs of a route
follow shorter ones, and of routes with several lengths only the better half goes on (successive halving,
Jamieson & Talwalkar 2016, arXiv 1502.07943). What cannot win by the upper end of its interval is not run.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from frugalclip.advising.durations import Durations
from frugalclip.advising.options import Option
from frugalclip.advising.predict import Prediction


@dataclass(frozen=True)
class TrialRun:
    """A candidate that was run."""

    name: str
    value: float | None  # headline metric in percent; None where it did not finish
    seconds: float
    folder: str  # the run directory
    message: str = ""  # why it did not finish
    is_whole: bool = True  # whether all of the run took these seconds, and no part was there before

    def to_json(self) -> dict[str, Any]:
        """As `advice.json` holds it."""
        return {
            "name": self.name,
            "value": self.value,
            "seconds": round(self.seconds, 1),
            "run": self.folder,
            "message": self.message,
        }


Run = Callable[[Option, float], TrialRun]  # runs an option within so many seconds


class Race:
    """A race of options.

    Args:
        options: to choose from.
        durations: corrected by what is run.
        pairs: of the data.
        seconds: in all.
        run: runs one.
        known: a model that is there already, to be beaten.
        told: is called with each trial as it ends.
        clock: gives seconds.
    """

    def __init__(
        self,
        options: Sequence[Option],
        durations: Durations,
        *,
        pairs: int,
        seconds: float,
        run: Run,
        told: Callable[[TrialRun], None],
        known: TrialRun | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.options, self.durations, self.pairs = list(options), durations, pairs
        self._run, self._told, self._clock = run, told, clock
        self._end = clock() + seconds
        self.trials = [] if known is None else [known]

    def finish(self) -> TrialRun | None:
        """Run what is worth it; the best trial, or None if none finished."""
        while (option := self.next()) is not None:
            expected, left = option.seconds, self._end - self._clock()
            trial = self._run(option, left)
            if trial.value is not None and trial.is_whole and expected is not None:
                self.durations.measured(expected, trial.seconds)
            self.trials.append(trial)
            self._told(trial)
            self.options = [self._timed(one) for one in self.options]
        return self.best

    @property
    def best(self) -> TrialRun | None:
        """The finished trial with the highest metric."""
        finished = [one for one in self.trials if one.value is not None]
        return max(finished, key=lambda one: one.value or 0.0, default=None)

    def next(self) -> Option | None:
        """What to run next; None when nothing is worth it."""
        left = self._end - self._clock()
        tried = {one.name for one in self.trials}
        waiting = [one for one in self.options if one.name not in tried and one.fits(left)]
        if self.best is None:
            return min(waiting, key=_cost, default=None)
        least = self.best.value or 0.0
        able = [one for one in waiting if self._is_next_length(one, waiting) and self._high(one) > least]
        able = [one for one in able if self._is_in_better_half(one)]
        return max(able, key=lambda one: (self._high(one), -_cost(one)), default=None)

    def _timed(self, option: Option) -> Option:
        seconds = self.durations.seconds(option.candidate, pairs=self.pairs)
        return option if seconds is None else replace(option, seconds=seconds)

    def _is_next_length(self, option: Option, waiting: Sequence[Option]) -> bool:
        """Whether no shorter run of its route waits."""
        length = option.candidate.samples or 0
        return all((one.candidate.samples or 0) >= length for one in _of_route(option, waiting))

    def _is_in_better_half(self, option: Option) -> bool:
        """Whether the last length of its route was among the better half of those of its length."""
        last = self._last(option)
        if last is None:
            return True
        rung, own = last[0].candidate.samples, last[1].value or 0.0
        values = [
            trial.value or 0.0
            for trial in self.trials
            if (one := self._option(trial)) is not None and one.candidate.samples == rung
        ]
        return sum(value > own for value in values) < math.ceil(len(values) / 2)

    def _high(self, option: Option) -> float:
        """The upper end of what it may reach, after what shorter runs of its route have shown."""
        if option.prediction is None:
            return 100.0
        found: Prediction = option.prediction
        last = self._last(option)
        if last is not None and last[0].prediction is not None and last[1].value is not None:
            found = found.after(last[0].prediction, last[1].value)
        return found.high

    def _last(self, option: Option) -> tuple[Option, TrialRun] | None:
        """The longest trial of the option's route."""
        own = [(one, trial) for trial in self.trials if (one := self._option(trial)) is not None]
        own = [pair for pair in own if pair[0].candidate.route == option.candidate.route]
        return max(own, key=lambda pair: pair[0].candidate.samples or 0, default=None)

    def _option(self, trial: TrialRun) -> Option | None:
        return next((one for one in self.options if one.name == trial.name), None)


def _of_route(option: Option, options: Sequence[Option]) -> list[Option]:
    return [one for one in options if one.candidate.route == option.candidate.route]


def _cost(option: Option) -> float:
    return math.inf if option.seconds is None else option.seconds
