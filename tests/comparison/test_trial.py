"""A trial runs its job, resumes where it stopped, and leaves a run directory with every outcome."""

import subprocess
import sys

import numpy as np
import pytest

from frugalclip.comparison.jobs import TrialJob, read_job, read_record, write_job
from frugalclip.comparison.trial import finish_trial, main, run_trial, trial_recipe, validation_metrics
from frugalclip.core.errors import DataError, RecipeError
from frugalclip.core.records import RunDirectory, read_json
from frugalclip.models import load
from frugalclip.sources.open import open_data
from frugalclip.training.loop import train_run


@pytest.fixture
def job(tmp_path, squares, small_recipe):
    everything = open_data(squares)
    everything.write(tmp_path / "data" / "all.parquet")
    evaluated = everything.where("split=val")
    evaluated.write(tmp_path / "data" / "evaluated.parquet")
    rows = {"rows": str(tmp_path / "data" / "evaluated.parquet"), "rows_hash": evaluated.fingerprint()}
    whole = str(tmp_path / "data" / "all.parquet")
    return TrialJob.model_validate(
        {
            "arm": "small",
            "recipe": small_recipe,
            "seed": 3,
            "seed_index": 0,
            "data": whole,
            "train": "split=train",
            "validation": "split=val",
            "data_hash": everything.fingerprint(),
            "points": 2,
            "samples": 96,
            "metrics": {
                "naming": rows | {"everything": whole, "config": {"pool": "all"}},
                "finding": rows | {"config": {"task": "retrieval"}},
            },
        }
    )


def test_a_trial_leaves_a_run_and_every_outcome(job, tmp_path):
    path = write_job(tmp_path / "trials" / "small", job)
    assert main([str(path)]) == 0
    record = read_record(path.parent)
    run = RunDirectory(path.parent)
    assert record["job"] == job.digest()
    assert [row["samples_seen"] for row in run.rows() if "evaluation" in row] == [48, 96]
    assert record["training"]["samples_seen"] == 96
    assert record["training"]["evaluations"] == 2
    assert record["training"]["peak_memory_bytes"] > 1e6
    assert read_json(run.summary)["training"] == record["training"]
    naming = record["metrics"]["naming"]
    assert naming["value"] == pytest.approx(100 * np.mean(naming["outcome"]["hit"]), abs=1e-4)
    assert naming["value"] == naming["metrics"]["generalised_top1"]
    assert len(naming["outcome"]["id"]) == len(open_data(job.metrics["naming"].rows)) == 16
    model = load(path.parent)
    again = finish_trial(path, model, training=record["training"])  # as an arm of another library does
    assert again["metrics"] == record["metrics"]
    last = list(run.rows())[-1]
    assert validation_metrics(job, model)[job.curve] == pytest.approx(last["evaluation"][job.curve], abs=1e-3)


def test_a_trial_that_stopped_resumes_to_the_same_end(job, tmp_path, monkeypatch):
    whole, stopped = (write_job(tmp_path / name, job) for name in ("whole", "stopped"))
    run_trial(whole)
    everything, recipe = open_data(job.data), trial_recipe(read_job(stopped))

    class StopAtThree:
        def started(self, run): ...

        def row(self, row):
            if row["step"] == 4:
                raise KeyboardInterrupt

        def note(self, text): ...

    with pytest.raises(KeyboardInterrupt):
        train_run(recipe, everything, RunDirectory(stopped.parent), listener=StopAtThree())
    assert read_record(stopped.parent) is None
    assert run_trial(stopped)
    assert read_record(stopped.parent)["metrics"] == read_record(whole.parent)["metrics"]


def test_the_recipe_of_a_trial_has_the_data_and_the_length_of_the_job(job):
    recipe = trial_recipe(job)
    assert (recipe.seed, recipe.samples, recipe.steps) == (3, 96, None)
    assert (recipe.data.where, recipe.data.validation) == ("split=train", "split=val")
    assert trial_recipe(job.model_copy(update={"samples": None})).steps == 12  # the arm's own length


def test_faults_are_sentences(job, tmp_path, capsys):
    assert main([str(tmp_path / "none.json")]) == 2
    assert "there is no job" in capsys.readouterr().err
    path = write_job(tmp_path / "trial", job.model_copy(update={"data_hash": "0" * 16}))
    with pytest.raises(DataError, match="is not the data that"):
        run_trial(path)
    with pytest.raises(RecipeError, match="has a command and no recipe"):
        trial_recipe(job.model_copy(update={"recipe": None, "command": ["other"]}))


def test_the_module_runs_as_a_program(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "frugalclip.comparison.trial"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "usage" in done.stderr
