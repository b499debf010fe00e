"""A GPU computes what the processor computes; `make test-gpu` runs this on a machine that has one."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from frugalclip.core.devices import pick_device
from frugalclip.core.errors import RecipeError
from frugalclip.core.records import RunDirectory
from frugalclip.models import load
from frugalclip.sources.open import open_data
from frugalclip.training.loop import train_run
from frugalclip.training.planning import plan_recipe
from frugalclip.training.recipe import load_recipe
from frugalclip.verbs.embed import embed

from ..backbones.tiny_backbones import bert_source
from .sums import SUMS, full_step

# fixtures too
from .test_feature_cache import FITTED, backbones, cache, go, merged, pairs, recipe_of  # noqa: F401
from .test_recipes_run import PRETRAINED, SMALL, take_two_steps
from .test_sums import RECIPES, assert_equal, small, walk

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")]
LORA = {"model": {"text": {"lora": {"rank": 2, "alpha": 4, "targets": ["*.query", "*.value"]}}}}


@pytest.mark.parametrize("micro_batch", [None, 5])
@pytest.mark.parametrize("case", SUMS)
def test_gradients_and_state_are_those_of_the_processor(case: str, micro_batch: int | None):
    there = walk(full_step(SUMS[case]), micro_batch=micro_batch, device="cuda")
    assert_equal(walk(full_step(SUMS[case])), there, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("name", RECIPES)
def test_going_on_is_not_having_stopped_but_for_the_order_of_sums(name: str, squares: Path, tmp_path: Path):
    recipe, data, run = small(name, squares), open_data(squares), RunDirectory(tmp_path / "run")
    train_run(recipe, data, run)
    losses = [row["loss"] for row in run.rows()]
    moments = load_file(run.checkpoint(20) / "optimizer.safetensors")
    for step in (14, 20):
        shutil.rmtree(run.checkpoint(step))
    train_run(recipe, data, run, resume=True)
    assert [row["loss"] for row in run.rows()] == pytest.approx(losses, rel=2e-2)
    again = load_file(run.checkpoint(20) / "optimizer.safetensors")
    assert again.keys() == moments.keys() and all(
        again[key] == moments[key] for key in moments if key.endswith("/step")
    )


@pytest.mark.parametrize("name", [name for name in SMALL if name not in PRETRAINED])
def test_every_small_recipe_takes_two_steps(name: str, squares: Path, tmp_path: Path):
    take_two_steps(name, squares, tmp_path)
    model = load(tmp_path, device="cuda")
    assert (
        model.network.log_scale.device.type == "cuda"
        and torch.isfinite(model.encode_text(["red beside blue"])).all()
    )


@pytest.mark.parametrize("name", ["declip", "aclip-efficient", "protoclip"])
def test_a_plan_probes_it(name: str):
    probe = plan_recipe(load_recipe(name, ["batch=16"]), probe=True).probe
    assert probe is not None and probe["seconds_per_step"] > 0 and probe["peak_memory_gb"] > 0


@pytest.mark.parametrize("change", [{}, FITTED, LORA], ids=["heads", "fitted", "lora"])
def test_pretrained_backbones_learn_what_they_learn_on_the_processor(
    change: dict[str, Any],
    tmp_path: Path,
    backbones: tuple[str, str],  # noqa: F811  (the fixture)
):
    still = (
        backbones[0],
        bert_source(tmp_path / "bert", dropout=0.0),
    )  # dropout draws other numbers on each kind of device
    content = recipe_of(pairs(tmp_path / "data"), still, change)
    here = go(tmp_path / "here", merged(content, {"device": "cpu"}))
    there = go(tmp_path / "there", merged(content, {"device": "cuda"}))
    losses = [[row["loss"] for row in run.rows()] for run in (here, there)]
    assert losses[1] == pytest.approx(losses[0], rel=2e-2)
    texts = ["red above blue", "a white square"]
    on_cpu, on_gpu = load(there.path), load(there.path, device="cuda")
    torch.testing.assert_close(
        on_gpu.encode_text(texts).cpu(), on_cpu.encode_text(texts), atol=2e-3, rtol=1e-2
    )
    image = Image.open(tmp_path / "data" / "03.png")
    torch.testing.assert_close(
        on_gpu.encode_image(image).cpu(), on_cpu.encode_image(image), atol=2e-3, rtol=1e-2
    )


def test_a_model_embeds_and_is_judged_as_on_the_processor(squares: Path, tmp_path: Path):
    run = RunDirectory(tmp_path / "run")
    train_run(small("slip", squares), open_data(squares), run)
    rows = open_data(squares)
    on_cpu, on_gpu = (
        load(run.path, device=device).image_features(rows).features.cpu() for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(on_gpu, on_cpu, atol=2e-3, rtol=1e-2)
    embed(str(run.path), str(squares), out=tmp_path / "store")
    assert (tmp_path / "store" / "store.json").is_file()


def test_a_gpu_that_is_not_there_is_said_to_be_missing():
    many = torch.cuda.device_count()
    with pytest.raises(
        RecipeError,
        match=f"device is 'cuda:{many}', and there are {many}, counted from 0; start at most {many}",
    ):
        pick_device(f"cuda:{many}")
