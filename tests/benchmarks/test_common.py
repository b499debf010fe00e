"""What the benchmarks share: records say how they were measured, and not where."""

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def common():
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("_common")
    sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("place", [["--json", "/home/me/x.json"], ["--json=/home/me/x.json"], []])
def test_a_record_names_its_command_without_folders(common, place: list[str]):
    words = ["/home/me/benchmarks/step.py", "--px", "32", *place, "--repeats", "5"]
    assert common.measured_by(words) == "step.py --px 32 --repeats 5"
