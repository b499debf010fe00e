"""Two processes over gloo give the gradients of one, for every objective; and the run is the same."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch.nn.parallel import DistributedDataParallel

from frugalclip.core.records import RunDirectory
from frugalclip.core.types import Batch, Tokens
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.training.recipe import validate_recipe
from frugalclip.training.step import Step, build_objectives

CASES: dict[str, dict[str, Any]] = {
    "clip": {"contrastive": {}},
    "multi-positive": {"contrastive": {"positives": "caption"}},
    "align": {"contrastive": {"smoothing": 0.1, "reduction": "sum"}},
    "supervised": {"contrastive": {"positives": "caption", "same": "outside"}},
    "siglip": {"sigmoid": {"bias": -5, "positives": "caption"}},
    "sum": {"contrastive": {"positives": "caption", "weight": 0.3}, "sigmoid": {"weight": 0.7}},
}


def whole_batch() -> Batch:
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 90, (16, 8), generator=draw)
    lengths = torch.randint(2, 9, (16,), generator=draw)
    codes = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 8, 9, 10, 11, 12])
    images = torch.randn(16, 3, 16, 16, generator=draw, dtype=torch.float64)
    return Batch(torch.arange(16), {"main": images}, {"caption": Tokens(ids, lengths)}, fields={"caption": codes})


def part(batch: Batch, rows: slice) -> Batch:
    texts = {k: Tokens(v.ids[rows], v.lengths[rows]) for k, v in batch.texts.items()}
    return Batch(batch.rows[rows], {k: v[rows] for k, v in batch.images.items()}, texts, fields={k: v[rows] for k, v in batch.fields.items()})


def gradients(small: dict[str, Any], case: str, batch: Batch, *, wrapped: bool) -> dict[str, torch.Tensor]:
    recipe = validate_recipe(small | {"objectives": CASES[case]})
    network = DualEncoder(ModelConfig.model_validate(small["model"]), vocabulary=100, context=8)
    step = Step(network, build_objectives(recipe.objectives, network.dims(batch=16), seed=0)).double()
    module = DistributedDataParallel(step) if wrapped else step
    module(batch).loss.backward()
    return {name: p.grad for name, p in step.named_parameters() if p.grad is not None}


def process(rank: int, folder: str, small: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for case in CASES:
        found = gradients(small, case, part(whole_batch(), slice(8 * rank, 8 * rank + 8)), wrapped=True)
        if rank == 0:
            save_file(found, f"{folder}/{case}.safetensors")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory: pytest.TempPathFactory, small_recipe: dict[str, Any]) -> Path:
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(process, args=(str(folder), small_recipe), nprocs=2)  # pyright: ignore
    return folder


@pytest.mark.timeout(300)  # the first one waits for two processes that load torch
@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_gradients_of_one(case: str, of_two_processes: Path, small_recipe: dict[str, Any]):
    two, one = load_file(of_two_processes / f"{case}.safetensors"), gradients(small_recipe, case, whole_batch(), wrapped=False)
    assert two.keys() == one.keys() and len(one) > 20
    for name in one:
        # attention keys have no influence through their bias: both gradients are rounding there, so the floor is absolute
        torch.testing.assert_close(two[name], one[name], rtol=1e-5, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.timeout(300)
def test_a_run_of_two_processes_is_the_run_of_one(recipe_file: Callable[..., str], tmp_path: Path):
    recipe, env = recipe_file(), os.environ | {"OMP_NUM_THREADS": "1"}
    arguments = ["-m", "frugalclip", "train", recipe, "--out"]
    subprocess.run([sys.executable, *arguments, str(tmp_path / "one")], env=env, check=True, capture_output=True)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *arguments, str(tmp_path / "two")]
    subprocess.run(launch, env=env, check=True, capture_output=True)
    one, two = RunDirectory(tmp_path / "one"), RunDirectory(tmp_path / "two")
    losses = [[row["loss"] for row in run.rows()] for run in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4) and len(losses[0]) == 12
    first, second = (load_file(run.checkpoint(12) / "model.safetensors") for run in (one, two))
    worst = max(float((first[n] - second[n]).norm() / first[n].norm().clamp(min=1e-6)) for n in first if first[n].ndim > 1)
    assert worst < 1e-3, "float32 rounding, amplified by AdamW's division, is all that may differ"
