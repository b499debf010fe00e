"""Sinks: every service gets the numbers of every step, and a missing package is refused before the run."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from frugalclip.core.errors import MissingExtra, RecipeError
from frugalclip.core.records import RunDirectory
from frugalclip.sources.open import open_data
from frugalclip.training.loop import train_run
from frugalclip.training.recipe import load_recipe, validate_recipe
from frugalclip.training.sinks.base import numbers_of, sink_names


class FakeRun:
    """What `init` of a service returns."""

    def __init__(self, **options: Any) -> None:
        self.options, self.rows, self.is_finished = options, {}, False

    def log(self, values: dict[str, float], step: int) -> None:
        self.rows[step] = values

    def finish(self) -> None:
        self.is_finished = True


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch):
    """Installs a fake module of a service; gives its runs."""

    def install(name: str) -> list[FakeRun]:
        runs: list[FakeRun] = []
        module = ModuleType(name)
        module.init = lambda **options: runs.append(FakeRun(**options)) or runs[-1]  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
        return runs

    return install


def train(small_recipe: dict, squares: Path, out: Path, log: list[str], **more: Any) -> RunDirectory:
    content = small_recipe | {"log": log} | more
    train_run(validate_recipe(content), open_data(squares), RunDirectory(out))
    return RunDirectory(out)


def test_the_sinks_are_the_files():
    assert sink_names() == ["tensorboard", "trackio", "wandb"]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_service_gets_every_row(name, service, small_recipe, squares, tmp_path: Path):
    runs = service(name)
    run = train(small_recipe, squares, tmp_path / "my-run", [name])
    (found,) = runs
    assert found.is_finished
    assert (found.options["name"], found.options["project"]) == ("my-run", "frugalclip")
    assert found.options["config"]["batch"] == small_recipe["batch"]
    rows = list(run.rows())
    assert list(found.rows) == [row["step"] for row in rows]
    for row in rows:
        assert found.rows[row["step"]]["loss"] == row["loss"]
        for metric, value in row.get("evaluation", {}).items():
            assert found.rows[row["step"]][f"evaluation/{metric}"] == value


@pytest.mark.parametrize("name", ["WANDB", "TRACKIO"])
def test_the_project_may_be_named(name, service, small_recipe, squares, tmp_path: Path, monkeypatch):
    runs = service(name.lower())
    monkeypatch.setenv(f"{name}_PROJECT", "shop")
    train(small_recipe, squares, tmp_path / "run", [name.lower()])
    assert runs[0].options["project"] == "shop"


def test_tensorboard_reads_what_was_written(small_recipe, squares, tmp_path: Path):
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    run = train(small_recipe, squares, tmp_path / "run", ["tensorboard"])
    read = accumulator.EventAccumulator(str(run.path / "tensorboard"))
    read.Reload()
    losses = {event.step: event.value for event in read.Scalars("loss")}
    assert losses == {row["step"]: pytest.approx(row["loss"], rel=1e-6) for row in run.rows()}
    assert any(tag.startswith("evaluation/zeroshot/top1") for tag in read.Tags()["scalars"])


def test_a_missing_package_is_refused_before_anything_is_written(
    small_recipe, squares, tmp_path: Path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtra, match=r"log: \[wandb\] needs wandb.*frugalclip\[log\]"):
        train(small_recipe, squares, tmp_path / "run", ["wandb"])
    assert not (tmp_path / "run").exists()


def test_an_unknown_place_names_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'wandb'"):
        load_recipe("clip", ["log=[wandbb]"])


def test_numbers_are_numbers():
    row = {
        "step": 3,
        "loss": 1.5,
        "advice": ["x"],
        "ok": True,
        "evaluation": {"a/b": 2.0},
        "chance": {"a/b": 1},
    }
    assert numbers_of(row) == {"loss": 1.5, "evaluation/a/b": 2.0, "chance/a/b": 1.0}
