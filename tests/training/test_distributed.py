"""Two processes over gloo give the gradients of one, for every objective; and the run is the same."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file

from frugalclip.core.locks import writing
from frugalclip.core.records import RunDirectory
from frugalclip.core.types import Batch, Tokens
from frugalclip.core.yaml_text import dump_yaml
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.training.engine import build_engine
from frugalclip.training.recipe import validate_recipe
from frugalclip.training.step import Step, build_objectives

from ..two_processes import one_of_two
from .sums import shortest

CASES: dict[str, dict[str, Any]] = {
    "clip": {"contrastive": {}},
    "multi-positive": {"contrastive": {"positives": "caption"}},
    "align": {"contrastive": {"smoothing": 0.1, "reduction": "sum"}},
    "supervised": {"contrastive": {"positives": "caption", "same": "outside"}},
    "siglip": {"sigmoid": {"bias": -5, "positives": "caption"}},
    "sum": {"contrastive": {"positives": "caption", "weight": 0.3}, "sigmoid": {"weight": 0.7}},
}


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def whole_batch() -> Batch:
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 90, (16, 8), generator=draw)
    lengths = torch.randint(2, 9, (16,), generator=draw)
    codes = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 8, 9, 10, 11, 12])
    images = torch.randn(16, 3, 16, 16, generator=draw, dtype=torch.float64)
    return Batch(
        torch.arange(16), {"main": images}, {"caption": Tokens(ids, lengths)}, fields={"caption": codes}
    )


def part(batch: Batch, rows: slice) -> Batch:
    texts = {k: shortest(Tokens(v.ids[rows], v.lengths[rows])) for k, v in batch.texts.items()}
    return Batch(
        batch.rows[rows],
        {k: v[rows] for k, v in batch.images.items()},
        texts,
        fields={k: v[rows] for k, v in batch.fields.items()},
    )


def gradients(small: dict[str, Any], case: str, batch: Batch) -> dict[str, torch.Tensor]:
    recipe = validate_recipe(small | {"objectives": CASES[case]})
    network = DualEncoder(ModelConfig.model_validate(small["model"]), vocabulary=100, context=8)
    step = Step(network, build_objectives(recipe.objectives, network.dims(batch=16), seed=0)).double()
    engine = build_engine(step, batch=16, micro_batch=None)
    engine.backward(engine(batch).loss)
    return {name: p.grad for name, p in step.named_parameters() if p.grad is not None}


def process(rank: int, folder: str, small: dict[str, Any]) -> None:
    with one_of_two(rank, f"{folder}/meet"):
        for case in CASES:
            found = gradients(small, case, part(whole_batch(), slice(8 * rank, 8 * rank + 8)))
            if rank == 0:
                save_file(found, f"{folder}/{case}.safetensors")


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory: pytest.TempPathFactory, small_recipe: dict[str, Any]) -> Path:
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(process, args=(str(folder), small_recipe), nprocs=2)  # pyright: ignore
    return folder


@pytest.mark.timeout(300)  # the first one waits for two processes that load torch
@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_gradients_of_one(
    case: str, of_two_processes: Path, small_recipe: dict[str, Any]
):
    two, one = (
        load_file(of_two_processes / f"{case}.safetensors"),
        gradients(small_recipe, case, whole_batch()),
    )
    assert two.keys() == one.keys() and len(one) > 20
    for name in one:
        # biases of attention keys have no influence: both gradients are rounding errors there
        torch.testing.assert_close(
            two[name], one[name], rtol=1e-5, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}"
        )


def launch(processes: int, recipe: str, out: Path, *more: str) -> list[str]:
    start = (
        ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        if processes > 1
        else []
    )
    return [sys.executable, *start, "-m", "frugalclip", "train", recipe, *more, "--out", str(out)]


def finished(processes: int, recipe: str, out: Path, *more: str) -> RunDirectory:
    done = subprocess.run(
        launch(processes, recipe, out, *more), env=ENVIRONMENT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    out.with_suffix(".printed").write_text(done.stdout + done.stderr)
    return RunDirectory(out)


def difference(one: RunDirectory, other: RunDirectory, step: int) -> float:
    """The largest relative difference of any weight tensor."""
    first, second = (load_file(run.checkpoint(step) / "model.safetensors") for run in (one, other))
    return max(
        float(
            (first[name].double() - second[name].double()).norm()
            / first[name].double().norm().clamp(min=1e-9)
        )
        for name in first
    )


def monitors_of(row: dict[str, Any]) -> dict[str, float]:
    """Spread and gap of the whole batch, at evaluation points."""
    return {name: row[name] for name in ("image_similarity", "text_similarity", "gap") if name in row}


class Runs(dict[int, RunDirectory]):
    """The same run on as many processes as are looked up, on four with a gradient cache besides."""

    def __init__(self, recipe: Path) -> None:
        super().__init__()
        self.recipe = recipe

    def __missing__(self, processes: int) -> RunDirectory:
        more = ["micro_batch=3"] if processes == 4 else []
        out = self.recipe.parent / str(processes)
        self[processes] = finished(processes, str(self.recipe), out, *more)
        return self[processes]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, small_recipe: dict[str, Any], squares: Path) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    recipe = folder / "small.yaml"
    checkpoints = {"every": 10, "keep": 2}
    recipe.write_text(
        dump_yaml(small_recipe | {"data": {"path": str(squares)}, "steps": 20, "checkpoints": checkpoints})
    )
    return Runs(recipe)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_run_of_several_processes_is_the_run_of_one(processes: int, runs: Runs):
    one, several = list(runs[1].rows()), list(runs[processes].rows())
    assert len(one) == 20 and [row["loss"] for row in several] == pytest.approx(
        [row["loss"] for row in one], rel=1e-4
    )
    assert difference(runs[1], runs[processes], 20) < 1e-5
    assert [monitors_of(row) for row in several] == [pytest.approx(monitors_of(row), abs=1e-4) for row in one]
    watched = [[row["evaluation"] for row in rows if "evaluation" in row] for rows in (one, several)]
    assert len(watched[0]) == 3 and watched[1] == watched[0], (
        "each process encodes its share of the rows that watch"
    )


@pytest.mark.timeout(400)
def test_one_process_prints(runs: Runs):
    one, two = (
        runs[n].path.with_suffix(".printed").read_text().replace(str(runs[n].path), "RUN") for n in (1, 2)
    )

    def without_numbers(text: str) -> list[str]:
        return [re.sub(r"\d[\d.]*", "#", line) for line in text.split()]

    assert without_numbers(two) == without_numbers(one)


@pytest.mark.timeout(400)
def test_a_sentence_of_all_processes_is_printed_once_and_a_folder_in_use_is_refused(
    recipe_file: Callable[..., str], tmp_path: Path
):
    with writing(tmp_path / "used"):
        for settings, sentence in (
            (["batch=17"], "RecipeError: batch 17 is not a multiple of the 2 processes"),
            ([], f"InUseError: {tmp_path / 'used'} is in use"),
        ):
            out = tmp_path / ("used" if not settings else "free")
            done = subprocess.run(
                launch(2, recipe_file(), out, *settings),
                env=ENVIRONMENT,
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
            assert done.returncode != 0
            assert done.stderr.count(sentence) == 1, done.stderr


@pytest.mark.slow  # four processes that load torch
@pytest.mark.timeout(400)
def test_a_checkpoint_of_four_processes_goes_on_with_one(runs: Runs, tmp_path: Path):
    shutil.copytree(runs[4].path, tmp_path / "run")
    moved = RunDirectory(tmp_path / "run")
    shutil.rmtree(moved.checkpoint(20))
    resumed = finished(1, str(moved.recipe), moved.path, "--resume")
    assert difference(runs[1], resumed, 20) < 1e-5
    assert [row["step"] for row in resumed.rows()] == list(range(1, 21))


@pytest.mark.timeout(400)
def test_a_dying_process_ends_the_job_with_a_sentence(recipe_file: Callable[..., str], tmp_path: Path):
    recipe = recipe_file(steps=100_000, evaluation={"points": 2}, checkpoints={"every": 5})
    job = subprocess.Popen(
        launch(2, recipe, tmp_path / "run"),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        until = time.monotonic() + 200
        while RunDirectory(tmp_path / "run").last_checkpoint() is None:
            assert time.monotonic() < until and job.poll() is None
            time.sleep(0.2)
        os.kill(worker_of(job.pid, rank=1), signal.SIGKILL)
        output, _ = job.communicate(timeout=90)
    finally:
        job.kill()
    assert job.returncode != 0
    assert "TrainingError: process 0 of 2 lost another one in step" in output and "with --resume" in output, (
        output
    )


def worker_of(launcher: int, *, rank: int) -> int:
    """The process of a rank among the children of a launcher."""
    for folder in Path("/proc").iterdir():
        is_child = folder.name.isdigit() and f"PPid:\t{launcher}\n" in (folder / "status").read_text()
        if is_child and f"RANK={rank}".encode() in (folder / "environ").read_bytes().split(b"\0"):
            return int(folder.name)
    raise AssertionError("no such rank")
