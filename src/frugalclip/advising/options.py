"""What can be done with a data set in some hours, best first: metric, time, memory and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from frugalclip.advising.durations import Durations
from frugalclip.advising.predict import Prediction, Predictor
from frugalclip.advising.profile import DataProfile
from frugalclip.advising.routes import Candidate, Route, candidates
from frugalclip.core.progress import in_minutes
from frugalclip.training.planning import Plan, plan_recipe
from frugalclip.training.recipe import load_recipe

MARGIN = 1.1  # of a duration: what is predicted to take all of the time would take more half of the times


@dataclass(frozen=True)
class Option:
    """A candidate with what is known of it before it is run."""

    candidate: Candidate
    prediction: Prediction | None  # None where too little like it was run
    seconds: float | None
    memory_gb: float | None
    reason: str

    @property
    def name(self) -> str:
        return self.candidate.name

    def fits(self, seconds: float) -> bool:
        """Whether it ends within so many seconds; a duration that is not known does."""
        return self.seconds is None or MARGIN * self.seconds <= seconds

    def to_json(self) -> dict[str, Any]:
        """As `advice.json` holds it."""
        found = self.prediction
        return {
            "name": self.name,
            "route": self.candidate.route.name,
            "recipe": self.candidate.route.recipe,
            "about": self.candidate.route.about,
            "samples": self.candidate.samples,
            "value": None if found is None else found.value,
            "interval": None if found is None else [found.low, found.high],
            "seconds": self.seconds,
            "memory_gb": self.memory_gb,
            "reason": self.reason,
        }


def options_for(
    profile: DataProfile,
    data: str,
    predictor: Predictor,
    durations: Durations,
    *,
    more: Sequence[Route] = (),
) -> list[Option]:
    """Every candidate for a data set, the highest prediction first and those without one last.

    Args:
        profile: of the data.
        data: its path.
        predictor: of metrics.
        durations: on this machine.
        more: routes beside those that are always there.
    """
    plans: dict[str, Plan] = {}
    found = []
    for one in candidates(profile.pairs, more):
        seconds = durations.seconds(one, pairs=profile.pairs)
        if one.route.name not in plans:
            plans[one.route.name] = _plan(one, data, probe=seconds is None)
        plan = plans[one.route.name]
        if seconds is None and plan.step is not None:
            seconds = plan.step.seconds * (one.samples or plan.samples or 0) / plan.batch
        prediction = predictor.predict(profile, one)
        reason = _reason(one, profile, prediction, seconds)
        found.append(Option(one, prediction, seconds, max(plan.memory_gb.values()), reason))
    return sorted(found, key=lambda one: -(one.prediction.value if one.prediction else -1.0))


def best_of_each_route(options: Sequence[Option], seconds: float) -> list[Option]:
    """The best option of each route that ends within so many seconds, in order; else its shortest one."""
    best: dict[str, Option] = {}
    for one in options:
        if one.fits(seconds):
            best.setdefault(one.candidate.route.name, one)
    for one in sorted(options, key=lambda one: one.candidate.samples or 0):
        best.setdefault(one.candidate.route.name, one)
    return sorted(best.values(), key=lambda one: (not one.fits(seconds), options.index(one)))


def _plan(candidate: Candidate, data: str, *, probe: bool) -> Plan:
    words = candidate.route.words(candidate.samples, data)
    return plan_recipe(load_recipe(candidate.route.recipe, words), probe=probe)


def _reason(
    candidate: Candidate, profile: DataProfile, prediction: Prediction | None, seconds: float | None
) -> str:
    if candidate.route.origin == "pretrained":
        cause = f"its backbones have seen far more than {profile.pairs:,} pairs"
        if seconds is not None:
            cause += f"; one pass over the pictures takes {in_minutes(seconds)}"
    elif candidate.route.origin == "model":
        cause = "it starts from what the model knows"
    else:
        assert candidate.samples is not None
        cause = f"every pair is seen {_times(candidate.samples / profile.pairs)}"
    if prediction is None:
        return f"{cause}; no run of ours is like it"
    return f"{cause}; {_beside_baseline(profile, prediction)}"


def _times(count: float) -> str:
    return f"{count:,.0f} times" if count >= 2 else "once or twice" if count >= 1 else "at most once"


def _beside_baseline(profile: DataProfile, prediction: Prediction) -> str:
    best = profile.best_baseline
    if prediction.low > best:
        return f"above the best baseline ({best:.1f} %) in all of its interval"
    if prediction.high < best:
        return f"below the best baseline ({best:.1f} %), which needs no training"
    return f"the best baseline ({best:.1f} %) is within its interval"
