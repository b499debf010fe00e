"""What is run, in which order, and when a race ends."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from frugalclip.advising import options as options_module
from frugalclip.advising.durations import Durations
from frugalclip.advising.options import Option, best_of_each_route, options_for
from frugalclip.advising.predict import Predictor
from frugalclip.advising.race import Race, TrialRun
from frugalclip.advising.routes import ROUTES, Candidate

from .made_runs import made_profile, made_shipment, made_value

PROFILE = made_profile(12.0, pairs=2_000)


@pytest.fixture
def all_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every route that was run, whatever is installed; memory is not planned."""
    found = [Candidate(route, n) for route in ROUTES[:3] for n in route.lengths or (None,)]
    plan = SimpleNamespace(memory_gb={"weights": 0.5}, step=None, samples=None, batch=64)
    monkeypatch.setattr(options_module, "candidates", lambda pairs, more: found)
    monkeypatch.setattr(options_module, "_plan", lambda candidate, data, probe: plan)


class Clock:
    """Time that passes only while something runs."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def race(
    seconds: float, *, value: Callable[[Option], float | None], slower: float = 1.0
) -> tuple[Race, Clock]:
    durations, clock = Durations(made_shipment(), step_seconds=0.1), Clock()
    options = options_for(PROFILE, "data", Predictor(made_shipment().runs), durations)

    def run(option: Option, left: float) -> TrialRun:
        took = slower * (option.seconds or 10.0)
        is_late = took > left
        clock.now += min(took, left)
        reached = None if is_late else value(option)
        return TrialRun(option.name, reached, min(took, left), "folder", "late" if is_late else "")

    return Race(
        options, durations, pairs=PROFILE.pairs, seconds=seconds, run=run, told=lambda _: None, clock=clock
    ), clock


def as_the_rule(option: Option) -> float:
    return made_value(PROFILE, option.candidate.route.name, option.candidate.samples)


@pytest.mark.usefixtures("all_routes")
def test_the_cheapest_goes_first_and_the_best_is_found():
    own, clock = race(3_600, value=as_the_rule)
    best = own.finish()
    assert own.trials[0].name == "clip-small-4000"
    assert best is not None and best.name == "pretrained"
    assert clock.now < 3_600


@pytest.mark.usefixtures("all_routes")
def test_what_cannot_win_is_not_run():
    own, _ = race(3_600, value=as_the_rule)
    own.finish()
    names = [one.name for one in own.trials]
    assert names[1] == "pretrained"  # the highest upper end
    assert "frugal-256000" not in names and "clip-small-256000" not in names


@pytest.mark.usefixtures("all_routes")
def test_longer_runs_follow_shorter_ones_of_the_better_half():
    def scratch_wins(option: Option) -> float:
        return 1.0 if option.candidate.route.origin == "pretrained" else as_the_rule(option)

    own, _ = race(36_000, value=scratch_wins)
    best = own.finish()
    names = [one.name for one in own.trials]
    lengths = [int(name.removeprefix("frugal-")) for name in names if name.startswith("frugal-")]
    assert lengths == sorted(lengths) and len(lengths) > 1
    assert "clip-small-16000" not in names  # frugal-4000 was better than clip-small-4000
    assert best is not None and best.name.startswith("frugal-")


@pytest.mark.usefixtures("all_routes")
@pytest.mark.parametrize("slower", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("seconds", [5, 20, 60, 400])
def test_the_time_is_kept_on_any_machine(seconds: float, slower: float):
    own, clock = race(seconds, value=as_the_rule, slower=slower)
    own.finish()
    assert clock.now <= seconds
    late = [one for one in own.trials if one.value is None]
    assert len(late) <= 1  # the first run shows how fast the machine is


@pytest.mark.usefixtures("all_routes")
def test_a_run_that_fails_is_not_run_again_and_the_others_go_on():
    own, _ = race(3_600, value=lambda one: None if one.candidate.samples == 4_000 else as_the_rule(one))
    best = own.finish()
    names = [one.name for one in own.trials]
    assert len(names) == len(set(names))
    assert best is not None and best.name == "pretrained"


@pytest.mark.usefixtures("all_routes")
def test_one_row_a_route_the_best_that_fits():
    durations = Durations(made_shipment(), step_seconds=0.1)
    options = options_for(PROFILE, "data", Predictor(made_shipment().runs), durations)
    rows = best_of_each_route(options, 100)
    assert [one.name for one in rows] == ["frugal-16000", "clip-small-64000", "pretrained"]
    assert [one.fits(100) for one in rows] == [True, True, False]
    assert "best baseline (12.0 %)" in rows[0].reason and "seen 8 times" in rows[0].reason


@pytest.mark.usefixtures("all_routes")
def test_a_model_that_is_there_is_beaten_or_kept():
    durations, runs = Durations(made_shipment(), step_seconds=0.1), made_shipment().runs
    options = options_for(PROFILE, "data", Predictor(runs), durations)

    def finish(value: float) -> Race:
        clock = Clock()
        own = Race(
            options,
            durations,
            pairs=PROFILE.pairs,
            seconds=3_600,
            run=lambda option, left: TrialRun(option.name, as_the_rule(option), 1.0, ""),
            told=lambda _: None,
            known=TrialRun("zero-shot", value, 0.0, "model"),
            clock=clock,
        )
        own.finish()
        return own

    kept = finish(99.0)
    assert [one.name for one in kept.trials] == ["zero-shot"] and kept.best == kept.trials[0]
    beaten = finish(1.0)
    assert beaten.best is not None and beaten.best.name == "pretrained"


@pytest.mark.usefixtures("all_routes")
def test_a_run_that_was_there_says_nothing_about_this_machine():
    durations, runs = Durations(made_shipment(), step_seconds=0.1), made_shipment().runs
    options = options_for(PROFILE, "data", Predictor(runs), durations)
    expected = {one.name: one.seconds for one in options}

    def read(option: Option, left: float) -> TrialRun:
        return TrialRun(option.name, as_the_rule(option), 0.01, "", is_whole=False)

    own = Race(
        options,
        durations,
        pairs=PROFILE.pairs,
        seconds=3_600,
        run=read,
        told=lambda _: None,
        clock=Clock(),
    )
    own.finish()
    assert len(own.trials) > 1
    assert {one.name: one.seconds for one in own.options} == expected
