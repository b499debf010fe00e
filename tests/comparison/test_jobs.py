"""Jobs and trials: relative paths, the digest of a job, and which record belongs to a trial."""

import json
import sys

import pytest

from frugalclip.comparison.jobs import TRIAL, read_job, write_job
from frugalclip.core.errors import RecipeError
from frugalclip.core.records import RunDirectory, write_json

METRIC = {"config": {"metric": "top1"}, "rows": "/data/rows.parquet", "rows_hash": "1"}


@pytest.fixture
def trial(tmp_path, make_trial):
    metrics = {"naming": METRIC, "all": METRIC | {"everything": "/data/all.parquet"}}
    return make_trial(tmp_path / "trials" / "x", data="/data/train.parquet", fold="ink", metrics=metrics)


def test_paths_are_relative_in_the_file_so_that_a_comparison_can_be_moved(trial, tmp_path):
    job = trial.job.with_paths(lambda path: f"{tmp_path}{path}")
    path = write_job(trial.folder, job)
    content = json.loads(path.read_text())
    assert content["data"] == "../../data/train.parquet"
    assert content["metrics"]["all"]["everything"] == "../../data/all.parquet"
    assert read_job(path) == job


def test_a_result_does_not_depend_on_paths_and_descriptions(trial):
    job = trial.job
    assert job.with_paths(lambda path: f"/elsewhere{path}").digest() == job.digest()
    described = METRIC | {"config": {"metric": "top1", "description": "x", "primary": True}}
    again = job.model_validate(job.model_dump() | {"metrics": {"naming": described, "all": METRIC}})
    assert again.digest() == job.digest()
    assert job.model_copy(update={"seed": 4}).digest() != job.digest()
    assert job.model_copy(update={"data_hash": "0"}).digest() != job.digest()
    other = job.model_validate(job.model_dump() | {"metrics": {"naming": METRIC | {"rows_hash": "2"}}})
    assert other.digest() != job.digest()


def test_the_program_of_an_arm(make_trial):
    assert make_trial().job.program() == [sys.executable, "-m", "frugalclip.comparison.trial"]
    assert make_trial(command=["python", "peer.py"]).job.program() == [sys.executable, "peer.py"]
    assert make_trial(command=["peer", "-x"]).job.program() == ["peer", "-x"]


def test_a_trial_is_finished_by_the_record_of_an_equal_job(trial, make_trial):
    trial.write()
    assert not trial.read().is_finished
    write_json(trial.folder / TRIAL, {"job": "another"})
    assert not trial.read().is_finished
    record = {"job": trial.job.digest(), "metrics": {"naming": {"value": 1.0}}, "training": {"seconds": 2}}
    write_json(trial.folder / TRIAL, record)
    rows = [
        {"step": 1, "samples_seen": 8, "seconds": 1.0, "cpu_seconds": 2.0},
        {"step": 2, "samples_seen": 16, "seconds": 2.0, "cpu_seconds": 4.0, "evaluation": {"a/b": 5.0}},
    ]
    RunDirectory(trial.folder).metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = trial.read()
    assert (found.is_finished, found.run, found.training) == (True, ("ink", 0), {"seconds": 2})
    curve = found.curve("a/b", "cpu")
    assert (curve.samples.tolist(), curve.seconds.tolist(), curve.values.tolist()) == ([16], [4], [5])
    assert found.curve("c/d", "cpu") is None


def test_faults_are_sentences(tmp_path):
    with pytest.raises(RecipeError, match="there is no job at"):
        read_job(tmp_path / "none.json")
    (tmp_path / "old.json").write_text('{"frugalclip_job": 1}')
    with pytest.raises(RecipeError, match="no job of version 2"):
        read_job(tmp_path / "old.json")
