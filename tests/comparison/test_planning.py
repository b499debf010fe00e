"""Planned trials: a balanced order, seeds, data written once, and folders of other jobs are refused."""

import pytest

from frugalclip.comparison.arms import read_arms
from frugalclip.comparison.design import ComparisonSettings, make_design
from frugalclip.comparison.folds import make_folds
from frugalclip.comparison.planning import (
    DataFiles,
    plan_trials,
    refuse_other_jobs,
    speed_trial,
    trial_lengths,
    trial_seed,
)
from frugalclip.comparison.protocol import ProtocolConfig
from frugalclip.core.errors import RecipeError
from frugalclip.data.manifest import Manifest, image_places, make_manifest

PROTOCOL = ProtocolConfig.model_validate(
    {
        "hold_out": "style",
        "train": "split=train",
        "validation": "split=val",
        "metrics": {"unseen": {"where": "split=test", "pool": "all"}},
    }
).resolved()


@pytest.fixture
def rows(tmp_path):
    content = [(c, s, ("train", "train", "val", "test")[c % 4]) for c in range(24) for s in ("ink", "oil")]
    return make_manifest(
        ids=[f"{c}-{s}" for c, s, _ in content],
        images=image_places([f"{i}.png" for i in range(len(content))]),
        captions=[[f"thing {c}"] for c, _, _ in content],
        fields={"style": [s for _, s, _ in content], "split": [p for _, _, p in content]},
        root=tmp_path,
        name="rows",
    )


@pytest.fixture
def plan(rows, tmp_path):
    """Plans a comparison of two arms; settings of the design."""

    def make(arms=("clip", "siglip"), samples=64, **changes):
        settings = ComparisonSettings(**{"seeds": 2, "fractions": (0.5, 1.0), **changes})
        found, folds = read_arms(arms), make_folds(rows, PROTOCOL)
        design = make_design(found, PROTOCOL, settings)
        files = DataFiles(tmp_path / "c", rows, PROTOCOL)
        return plan_trials(design, folds, files, lengths=trial_lengths(found, folds, samples))

    return make


def test_arms_take_turns_within_fractions_folds_and_seeds(plan, tmp_path):
    trials = plan()
    names = [trial.folder.relative_to(tmp_path / "c" / "trials").as_posix() for trial in trials]
    assert names[:4] == [f"{arm}/ink/{share}/seed-0" for share in ("1-2", "1") for arm in ("clip", "siglip")]
    assert (len(names), len(set(names))) == (16, 16)
    assert [trial.fold for trial in trials[:8]] == ["ink"] * 4 + ["oil"] * 4


def test_a_job_has_its_rows_as_files(plan):
    job = plan()[0].job
    data = Manifest.read(job.data)
    assert len(data.where(job.train)) == 6  # half of the 12 rows in the other style
    assert set(data.where(job.train).field("style")) == {"oil"}
    assert set(data.where(job.validation).field("style")) == {"ink"}
    assert data.fingerprint() == job.data_hash
    evaluated = Manifest.read(job.metrics["unseen"].rows)
    assert set(evaluated.field("split")) == {"test"} and set(evaluated.field("style")) == {"ink"}
    assert len(Manifest.read(job.metrics["unseen"].everything)) == 48


def test_arms_share_seeds_unless_they_are_independent(plan):
    seeds = {trial.run: trial.job.seed for trial in plan() if trial.arm == "clip"}
    assert seeds == {trial.run: trial.job.seed for trial in plan() if trial.arm == "siglip"}
    assert len(set(seeds.values())) == 4  # folds share no seed
    own = [trial.job.seed for trial in plan(independent_seeds=True) if trial.job.fraction == 1]
    assert len(set(own)) == len(own)
    assert trial_seed(1, 2, None, base=5) == 2006


def test_an_arm_may_train_on_all_pairs_only(plan):
    shares = {(trial.arm, trial.job.fraction) for trial in plan(full_data=["clip"])}
    assert shares == {("clip", 1.0), ("siglip", 0.5), ("siglip", 1.0)}


def test_lengths_are_given_or_those_of_the_recipes(plan):
    assert {trial.job.samples for trial in plan()} == {64}
    arms = ["clip", "siglip", "steps=3", "epochs=null", "samples=null", "batch=8"]
    assert {trial.job.samples for trial in plan(arms, samples=None)} == {24}
    short = speed_trial(plan()[0], plan()[0].folder, samples=8)
    assert (short.job.samples, short.job.points, short.job.metrics) == (8, 1, {})


def test_a_folder_with_another_job_is_refused(plan):
    trials = plan()
    trials[0].write()
    refuse_other_jobs(trials)
    with pytest.raises(RecipeError, match="holds a trial with another 'recipe'; compare into a new --out"):
        refuse_other_jobs(plan(["clip", "siglip", "batch=7"]))
