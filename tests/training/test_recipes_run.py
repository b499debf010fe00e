"""Every recipe that this project runs takes two steps; the published ones are planned in test_recipe.py."""

from pathlib import Path

import pytest

from frugalclip.core.records import RunDirectory
from frugalclip.sources.open import open_data
from frugalclip.training.loop import train_run
from frugalclip.training.recipe import known_recipes, load_recipe

SMALL = [name for name in known_recipes() if load_recipe(name).run_here]
BORROWED = [
    name
    for name in SMALL
    if "pretrained" in (load_recipe(name).model.image.kind, load_recipe(name).model.text.kind)
]


@pytest.mark.parametrize("name", [name for name in SMALL if name not in BORROWED])
def test_two_steps(name: str, squares: Path, tmp_path: Path):
    take_two_steps(name, squares, tmp_path)


@pytest.mark.slow  # needs the pretrained parts of `make frozen`
@pytest.mark.parametrize("name", BORROWED)
def test_two_steps_on_packaged_trunks(name: str, squares: Path, tmp_path: Path):
    take_two_steps(name, squares, tmp_path)


def take_two_steps(name: str, squares: Path, tmp_path: Path) -> None:
    shipped = load_recipe(name)
    own = [
        f"data={squares}",
        "data.where=",
        "data.validation=none",
        "evaluation.label_field=",
        "batch=8",
        "steps=2",
    ]
    own += [
        f"objectives.{key}.positives=caption"
        for key, one in shipped.objectives.items()
        if getattr(one, "positives", ())
    ]
    own += [
        f"model.{tower}.depth=1"
        for tower in ("image", "text")
        if getattr(getattr(shipped.model, tower), "depth", 0) > 1
    ]
    recipe = load_recipe(name, own)
    result = train_run(recipe, open_data(squares), RunDirectory(tmp_path))
    assert result.is_finished and [row["step"] for row in RunDirectory(tmp_path).rows()] == [1, 2]
