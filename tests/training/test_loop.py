"""The loop: resuming is exact, weight 0 is absence, own objectives are found, failures are explained."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from frugalclip.core.errors import DataError, RecipeError, TrainingError
from frugalclip.core.records import RunDirectory
from frugalclip.models import load
from frugalclip.sources.open import open_data
from frugalclip.training.loop import Silent, evaluation_points, train_run
from frugalclip.training.recipe import load_recipe
from frugalclip.training.run import Run, open_run
from frugalclip.verbs.train import train


def go(recipe: str, out: Path, *overrides: str, resume: bool = False, listener: Any = None) -> RunDirectory:
    run, loaded = RunDirectory(out), load_recipe(recipe, overrides)
    assert loaded.data.path is not None
    train_run(loaded, open_data(loaded.data.path), run, resume=resume, listener=listener)
    return run


def weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    last = run.last_checkpoint()
    assert last is not None
    return load_file(last / "model.safetensors") | {
        f"optimizer/{k}": v for k, v in load_file(last / "optimizer.safetensors").items()
    }


def rows(run: RunDirectory) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in run.rows()]


def assert_same_run(first: RunDirectory, second: RunDirectory) -> None:
    assert rows(first) == rows(second)
    one, two = weights(first), weights(second)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_learns_records_and_loads(recipe_file: Callable[..., str], tmp_path: Path):
    run = go(recipe_file(), tmp_path / "run", "steps=60", "optimizer.lr=0.01")
    recorded = rows(run)
    assert [row["step"] for row in recorded] == list(range(1, 61))
    assert recorded[-1]["loss"] < 0.6 * recorded[0]["loss"]
    assert [row["step"] for row in recorded if "evaluation" in row] == [20, 40, 60]
    assert recorded[-1]["evaluation"]["zeroshot/top1"] > 3 * 100 / 16
    model = load(tmp_path / "run")
    assert model.encode_text(["red beside blue", "blue"]).shape == (2, 16)
    assert model.fingerprint == json.loads((run.checkpoint(60) / "model.json").read_text())["fingerprint"]
    assert run.steps_saved() == [40, 60]


def test_the_same_recipe_gives_the_same_run(recipe_file: Callable[..., str], tmp_path: Path):
    assert_same_run(go(recipe_file(), tmp_path / "a"), go(recipe_file(), tmp_path / "b"))


class Killed(Silent):
    """Stops a run from outside, as an exception in the middle of a step's record would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def row(self, row: dict[str, Any]) -> None:
        if row["step"] == self.step:
            raise RuntimeError("killed")


@pytest.mark.parametrize("step", [2, 5, 11])
@pytest.mark.parametrize("name", ["contrastive", "sigmoid"])
def test_resuming_equals_not_having_stopped(
    recipe_file: Callable[..., str], tmp_path: Path, step: int, name: str
):
    recipe = recipe_file(objectives={name: {"positives": "caption"}})
    whole = go(recipe, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        go(recipe, tmp_path / "cut", listener=Killed(step))
    assert_same_run(whole, go(recipe, tmp_path / "cut", resume=True))


@pytest.mark.slow  # three processes that load torch; make test stops a run in its process
def test_kill_9_at_a_random_step_then_resume_equals_an_uninterrupted_run(
    recipe_file: Callable[..., str], tmp_path: Path
):
    recipe = recipe_file(steps=120, evaluation={"points": 24})
    command = [sys.executable, "-m", "frugalclip", "train", recipe, "--out", str(tmp_path / "cut")]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run, wanted = RunDirectory(tmp_path / "cut"), 8 + int.from_bytes(os.urandom(1), "little") % 60
    deadline = time.monotonic() + 60
    while sum(1 for _ in run.rows()) < wanted and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < sum(1 for _ in run.rows()) < 120, "the kill came while the run was under way"
    subprocess.run([*command, "--resume"], env=env, check=True, capture_output=True)
    whole = [sys.executable, "-m", "frugalclip", "train", recipe, "--out", str(tmp_path / "whole")]
    subprocess.run(whole, env=env, check=True, capture_output=True)
    assert_same_run(RunDirectory(tmp_path / "whole"), run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_stop_saves_and_says_how_to_go_on(
    number: signal.Signals, recipe_file: Callable[..., str], tmp_path: Path
):
    class Interrupting(Silent):
        notes: list[str] = []  # noqa: RUF012

        def row(self, row: dict[str, Any]) -> None:
            if row["step"] == 3:
                os.kill(os.getpid(), number)

        def note(self, text: str) -> None:
            self.notes.append(text)

    listener, recipe = Interrupting(), recipe_file()
    run = go(recipe, tmp_path / "cut", listener=listener)
    assert run.steps_saved()[-1] == 3 and any("--resume" in note for note in listener.notes)
    assert_same_run(go(recipe, tmp_path / "whole"), go(recipe, tmp_path / "cut", resume=True))


def test_a_closed_terminal_does_not_keep_a_run_from_saving(recipe_file: Callable[..., str], tmp_path: Path):
    class Closed(Silent):
        def row(self, row: dict[str, Any]) -> None:
            if row["step"] == 3:
                os.kill(os.getpid(), signal.SIGHUP)
                raise OSError(errno.EIO, "Input/output error")

        def note(self, text: str) -> None:
            if "--resume" in text:
                raise BrokenPipeError

    run = go(recipe_file(), tmp_path / "cut", listener=Closed())
    assert run.steps_saved()[-1] == 3


@pytest.mark.slow  # two processes that load torch and train 60 steps
def test_nothing_depends_on_the_order_of_sets(recipe_file: Callable[..., str], tmp_path: Path):
    objectives = {
        "contrastive": {"positives": "caption"},
        "sigmoid": {},
        "token_wise": {"out": 8},
        "simsiam": {"hidden": 16, "bottleneck": 8},
        "masked_text": {},
    }
    views = {"main": {"flip": 0.5}, "second": {"crop_scale": [0.5, 1]}}
    recipe = recipe_file(objectives=objectives, views=views, steps=60, optimizer={"lr": 1e-12})
    runs = [RunDirectory(tmp_path / seed) for seed in "12"]
    for seed, run in zip("12", runs, strict=True):
        subprocess.run(
            [sys.executable, "-m", "frugalclip", "train", recipe, "--out", str(run.path)],
            env=os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            check=True,
            capture_output=True,
        )
    texts = [re.sub(r'"(cpu_)?seconds": [\d.]+', "", run.metrics.read_text()) for run in runs]
    assert texts[0] == texts[1]
    assert len([row for row in runs[0].rows() if len(row.get("advice", [])) > 1]) > 0
    assert_same_run(*runs)


OWN = '''
"""Pull the mean of the image embeddings to zero."""

from frugalclip.objectives.base import Needs, Objective, ObjectiveConfig, ObjectiveOutput


class Config(ObjectiveConfig):
    power: int = 2


class Centre(Objective):
    Config = Config

    def needs(self):
        return Needs(images=frozenset({"main"}))

    def forward(self, views):
        return ObjectiveOutput(views.images["main"].embedding.mean(dim=0).abs().pow(self.config.power).sum())
'''


def test_an_objective_of_the_users_own_enters_by_a_dotted_path(
    recipe_file: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "centre.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    recipe = recipe_file()
    added = [
        "objectives.centre.kind=my_lab.centre",
        "objectives.centre.power=4",
        "objectives.centre.weight=0.5",
    ]
    run = go(recipe, tmp_path / "own", *added)
    assert all("centre/loss" in row for row in run.rows())
    assert rows(run)[-1]["loss"] != rows(go(recipe, tmp_path / "without"))[-1]["loss"]
    with pytest.raises(RecipeError, match="did you mean 'power'"):
        load_recipe(recipe, [*added, "objectives.centre.pwoer=4"])


@pytest.mark.parametrize("added", ["sigmoid", "my_lab.centre"])
def test_weight_0_is_absence(
    recipe_file: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, added: str
):
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "centre.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    recipe = recipe_file()
    with_it = go(recipe, tmp_path / "with", f"objectives.extra.kind={added}", "objectives.extra.weight=0")
    assert_same_run(go(recipe, tmp_path / "without"), with_it)


def test_heads_of_one_objective_do_not_move_the_start_of_the_towers(
    recipe_file: Callable[..., str], tmp_path: Path
):
    recipe = recipe_file()
    starts = []
    for overrides in ([], ["objectives.sigmoid.weight=1"]):
        loaded = load_recipe(recipe, overrides)
        assert loaded.data.path is not None
        starts.append(
            open_run(loaded, open_data(loaded.data.path), RunDirectory(tmp_path)).stage.network.state_dict()
        )
    assert all(torch.equal(starts[0][name], starts[1][name]) for name in starts[0])


def test_a_loss_that_is_not_finite_has_an_address(recipe_file: Callable[..., str], tmp_path: Path):
    class Poison(Silent):
        def started(self, run: Run) -> None:
            with torch.no_grad():
                block = run.stage.network.image.layers.blocks[0]  # pyright: ignore
                block.feed_forward.enter.bias.fill_(float("nan"))  # pyright: ignore

    with pytest.raises(TrainingError, match=r"layers\.blocks\.0\.feed_forward\.enter\.bias is not finite"):
        go(recipe_file(), tmp_path / "run", listener=Poison())


def test_a_bad_picture_value_names_module_and_samples(recipe_file: Callable[..., str], tmp_path: Path):
    class PoisonOne(Silent):
        def started(self, run: Run) -> None:
            original = run.inputs.loader.batches

            def batches(step: int):
                for batch in original(step):
                    batch.images["main"][3] = float("inf")
                    self.id = run.data.training.ids[int(batch.rows[3])]
                    yield batch

            run.inputs.loader.batches = batches  # pyright: ignore

    listener = PoisonOne()
    with pytest.raises(TrainingError) as error:
        go(recipe_file(), tmp_path / "run", listener=listener)
    assert "network.image.patch" in str(error.value) and f"on samples {listener.id};" in str(error.value)


def test_out_folders(recipe_file: Callable[..., str], tmp_path: Path):
    recipe, out = recipe_file(), tmp_path / "run"
    out.mkdir()
    assert train(recipe, out=out).is_finished, "an empty folder is fine"
    assert (out / "report.html").is_file() and json.loads((out / "metrics.json").read_text())["evaluations"][
        0
    ]["task"] == "zeroshot"
    with pytest.raises(RecipeError, match="already holds a run; add --resume"):
        train(recipe, out=out)
    with pytest.raises(RecipeError, match="begun with another 'batch'"):
        train(recipe, ["batch=8"], out=out, resume=True)
    assert train(recipe, out=out, resume=True).steps == 12, "a finished run is finished"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(RecipeError, match="is not empty and holds no run"):
        train(recipe, out=tmp_path / "other")


def test_changed_data_is_not_resumed(recipe_file: Callable[..., str], tmp_path: Path, squares: Path):
    go(recipe_file(), tmp_path / "run", "steps=3")
    with pytest.raises(DataError, match=r"the data of .* has changed"):
        go(
            recipe_file(data={"path": str(squares), "where": "split=train,id!=s001"}),
            tmp_path / "run",
            "steps=3",
            resume=True,
        )


def test_evaluation_points():
    assert evaluation_points(100, 4) == {25, 50, 75, 100}
    assert evaluation_points(3, 20) == evaluation_points(3, 10**12) == {1, 2, 3}
    assert len(evaluation_points(1000, 20)) == 20


def test_the_checkpoint_says_which_rows_were_trained_on_even_where_the_data_implied_it(
    recipe_file: Callable[..., str], tmp_path: Path, squares: Path
):
    go(recipe_file(), tmp_path / "implied", "steps=1")
    assert load(tmp_path / "implied").training_data == {
        "path": str(squares),
        "columns": {},
        "where": "split=train",
    }
    go(recipe_file(), tmp_path / "written", "steps=1", "data.where=split=train,id!=s001")
    assert load(tmp_path / "written").training_data["where"] == "split=train,id!=s001"
