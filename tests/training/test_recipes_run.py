"""Every recipe that this project runs takes two steps; the published ones are planned in test_recipe.py."""

from pathlib import Path

import pytest

from frugalclip.core.records import RunDirectory
from frugalclip.data.sources import open_data
from frugalclip.training.recipe import known_recipes, load_recipe
from frugalclip.training.trainer import train_run

SMALL = [name for name in known_recipes() if load_recipe(name).run_here]


@pytest.mark.parametrize("name", SMALL)
def test_two_steps(name: str, squares: Path, tmp_path: Path):
    own_data = [f"data={squares}", "data.where=null", "data.validation=none", "texts=null", "evaluation.label_field=null"]
    positives = ["objectives.contrastive.positives=caption"] if name == "demo" else []  # its own fields are the sample's
    recipe = load_recipe(name, [*own_data, *positives, "batch=8", "steps=2", "model.image.depth=1", "model.text.depth=1"])
    result = train_run(recipe, open_data(squares), RunDirectory(tmp_path))
    assert result.is_finished and [row["step"] for row in RunDirectory(tmp_path).rows()] == [1, 2]
