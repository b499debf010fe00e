"""The time of a comparison before it starts: from finished trials, an earlier run, or a probe."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from frugalclip.comparison import duration
from frugalclip.comparison.duration import duration_in_words
from frugalclip.comparison.jobs import Trial, TrialJob
from frugalclip.comparison.trial import trial_recipe
from frugalclip.core.devices import pick_device
from frugalclip.core.progress import in_minutes
from frugalclip.training.speeds import Speed, remember_run


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUGALCLIP_CACHE", str(tmp_path / "cache"))


def trial(
    arm: str, *, seconds: float | None = None, recipe: dict | None = None, samples: int = 6000
) -> Trial:
    job = TrialJob(
        arm=arm,
        recipe=recipe,
        command=None if recipe else ["peer"],
        seed=0,
        seed_index=0,
        data="rows.parquet",
        train="split=train",
        data_hash="0",
        samples=samples,
    )
    done = None if seconds is None else {"training": {"seconds": seconds, "samples_seen": samples}}
    return Trial(job, Path("unused"), done)


def test_finished_trials_tell_the_time_of_the_others():
    trials = [trial("a", seconds=60.0), trial("a"), trial("a", samples=12_000)]
    assert duration_in_words(trials, jobs=1).startswith("2 trials to train: about 3.0 min of training steps;")
    assert duration_in_words(trials, jobs=2).startswith("2 trials to train: about 1.5 min")
    assert duration_in_words(trials[:1], jobs=1) == "Every trial is finished."


def test_an_arm_of_unknown_speed_is_named():
    assert "unknown time; start" in duration_in_words([trial("peer")], jobs=1)
    both = duration_in_words([trial("a", seconds=60.0), trial("a"), trial("peer")], jobs=1)
    assert "about 1.0 min of training steps, besides peer, whose speed is not known" in both


def test_an_earlier_run_tells_the_time_and_a_probe_otherwise(small_recipe, monkeypatch: pytest.MonkeyPatch):
    one = trial("small", recipe=small_recipe | {"device": "cpu"})
    recipe = trial_recipe(one.job)
    probes = []

    def probed(recipe, *, probe: bool) -> SimpleNamespace:
        probes.append(probe)
        return SimpleNamespace(step=Speed(0.1, "a probe"))

    monkeypatch.setattr(duration, "plan_recipe", probed)
    seconds = 6000 / recipe.batch * 0.1
    assert f"about {in_minutes(seconds)} of training steps" in duration_in_words([one], jobs=1)
    remember_run(recipe, pick_device("cpu"), seconds=4.0, steps=20)  # 0.2 s a step
    assert f"about {in_minutes(2 * seconds)} of training steps" in duration_in_words([one], jobs=1)
    assert probes == [True]


def test_an_arm_that_cannot_be_planned_is_unknown(small_recipe):
    assert "unknown time" in duration_in_words([trial("small", recipe=small_recipe)], jobs=1)  # no such data
