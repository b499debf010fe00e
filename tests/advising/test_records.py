"""The runs that ship with the package: those that the benchmark recorded, and no others."""

from pathlib import Path

from frugalclip.advising.predict import shipped_predictor
from frugalclip.advising.records import AdviceRecord, shipped_runs
from frugalclip.advising.routes import ROUTES, Candidate
from frugalclip.core.stored import read_record

RECORDS = Path(__file__).resolve().parents[2] / "results" / "advise"


def test_what_ships_is_what_was_recorded():
    recorded = [read_record(path, AdviceRecord) for path in sorted(RECORDS.glob("*.json"))]
    assert shipped_runs().runs == recorded
    assert shipped_runs().step_seconds > 0 and shipped_runs().launch_seconds > 0


def test_every_recorded_route_is_predicted_for_the_data_of_each_record():
    routes = {route.name: route for route in ROUTES}
    for one in shipped_runs().runs:
        found = shipped_predictor().predict(one.profile, Candidate(routes[one.route], one.samples))
        assert found is not None and 0 < found.low < found.value < found.high < 100
