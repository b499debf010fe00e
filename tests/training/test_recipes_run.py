"""Every recipe that this project runs takes two steps; the published ones are planned in test_recipe.py."""

from pathlib import Path

import pytest

from frugalclip.core.records import RunDirectory
from frugalclip.sources.open import open_data
from frugalclip.training.loop import train_run
from frugalclip.training.planning import plan_recipe
from frugalclip.training.recipe import known_recipes, load_recipe
from frugalclip.training.run import open_run
from frugalclip.training.stage import count_parameters

SMALL = [name for name in known_recipes() if load_recipe(name).run_here]
PRETRAINED = [
    name
    for name in SMALL
    if "pretrained" in (load_recipe(name).model.image.kind, load_recipe(name).model.text.kind)
]

OF_ONE_STAGE = [  # what stages leave behind is known after the run, which take_two_steps compares
    name
    for name in SMALL
    if name not in PRETRAINED and not load_recipe(name).stages and not load_recipe(name).missing()
]


STAGED = ["tinyclip-staged", "tinyclip-staged-auto"]  # in tests/verbs/test_compress.py, and here when slow


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in STAGED else name
        for name in SMALL
        if name not in PRETRAINED
    ],
)
def test_two_steps(name: str, squares: Path, tmp_path: Path):
    take_two_steps(name, squares, tmp_path)


@pytest.mark.slow  # needs the pretrained parts of `make frozen`
@pytest.mark.parametrize("name", PRETRAINED)
def test_two_steps_on_packaged_backbones(name: str, squares: Path, tmp_path: Path):
    take_two_steps(name, squares, tmp_path)


def take_two_steps(name: str, squares: Path, tmp_path: Path) -> None:
    shipped = load_recipe(name)
    stages = len(shipped.stages or ())
    steps = 2 if stages <= 2 else 4 * stages  # shares of a run are not equal, and each is a step at least
    own = [
        f"data={squares}",
        "data.where=",
        "data.validation=none",
        "evaluation.label_field=",
        "batch=8",
        f"steps={steps}",
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
    if shipped.missing():
        take_two_steps("clip", squares, tmp_path / "first")
        model = tmp_path / "first" / "run"
        given = {"teacher": model, "init_from": model, "guard.path": squares}
        own += [f"{one}={given[one]}" for one in shipped.missing()]
    run = RunDirectory(tmp_path / "run")
    recipe = load_recipe(name, own)
    result = train_run(recipe, open_data(squares), run)
    assert result.is_finished and [row["step"] for row in run.rows()] == list(range(1, steps + 1))
    assert plan_recipe(recipe).parameters["model"] == result.parameters


@pytest.mark.slow  # twenty models on all pairs
@pytest.mark.parametrize("name", OF_ONE_STAGE)
def test_plan_and_train_count_the_same_parameters_on_the_sample(name: str, tmp_path: Path):
    recipe = load_recipe(name, ["data=sample"])
    planned = plan_recipe(recipe).parameters
    run = open_run(recipe, open_data("sample"), RunDirectory(tmp_path / "run"))
    module = run.stage.module
    assert planned["model"] == count_parameters(run.model.network)
    assert planned["heads of objectives"] == count_parameters(module.objectives)
    assert planned["trained"] == count_parameters(module, trained=True)
