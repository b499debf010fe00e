"""Speeds of this machine: what was measured is found again, for equal work and for nothing else."""

from pathlib import Path

import pytest
import torch

from frugalclip.core.devices import pick_device
from frugalclip.training.planning import plan_recipe
from frugalclip.training.recipe import load_recipe
from frugalclip.training.speeds import (
    LEAST_STEPS,
    RUN,
    Speed,
    known_speed,
    remember_run,
    remember_speed,
    step_key,
)

CPU = torch.device("cpu")
SMALL = ["batch=4", "threads=1", "device=cpu"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRUGALCLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_data_seed_and_length_do_not_matter_and_work_does():
    key = step_key(load_recipe("clip-small", SMALL), CPU)
    for same in ("data=elsewhere", "seed=3", "epochs=2", "optimizer.lr=0.5", "evaluation.points=2"):
        assert step_key(load_recipe("clip-small", [*SMALL, same]), CPU) == key, same
    for other in ("batch=8", "model.image.resolution=64", "precision=bf16", "threads=2"):
        assert step_key(load_recipe("clip-small", [*SMALL, other]), CPU) != key, other


def test_a_run_is_remembered_where_it_was_long_enough():
    recipe = load_recipe("clip-small", SMALL)
    remember_run(recipe, CPU, seconds=1.0, steps=LEAST_STEPS - 1)
    assert known_speed(step_key(recipe, CPU)) is None
    remember_run(recipe, CPU, seconds=30.0, steps=60)
    assert known_speed(step_key(recipe, CPU)) == Speed(0.5, RUN)


@pytest.mark.parametrize("content", ["", "[]", '{"seconds": "1"}', '{"seconds": -1.0, "origin": "x"}', "{"])
def test_a_damaged_record_is_no_record(cache: Path, content: str):
    remember_speed("step-x", Speed(1.0, RUN))
    next(cache.rglob("*.json")).write_text(content)
    assert known_speed("step-x") is None


def test_a_folder_that_cannot_be_written_costs_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FRUGALCLIP_CACHE", str(tmp_path / "file"))
    remember_speed("step-x", Speed(1.0, RUN))
    assert known_speed("step-x") is None


def test_a_plan_names_the_time_of_an_earlier_run():
    recipe = load_recipe("clip-small", [*SMALL, "steps=120"])
    assert plan_recipe(recipe).seconds is None
    remember_run(recipe, pick_device("cpu"), seconds=30.0, steps=60)
    assert plan_recipe(recipe).seconds == 60.0


def test_a_probe_is_remembered_and_shown_first(capsys: pytest.CaptureFixture[str]):
    from frugalclip.cli import main

    words = ["plan", "clip-small", *SMALL, "steps=100"]
    assert main([*words, "--probe"]) == 0
    assert main(words) == 0
    printed = capsys.readouterr().out.split("clip-small:")
    for text in printed[1:]:
        table = " ".join(text.split(" a run ", 1)[1].split())
        assert table.index("time on this machine") < table.index("steps")
        assert "a probe" in table
        assert "GPU hours" not in table
        assert "EFLOP" not in table
    assert main(["plan", "clip-small", "steps=7", "batch=32"]) == 0
    assert "unknown; --probe measures it" in capsys.readouterr().out


def test_backbones_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch):
    from frugalclip.backbones import packages

    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    planned = plan_recipe(load_recipe("lit", ["device=cpu"]), probe=True)
    assert planned.seconds is None
    assert any("the image backbone is not probed: package:efficientnet" in note for note in planned.notes)
