"""A from-scratch run that ends with a fit: it is fitted, resumes, loads, and names more."""

from pathlib import Path
from typing import Any

import pytest
import torch

import frugalclip
from frugalclip.compression.base import find_change
from frugalclip.core.errors import RecipeError
from frugalclip.core.preprocess import Preprocess
from frugalclip.core.records import RunDirectory
from frugalclip.sources.open import open_data
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.training.loop import train_run
from frugalclip.training.recipe import load_recipe

STAGES: list[dict[str, Any]] = [
    {"name": "contrast"},
    {"name": "fit", "steps": 1, "change": {"kind": "closing_fit", "dim": 24}},
]


def trained(recipe: str, out: Path, **options: Any) -> RunDirectory:
    run, loaded = RunDirectory(out), load_recipe(recipe)
    assert loaded.data.path is not None
    train_run(loaded, open_data(loaded.data.path), run, **options)
    return run


def test_the_run_ends_with_fitted_heads_on_the_tower_that_was_trained(recipe_file, tmp_path: Path):
    plain = frugalclip.load(trained(recipe_file(steps=11), tmp_path / "plain").path)
    fitted = frugalclip.load(trained(recipe_file(steps=12, stages=STAGES), tmp_path / "fitted").path)
    assert fitted.network.config.image.kind == "described"
    assert fitted.network.config.text.kind == "tfidf"
    for name, value in plain.network.image.state_dict().items():
        torch.testing.assert_close(fitted.network.image.tower.state_dict()[name], value, rtol=0, atol=0)
    images, texts = fitted.encode_image(torch.zeros(2, 3, 16, 16)), fitted.encode_text(["red beside blue"])
    assert images.shape == (2, 24) and texts.shape == (1, 24)


def test_the_fit_names_what_contrast_alone_does_not_yet(recipe_file, squares: Path, tmp_path: Path):
    rows = open_data(squares)
    captions = [one[0] for one in rows.captions()]
    names = sorted(set(captions))
    share = {}
    for name, stages in (("plain", []), ("fitted", STAGES)):
        model = frugalclip.load(trained(recipe_file(steps=12, stages=stages), tmp_path / name).path)
        found = (model.image_features(rows).features @ model.encode_text(names).T).argmax(dim=1)
        share[name] = sum(names[i] == own for i, own in zip(found.tolist(), captions, strict=True)) / len(
            rows
        )
    # counts of words do not tell "red beside blue" from "blue beside red": of 36 names, 15 pairs are alike
    assert share["fitted"] > 0.5 > 5 * share["plain"]


class Stop(Exception):
    """Ends a run in the middle."""


class StopAt:
    """A listener that ends the run when a step is recorded."""

    def __init__(self, step: int) -> None:
        self.step = step

    def started(self, run: Any) -> None: ...
    def note(self, text: str) -> None: ...

    def row(self, row: dict[str, Any]) -> None:
        if row["step"] == self.step:
            raise Stop


def test_a_run_that_was_ended_before_the_fit_comes_to_the_same_bytes(recipe_file, tmp_path: Path):
    recipe = recipe_file(steps=12, stages=STAGES, checkpoints={"every": 4})
    whole = trained(recipe, tmp_path / "whole")
    with pytest.raises(Stop):
        trained(recipe, tmp_path / "cut", listener=StopAt(10))
    cut = trained(recipe, tmp_path / "cut", resume=True)
    last, again = whole.last_checkpoint(), cut.last_checkpoint()
    assert last is not None and again is not None
    assert (last / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()


def test_a_network_that_is_fitted_already_is_refused(small_recipe: dict[str, Any]):
    config = ModelConfig.model_validate(small_recipe["model"])
    network = DualEncoder(config, vocabulary=600, context=8)
    change, preprocess = find_change("closing_fit"), Preprocess(size=16)
    close = change(change.Config(kind="closing_fit"))
    once = close(network, gates=None, preprocess=preprocess)
    with pytest.raises(RecipeError, match=r"closing_fit.*image\.tower.*'described'"):
        close(once, gates=None, preprocess=preprocess)
