"""Arms as they are written on a command line."""

import pytest

from frugalclip.comparison.arms import equal_arms, read_arms
from frugalclip.core.errors import RecipeError
from frugalclip.training.recipe import known_recipes, load_recipe, validate_recipe


def test_names_recipes_and_overrides_are_distinguished():
    first, second = read_arms(["clip", "batch=64", "other:siglip"])
    assert (first.name, second.name) == ("clip", "other")
    assert (first.recipe.batch, second.recipe.batch) == (64, 64)
    assert second.recipe.objectives.keys() == {"sigmoid"}


def test_a_program_is_an_arm(tmp_path):
    (tmp_path / "peer.yaml").write_text(
        "command: [python, peer.py]\nsettings: {lr: 1e-3}\ndescription: another library\n"
    )
    path = str(tmp_path / "peer.yaml")
    ours, theirs, named = read_arms(["clip", path, f"again:{path}"])
    assert (theirs.name, named.name, theirs.recipe) == ("peer", "again", None)
    assert theirs.content() == {"command": ["python", "peer.py"], "settings": {"lr": 0.001}}
    assert equal_arms([ours, theirs, named]) == ("peer", "again")


def test_the_same_recipe_under_two_names_is_noticed():
    assert equal_arms(read_arms(["a:clip", "b:clip", "siglip"])) == ("a", "b")
    assert equal_arms(read_arms(["clip", "siglip"])) is None


@pytest.mark.parametrize("name", known_recipes())
def test_a_recipe_without_its_defaults_is_the_same_recipe(name):
    recipe = load_recipe(name)
    arm = next(a for a in read_arms([f"x:{name}", "clip"]) if a.name == "x")
    assert validate_recipe(arm.recipe_settings()) == recipe


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["clip"], "'clip' alone is no comparison"),
        ([], "nothing is no comparison"),
        (
            ["clip", "clip"],
            "two arms are called 'clip'; give them different names, such as clip-a:clip clip-b:clip",
        ),
        (["clip", "siglpi"], "arm siglpi: 'siglpi' is not a recipe; did you mean 'siglip'"),
        (["clip", "siglip", "btach=3"], "arm clip: btach is not a setting; did you mean 'batch'"),
        (["clip", "../x:siglip"], "is no name for an arm"),
    ],
)
def test_faults_are_sentences(words, message):
    with pytest.raises(RecipeError, match=message):
        read_arms(words)


def test_an_arm_file_with_a_misspelt_setting(tmp_path):
    (tmp_path / "peer.yaml").write_text("command: [python, peer.py]\nsetings: {}\n")
    with pytest.raises(RecipeError, match="setings is not a setting; did you mean 'settings'"):
        read_arms(["clip", str(tmp_path / "peer.yaml")])
