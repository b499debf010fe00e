"""Objectives of the user's own: found beside the recipe, and a sentence for every ordinary mistake."""

import re
from pathlib import Path
from typing import Any

import pytest

from frugalclip.core.errors import FrugalclipError, PluginError, RecipeError
from frugalclip.core.records import RunDirectory
from frugalclip.sources.open import open_data
from frugalclip.training.engine import build_engine
from frugalclip.training.loop import train_run
from frugalclip.training.planning import plan_recipe
from frugalclip.training.recipe import load_recipe, validate_recipe
from frugalclip.training.stage import Stage

from .sums import MODEL, full_step, whole_batch

HEAD = """import torch
from pydantic import Field
from frugalclip.objectives.base import Needs, Objective, ObjectiveConfig, ObjectiveOutput

class Config(ObjectiveConfig):
    sharpness: float = Field(2.0, gt=0)

class Own(Objective):
    Config = Config
"""
NEEDS = """
    def needs(self):
        return Needs(images=frozenset({"main"}), texts=frozenset({"caption"}))
"""
FORWARD = """
    def forward(self, features):
        unit = torch.nn.functional.normalize(features.images["main"].embedding, dim=-1)
        loss = self.config.sharpness * (unit @ unit.T).square().mean()
        {end}
"""
GOOD = "return ObjectiveOutput(loss, {'size': loss.detach()})"
RIGHT = HEAD + NEEDS + FORWARD.format(end=GOOD)


def ends(end: str) -> str:
    return HEAD + NEEDS + FORWARD.format(end=end)


def with_start(line: str) -> str:
    start = f"    def __init__(self, config, dims):\n        {line}\n"
    return HEAD + start + NEEDS + FORWARD.format(end=GOOD)


def trained(path: Path, name: str = "mine") -> None:
    """Build the objective, and train on one batch."""
    step = full_step({name: {"kind": str(path)}})
    recipe = validate_recipe(
        {"model": MODEL, "objectives": {name: {"kind": str(path)}}, "batch": 16, "steps": 10}
    )
    stage = Stage(recipe, step, span=range(10))
    for turn in range(2):
        stage.update(whole_batch(turn=turn), step=turn)


def test_the_right_one_trains(tmp_path: Path):
    (tmp_path / "mine.py").write_text(RIGHT)
    trained(tmp_path / "mine.py")


MISTAKES: dict[str, tuple[str, str]] = {
    "syntax": (HEAD + "    def needs(self)\n", r"mine.py does not import line 10: SyntaxError: expected ':'"),
    "import": ("import nothing_like_it\n" + RIGHT, r"mine.py does not import line 1: ModuleNotFoundError"),
    "name at import": (RIGHT + "\nx = y\n", r"mine.py does not import line 19: NameError: name 'y' is not"),
    "exit at import": ("import sys\nsys.exit(3)\n", r"mine.py does not import line 2: SystemExit: 3"),
    "empty": ("", r"mine.py holds 0 objectives, expected one class that derives from Objective"),
    "two": (RIGHT + "\nclass More(Own): pass\n", r"mine.py holds 2 objectives \(More, Own\), expected one"),
    "plain module": (
        RIGHT.replace("class Own(Objective)", "class Own(torch.nn.Module)"),
        r"mine.py holds 0 objectives",
    ),
    "no Config": (
        RIGHT.replace("    Config = Config\n", ""),
        r"mine.py: Own has no Config; write its",
    ),
    "another Config": (
        RIGHT.replace("    Config = Config\n", "    Config = dict\n"),
        r"mine.py: Own has a Config that derives from something else; write its settings as class Config",
    ),
    "no forward": (HEAD + NEEDS, r"mine.py: Own has no forward\(\); every objective defines needs\(\) and"),
    "no needs": (HEAD + FORWARD.format(end=GOOD), r"mine.py: Own has no needs\(\)"),
    "bare super": (
        HEAD
        + "    def __init__(self, config, dims):\n        super().__init__()\n"
        + NEEDS
        + "    forward = needs",
        r"objectives.mine: Own\(config, dims\) failed in .*mine.py line 11: TypeError: .*missing 2 required",
    ),
    "no super": (
        with_start("self.x = 3"),
        r"objectives.mine \(.*mine.py\): __init__\(\) does not call super\(\).__init__\(config, dims\)",
    ),
    "module before super": (
        HEAD
        + "    def __init__(self, config, dims):\n        self.x = torch.nn.Linear(2, 2)\n"
        + NEEDS
        + "    forward = needs",
        r"objectives.mine: Own\(config, dims\) failed in .*mine.py line 11: AttributeError: cannot assign",
    ),
    "other arguments": (
        HEAD + "    def __init__(self):\n        pass\n" + NEEDS + "    forward = needs",
        r"objectives.mine: Own\(config, dims\) failed in .*mine.py: TypeError: .*takes 1 positional argument",
    ),
    "needs gives a dict": (
        RIGHT.replace(
            'Needs(images=frozenset({"main"}), texts=frozenset({"caption"}))', '{"images": ["main"]}'
        ),
        r"objectives.mine \(.*mine.py\): needs\(\) gives a dict; expected Needs\(images=frozenset",
    ),
    "needs gives nothing": (
        RIGHT.replace("return Needs(", "Needs("),
        r"needs\(\) gives nothing",
    ),
    "needs gives a word": (
        RIGHT.replace('frozenset({"main"})', '"main"'),
        r"needs\(\).images is 'main'; expected a frozenset of names, such as frozenset\(\{'main'\}\)",
    ),
    "needs fails": (
        RIGHT.replace('frozenset({"main"})', "frozenset({self.config.view})"),
        r"objectives.mine: needs\(\) failed in .*mine.py line 12: AttributeError: 'Config' object has no",
    ),
    "a tensor": (
        ends("return loss"),
        r"objectives.mine \(.*mine.py\): forward\(\) gives a Tensor; exp",
    ),
    "a tuple": (
        ends("return loss, {}"),
        r"forward\(\) gives a tuple; expected ObjectiveOutput\(loss",
    ),
    "nothing": (ends("pass"), r"forward\(\) gives nothing; expected ObjectiveOutput"),
    "other names": (
        ends("return ObjectiveOutput(value=loss)"),
        r"objectives.mine: forward\(\) failed in .*mine.py line 17: TypeError: .*unexpected keyword argument",
    ),
    "a number": (
        ends("return ObjectiveOutput(loss.item())"),
        r"the loss of forward\(\) is a float; exp",
    ),
    "many losses": (
        ends("return ObjectiveOutput(loss.repeat(16))"),
        r"the loss of forward\(\) has shape \(16,\) and type torch.float64; expected one real number",
    ),
    "a whole number": (
        ends("return ObjectiveOutput(loss.round().long())"),
        r"the loss of forward\(\) has shape \(\) and type torch.int64; expected one real number",
    ),
    "detached": (
        ends("return ObjectiveOutput(loss.detach())"),
        r"forward\(\) is detached from the fea",
    ),
    "through numpy": (
        ends("return ObjectiveOutput(torch.tensor(float(loss.detach().numpy())))"),
        r"forward\(\) is detached from the features",
    ),
    "not a number": (ends("return ObjectiveOutput(loss * float('nan'))"), r"the loss is nan"),
    "infinite": (ends("return ObjectiveOutput(loss / 0)"), r"the loss is inf"),
    "a view not requested": (
        RIGHT.replace('features.images["main"]', 'features.images["second"]'),
        r"mine.py line 15: KeyError: 'second'; needs\(\) names the images main and the texts caption",
    ),
    "tokens not requested": (
        RIGHT.replace('features.images["main"].embedding', 'features.images["main"].tokens.mean(1)'),
        r"objectives.mine: forward\(\) failed in .*mine.py line 15: AttributeError: 'NoneType' object has no",
    ),
    "wrong shapes": (
        RIGHT.replace("unit @ unit.T", "unit @ unit[:3]"),
        r"mine.py line 16: RuntimeError: mat1",
    ),
    "an error": (ends("raise ValueError('two\\nlines')"), r"mine.py line 17: ValueError: two lines\.$"),
    "log is a number": (
        ends("return ObjectiveOutput(loss, {'size': 3.0})"),
        r"logs\['size'\] is a float; expected a dict of tensors of shape \(\), such as loss.detach\(\)",
    ),
    "log is a vector": (
        ends("return ObjectiveOutput(loss, {'size': unit})"),
        r"logs\['size'\] is a Tensor of shape \(16, 16\); expected a dict of tensors of shape \(\)",
    ),
    "logs is a list": (
        ends("return ObjectiveOutput(loss, [loss])"),
        r"logs is a list; expected a dict",
    ),
    "in place": (
        ends("features.images['main'].embedding.mul_(2); " + GOOD),
        r"the gradients of the loss failed: .*inplace operation.*Objectives of your own: mine; look",
    ),
    "the graph of the step before": (
        ends("self.last, loss = loss, loss + getattr(self, 'last', 0); " + GOOD),
        r"the gradients of the loss failed: .*backward through the graph a second time",
    ),
    "makes what it does not give": (
        RIGHT + "\n    def makes(self):\n        return frozenset({'main@kept'})\n",
        r"prepare\(\) gives \[\]; expected a dict with the views of makes\(\), main@kept",
    ),
    "prepare fails": (
        RIGHT + "\n    def prepare(self, batch, targets):\n        return batch.nothing\n",
        r"objectives.mine: prepare\(\) failed in .*mine.py line 20: AttributeError",
    ),
    "after_step fails": (
        RIGHT + "\n    def after_step(self, views):\n        1 / 0\n",
        r"objectives.mine: after_step\(\) failed in .*mine.py line 20: ZeroDivisionError: division by zero",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_names_the_objective_its_file_and_what_was_expected(mistake: str, tmp_path: Path):
    text, sentence = MISTAKES[mistake]
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(FrugalclipError) as error:
        trained(tmp_path / "mine.py")
    assert re.search(sentence, str(error.value)), str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 700


def test_the_gradient_cache_names_it_too(tmp_path: Path):
    (tmp_path / "mine.py").write_text(ends("return loss"))
    step = full_step({"mine": {"kind": str(tmp_path / "mine.py")}})
    with pytest.raises(PluginError, match=r"forward\(\) gives a Tensor"):
        build_engine(step, batch=16, micro_batch=4)(whole_batch())


def test_a_log_that_is_not_finite_ends_the_run_with_its_name(
    squares: Path, small_recipe: dict[str, Any], tmp_path: Path
):
    (tmp_path / "mine.py").write_text(ends("return ObjectiveOutput(loss, {'size': loss.detach() / 0})"))
    content = small_recipe | {"objectives": {"mine": {"kind": str(tmp_path / "mine.py")}}, "steps": 2}
    with pytest.raises(PluginError, match=r"objectives.mine \(.*mine.py\): logs\['size'\] is not finite"):
        train_run(validate_recipe(content), open_data(squares), RunDirectory(tmp_path / "run"))


@pytest.mark.parametrize(
    "objectives", ["{hardneg: {}}", "{hardneg: 0.5}", "{x: {kind: hardneg}}", "{x: {kind: ./hardneg.py}}"]
)
def test_a_file_beside_the_recipe_is_found_by_its_name(
    objectives: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "hardneg.py").write_text(RIGHT)
    recipe = tmp_path / "own" / "mine.yaml"
    recipe.write_text(f"extends: clip\nsteps: 5\nepochs: null\nobjectives: {objectives}\n")
    monkeypatch.chdir(tmp_path)
    loaded = load_recipe("own/mine.yaml")
    own = next(one for name, one in loaded.objectives.items() if name != "contrastive")
    assert type(own).__name__ == "Config" and own.kind == str((tmp_path / "own" / "hardneg.py").resolve())
    assert plan_recipe(loaded).parameters["all"] > 0
    monkeypatch.chdir("/")
    assert validate_recipe(loaded.model_dump(mode="json", by_alias=True)) == loaded  # as a run replays it


def test_a_path_on_the_command_line_begins_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "hard neg.py").write_text(RIGHT)
    monkeypatch.chdir(tmp_path)
    pairs = ["objectives.mine.kind=./hard neg.py", "objectives.mine.sharpness=3"]
    assert load_recipe("clip", pairs).objectives["mine"].sharpness == 3


def test_a_file_does_not_take_the_place_of_an_objective_of_the_package(tmp_path: Path):
    (tmp_path / "contrastive.py").write_text("raise SystemExit\n")
    (tmp_path / "mine.yaml").write_text("extends: clip\n")
    assert load_recipe(str(tmp_path / "mine.yaml")).objectives["contrastive"].kind is None


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("./nothing.py", r"there is no file .*nothing.py for an objective; kind: ./NAME.py is a path from"),
        (
            ".hardneg",
            r"objective '.hardneg' is no module; write kind: ./hardneg.py for a file beside the recipe",
        ),
        ("..", r"objective '..' is no module; write kind: ./mine.py"),
        ("own/hardneg", r"objectives.own/hardneg is not an objective; .* set kind: ./own_hardneg.py"),
        (
            "own.hardneg",
            r"objective 'own.hardneg' does not import .*write kind: ./hardneg.py for",
        ),
        ("hardnge", r"objectives.hardnge is not an objective; Known: .*set kind: ./hardnge.py"),
    ],
)
def test_a_kind_that_is_nowhere_says_how_it_is_written(kind: str, sentence: str):
    with pytest.raises(RecipeError, match=sentence):
        load_recipe("clip", [f"objectives.mine.kind={kind}"])


def test_the_objective_of_a_stage_is_found_beside_the_recipe_too(tmp_path: Path):
    (tmp_path / "hardneg.py").write_text(RIGHT)
    (tmp_path / "mine.yaml").write_text(
        "extends: clip\nstages:\n- {share: 0.5}\n- {share: 0.5, objectives: {hardneg: {weight: 2}}}\n"
    )
    recipe = load_recipe(str(tmp_path / "mine.yaml"))
    assert recipe.stage(1).objectives["hardneg"].weight == 2 and "hardneg" not in recipe.stage(0).objectives
