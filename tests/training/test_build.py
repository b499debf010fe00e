"""A run that starts from a model: what it takes from the model, and that it resumes without it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from frugalclip.core.errors import ModelError, RecipeError, UsageError
from frugalclip.core.records import RunDirectory
from frugalclip.core.yaml_text import read_yaml
from frugalclip.models import load
from frugalclip.sources.open import open_data
from frugalclip.training.planning import plan_recipe
from frugalclip.training.recipe import load_recipe
from frugalclip.training.run import Run, open_run
from frugalclip.verbs.train import train

from ..backbones.tiny_backbones import vision_source


@pytest.fixture
def first(recipe_file: Callable[..., str], tmp_path: Path) -> Path:
    """A short run whose towers, dimension, picture statistics and vocabulary no recipe names by default."""
    settings = ["model.dim=24", "model.image.depth=2", "preprocess.mean=[0.4,0.5,0.6]", "model.scale=5"]
    train(recipe_file(), settings, out=tmp_path / "first")
    return tmp_path / "first"


def built(recipe: str, out: Path, *overrides: str) -> Run:
    loaded = load_recipe(recipe, overrides)
    assert loaded.data.path is not None
    return open_run(loaded, open_data(loaded.data.path), RunDirectory(out))


def test_a_run_begins_with_the_weights_sizes_words_and_pictures_of_the_model(recipe_file, first, tmp_path):
    begun = built(
        recipe_file(),
        tmp_path / "second",
        f"init_from={first}",
        "tokenizer.vocabulary=700",
        "model.scale_max=50",
    )
    model = load(first)
    assert begun.model.fingerprint != built(recipe_file(), tmp_path / "third").model.fingerprint
    assert all(
        torch.equal(one, two)
        for one, two in zip(
            begun.stage.network.state_dict().values(), model.network.state_dict().values(), strict=True
        )
    )
    assert begun.model.tokenizer.fingerprint() == model.tokenizer.fingerprint()
    assert begun.recipe.preprocess.mean == (0.4, 0.5, 0.6)
    assert begun.recipe.model.image.depth == 2  # type: ignore[union-attr]
    assert (
        begun.recipe.model.scale_max == begun.stage.network.config.scale_max == 50
    )  # how to train the scale is the recipe's
    assert all(parameter.requires_grad for parameter in begun.stage.network.parameters())
    assert plan_recipe(load_recipe(recipe_file(), [f"init_from={first}"])).parameters["all"] == sum(
        p.numel() for p in model.network.parameters()
    )


def test_it_resumes_bit_for_bit_when_the_model_is_gone(recipe_file, first, tmp_path):
    settings = [f"init_from={first}", "steps=8", "evaluation.points=2"]
    train(recipe_file(), settings, out=tmp_path / "whole")
    train(recipe_file(), settings, out=tmp_path / "cut")
    run = RunDirectory(tmp_path / "cut")
    shutil.rmtree(run.checkpoint(8))
    shutil.rmtree(first)
    train(recipe_file(), settings, out=tmp_path / "cut", resume=True)
    one, two = (
        load_file(RunDirectory(tmp_path / name).checkpoint(8) / "model.safetensors")
        for name in ("whole", "cut")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    with pytest.raises(RecipeError, match="was begun with another 'batch'"):
        train(recipe_file(), [*settings, "batch=8"], out=tmp_path / "cut", resume=True)
    with pytest.raises(ModelError, match=r"init_from: there is no model at .*first"):
        train(recipe_file(), settings, out=tmp_path / "new")


def test_an_encoder_of_images_alone_is_a_backbone_and_not_a_start(recipe_file, tmp_path):
    source = vision_source(tmp_path / "dino")
    with pytest.raises(
        ModelError,
        match=r"init_from: hf:.* encodes images only; set model\.image\.kind=pretrained model\.image",
    ):
        train(recipe_file(), [f"init_from={source}"], out=tmp_path / "run")
    with pytest.raises(
        RecipeError,
        match=r"model\.text\.kind none is for models that read no texts, and a recipe trains two towers",
    ):
        load_recipe(recipe_file(model={"text": {"kind": "none"}}))


def test_keywords_are_settings_and_the_folder_has_a_name(
    recipe_file, squares, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    settings = {"data": {"path": squares, "validation": "none"}, "steps": 2, "optimizer__lr": 0.01}
    first, second = (train(recipe_file(), **settings, epochs=None) for _ in range(2))
    assert (first.run, second.run) == (Path("runs/small"), Path("runs/small-2")) and first.steps == 2
    recorded = read_yaml(first.run / "recipe.yaml")
    assert recorded["optimizer"]["lr"] == 0.01 and recorded["data"]["validation"] == "none"
    with pytest.raises(RecipeError, match="optimiser is not a setting; did you mean 'optimizer'"):
        train(recipe_file(), optimiser__lr=1, out=tmp_path / "run")
    with pytest.raises(UsageError, match="resume goes on with the run in out, and out is not given"):
        train(recipe_file(), resume=True)
