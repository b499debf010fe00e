"""`frugalclip recipes`: the list agrees with the recipes; every setting has value, unit and source."""

import pytest

import frugalclip
from frugalclip.cli import main
from frugalclip.core.errors import RecipeError
from frugalclip.training.planning import plan_recipe
from frugalclip.training.recipe import known_recipes, load_recipe
from frugalclip.verbs.recipes import recipe_reference, recipes, show, show_reference

STALE = "run benchmarks/recipes_page.py, which writes src/frugalclip/recipes/reference.json"


def test_every_recipe_is_listed_with_its_own_words():
    entries = {entry.name: entry for entry in frugalclip.recipes()}
    assert sorted(entries) == known_recipes(), STALE
    for name, entry in entries.items():
        recipe = load_recipe(name)
        assert entry.purpose == recipe.description, STALE
        assert (entry.status == "not run here") == (not recipe.run_here), STALE
        assert entry.status in ("proven", "experimental", "not run here")


@pytest.mark.parametrize("name", ["clip", "declip", "frugal", "aclip"])
def test_the_cost_is_that_of_the_plan(name: str):
    cost = {entry.name: entry.cost for entry in recipes()}[name]
    plan = plan_recipe(load_recipe(name))
    assert cost.parameters == plan.parameters["all"], STALE
    assert cost.gflops_per_sample == pytest.approx(plan.gflops_per_sample, abs=1e-4), STALE
    assert cost.image_passes == sum(one.tower == "image" and one.has_gradient for one in plan.passes), STALE


def test_a_setting_says_which_file_sets_it():
    found = {one.value.setting.name: one for one in recipe_reference("frugal", ["batch=64"]).settings}
    assert found["optimizer.lr"].origin == "frugal"
    assert found["optimizer.lr"].value.value == "0.003"
    assert found["optimizer.weight_decay"].origin in ("clip-small", "default")
    assert found["batch"].origin == "command line"
    assert found["batch"].value.setting.unit == "samples"
    assert found["data.path"].origin == "default"
    assert found["model.image.width"].origin == "derived"  # of the size
    assert found["objectives.multiview.images"].value.value == "[main, second, third, fourth]"


def test_a_recipe_of_ones_own_has_no_status(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: clip\noptimizer: {lr: 5e-4}\n", encoding="utf-8")
    reference = recipe_reference(str(path))
    assert (reference.status, reference.cost) == ("yours", None)
    show_reference(reference)


def test_an_unknown_recipe_is_named_with_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'frugal'"):
        recipe_reference("frugl")


def test_both_are_printed(capsys: pytest.CaptureFixture[str]):
    show(recipes())
    printed = capsys.readouterr().out
    assert "CLIP with two small transformers" in printed
    assert "up to 10,000 pairs: frugal, or pretrained over frozen backbones" in printed
    show_reference(recipe_reference("clip"))
    printed = capsys.readouterr().out
    assert "optimizer.lr=0.001" in printed
    assert "peak learning rate" in printed


def test_the_command_line_lists_and_shows(capsys: pytest.CaptureFixture[str]):
    assert main(["recipes"]) == 0
    assert "recipes show NAME" in capsys.readouterr().out
    assert main(["recipes", "show", "clip", "batch=64"]) == 0
    assert "batch=64" in capsys.readouterr().out
    assert main(["recipes", "show", "clp"]) == 2
    assert main(["recipes", "shw"]) == 2
