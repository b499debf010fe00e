"""The benchmarks of curation: rows are chosen as they claim, every arm trains, and answers have sides."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from frugalclip.data.manifest import Manifest
from frugalclip.sources.open import open_data
from frugalclip.training.recipe import validate_recipe

from .conftest import TINY


@pytest.fixture(scope="module")
def files(imported: Callable[[str], Any]) -> Any:
    return SimpleNamespace(**{name: imported(name) for name in ("_packs", "quarter", "more_noise", "_runs")})


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with a caption and a kind; of five one is for tests and one for validation."""
    place = tmp_path_factory.mktemp("pairs")
    for i in range(60):
        noise = np.random.default_rng(i).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(place / f"{i:02}.png")
        (place / f"{i:02}.txt").write_text(f"thing {i} of kind {i % 3}")
        split = ("test", "val", "train", "train", "train")[i % 5]
        (place / f"{i:02}.json").write_text(json.dumps({"split": split, "kind": f"kind {i % 3}"}))
    return place


@pytest.fixture
def pack(files: Any, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A pack of these pictures, and towers and runs that are tiny."""

    class Tiny(files._packs.Pack):
        data = str(pairs)

    monkeypatch.setattr(files._packs, "TOWERS", TINY)
    monkeypatch.setattr(files._packs, "SETTINGS", {"batch": 8, "epochs": None, "threads": 1})
    monkeypatch.setattr(files._packs, "CONVOLUTIONS", {"batch": 8})
    for module in (files.quarter, files.more_noise):
        monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
        monkeypatch.setattr(module, "RECORDS", tmp_path / "records")
    metrics = files._packs._metrics("split=test", "kind", None)
    validation = files._runs.Metric("split=val", "retrieval")
    return Tiny("tiny", 32, "transformers", metrics, validation, 0.3)


def test_so_many_captions_are_swapped_and_a_larger_share_swaps_the_same_and_more(files: Any, pairs: Path):
    rows = open_data(str(pairs))
    few, many = (files._packs.swapped(rows, share, seed=0) for share in (0.2, 0.5))
    is_few, is_many = (np.array(one.field("swapped")) for one in (few, many))
    assert (is_few.sum(), is_many.sum()) == (12, 30) and not (is_few & ~is_many).any()
    for one, mask in ((few, is_few), (many, is_many)):
        differs = np.array([a != b for a, b in zip(one.captions(), rows.captions(), strict=True)])
        assert np.array_equal(differs, mask) and sorted(one.captions()) == sorted(rows.captions())
    assert not any(files._packs.swapped(rows, 0.0, seed=0).field("swapped"))


def test_every_arm_has_exactly_a_quarter_of_the_rows(files: Any, pack: Any, monkeypatch: pytest.MonkeyPatch):
    benchmark = files.quarter.Benchmark(pack, jobs=1)
    for arm in ("random", "free", "stratified", "metaclip"):
        one = Manifest.read(benchmark.rows(arm, 0))
        assert len(one) == 9 and set(one.field("split")) == {"train"}, arm
    assert len(Manifest.read(benchmark.rows("all", 0))) == 36


def test_rows_are_drawn_by_their_weights(files: Any, pairs: Path):
    rows = open_data(str(pairs))
    weights = [1.0 if i < 20 else 0.0 for i in range(60)]
    assert files.quarter.weighted_rows(rows, weights, 20, seed=3).ids == rows.ids[:20]
    drawn = [
        files.quarter.weighted_rows(rows, [3.0] * 30 + [1.0] * 30, 1, seed=seed).ids[0] < "30"
        for seed in range(400)
    ]
    assert np.mean(drawn) == pytest.approx(0.75, abs=0.07)


def test_the_repeat_is_the_row_nearer_to_the_centre(files: Any):
    angles = np.array([0.0, 0.05, 1.0, 3.0, 3.0])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = files.quarter.semantic_repeats(vectors, np.array([0, 0, 0, 1, 1]))
    assert found == pytest.approx([np.cos(1.0), np.cos(0.05), -1, -1, 1])


def records_of(names: dict[str, float], seeds: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "arm": name,
            "seed": seed,
            "cpu_seconds": 25.0 if name.endswith("-epochs") else 100.0,
            "metrics": {
                metric: {"values": list(value + rng.normal(0, 0.01, 100))}
                for metric in ("retrieval", "naming")
            },
        }
        for name, value in names.items()
        for seed in range(1 if name.endswith("-other") else seeds)
    ]


def test_demands_are_answered_with_intervals(files: Any):
    values = {"all": 0.3, "random": 0.2, "quarter": 0.3, "clip-top": 0.35, "quarter-epochs": 0.1}
    names = values | {"all-other": 0.3, "random-other": 0.1, "quarter-other": 0.4}
    found = files.quarter.summary(records_of(names, 3), ["retrieval", "naming"])
    answers = found["differences"]["retrieval"]
    assert answers["quarter - random"]["verdict"] == "better"
    assert answers["quarter - all"]["verdict"] == "not distinguishable"
    low, high = answers["quarter - random"]["interval"]
    assert low < 10 < high and "quarter-other - all-other" in answers
    assert "quarter-other - all" not in answers
    assert found["seconds"]["quarter-epochs"] == 25


def test_questions_of_noise_name_arms_that_are_trained(files: Any, pack: Any):
    for noise in (0.0, 0.3):
        one = files._packs.Pack("x", 32, "transformers", pack.metrics, pack.validation, noise)
        names = {f"{cell.name}-{remedy}" for cell, remedy in files.more_noise.arms(one)}
        pairs = files.more_noise.questions(one)
        assert {name for pair in pairs for name in pair} <= names and len(set(pairs)) == len(pairs)
        found = files.more_noise.summary(one, records_of(dict.fromkeys(sorted(names), 0.2), 2))
        assert set(found) == {"retrieval", "naming"} and len(found["naming"]["arms"]) == len(names)


@pytest.mark.parametrize("architecture", ["transformers", "convolutions"])
def test_every_remedy_is_a_recipe(files: Any, architecture: str):
    for name, objectives in files.more_noise.REMEDIES.items():
        content = files._packs.recipe(architecture, samples=64, rate=1e-3, objectives=objectives)
        assert ("sigmoid" in validate_recipe(content).objectives) == (name == "sigmoid")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_of_both_benchmarks_on_a_few_pictures(
    files: Any, pack: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(
        files.quarter, "run_all", lambda runs, jobs: [files._runs.finish(one) for one in runs]
    )
    monkeypatch.setattr(files.more_noise, "run_all", files.quarter.run_all)
    benchmark = files.quarter.Benchmark(pack, jobs=1)
    records = files.quarter.run_all(benchmark.runs(benchmark.rates(), seeds=2), jobs=1)
    assert {one["pairs"] for one in records if not one["arm"].startswith("all")} == {9}
    found = files.quarter.summary(records, list(pack.metrics))
    files.quarter.show(pack, found)
    assert "quarter - random" in capsys.readouterr().out
    runs = [
        files.more_noise.make_run(pack, cell, remedy, 0, jobs=1)
        for cell, remedy in files.more_noise.arms(pack)
    ]
    answers = files.more_noise.summary(pack, files.more_noise.run_all(runs, jobs=1))
    files.more_noise.show(pack, answers)
