"""What is missing is trained; failures are remembered until they finish."""

import pytest

from frugalclip.comparison import execution
from frugalclip.comparison.execution import check_folder, failures, train_missing
from frugalclip.comparison.jobs import TRIAL
from frugalclip.comparison.queue import TrialExit
from frugalclip.core.errors import RecipeError
from frugalclip.core.records import write_json


@pytest.fixture
def trials(tmp_path, make_trial):
    return [make_trial(tmp_path / "trials" / name, arm=name) for name in ("a", "b", "c")]


def finish(trial):
    record = {"job": trial.job.digest(), "metrics": {"unseen": {"value": 12.5}}, "training": {}}
    write_json(trial.folder / TRIAL, record)


def test_finished_trials_are_not_run_and_failures_are_kept(trials, tmp_path, monkeypatch):
    trials[0].write()
    finish(trials[0])
    started, broken = [], {"b"}

    def run(missing, *, jobs, threads, ended):
        for trial in missing:
            started.append(trial.arm)
            is_broken = trial.arm in broken
            if not is_broken:
                finish(trial)
            message = "DataError: broken" if is_broken else ""
            ended(TrialExit(trial, int(is_broken), 1.0, message))
        return True

    monkeypatch.setattr(execution, "run_trials", run)
    lines = []
    assert train_missing(trials, tmp_path, jobs=1, primary="unseen", report=lines.append)
    assert started == ["b", "c"]
    assert lines[0].startswith("3 trials, 1 of them finished; 1 at a time")
    assert lines[1:] == ["b did not finish: DataError: broken", "[2/3] c: unseen 12.5 %, 1 s"]
    found = [trial.read() for trial in trials]
    assert failures(found, tmp_path) == {"trials/b": "DataError: broken"}
    broken.clear()
    assert train_missing(trials, tmp_path, jobs=1, primary="unseen", report=lines.append)
    assert started == ["b", "c", "b"]
    assert failures([trial.read() for trial in trials], tmp_path) == {}


def test_a_folder_with_other_content_is_refused(tmp_path):
    check_folder(tmp_path / "new")
    (tmp_path / "file").touch()
    with pytest.raises(RecipeError, match="is a file; choose a folder"):
        check_folder(tmp_path / "file")
    with pytest.raises(RecipeError, match="is not empty and holds no comparison"):
        check_folder(tmp_path)
    (tmp_path / "data").mkdir()
    check_folder(tmp_path)
