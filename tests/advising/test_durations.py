"""How long a run takes: the costs of its parts, the speed of this machine, and corrections."""

import pytest

from frugalclip.advising.durations import Durations
from frugalclip.advising.routes import ROUTES, Candidate

from .made_runs import made_shipment

BY_NAME = {route.name: route for route in ROUTES}


def test_times_are_those_of_the_runs_scaled_by_this_machine():
    durations = Durations(made_shipment(), step_seconds=0.2)  # half as fast
    small = Candidate(BY_NAME["clip-small"], 64_000)
    assert durations.seconds(small, pairs=1_000) == pytest.approx(2 * (2 + 5 + 64), rel=0.01)
    assert durations.seconds(Candidate(BY_NAME["pretrained"], None), pairs=10_000) == pytest.approx(
        2 * (2 + 20 + 500), rel=0.01
    )
    assert durations.seconds(Candidate(BY_NAME["clip"], 64_000), pairs=10_000) is None


def test_what_ran_corrects_what_follows_within_bounds():
    durations = Durations(made_shipment(), step_seconds=0.1)
    small = Candidate(BY_NAME["clip-small"], 64_000)
    expected = durations.seconds(small, pairs=1_000)
    assert expected is not None
    durations.measured(expected, 4 * expected)
    assert durations.seconds(small, pairs=1_000) == pytest.approx(2 * expected)
    durations.measured(1.0, 1e9)  # a run that slept says little
    assert durations.seconds(small, pairs=1_000) == pytest.approx(2 * 5**0.5 * expected)
