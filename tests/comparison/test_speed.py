"""Speeds are measured once for each arm, in the second half of a short trial."""

import json

import pytest

from frugalclip.comparison import speed
from frugalclip.comparison.jobs import TRIAL
from frugalclip.comparison.queue import TrialExit
from frugalclip.core.errors import TrainingError
from frugalclip.core.records import RunDirectory, read_json


@pytest.fixture
def runs(monkeypatch):
    """Replaces processes by a trial that is slow at its start; 100 samples a second after it."""
    started = []

    def run(trials, *, ended):
        (trial,) = trials
        started.append(trial.arm)
        rows = [{"step": i, "samples_seen": 100 * i, "seconds": 10.0 + i} for i in range(1, 7)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        RunDirectory(trial.folder).metrics.write_text(text)
        if trial.arm != "broken":
            (trial.folder / TRIAL).write_text("{}")
        ended(TrialExit(trial, 0, 1.0, "it broke"))

    monkeypatch.setattr(speed, "run_trials", run)
    return started


def test_a_rate_is_measured_once_and_kept(runs, tmp_path, make_trial):
    trial = make_trial(tmp_path / "calibration" / "a", arm="a")
    assert speed._kept_rate(trial, tmp_path, "wall") == pytest.approx(100)
    assert speed._kept_rate(trial, tmp_path, "wall") == pytest.approx(100)
    assert runs == ["a"]
    assert read_json(tmp_path / "rates.json") == {"a wall": pytest.approx(100)}


def test_faults_name_the_arm_or_another_clock(runs, tmp_path, make_trial):
    with pytest.raises(TrainingError, match="the speed of broken cannot be measured: it broke"):
        speed._kept_rate(make_trial(tmp_path / "broken", arm="broken"), tmp_path, "wall")
    with pytest.raises(
        TrainingError, match="fewer than two rows with cpu_seconds; compare with --clock wall"
    ):
        speed._kept_rate(make_trial(tmp_path / "a", arm="a"), tmp_path, "cpu")
