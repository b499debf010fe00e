"""Energy counters: read where they are, added over packages, and None where nothing can be read."""

from pathlib import Path

import pytest

from frugalclip.core import energy
from frugalclip.core.energy import EnergyMeter
from frugalclip.core.records import Stopwatch


@pytest.fixture
def counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two packages, one of them with a part that must not be counted twice."""
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "max_energy_range_uj").write_text("10000000\n")
        (tmp_path / name / "energy_uj").write_text("9000000\n")
    monkeypatch.setattr(energy, "COUNTERS", tmp_path)
    return tmp_path


def test_packages_are_added_and_a_counter_may_begin_anew(counters: Path):
    meter = EnergyMeter()
    before = meter.read()
    (counters / "intel-rapl:0" / "energy_uj").write_text("9500000")
    (counters / "intel-rapl:1" / "energy_uj").write_text("1000000")
    assert meter.joules(before, meter.read()) == pytest.approx(0.5 + 2.0)


def test_a_stopwatch_adds_up_and_goes_on_where_it_was(counters: Path):
    watch = Stopwatch(joules=3.0)
    with watch:
        (counters / "intel-rapl:0" / "energy_uj").write_text("9250000")
    assert watch.joules == pytest.approx(3.25)


def test_counters_that_cannot_be_read_give_nothing(counters: Path):
    for name in ("intel-rapl:0", "intel-rapl:1"):
        (counters / name / "energy_uj").unlink()
    watch = Stopwatch()
    with watch:
        pass
    assert watch.joules is None and EnergyMeter(counters / "none").read() is None
    assert set(watch.reading()) == {"seconds", "cpu_seconds"}
