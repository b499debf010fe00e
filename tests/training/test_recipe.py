"""Recipes: merging, overrides, conversion by type, and sentences for everything that is wrong."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from frugalclip.core.errors import FrugalclipError, RecipeError
from frugalclip.core.yaml_text import parse_yaml
from frugalclip.training.planning import plan_recipe
from frugalclip.training.recipe import known_recipes, load_recipe, read_recipe, validate_recipe
from frugalclip.verbs.plan import plan


@pytest.mark.parametrize("name", known_recipes())
def test_every_recipe_loads_and_can_be_planned_without_data(name: str):
    recipe = load_recipe(name, ["data.path="] if name == "demo" else [])
    if recipe.missing():
        expected = ["init_from", "guard.path"] if name == "finetune" else ["teacher"]
        assert recipe.missing() == expected and plan(name).to_json()["parameters"].startswith("unknown: ")
        return
    planned = plan_recipe(recipe)
    assert planned.passes and planned.parameters["all"] > 0


@pytest.mark.parametrize("name", known_recipes())
def test_a_resolved_recipe_reads_back_as_itself(name: str):
    recipe = load_recipe(name)
    again = validate_recipe(parse_yaml(recipe.to_yaml(), where="test"))
    assert again.model_dump(mode="json") == recipe.model_dump(mode="json")


def test_numbers_are_read_by_the_type_of_the_field():
    recipe = load_recipe(
        "clip",
        ["optimizer.lr=1e-5", "data=2024", "batch=64", "epochs=2.5", "views.main={preset: clip, flip: .5}"],
    )
    assert (
        recipe.optimizer.lr == 1e-5
        and recipe.data.path == "2024"
        and recipe.epochs == 2.5
        and recipe.views["main"].flip == 0.5
    )


def test_a_plain_word_sets_the_path_and_keeps_the_section():
    assert load_recipe("demo", ["data=other"]).data.where == load_recipe("demo").data.where
    small = load_recipe("clip", ["model.image=small"]).model.image
    assert small.width == 384 and small.resolution == load_recipe("clip").model.image.resolution


def test_null_removes_and_a_new_length_replaces_the_old():
    recipe = load_recipe("clip", ["objectives.contrastive=null", "objectives.sigmoid.weight=1", "steps=7"])
    assert list(recipe.objectives) == ["sigmoid"] and recipe.epochs is None and recipe.total_steps(None) == 7


@pytest.mark.parametrize(
    ("overrides", "output"),
    [
        (
            ["objectives.contrastive.wieght=1"],
            "objectives.contrastive.wieght is not a setting; did you mean 'weight'?",
        ),
        (
            ["objectives.contrastiv.weight=1"],
            "objectives.contrastiv is not an objective; did you mean 'contrastive'?",
        ),
        (["optimiser.lr=1"], "optimiser is not a setting; did you mean 'optimizer'?"),
        (["optimizer.lrr=1"], "optimizer.lrr is not a setting; did you mean 'lr'?"),
        (["optimizer.lr=fast"], "optimizer.lr is 'fast'; expected a valid number"),
        (["model.image.pathc=4"], "model.image.pathc is not a setting; did you mean 'patch'?"),
        (["model.image.size=tinny"], "size 'tinny' is not known"),
        (["batch"], "'batch' is not an override"),
        (["views.main=clipp"], "clip"),
        (["texts.caption.pik=first"], "did you mean 'pick'?"),
        (["epochs=1", "steps=2"], "given 2 times"),
        (["objectives.contrastive.weight=0"], "no objective has a weight"),
        (["objectives.contrastive.smoothing=0.1"], "exclude each other"),
        (["model.image.resolution=60"], "not a multiple of patch"),
        (["objectives.contrastive=[1"], "is not YAML"),
    ],
)
def test_what_is_wrong_is_named_with_what_was_expected(overrides: list[str], output: str):
    with pytest.raises(RecipeError) as error:
        load_recipe("clip", overrides)
    assert output in str(error.value)


@pytest.mark.parametrize(
    ("name", "overrides", "output"),
    [
        (
            "lit",
            ["model.image.options.stage=true"],
            "model.image.options.stage is not a setting; did you mean 'stages'?",
        ),
        (
            "lit",
            ["model.image.from=timm:x@y", "model.image.options={pool: mean}"],
            "model.image.options.pool is not a setting; Known: stages.",
        ),
        ("lit", ["model.image.from=runs/first"], "model.image.options (stages) have no effect on runs/first"),
        (
            "flame",
            ["model.text.options.promt=short"],
            "model.text.options.promt is not a setting; did you mean 'prompt'?",
        ),
        (
            "flame",
            ["model.text.options.prompt=shrt"],
            "'shrt' is neither a prompt for language models nor a file; did you mean 'short'?",
        ),
        (
            "flame",
            ["model.text.options.caption_tokens=many"],
            "model.text.options.caption_tokens is 'many'; expected a valid integer",
        ),
        (
            "flame",
            ["model.text.tune=all"],
            "prompt 'short' has 3 facets, and a language model that is tuned gives one vector a text; set",
        ),
        (
            "flame",
            ["model.text.from=a/b.gguf", "model.text.options.pool=mean"],
            "model.text.options.pool is not a setting",
        ),
        (
            "flame-cc3m",
            ["model.text.options.promt=short"],
            "model.text.options.promt is not a setting; did you mean 'prompt'?",
        ),  # not here yet
        (
            "flame-cc3m",
            ["model.text.tune=all"],
            "prompt 'long' has 7 facets, and a language model that is tuned gives one vector a text; set",
        ),
        (
            "pretrained",
            ["model.text.options=[{pol: end}, {}, {}, {}]"],
            "model.text.options.0.pol is not a setting; did you mean 'pool'?",
        ),
        (
            "pretrained",
            ["model.text.options=[{}, {role: passagee}, {}, {}]"],
            "model.text.options.1.role is 'passagee'; expected 'query' or 'passage'",
        ),
        (
            "flame",
            ["model.text={from: package:e5, width: 384, options: null, tune: all}"],
            "its weights cannot be trained",
        ),
        (
            "pretrained",
            ["model.text.from=[package:e6, package:e5]"],
            "'package:e6' is no text backbone; did you mean 'package:e5'",
        ),
    ],
)
def test_options_of_a_trunk_are_checked_with_the_recipe(name: str, overrides: list[str], output: str):
    with pytest.raises(FrugalclipError) as error:
        load_recipe(name, overrides)
    assert output in str(error.value)


def test_a_view_that_is_not_in_the_recipe_is_named():
    with pytest.raises(
        RecipeError, match=r"views\.mian is read by an objective but not in the recipe; did you mean 'main'"
    ):
        plan_recipe(load_recipe("clip", ["objectives.contrastive.image=mian"]))


def test_one_level_of_extends(tmp_path: Path):
    (tmp_path / "child.yaml").write_text(
        "extends: clip\nbatch: 32\nobjectives:\n  contrastive: {smoothing: 0, positives: id}\n"
    )
    child = load_recipe(str(tmp_path / "child.yaml"))
    assert (
        child.batch == 32 and child.name == "child" and child.objectives["contrastive"].positives == ("id",)
    )  # pyright: ignore
    (tmp_path / "grandchild.yaml").write_text("extends: child\n")
    with pytest.raises(RecipeError, match="one level is allowed"):
        load_recipe(str(tmp_path / "grandchild.yaml"))


@pytest.mark.parametrize(
    ("name", "output"), [("clpi", "did you mean 'clip'"), ("no/such.yaml", "there is no recipe file")]
)
def test_an_unknown_recipe_says_which_there_are(name: str, output: str):
    with pytest.raises(RecipeError, match=output):
        load_recipe(name)


def test_a_key_given_twice_is_refused(tmp_path: Path):
    (tmp_path / "twice.yaml").write_text("batch: 2\nbatch: 3\n")
    with pytest.raises(RecipeError, match="'batch' is given twice"):
        load_recipe(str(tmp_path / "twice.yaml"))


def test_the_plan_counts_parameters_exactly_and_arithmetic_closely(recipe_file: Callable[..., str]):
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from frugalclip.core.types import Tokens
    from frugalclip.towers.dual import DualEncoder

    recipe = load_recipe("clip")
    planned = plan_recipe(recipe)
    network = DualEncoder(recipe.model, vocabulary=4096, context=32)
    assert planned.parameters["all"] == sum(p.numel() for p in network.parameters())
    with (
        FlopCounterMode(display=False) as counter,
        sdpa_kernel(SDPBackend.MATH),
    ):  # the fused CPU kernel is not counted
        network.image(torch.zeros(1, 3, 64, 64))
        network.text(Tokens(torch.ones(1, 32, dtype=torch.int64), torch.tensor([32])))
    forward = sum(p.gflops for p in planned.passes)
    assert forward == pytest.approx(counter.get_total_flops() * 1e-9, rel=0.02)
    assert planned.gflops_per_sample == pytest.approx(3 * forward)
    assert planned.to_json()["steps"] == "unknown: data not given"


def test_a_file_may_extend_the_recipe_of_its_own_name(tmp_path: Path):
    (tmp_path / "clip.yaml").write_text("extends: clip\nbatch: 48\n")
    assert load_recipe(str(tmp_path / "clip.yaml")).batch == 48


def test_a_plain_word_and_settings_of_its_section_add_up():
    recipe = load_recipe(
        "clip", ["data=my folder", "data.where=split=train", "model.image=nano", "model.image.patch=4"]
    )
    assert (recipe.data.path, recipe.data.where) == ("my folder", "split=train")
    assert (recipe.model.image.width, recipe.model.image.patch) == (128, 4)


def test_the_sum_in_the_documentation_is_a_recipe(tmp_path: Path):
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    passes = [one.view for one in plan_recipe(load_recipe(str(tmp_path / "mine.yaml"))).passes]
    assert passes == ["main@kept", "second@kept", "caption", "caption@masked", "ema:around"]


@pytest.mark.parametrize(
    ("name", "peak", "decay", "begin", "end", "warmup", "batch"),
    [
        ("clip-cc3m", 5e-4, 0.5, 1e-6, 1e-5, 1 / 40, 4096),
        ("clip-cc12m", 5e-4, 0.5, 1e-6, 1e-5, 1 / 35, 4096),
        ("clip-yfcc15m", 5e-4, 0.5, 1e-6, 1e-5, 1 / 25, 4096),
        ("slip-cc3m", 3e-3, 0.1, 1e-6, 1e-5, 1 / 40, 4096),
        ("slip-cc12m", 3e-3, 0.1, 1e-6, 1e-5, 1 / 35, 4096),
        ("slip-yfcc15m", 3e-3, 0.1, 1e-6, 1e-5, 1 / 25, 4096),
        ("aclip-yfcc15m", 5e-4, 0.5, 1e-6, 1e-5, 1 / 25, 4096),
        ("declip-yfcc15m", 1e-3, 0.1, 1e-4, 0, 2500, 4096),
        ("defilip-yfcc15m", 1e-3, 0.1, 1e-4, 0, 2500, 4096),
        ("filip-yfcc15m", 5e-4, 0.5, 1e-4, 0, 2500, 4096),
        ("protoclip-cc3m", 5e-4, 0.5, 0, 0, 15625, 512),
    ],
)
def test_published_recipes_have_the_published_rates(
    name: str, peak: float, decay: float, begin: float, end: float, warmup: float, batch: int
):
    recipe = load_recipe(name)
    assert (recipe.optimizer.lr, recipe.optimizer.weight_decay, recipe.batch) == (peak, decay, batch)
    assert (peak * recipe.schedule.start, peak * recipe.schedule.final) == pytest.approx(
        (begin, end), rel=1e-3
    )
    assert recipe.schedule.warmup == pytest.approx(warmup, rel=1e-3)


@pytest.mark.parametrize(
    ("section", "name", "sentence"),
    [
        (
            "objectives",
            "keys",
            "objectives.keys is a name that torch's modules use themselves; choose",
        ),
        ("objectives", "forward", "such as my_forward, and set its kind."),
        ("objectives", "training", "objectives.training is a name that torch's modules use"),
        ("teachers", "items", "teachers.items is a name that torch's modules use themselves"),
        (
            "objectives",
            "a.b",
            "objectives has the name 'a.b'; expected letters, digits, _ and -, such as a_b",
        ),
        ("views", "main@kept", "views has the name 'main@kept'"),
        ("texts", "", "texts has the name ''"),
        ("teachers", "ema:main", "teachers has the name 'ema:main'"),
        ("views", "x" * 999 + "/", "views has the name 'xxx"),
    ],
)
def test_a_name_without_room_in_other_names_is_refused(section: str, name: str, sentence: str):
    content = read_recipe("clip")
    content[section] = {**content.get(section, {}), name: {"kind": "contrastive"}}
    with pytest.raises(RecipeError) as error:
        validate_recipe(content)
    assert sentence in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize(
    "text",
    [
        "1: 2",
        "null: 3",
        "[1, 2]: 3",
        "model: {image: {size: []}}",
        "model: {image: []}",
        "model: 3",
        "data: []",
        "data: {path: [], where: {}}",
        "objectives: {contrastive: {kind: .contrastive}}",
        "objectives: {contrastive: {kind: ..}}",
        "objectives: {contrastive: {kind: a/b}}",
        "objectives: {contrastive: {kind: 'os;x'}}",
        "objectives: {contrastive: {kind: []}}",
        "objectives: {contrastive: {kind: 7}}",
        "objectives: {contrastive: []}",
        "objectives: [contrastive]",
        "gates: .hard_concrete",
        "gates: {kind: []}",
        "stages: {a: b}",
        "stages: 3",
        "stages: [3]",
        "stages: [{change: []}]",
        "stages: [{objectives: []}]",
        "stages: [{objectives: {1: 2}}]",
        "views: []",
        "views: {main: []}",
        "views: {main: 7}",
        "texts: {caption: 3}",
        "teachers: {ema: []}",
        "preprocess: []",
        "preprocess: 3",
        "tokenizer: []",
        "optimizer: {groups: 3}",
        "extends: []",
        "extends: {a: b}",
        "extends: 7",
        "name: []",
        "batch: 99999999999999999999999",
        "steps: .inf",
        "epochs: 1e999",
        "seed: -1",
        "x" * 99_999 + ": 1",
    ],
)
def test_a_file_of_the_wrong_shape_is_a_sentence(text: str, tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text(("" if text.startswith("extends") else "extends: clip\n") + text)
    with pytest.raises(RecipeError) as error:
        plan_recipe(load_recipe(str(path)))
    assert len(str(error.value)) < 1500


def test_text_settings_take_the_words_of_the_command_line_as_they_stand():
    pairs = ["data=photos #1", "data.where=name=part #2", "data.validation=007", "data.columns.image={x}"]
    pairs += ["objectives.contrastive.positives=null", "model.image=small", "evaluation.label_field=true"]
    recipe = load_recipe("clip", pairs)
    assert recipe.data.path == "photos #1" and recipe.data.where == "name=part #2"
    assert recipe.data.validation == "007" and recipe.data.columns == {"image": "{x}"}
    assert recipe.objectives["contrastive"].positives == ("null",) and recipe.model.image.width == 384
    assert recipe.evaluation.label_field == "true"
    again = validate_recipe(parse_yaml(recipe.to_yaml(), where="test"))
    assert again == recipe


@pytest.mark.parametrize("path", ["null", "{x}", "{a,b}", "[x]", "a: b", "'q'", "010", "~x", "a # b", "true"])
def test_every_name_of_a_folder_is_the_name_of_a_folder(path: str):
    assert load_recipe("clip", [f"data={path}"]).data.path == path
    assert load_recipe("clip", [f"data.path={path}", f"init_from={path}"]).init_from == path
    assert load_recipe("clip", [f"teachers.old.from={path}"]).teachers["old"].source == path


def test_numbers_of_a_file_are_those_of_yaml_1_2(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: clip\nbatch: 010\nmicro_batch: 0x8\nseed: 0o17\ndata: {path: 007}\n")
    recipe = load_recipe(str(path))
    assert (recipe.batch, recipe.micro_batch, recipe.seed, recipe.data.path) == (10, 8, 15, "007")
    assert type(recipe.batch) is int


ODD = [[], {}, [[]], {"a": []}, 3, -1, 0.5, "x", "", True, [1, "x"], {"kind": "x"}, {"kind": []}]
ODD += [10**30, "é\n"]


def every_setting(content: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in content.items() if isinstance(content, dict) else ():
        yield (*place, key)
        yield from every_setting(value, (*place, key))


def sentence_about(content: dict[str, Any], place: tuple[str, ...], value: Any) -> str:
    """What is sentences of a recipe with one value changed; nothing if it is accepted."""
    changed = copy.deepcopy(content)
    inner: Any = changed
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = value
    try:
        validate_recipe(changed)
    except FrugalclipError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "name", ["lexvla", *(pytest.param(name, marks=pytest.mark.slow) for name in ("declip", "two-stage"))]
)
def test_no_value_of_any_setting_is_more_than_a_sentence(name: str):
    content = load_recipe(name).model_dump(mode="json", by_alias=True)
    sentences = [sentence_about(content, place, odd) for place in every_setting(content) for odd in ODD]
    assert sum(map(bool, sentences)) > 500 and max(map(len, sentences)) < 2000


@pytest.mark.parametrize(
    ("pair", "near"),
    [
        ("lr=1e-3", "optimizer.lr"),
        ("warmup=3", "schedule.warmup"),
        ("optimizer.batch=3", "batch"),
        ("optimizer.lrr=1", "lr"),
        ("extend=clip", "extends"),
        ("betas=[0.9, 0.98]", "optimizer.betas"),
        ("where=split=train", "data.where"),
        ("validaton=none", "data.validation"),
        ("sead=3", "seed"),
        ("data.batch=3", "batch"),
        ("model.lr=3", "optimizer.lr"),
    ],
)
def test_the_setting_that_is_meant_is_named_wherever_it_stands(pair: str, near: str):
    with pytest.raises(RecipeError, match=f"is not a setting; did you mean '{near}'"):
        load_recipe("clip", [pair])


@pytest.mark.parametrize(
    "pair", ["model.image.depth=99999999", "threads=99999999", "store.views=99999999", "model.text.depth=1e9"]
)
def test_what_is_built_one_by_one_has_a_bound(pair: str):
    with pytest.raises(RecipeError, match="expected less than or equal to 1"):
        load_recipe("clip", [pair])
