"""Runs of several stages: what changes in between, what goes on, and that resuming in any stage is exact."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from frugalclip.core.errors import RecipeError
from frugalclip.core.records import RunDirectory
from frugalclip.models import load
from frugalclip.sources.open import open_data
from frugalclip.training.loop import Silent, train_run
from frugalclip.training.planning import plan_recipe
from frugalclip.training.recipe import load_recipe, validate_recipe

HALVE = '''
"""Halve the neurons of every feed-forward layer of the image tower: the first ones stay."""

import torch

from frugalclip.compression.base import ChangeConfig, NetworkChange
from frugalclip.towers.dual import DualEncoder


class Config(ChangeConfig):
    keep: float = 0.5


class Halve(NetworkChange):
    Config = Config

    def __call__(self, network, *, gates, preprocess):
        image = network.config.image
        neurons = tuple(int(self.config.keep * number) for number in image.neurons)
        config = network.config.model_copy(update={"image": image.model_copy(update={"neurons": neurons})})
        small = DualEncoder(config, vocabulary=network.vocabulary, context=network.context, seed=None)
        state = network.state_dict()
        for layer, number in enumerate(neurons):
            prefix = f"image.layers.blocks.{layer}.feed_forward"
            for name in ("enter.weight", "enter.bias"):
                state[f"{prefix}.{name}"] = state[f"{prefix}.{name}"][:number]
            state[f"{prefix}.leave.weight"] = state[f"{prefix}.leave.weight"][:, :number]
        small.load_state_dict(state)
        return small
'''
CHANGED = [
    {"name": "whole", "share": 0.5, "objectives": {"sigmoid": {"positives": "caption"}}},
    {"name": "half", "change": {"kind": "my_lab.halve"}, "optimizer": {"lr": 0.002}},
]


@pytest.fixture(autouse=True)
def my_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "halve.py").write_text(HALVE)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("my_lab", "my_lab.halve"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)


def go(recipe: str, out: Path, *, resume: bool = False, listener: Any = None) -> RunDirectory:
    run, loaded = RunDirectory(out), load_recipe(recipe)
    assert loaded.data.path is not None
    train_run(loaded, open_data(loaded.data.path), run, resume=resume, listener=listener)
    return run


def content(run: RunDirectory) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    last = run.last_checkpoint()
    assert last is not None
    rows = [{k: v for k, v in row.items() if "seconds" not in k} for row in run.rows()]
    return rows, {path.name: path.read_bytes() for path in last.glob("*.safetensors")}


class Killed(Silent):
    def __init__(self, step: int) -> None:
        self.step = step

    def row(self, row: dict[str, Any]) -> None:
        if row["step"] == self.step:
            raise RuntimeError("killed")


@pytest.mark.parametrize("step", [5, 6, 7, 11])  # before the end of the first stage, at it, after it
def test_going_on_in_any_stage_is_not_having_stopped(
    recipe_file: Callable[..., str], tmp_path: Path, step: int
):
    recipe = recipe_file(stages=CHANGED, checkpoints={"every": 2, "keep": 9})
    whole = go(recipe, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        go(recipe, tmp_path / "cut", listener=Killed(step))
    assert content(go(recipe, tmp_path / "cut", resume=True)) == content(whole)


def test_a_stage_changes_the_network_and_its_objectives_and_says_so(
    recipe_file: Callable[..., str], tmp_path: Path
):
    run = go(recipe_file(stages=CHANGED, checkpoints={"every": 3, "keep": 9}), tmp_path / "run")
    rows = list(run.rows())
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert [row["stage"] for row in rows] == [1] * 6 + [2] * 6
    assert [("sigmoid/loss" in row) for row in rows] == [True] * 6 + [False] * 6
    assert rows[5]["lr"] < rows[6]["lr"] == 0.002, "the schedule begins anew"
    sizes = []
    for step in (6, 9):
        model, state = (
            load(run.checkpoint(step)),
            json.loads((run.checkpoint(step) / "state.json").read_text()),
        )
        sizes.append((state["stage"], model.network.image.layers.blocks[0].feed_forward.enter.out_features))
    assert sizes == [(1, 128), (2, 64)]
    steps = load_file(run.checkpoint(9) / "optimizer.safetensors")
    assert {int(value) for name, value in steps.items() if name.endswith("/step")} == {3}, (
        "moments start fresh"
    )


def test_stages_that_change_nothing_are_one_run(recipe_file: Callable[..., str], tmp_path: Path):
    constant = {"kind": "constant", "warmup": 0}
    one = go(recipe_file(schedule=constant), tmp_path / "one")
    two = go(recipe_file(schedule=constant, stages=[{"share": 0.25}, {}]), tmp_path / "two")
    (first, weights), (second, same) = content(one), content(two)
    assert [row["loss"] for row in first] == [row["loss"] for row in second] and weights == same


def test_what_goes_on_keeps_its_heads_and_the_average_of_the_student(
    recipe_file: Callable[..., str], tmp_path: Path
):
    own = {
        "objectives": {
            "contrastive": {"positives": "caption"},
            "simsiam": {"weight": 0.1, "hidden": 16, "bottleneck": 8},
            "masked_distillation": {"weight": 0.1, "codes": 20, "hidden": 0.5},
        },
        "views": {"main": "none", "second": {"flip": 0.5}},
        "optimizer": {"lr": 0.003},
        "schedule": {"kind": "constant", "warmup": 0},
    }
    one = go(recipe_file(**own), tmp_path / "one")
    two = go(recipe_file(**own, stages=[{"steps": 5}, {}]), tmp_path / "two")
    assert (one.checkpoint(12) / "teachers.safetensors").stat().st_size > 1000
    assert content(one)[1].keys() == content(two)[1].keys()
    heads = [load_file(run.checkpoint(12) / "objectives.safetensors") for run in (one, two)]
    assert all(torch.allclose(heads[0][name], heads[1][name], atol=1e-2) for name in heads[0])
    moments = load_file(two.checkpoint(12) / "optimizer.safetensors")
    assert {int(value) for name, value in moments.items() if name.endswith("/step")} == {12}


def test_lengths(recipe_file: Callable[..., str]):
    def spans(*stages: dict[str, Any]) -> list[int]:
        return [len(span) for span in load_recipe(recipe_file(stages=list(stages))).stage_spans(12)]

    assert spans({"share": 0.25}, {}) == [3, 9]
    assert spans({"steps": 2}, {"share": 0.5}, {}) == [2, 6, 4]
    assert spans({}, {"steps": 1}) == [11, 1]
    assert spans({"share": 1 / 3}, {"share": 1 / 3}, {"share": 1 / 3}) == [4, 4, 4]
    for stages, message in (
        ([{"steps": 3}, {"steps": 4}], "the stages have 3, 4 steps, and the run has 12"),
        ([{"share": 0.01}, {}], "every stage needs one at least"),
    ):
        with pytest.raises(RecipeError, match=message):
            spans(*stages)
    for stages, message in (
        ([{}, {}], "2 stages have no length"),
        ([{"share": 0.5}, {"share": 0.4}], "add up to 0.9"),
        ([{"share": 0.5, "steps": 4}, {}], "share and steps are both given"),
        ([{"share": 0.5, "optimizer": {"lrr": 1}}, {}], r"stages\[0\]: optimizer\.lrr is not a setting"),
        (
            [{"share": 0.5, "objectives": {"contrastive": None}}, {}],
            r"stages\[0\]: no objective has a weight",
        ),
        ([{"share": 0.5, "change": {"kind": "prune_it"}}, {}], "change.prune_it is not a network change"),
        ([{"share": 0.5, "change": {"kind": "my_lab.halve", "kep": 1}}, {}], "did you mean 'keep'"),
    ):
        with pytest.raises(RecipeError, match=message):
            load_recipe(recipe_file(stages=stages))


def test_a_stage_that_cannot_be_built_is_refused_before_the_first_is_trained(
    recipe_file: Callable[..., str], tmp_path: Path
):
    later = {"objectives": {"simsiam": {"hidden": 16, "bottleneck": 8}}, "change": {"kind": "my_lab.halve"}}
    recipe = recipe_file(stages=[{"share": 0.5}, later])
    with pytest.raises(RecipeError, match=r"views\.second is read by an objective but not in the recipe"):
        go(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").is_file()


def test_the_resolved_recipe_replays_the_stages(recipe_file: Callable[..., str], tmp_path: Path):
    from frugalclip.core.yaml_text import parse_yaml

    recipe = load_recipe(recipe_file(stages=CHANGED))
    assert validate_recipe(parse_yaml(recipe.to_yaml(), where="recipe")) == recipe
    assert recipe.stage(0).objectives.keys() == {"contrastive", "sigmoid"} and not recipe.stage(0).stages
    assert recipe.stage(1).optimizer.lr == 0.002 and recipe.optimizer.lr == 0.003


def test_a_plan_counts_the_stages_as_training_does(recipe_file: Callable[..., str], tmp_path: Path):
    recipe = load_recipe(recipe_file(stages=CHANGED))
    planned = plan_recipe(recipe)
    assert {one.stage for one in planned.passes} == {"whole", "half"}
    whole, half = (
        next(one.gflops for one in planned.passes if (one.stage, one.tower) == (stage, "image"))
        for stage in ("whole", "half")
    )
    assert half < whole
    assert recipe.data.path is not None
    result = train_run(recipe, open_data(recipe.data.path), RunDirectory(tmp_path / "run"))
    words = result.model.network.text.lookup.weight.numel()  # a plan takes the most words that there can be
    apart = planned.parameters["heads of objectives"] + planned.parameters["token embedding"]
    assert planned.parameters["all"] - apart == result.parameters - words
    assert plan_recipe(recipe, probe=True).probe is not None


def test_the_two_halves_of_two_stage_train_different_objectives(squares: Path, tmp_path: Path):
    from .test_sums import small

    run = RunDirectory(tmp_path / "run")
    train_run(small("two-stage", squares), open_data(squares), run)
    first, second = list(run.rows())[:10], list(run.rows())[10:]
    assert all("simsiam/loss" in row and "contrastive/loss" not in row for row in first)
    assert all("simsiam/loss" not in row and "contrastive/loss" in row for row in second)
    shutil.rmtree(run.checkpoint(20))
    before = [row["loss"] for row in run.rows()]
    train_run(small("two-stage", squares), open_data(squares), run, resume=True)
    assert [row["loss"] for row in run.rows()] == before
