"""A smaller model from a larger one: sizes, stages that resume to the same bytes, and messages."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

import frugalclip
from frugalclip.compression.sizes import network_size
from frugalclip.core.errors import RecipeError
from frugalclip.core.records import RunDirectory
from frugalclip.core.types import Batch, Features
from frugalclip.core.yaml_text import dump_yaml
from frugalclip.report.compression import comparison_rows
from frugalclip.teachers import FrozenTeacher
from frugalclip.training.recipe import load_recipe
from frugalclip.verbs.compress import compress
from frugalclip.verbs.evaluate import evaluate
from frugalclip.verbs.plan import plan
from frugalclip.verbs.train import train

SMALL = {
    "extends": "clip",
    "tokenizer": {"kind": "captions", "vocabulary": 600, "context": 12},
    "model": {
        "image": {"width": 32, "depth": 2, "head_dim": 8, "patch": 8, "resolution": 16},
        "text": {"width": 32, "depth": 2, "head_dim": 8},
        "dim": 16,
    },
    "batch": 8,
    "epochs": None,
    "steps": 3,
    "threads": 1,
}
LENGTH = ["epochs=null", "batch=8"]
SPLITS = ["data.where=split=train", "data.validation=split=val"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with captions, and a model trained on them."""
    place = tmp_path_factory.mktemp("compress")
    (place / "data").mkdir()
    for i in range(40):
        noise = np.random.default_rng(i).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(place / "data" / f"{i:02}.png")
        (place / "data" / f"{i:02}.txt").write_text(f"a thing of kind {i % 9} and {i % 7}")
        (place / "data" / f"{i:02}.json").write_text(json.dumps({"split": "val" if i < 9 else "train"}))
    shutil.copytree(place / "data", place / "few")  # fewer words than the teacher knows
    for file in (place / "few").glob("*.txt"):
        file.write_text(f"thing {file.stem}")
    (place / "small.yaml").write_text(dump_yaml(SMALL))
    train(str(place / "small.yaml"), [f"data={place / 'data'}", *SPLITS], out=place / "teacher")
    return place


def towers(model: Any) -> int:
    return network_size(model.network)["towers"]


@pytest.mark.parametrize(("recipe", "steps"), [("tinyclip-manual", 2), ("tinyclip-auto", 10)])
def test_the_student_has_the_share_of_the_parameters(place: Path, tmp_path: Path, recipe: str, steps: int):
    result = compress(
        str(place / "teacher"), recipe, ["keep=0.5", *LENGTH, f"steps={steps}"], out=tmp_path / "run"
    )
    teacher, student = (frugalclip.load(one) for one in (place / "teacher", tmp_path / "run"))
    assert towers(student) / towers(teacher) == pytest.approx(0.5, abs=0.01)
    assert student.encode_text(["a thing"]).shape == (1, 16)
    assert student.encode_image([place / "data" / "00.png"]).shape == (1, 16)
    summary = json.loads((tmp_path / "run" / "metrics.json").read_text())["compression"]
    assert summary == result.comparison
    assert summary["student"]["size"]["towers"] == towers(student)
    assert set(summary["student"]["metrics"]) == set(summary["teacher"]["metrics"]) != set()
    assert summary["student"]["speed"]["per_second"]["text"] > 0
    assert (
        summary["student"]["speed"]["peak_bytes"]["image"]
        < summary["teacher"]["speed"]["peak_bytes"]["image"]
    )
    shown = [name for name, *_ in comparison_rows(summary)]
    assert {"pictures a second, one thread", "megabytes while 8 texts are encoded"} <= set(shown)
    assert "what was kept, layer by layer" in (tmp_path / "run" / "report.html").read_text()


def test_the_data_are_those_of_the_model_unless_some_are_given(place: Path, tmp_path: Path):
    compress(str(place / "teacher"), overrides=[*LENGTH, "steps=1"], out=tmp_path / "run")
    assert f"path: {place / 'data'}" in (tmp_path / "run" / "recipe.yaml").read_text()


# While gates are learned, and after they are fused.
@pytest.mark.parametrize("stop", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_every_stage_resumes_to_the_same_bytes(place: Path, tmp_path: Path, stop: int):
    words = [
        "keep=0.5",
        *LENGTH,
        "steps=8",
        "stages.0.share=0.5",
        f"checkpoints.every={stop}",
        "checkpoints.keep=9",
    ]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    compress(str(place / "teacher"), "tinyclip-auto", words, out=whole)
    compress(str(place / "teacher"), "tinyclip-auto", words, out=broken)
    for step in RunDirectory(broken).steps_saved():
        if step > stop:
            shutil.rmtree(RunDirectory(broken).checkpoint(step))
    compress(str(place / "teacher"), "tinyclip-auto", words, out=broken, resume=True)
    first, second = (
        load_file(RunDirectory(run).checkpoint(8) / "model.safetensors") for run in (whole, broken)
    )
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name].numpy(), second[name].numpy()) for name in first)


def test_sizes_stand_beside_the_metrics_of_every_stage(place: Path, tmp_path: Path):
    words = ["keep=0.5", *LENGTH, "steps=4", "stages.0.share=0.5", "evaluation.points=4"]
    compress(str(place / "teacher"), "tinyclip-auto", words, out=tmp_path / "run")
    rows = [row for row in RunDirectory(tmp_path / "run").rows() if "evaluation" in row]
    sizes, whole = [row["towers"] for row in rows], towers(frugalclip.load(place / "teacher"))
    assert [row["stage"] for row in rows] == [1, 1, 2, 2]
    assert 0.9 * whole < sizes[0] <= whole  # the gates have hardly moved
    assert sizes[2] == sizes[3] == pytest.approx(0.5 * whole, rel=0.01)
    assert "size against metric, by stage" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    "recipe", [pytest.param("tinyclip-staged", marks=pytest.mark.slow), "tinyclip-staged-auto"]
)
def test_staged_students_shrink_in_three_steps_under_the_first_teacher(
    place: Path, tmp_path: Path, recipe: str
):
    words = [*LENGTH, "steps=30", "checkpoints.every=10", "checkpoints.keep=9"]
    compress(str(place / "teacher"), recipe, words, out=tmp_path / "run")
    teacher = frugalclip.load(place / "teacher")
    shares = [
        towers(frugalclip.load(RunDirectory(tmp_path / "run").checkpoint(step))) / towers(teacher)
        for step in (10, 20, 30)
    ]
    assert shares == pytest.approx([0.75, 0.5, 0.25], abs=0.015)
    kept = load_recipe(str(tmp_path / "run" / "recipe.yaml"))
    assert [kept.stage(n).teachers["teacher"].source for n in range(len(kept.stages))] == [
        str(place / "teacher")
    ] * len(kept.stages)


@pytest.mark.slow  # several runs of two stages; the quick suite resumes in both of them
@pytest.mark.parametrize(
    ("recipe", "steps", "stops"),
    [("tinyclip-staged", 6, (1, 3, 5)), ("tinyclip-staged-auto", 10, (1, 2, 4, 5, 7, 9))],
)
def test_a_run_of_several_sizes_resumes_to_the_same_bytes_in_each(
    place: Path, tmp_path: Path, recipe: str, steps: int, stops: tuple[int, ...]
):
    words = [*LENGTH, f"steps={steps}", "checkpoints.every=1", "checkpoints.keep=99"]
    whole = tmp_path / "whole"
    compress(str(place / "teacher"), recipe, words, out=whole)
    stages = {json.loads(row)["stage"] for row in (whole / "metrics.jsonl").read_text().splitlines()}
    assert stages == set(range(1, 4 if recipe == "tinyclip-staged" else 7))
    expected = load_file(RunDirectory(whole).checkpoint(steps) / "model.safetensors")
    for stop in stops:
        broken = tmp_path / f"broken-{stop}"
        shutil.copytree(whole, broken)
        for step in range(stop + 1, steps + 1):
            shutil.rmtree(RunDirectory(broken).checkpoint(step))
        compress(str(place / "teacher"), recipe, words, out=broken, resume=True)
        found = load_file(RunDirectory(broken).checkpoint(steps) / "model.safetensors")
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[name].numpy(), expected[name].numpy()) for name in found)


def test_plan_without_a_teacher_says_so_and_with_one_counts_both(place: Path):
    for recipe in ("tinyclip-manual", "tinyclip-auto"):
        assert plan(recipe).to_json()["parameters"] == "unknown: teacher not given"
        counted = plan(recipe, [f"teacher={place / 'teacher'}", "keep=0.5", "steps=10", "epochs=null"])
        teacher = frugalclip.load(place / "teacher")
        share = (counted.parameters["image"] + counted.parameters["text"]) / towers(teacher)
        assert share == pytest.approx(0.5, abs=0.01)
        passes = {one.view: one.gflops for one in counted.passes}
        assert passes["teacher:main"] == pytest.approx(
            teacher.network.config.image.forward_gflops(tokens=teacher.network.config.image.tokens)
        )


@pytest.mark.slow  # several runs of two stages; the quick suite resumes in both of them
@pytest.mark.parametrize("recipe", ["tinyclip-manual", "tinyclip-auto"])
def test_a_smaller_vocabulary_is_learned_from_the_whole_teacher_and_resumes(
    place: Path, tmp_path: Path, recipe: str
):
    change = "change" if recipe == "tinyclip-manual" else "stages.1.change"
    cut = [f"{change}.vocabulary.keep=captions", f"{change}.vocabulary.rank=4"]
    data = [f"data={place / 'few'}", *SPLITS]
    words = ["keep=0.5", *LENGTH, "steps=4", "checkpoints.every=3", "checkpoints.keep=9", *cut, *data]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    result = compress(str(place / "teacher"), recipe, words, out=whole)
    shutil.copytree(whole, broken)
    shutil.rmtree(RunDirectory(broken).checkpoint(4))
    compress(str(place / "teacher"), recipe, words, out=broken, resume=True)
    first, second = (
        load_file(RunDirectory(one).checkpoint(4) / "model.safetensors") for one in (whole, broken)
    )
    assert all(np.array_equal(first[name].numpy(), second[name].numpy()) for name in first)
    student, teacher = frugalclip.load(whole), frugalclip.load(place / "teacher")
    assert student.network.vocabulary == student.tokenizer.vocabulary < teacher.network.vocabulary
    assert student.encode_text(["a zeppelin of kind 3"]).shape == (1, 16)
    sizes = {name: one["size"] for name, one in result.comparison.items()}
    assert (
        sizes["student"]["parameters"]["token_embedding"] < sizes["teacher"]["parameters"]["token_embedding"]
    )
    assert sizes["student"]["towers"] / sizes["teacher"]["towers"] == pytest.approx(0.5, abs=0.01)
    page = (whole / "report.html").read_text()
    assert "parameters with token embedding" in page and "tokens of the vocabulary" in page
    evaluated = evaluate(str(whole), data=str(place / "data"), task="retrieval")
    assert evaluated["metrics"]


def test_plan_counts_the_tokens_that_the_captions_need(place: Path, tmp_path: Path):
    words = [f"teacher={place / 'teacher'}", "keep=0.5", "steps=10", "epochs=null"]
    keep = "change.vocabulary.keep=captions"
    whole, unknown = plan("tinyclip-manual", words), plan("tinyclip-manual", [*words, keep])
    data = [f"data={place / 'few'}", *SPLITS]
    known = plan("tinyclip-manual", [*words, keep, *data])
    words = [*LENGTH, "steps=1", keep, *data]
    trained = compress(str(place / "teacher"), overrides=words, out=tmp_path / "run")
    assert whole.parameters["token embedding"] == unknown.parameters["token embedding"]
    assert any("set data, whose captions decide" in note for note in unknown.notes)
    size = trained.comparison["student"]["size"]["parameters"]
    counted = known.parameters["token embedding"]
    assert counted == size["token_embedding"] < whole.parameters["token embedding"]
    assert not any("whose captions decide" in note for note in known.notes)


def test_plan_counts_a_vocabulary_that_is_cut_in_a_later_stage_of_new_weights(place: Path, tmp_path: Path):
    half = {"kind": "inherit", "keep": 0.5, "vocabulary": {"keep": 520}}
    stages = [{"share": 0.5}, {"change": half}]
    (place / "later.yaml").write_text(dump_yaml(SMALL | {"stages": stages}))
    words = [f"data={place / 'data'}", *SPLITS]
    train(str(place / "later.yaml"), words, out=tmp_path / "run")
    counted = plan(str(place / "later.yaml"), words).parameters["token embedding"]
    assert any("set data, whose captions" in note for note in plan(str(place / "later.yaml")).notes)
    network = frugalclip.load(tmp_path / "run").network
    assert counted == network.text.embedding_parameters == 520 * network.config.text.width


def test_a_vocabulary_too_small_for_a_later_stage_is_refused_before_the_first(place: Path, tmp_path: Path):
    words = ["keep=0.5", *LENGTH, "steps=8", "stages.1.change.vocabulary.keep=5"]
    with pytest.raises(RecipeError, match=r"vocabulary\.keep is 5, .* give at least"):
        compress(str(place / "teacher"), "tinyclip-auto", words, out=tmp_path / "run")
    assert not list(RunDirectory(tmp_path / "run").rows())


def test_training_without_a_teacher_is_refused_in_a_sentence(place: Path, tmp_path: Path):
    with pytest.raises(RecipeError, match=r"recipe 'tinyclip-manual' needs teacher; add teacher=MODEL"):
        train("tinyclip-manual", [f"data={place / 'data'}"], out=tmp_path / "run")


def test_shorthands_set_what_they_stand_for():
    recipe = load_recipe("tinyclip-auto", ["teacher=my/model", "keep=0.3"])
    assert recipe.init_from == recipe.teachers["teacher"].source == "my/model"
    assert recipe.stages[0].gates is not None and recipe.stages[0].gates["keep"] == 0.3
    with pytest.raises(RecipeError, match=r"stages\.5 is no entry of stages"):
        load_recipe("tinyclip-auto", ["stages.5.steps=2"])


def test_a_tower_that_cannot_be_cut_is_named(place: Path, tmp_path: Path):
    words = [f"data={place / 'data'}", "epochs=null", "steps=1", "batch=8"]
    train("clip-small", words, out=tmp_path / "bag")
    with pytest.raises(RecipeError, match=r"text tower .bag. cannot be cut; expected a vision or a text"):
        compress(str(tmp_path / "bag"), overrides=words, out=tmp_path / "run")
    alone = ["change.keep=null", "change.image.width=64", *words]
    result = compress(str(tmp_path / "bag"), overrides=alone, out=tmp_path / "narrow")
    sizes = {name: one["size"]["parameters"] for name, one in result.comparison.items()}
    assert sizes["student"]["image"] < sizes["teacher"]["image"]
    assert sizes["student"]["token_embedding"] == sizes["teacher"]["token_embedding"]


@pytest.mark.parametrize(
    ("settings", "forwards"),
    [
        (["objectives.affinity.alpha=0"], 0),
        (["objectives.affinity.weight=0", "objectives.contrastive.weight=1"], 0),
        ([], 2 * 2),  # two steps, two towers
    ],
)
def test_a_teacher_without_a_share_in_the_loss_encodes_nothing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str], forwards: int
):
    counted: list[str] = []
    encode = FrozenTeacher.encode

    def counting(self: FrozenTeacher, batch: Batch) -> Features:
        found = encode(self, batch)
        counted.extend([*found.images, *found.texts])
        return found

    monkeypatch.setattr(FrozenTeacher, "encode", counting)
    words = [*LENGTH, "steps=2", *settings]
    compress(str(place / "teacher"), overrides=words, out=tmp_path / "run")
    assert len(counted) == forwards


ODD: dict[str, dict[str, Any]] = {
    "heads that do not divide": {"image": {"width": 24, "depth": 2, "heads": [3, 5], "head_dim": 8}},
    "attention pooling": {"image": {"width": 32, "depth": 2, "head_dim": 8, "pool": "attention"}},
    "batch normalisation": {
        "image": {"kind": "clip_resnet", "width": 256, "blocks": [1, 1, 1, 1], "resolution": 32},
        "dim": 24,
    },
}


QUICK = "batch normalisation"  # the others run in make test-slow


@pytest.fixture(
    scope="module",
    params=[name if name == QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ODD],
)
def odd(request: pytest.FixtureRequest, place: Path) -> Path:
    """A teacher of another kind, resolution, normalisation of pixels and embedding than the usual one."""
    out = place / request.param.replace(" ", "-")
    model = SMALL["model"] | ODD[request.param]
    content = SMALL | {"model": model, "objectives": {"contrastive": {}}, "views": {"main": {}}}
    if "kind" in model["image"]:
        del content["extends"]  # whose transformer has other settings
    else:
        content["model"] = model | {"image": {"patch": 8, "resolution": 32} | model["image"]}
    content |= {"preprocess": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}, "steps": 1}
    (place / "odd.yaml").write_text(dump_yaml(content))
    train(str(place / "odd.yaml"), [f"data={place / 'data'}", *SPLITS], out=out)
    return out


def test_odd_teachers_become_smaller_and_teach_others(place: Path, tmp_path: Path, odd: Path):
    small = compress(str(odd), overrides=["keep=0.5", *LENGTH, "steps=1"], out=tmp_path / "small")
    share = [small.comparison[name]["size"]["towers"] for name in ("student", "teacher")]
    assert share[0] / share[1] == pytest.approx(0.5, abs=0.1)
    both = [f"teachers.second={{from: {odd}}}", "objectives.affinity.teachers=[teacher, second]"]
    taught = compress(str(place / "teacher"), overrides=[*LENGTH, "steps=1", *both], out=tmp_path / "taught")
    assert taught.trained.is_finished
    if odd.name == "batch-normalisation":
        words = ["keep=0.5", *LENGTH, "steps=1", "micro_batch=4"]
        with pytest.raises(RecipeError, match="is a batch normalisation"):
            compress(str(odd), overrides=words, out=tmp_path / "cached")
