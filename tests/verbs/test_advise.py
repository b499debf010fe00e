"""Advice before training, and what running it leaves."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import frugalclip
from frugalclip.advising import routes
from frugalclip.advising.routes import ROUTES, Candidate, Route
from frugalclip.cli import main
from frugalclip.core.errors import DataError, TrainingError, UsageError
from frugalclip.models import load
from frugalclip.training.recipe import load_recipe
from frugalclip.verbs import advise as verb

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 220), "black": (5, 5, 5)}
TINY = [Route("clip-small", "from scratch", "clip-small", (128, 512), has_fit=True)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """128 pictures of two colours, captioned by them; a quarter validates."""
    folder = tmp_path_factory.mktemp("advise") / "data"
    folder.mkdir()
    draws = np.random.default_rng(0)
    names = list(COLOURS)
    for i in range(128):
        left, right = names[i % 4], names[(i // 4) % 4]
        pixels = np.zeros((16, 16, 3), np.uint8)
        pixels[:, :8], pixels[:, 8:] = COLOURS[left], COLOURS[right]
        pixels[draws.integers(0, 16), draws.integers(0, 16)] = draws.integers(0, 255, 3)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"{left} and {right} {i % 7}")
        (folder / f"{i}.json").write_text(json.dumps({"split": "val" if i % 4 == i // 32 else "train"}))
    return str(folder)


@pytest.fixture
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """One short route, and a step whose time is known."""
    monkeypatch.setattr(routes, "ROUTES", tuple(TINY))
    monkeypatch.setattr(verb, "probed_step", lambda: 0.05)


def test_advice_is_a_ranking_with_time_memory_and_reason(data: str, tmp_path: Path):
    found = frugalclip.advise(data, hours=1, out=tmp_path / "advice")
    assert found == json.loads((tmp_path / "advice" / "advice.json").read_text())
    assert found["chosen"] is None and not found["trials"] and found["profile"]["pairs"] == 96
    assert {one["route"] for one in found["ranking"]} >= {"clip-small", "frugal"}
    for one in found["options"]:
        assert one["seconds"] > 0 and one["memory_gb"] > 0 and one["reason"]
        low, high = one["interval"]
        assert 0 < low < one["value"] < high < 100
    assert found["ranking"][0]["value"] == max(one["value"] for one in found["ranking"] if one["fits"])
    page = (tmp_path / "advice" / "report.html").read_text()
    assert all(one["reason"].split(";")[0] in page for one in found["ranking"])


@pytest.mark.usefixtures("_tiny")
def test_running_it_ends_with_a_model_within_the_time(data: str, tmp_path: Path):
    out = tmp_path / "tried"
    found = frugalclip.advise(data, hours=0.05, out=out, run=True)
    assert found["trials"][0]["name"] == "clip-small-128"
    best = max(found["trials"], key=lambda one: one["value"])
    assert found["chosen"] == best and sum(one["seconds"] for one in found["trials"]) < 180
    assert load(best["run"]).encode_text("red").shape[0] == 1
    assert best["name"] in (out / "report.html").read_text()
    again = frugalclip.advise(data, hours=0.05, out=out, run=True)  # nothing is trained twice
    assert [one["value"] for one in again["trials"]] == [one["value"] for one in found["trials"]]
    assert sum(one["seconds"] for one in again["trials"]) < 1
    given = frugalclip.advise(data, hours=0.05, out=tmp_path / "given", model=best["run"])
    rows = {one["name"]: one for one in given["ranking"]}
    assert rows["zero-shot"]["value"] == pytest.approx(best["value"])  # measured as the run measured itself
    low, high = rows["zero-shot"]["interval"]
    assert low < best["value"] < high
    assert "its weights are fixed" in rows["zero-shot"]["reason"] and "finetune" not in rows  # fitted heads
    assert [one["name"] for one in given["trials"]] == ["zero-shot"] and given["chosen"] is None


@pytest.mark.slow
def test_a_model_that_cannot_be_trained_is_measured_only(data: str, tmp_path: Path):
    run = tmp_path / "run"
    frugalclip.train("clip-small", data=data, samples=64, epochs=None, out=run)
    exported = tmp_path / "onnx"
    frugalclip.export(run, to="onnx", out=exported, data=data)
    found = frugalclip.advise(data, hours=1, out=tmp_path / "advice", model=f"onnx:{exported}")
    names = [one["name"] for one in found["ranking"]]
    assert "zero-shot" in names and "finetune" not in names


@pytest.mark.usefixtures("_tiny")
def test_too_little_time_is_a_sentence_and_the_advice_stays(data: str, tmp_path: Path):
    with pytest.raises(
        TrainingError, match=r"no route ends within .*; the shortest takes .*; give more --hours"
    ):
        frugalclip.advise(data, hours=1e-4, out=tmp_path / "short", run=True)
    assert json.loads((tmp_path / "short" / "advice.json").read_text())["ranking"]


def test_bad_input_is_a_sentence(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for hours in (0, -1, float("nan"), 1e9):
        with pytest.raises(UsageError, match="expected more than 0 and at most 10,000"):
            frugalclip.advise(data, hours=hours, out=tmp_path / "out")
    few = tmp_path / "few"
    few.mkdir()
    Image.new("RGB", (8, 8)).save(few / "a.png")
    (few / "a.txt").write_text("black")
    with pytest.raises(DataError, match="leaves 1 rows to train on and none to measure on"):
        frugalclip.advise(few, hours=1, out=tmp_path / "out")
    assert main(["advise", "no such data", "--hours", "1", "--out", str(tmp_path / "out")]) == 2
    assert "no such data" in capsys.readouterr().err


def test_every_route_has_a_recipe_and_another_name_for_each_length():
    for route in ROUTES:
        load_recipe(route.recipe, route.words(1_024, "sample"))
    names = [Candidate(route, length).name for route in ROUTES for length in route.lengths or (None,)]
    assert len(names) == len(set(names))


@pytest.mark.slow
@pytest.mark.usefixtures("_tiny")
def test_a_model_is_trained_further_twice_and_mixed(data: str, tmp_path: Path):
    start = tmp_path / "start"
    frugalclip.train("clip-small", data=data, samples=64, epochs=None, out=start)
    out = tmp_path / "advice"
    found = frugalclip.advise(data, hours=0.2, out=out, run=True, model=start)
    names = [one["name"] for one in found["trials"]]
    assert names[0] == "zero-shot" and "finetune" in names
    row = next(one for one in found["ranking"] if one["name"] == "finetune")
    assert f"init_from={start}" in row["command"] and row["seconds"] > 0
    values = {one["name"]: one["value"] for one in found["trials"]}
    assert found["chosen"]["value"] == max(values.values())
    if found["chosen"]["name"] not in ("zero-shot", "clip-small-128", "clip-small-512"):
        assert "finetune-seed-1" in names
        assert "soup" in names or "batch normalisation" in (out / "runs").read_text()
