"""`frugalclip compare` from its arguments to the verdict, on coloured squares; trials run in this process."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frugalclip.comparison import execution, speed
from frugalclip.comparison import trial as trial_program
from frugalclip.comparison.jobs import JOB, read_job
from frugalclip.comparison.queue import TrialExit
from frugalclip.core.errors import DataError, InUseError, RecipeError, TrainingError
from frugalclip.core.locks import writing
from frugalclip.core.records import RunDirectory, read_json
from frugalclip.core.yaml_text import dump_yaml
from frugalclip.verbs.compare import compare, show

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 220), "grey": (128, 128, 128)}
TOWER = {"width": 16, "depth": 1, "head_dim": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """96 squares of two colours in two styles, a split by pair of colours, one family a pair."""
    folder, rows = tmp_path_factory.mktemp("squares"), []
    for i, (left, right) in enumerate((a, b) for a in COLOURS for b in COLOURS):
        for style in ("big", "small"):
            for copy in range(3):
                image = Image.new("RGB", (16, 16), COLOURS[left])
                side = 8 if style == "big" else 12
                image.paste(tuple(min(255, c + 4 * copy) for c in COLOURS[right]), (side, 0, 16, 16))
                name = f"{i:02}-{style}-{copy}"
                image.save(folder / f"{name}.png")
                split = "test" if i % 4 == 3 else "train"
                rows.append(
                    {
                        "id": name,
                        "image": f"{name}.png",
                        "caption": f"{left} beside {right}",
                        "style": style,
                        "family": f"p{i}",
                        "split": split,
                    }
                )
    (folder / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder / "pairs.jsonl"


@pytest.fixture
def recipe(tmp_path, data):
    """Path of a recipe that trains in a moment."""
    content = {
        "data": {"path": str(data), "validation": "split=test", "where": "split=train"},
        "evaluation": {"points": 2},
        "tokenizer": {"kind": "captions", "vocabulary": 600, "context": 8},
        "model": {"image": {**TOWER, "patch": 8, "resolution": 16}, "text": TOWER, "dim": 8},
        "views": {"main": {"flip": 0.5}},
        "objectives": {"contrastive": {"positives": "caption"}},
        "batch": 16,
        "steps": 2,
        "precision": "fp32",
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_yaml(content))
    return str(path)


@pytest.fixture
def protocol(tmp_path):
    path = tmp_path / "protocol.yaml"
    metrics = {
        "unseen": {"where": "split=test", "primary": True},
        "all": {"where": "split=test", "pool": "all"},
    }
    path.write_text(
        dump_yaml(
            {
                "hold_out": "style",
                "train": "split=train",
                "validation": "split=test",
                "group": "family",
                "metrics": metrics,
                "points": 2,
            }
        )
    )
    return str(path)


class Started:
    """Runs trials here and now, and remembers which."""

    def __init__(self) -> None:
        self.folders: list[Path] = []
        self.stop_after: int | None = None
        self.breaks: str | None = None

    def __call__(self, trials, *, jobs=1, threads=None, ended=None):
        for trial in trials:
            if self.stop_after is not None and len(self.folders) >= self.stop_after:
                return False
            self.folders.append(trial.folder)
            broken = self.breaks is not None and self.breaks in str(trial.folder)
            path, runs = trial.folder / JOB, peer if trial.job.command else run_ours
            code = 1 if broken else runs(path)
            if ended is not None:
                ended(TrialExit(trial, code, 0.1, "DataError: broken on purpose" if broken else ""))
        return True


def run_ours(path: Path) -> int:
    return trial_program.main([str(path)])


class Uniform:
    """A peer that has learned nothing: it encodes all images and texts alike."""

    fingerprint = "uniform"
    preprocess = None

    def encode_text(self, texts):
        return torch.ones(len(texts), 4)

    def image_features(self, manifest):
        from frugalclip.models import ManifestFeatures

        return ManifestFeatures(torch.ones(len(manifest), 4), np.arange(len(manifest)))


def peer(path: Path) -> int:
    """The program of another library."""
    job = read_job(path)
    rows = [
        {
            "step": k,
            "samples_seen": k * (job.samples or 0) / 2,
            "seconds": 0.1 * k,
            "cpu_seconds": 0.1 * k,
            "evaluation": trial_program.validation_metrics(job, Uniform()),
        }
        for k in (1, 2)
    ]
    RunDirectory(path.parent).metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    trial_program.finish_trial(
        path,
        Uniform(),
        training={"samples_seen": job.samples, "seconds": 0.2, "parameters": 0, "training_rows": 72},
    )
    return 0


@pytest.fixture
def started(monkeypatch):
    runner = Started()
    monkeypatch.setattr(execution, "run_trials", runner)
    monkeypatch.setattr(speed, "run_trials", runner)
    return runner


def test_a_costly_reference_is_trained_on_all_pairs_only(recipe, protocol, data, started, tmp_path, capsys):
    (tmp_path / "peer.yaml").write_text("command: [python, peer.py]\n")
    arms = [str(tmp_path / "peer.yaml"), f"ours:{recipe}"]
    options = {"seeds": 1, "samples": 32, "protocol": protocol, "data": str(data), "fractions": "1/2"}
    result = compare(arms, out=tmp_path / "c", full_data=["peer"], **options)
    shares = {(folder.parts[-4], folder.parts[-2]) for folder in started.folders}
    assert shares == {("peer", "1"), ("ours", "1"), ("ours", "1-2")}
    efficiency = result["data_efficiency"]
    assert efficiency["reference"] == "peer"
    assert efficiency["arms"]["peer"] is None and efficiency["arms"]["ours"]["runs"] == 2
    show(result)
    assert "not trained on every fraction" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(RecipeError, match="--full-data pear is not one of the arms"):
        compare(arms, out=tmp_path / "d", full_data=["pear"], **options)


def test_two_recipes_and_a_program_over_folds_and_fractions(
    recipe, protocol, data, started, tmp_path, capsys
):
    (tmp_path / "peer.yaml").write_text("command: [python, peer.py]\n")
    arms = [f"ours:{recipe}", str(tmp_path / "peer.yaml"), "optimizer.lr=0.003"]
    options = {
        "out": tmp_path / "c",
        "seeds": 2,
        "samples": 32,
        "protocol": protocol,
        "data": str(data),
        "fractions": "1/2",
    }
    result = compare(arms, **options)
    assert len(started.folders) == 2 * 2 * 2 * 2
    # wherever it stops, all arms have equally many trials
    assert [folder.relative_to(tmp_path / "c").as_posix() for folder in started.folders[:4]] == [
        f"trials/{arm}/big/{share}/seed-0" for share in ("1-2", "1") for arm in ("ours", "peer")
    ]
    assert read_json(tmp_path / "c" / "compare.json") == result
    assert (tmp_path / "c" / "report.html").read_text().count("<section") == 7
    assert (result["primary"], result["reference"], result["folds"]) == (
        "unseen",
        "ours",
        ["big", "small"],
    )
    (test,) = result["tests"]
    assert (test["arm"], test["runs"], test["families"], test["folds"]) == ("peer", 4, 4, 2)
    unseen = result["metrics"]["unseen"]
    assert unseen["chance"] == pytest.approx(25)
    assert unseen["arms"]["peer"]["value"] == pytest.approx(25)  # all the same to it: chance, exactly
    assert result["metrics"]["all"]["arms"]["peer"]["value"] == pytest.approx(100 / 16)
    assert {(t["arm"], t["baseline"]) for t in result["baseline_tests"]} == {
        (arm["name"], baseline) for arm in result["arms"] for baseline in unseen["baselines"]
    }
    first = result["baseline_tests"][0]
    assert first["value"] == pytest.approx(
        unseen["arms"][first["arm"]]["value"] - unseen["baselines"][first["baseline"]], abs=1e-4
    )
    assert set(unseen["baselines"]) == {f"{kind}_nn_{k}" for kind in ("pixel", "feature") for k in (1, 10)}
    assert result["curves"]["clock"] == "cpu" if result["costs"]["ours"]["cpu_seconds"] else "wall"
    assert result["data_efficiency"]["arms"]["ours"]["fractions"][1]["pairs"] == 36
    show(result)
    assert result["answer"] in " ".join(capsys.readouterr().out.split())

    seeds = {
        (job.arm, job.fold, job.seed_index): job.seed
        for job in map(read_job, (f / "job.json" for f in started.folders))
    }
    assert seeds["ours", "big", 1] == seeds["peer", "big", 1]  # paired
    assert (
        len({seed for (arm, *_), seed in seeds.items() if arm == "ours"}) == 4
    )  # and nothing shared between folds

    started.folders.clear()
    again = compare(arms, **options)
    assert started.folders == []
    assert again["tests"] == result["tests"]
    shutil.rmtree(tmp_path / "c" / "trials" / "ours" / "big" / "1" / "seed-1")
    assert compare(arms, **options)["metrics"] == result["metrics"]  # the same trial, trained again
    assert len(started.folders) == 1


def test_the_same_recipe_under_two_names_is_a_real_comparison(recipe, started, tmp_path):
    result = compare([f"a:{recipe}", f"b:{recipe}"], out=tmp_path / "aa", seeds=2)
    assert result["independent_seeds"]
    jobs = [read_job(folder / "job.json") for folder in started.folders]
    assert len({job.seed for job in jobs}) == 4
    assert any("A/A" in note for note in result["notes"])
    values = [trial["training"]["samples_seen"] for trial in result["trials"]]
    assert values == [32] * 4
    losses = {
        (job.arm, job.seed_index): list(RunDirectory(f).rows())[-1]["loss"]
        for job, f in zip(jobs, started.folders, strict=True)
    }
    assert len(set(losses.values())) == 4


def test_without_a_protocol_the_validation_set_is_evaluated_and_one_seed_cannot_say(
    recipe, started, tmp_path
):
    result = compare([f"a:{recipe}", f"b:{recipe}", "seed=5"], out=tmp_path / "c", seeds=1, jobs=2)
    assert result["tests"][0]["verdict"] == "one seed: cannot say"
    assert result["answer"].startswith("One seed: cannot say whether b is better than a")
    assert set(result["metrics"]) == {"naming", "finding"}
    assert any("1 seed screen" in note for note in result["notes"])


def test_a_failure_is_recorded_and_the_others_go_on(recipe, started, tmp_path):
    started.breaks = "/b/"
    result = compare([f"a:{recipe}", f"b:{recipe}"], out=tmp_path / "c", seeds=2)
    states = {(trial["arm"], trial["status"]) for trial in result["trials"]}
    assert states == {("a", "finished"), ("b", "failed")}
    assert result["tests"][0]["verdict"] == "no finished pair of runs"
    assert "broken on purpose" in (tmp_path / "c" / "report.html").read_text()
    started.breaks = None
    assert {
        trial["status"]
        for trial in compare([f"a:{recipe}", f"b:{recipe}"], out=tmp_path / "c", seeds=2)["trials"]
    } == {"finished"}
    started.breaks = "trials"
    with pytest.raises(
        TrainingError, match="no trial finished; the first failed with: DataError: broken on purpose"
    ):
        compare([f"a:{recipe}", f"b:{recipe}"], out=tmp_path / "d", seeds=1)


def test_a_stopped_comparison_reports_what_it_has_and_resumes(recipe, started, tmp_path):
    started.stop_after = 2
    result = compare([f"a:{recipe}", f"b:{recipe}"], out=tmp_path / "c", seeds=2)
    assert result["is_stopped"]
    assert [trial["status"] for trial in result["trials"]] == ["finished", "finished", "not run", "not run"]
    started.stop_after = None
    assert not compare([f"a:{recipe}", f"b:{recipe}"], out=tmp_path / "c", seeds=2)["is_stopped"]
    assert len(started.folders) == 4


def test_a_second_process_does_not_train_in_the_folder_of_the_first(recipe, started, tmp_path):
    arms, place, options = (
        [f"a:{recipe}", f"b:{recipe}"],
        tmp_path / "c",
        {"out": tmp_path / "c", "seeds": 1, "samples": 32},
    )
    (place / "data").mkdir(parents=True)
    with writing(place):  # as another process would; file locks belong to the opening, not to the process
        with pytest.raises(InUseError, match=r"c is in use: .*; wait until it has ended"):
            compare(arms, **options)
        assert not started.folders
    compare(arms, **options)
    assert len(started.folders) == 2


def test_equal_seconds_are_measured_first_and_kept(recipe, started, tmp_path):
    options = {"out": tmp_path / "c", "seeds": 1, "seconds": 0.1, "clock": "wall"}
    result = compare([f"a:{recipe}", f"b:{recipe}", "batch=8"], **options)
    rates = read_json(tmp_path / "c" / "rates.json")
    assert set(rates) == {"a wall", "b wall"}
    jobs = {
        job.arm: job.samples
        for job in (read_job(f / "job.json") for f in started.folders if "trials" in f.parts)
    }
    assert jobs == {arm: round(0.1 * rates[f"{arm} wall"]) for arm in "ab"}
    assert result["seconds"] == 0.1
    assert [f.name for f in started.folders[:2]] == ["a", "b"]
    compare([f"a:{recipe}", f"b:{recipe}", "batch=8"], **options)
    assert len(started.folders) == 4


def test_what_cannot_be_compared_is_one_sentence(recipe, started, data, tmp_path):
    arms = [f"a:{recipe}", f"b:{recipe}"]
    with pytest.raises(RecipeError, match="--samples and --seconds are both given"):
        compare(arms, out=tmp_path / "c", samples=1, seconds=1)
    with pytest.raises(RecipeError, match="--reference c is not one of the arms"):
        compare(arms, out=tmp_path / "c", reference="c")
    with pytest.raises(RecipeError, match="no data is given"):
        compare(["clip", "siglip"], out=tmp_path / "c")
    with pytest.raises(DataError, match="no field 'stlye'; did you mean 'style'"):
        compare(arms, out=tmp_path / "c", hold_out="stlye")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(RecipeError, match="is not empty and holds no comparison"):
        compare(arms, out=tmp_path / "full")
    compare(arms, out=tmp_path / "c", seeds=1)
    with pytest.raises(RecipeError, match="holds a trial with another 'recipe'"):
        compare([*arms, "batch=8"], out=tmp_path / "c", seeds=1)
