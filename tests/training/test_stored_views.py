"""Teachers that were run once: embeddings of augmentations that are made again, and of every caption."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from frugalclip.core.errors import DataError, RecipeError
from frugalclip.core.preprocess import Preprocess
from frugalclip.core.records import RunDirectory
from frugalclip.core.types import Batch
from frugalclip.core.yaml_text import dump_yaml
from frugalclip.data.manifest import Manifest
from frugalclip.data.tokens import train_tokenizer
from frugalclip.features.format import write_head
from frugalclip.features.store import Store
from frugalclip.loading.loader import Loader
from frugalclip.models import Model, load
from frugalclip.sources.open import open_data
from frugalclip.teachers import FrozenTeacher, StoredTeacher
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.training.loop import Silent, train_run
from frugalclip.training.recipe import Recipe, load_recipe
from frugalclip.training.run import Run, open_run
from frugalclip.verbs.compress import compress
from frugalclip.verbs.embed import embed

VIEW = {"crop_scale": [0.4, 1], "flip": 0.5, "jitter": [0.4, 0.4, 0.2, 0.1], "blur": 0.5}
MODEL = {
    "image": {"width": 32, "depth": 1, "head_dim": 8, "patch": 8, "resolution": 16},
    "text": {"width": 32, "depth": 1, "head_dim": 8},
    "dim": 16,
}
LENGTH = {"batch": 8, "epochs": None, "steps": 6, "threads": 1, "precision": "fp32"}
TEXTS = {"caption": {}, "synthetic": {"fields": ["generated"], "lists": "each", "field_probability": 1}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with two captions and two generated ones, two teachers, and a store of each."""
    place = tmp_path_factory.mktemp("stored")
    (place / "data").mkdir()
    rows = []
    for i in range(24):
        noise = np.random.default_rng(i).integers(0, 256, (20 + i % 3, 22, 3), dtype=np.uint8)
        Image.fromarray(noise).save(place / "data" / f"{i:02}.png")
        captions = [f"a thing of kind {i % 9} and {i % 7}", f"thing {i}"]
        rows.append({"image": f"{i:02}.png", "caption": captions, "generated": [f"kind {i % 9}", "a thing"]})
    lines = (json.dumps(row) for row in rows)
    (place / "data" / "rows.jsonl").write_text("\n".join(lines))
    tokenizer = train_tokenizer([text for row in rows for text in row["caption"]], vocabulary=600, context=12)
    for number, name in enumerate(("one", "two")):
        config, sizes = ModelConfig.model_validate(MODEL), (tokenizer.vocabulary, tokenizer.context)
        network = DualEncoder(config, vocabulary=sizes[0], context=sizes[1], seed=number)
        Model(network.eval(), tokenizer, Preprocess(size=16)).save(place / name)
        stored(place, name)
        stored(place, name, dtype="float32", out=f"{name}-exact")
    return place


def stored(place: Path, model: str, *, out: str | None = None, **options: Any) -> Store:
    given = {"augmentations": 3, "view": VIEW, "captions": ["generated"]} | options
    data = place / "data" / "rows.jsonl"
    return embed(place / model, data, out=place / (out or f"{model}-store"), **given).store


def recipe_of(place: Path, *stores: str, **changes: Any) -> dict[str, Any]:
    teachers = {f"t{i}": {"from": str(place / name)} for i, name in enumerate(stores)}
    return {
        "extends": "clip",
        "init_from": str(place / "one"),
        "data": {"path": str(place / "data" / "rows.jsonl"), "validation": "none"},
        "views": {"main": VIEW},
        "texts": TEXTS,
        "teachers": teachers,
        "objectives": {
            "contrastive": None,
            "affinity": {"teachers": list(teachers), "texts": ["caption", "synthetic"]},
        },
        **LENGTH,
    } | changes


def written(place: Path, out: Path, *stores: str, **changes: Any) -> tuple[Recipe, Manifest]:
    path = out.with_suffix(".yaml")
    path.write_text(dump_yaml(recipe_of(place, *stores, **changes)))
    return load_recipe(str(path)), open_data(str(place / "data" / "rows.jsonl"))


def opened(place: Path, out: Path, *stores: str, **changes: Any) -> Run:
    recipe, data = written(place, out, *stores, **changes)
    return open_run(recipe, data, RunDirectory(out))


def gradients(run: Run, batch: Batch) -> dict[str, torch.Tensor]:
    run.stage.module.train()
    run.stage.module.zero_grad()
    run.stage.engine.backward(run.stage.engine(batch).loss)
    return {n: p.grad.clone() for n, p in run.model.network.named_parameters() if p.grad is not None}


def furthest(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    largest = max(float(one.abs().max()) for one in theirs.values())
    return max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) / largest


def online(run: Run, place: Path) -> None:
    """Put the models themselves in the places of their stores."""
    for name, teacher in zip(("one", "two"), run.stage.module.teachers.values(), strict=False):
        assert isinstance(teacher, StoredTeacher)
        frozen = FrozenTeacher(teacher.requested, load(place / name), preprocess=run.model.preprocess)
        key = next(key for key, value in run.stage.module.teachers.items() if value is teacher)
        run.stage.module.teachers[key] = frozen


@pytest.mark.parametrize(("ending", "limit"), [("-exact", 1e-5), ("-store", 2e-3)])  # rounding
@pytest.mark.parametrize("average", ["after_softmax", "before_softmax"])
def test_gradients_are_those_of_the_teachers_on_the_same_views(
    place: Path, tmp_path: Path, ending: str, limit: float, average: str
):
    objectives = recipe_of(place, "a", "b")["objectives"]
    objectives["affinity"]["average"] = average
    run = opened(place, tmp_path / "run", f"one{ending}", f"two{ending}", objectives=objectives)
    with torch.no_grad():  # a student that equals its teacher has no gradient to compare
        run.model.network.image.get_parameter("project.weight").mul_(1.5).add_(0.02)
    batch = next(run.inputs.loader.batches())
    ours = gradients(run, batch)
    online(run, place)
    theirs = gradients(run, batch)
    assert set(ours) == set(theirs) and len(ours) > 20
    assert furthest(ours, theirs) < limit


def test_the_teachers_do_not_run_and_each_keeps_its_own_scale(place: Path, tmp_path: Path):
    with torch.no_grad():
        model = load(place / "two")
        model.network.log_scale.fill_(1.25)
        model.save(tmp_path / "scaled")
    data = place / "data" / "rows.jsonl"
    embed(tmp_path / "scaled", data, out=tmp_path / "s", augmentations=3, view=VIEW, captions=["generated"])
    run = opened(place, tmp_path / "run", "one-store", str(tmp_path / "s"))
    batch = next(run.inputs.loader.batches())
    scales = [teacher.encode(batch).scale.item() for teacher in run.stage.module.teachers.values()]
    assert scales == pytest.approx([load(place / "one").scale, np.exp(1.25)])
    assert not list(run.stage.module.teachers.parameters()), "nothing but vectors"


def test_every_epoch_draws_one_augmentation_and_makes_it_as_it_was_embedded(place: Path, tmp_path: Path):
    run = opened(place, tmp_path / "run", "one-exact")
    model, drawn = load(place / "one"), {}
    batches = run.inputs.loader.batches()
    for _ in range(12):  # four epochs
        batch = next(batches)
        ((name, teacher),) = run.stage.module.teachers.items()
        assert name == "t0"
        with torch.no_grad():
            seen = model.network.image(batch.images["main"]).embedding
        stored = teacher.encode(batch).images["main"].embedding
        torch.testing.assert_close(torch.nn.functional.normalize(seen, dim=1), stored, rtol=0, atol=1e-5)
        for row, number in zip(batch.rows.tolist(), batch.drawn["main"].tolist(), strict=True):
            drawn.setdefault(row, []).append(number)
    assert {len(numbers) for numbers in drawn.values()} == {4}
    assert {number for numbers in drawn.values() for number in numbers} == {0, 1, 2}
    assert len({tuple(numbers) for numbers in drawn.values()}) > 12


def test_the_text_that_is_drawn_is_the_text_that_is_read(place: Path, tmp_path: Path):
    run = opened(place, tmp_path / "run", "one-exact")
    model, batch = load(place / "one"), next(run.inputs.loader.batches())
    (teacher,) = run.stage.module.teachers.values()
    for view in ("caption", "synthetic"):
        texts = run.inputs.loader.texts.texts(batch.drawn[view].numpy())
        expected = model.encode_text(texts)
        torch.testing.assert_close(teacher.encode(batch).texts[view].embedding, expected, rtol=0, atol=1e-5)
    shown = run.inputs.loader.texts.texts(batch.drawn["caption"].numpy())
    assert any(text.startswith("thing ") for text in shown), "not always the first caption"


class Killed(Silent):
    def row(self, row: dict[str, Any]) -> None:
        if row["step"] == 4:
            raise RuntimeError("killed")


def content(run: RunDirectory) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    last = run.last_checkpoint()
    assert last is not None
    rows = [{k: v for k, v in row.items() if "seconds" not in k} for row in run.rows()]
    return rows, {path.name: path.read_bytes() for path in last.glob("*.safetensors")}


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_going_on_is_not_having_stopped(place: Path, tmp_path: Path, micro_batch: int | None):
    whole, cut = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "cut")
    changes = {"checkpoints": {"every": 3, "keep": 9}, "micro_batch": micro_batch}
    recipe, data = written(place, whole.path, "one-store", "two-store", **changes)
    train_run(recipe, data, whole)
    with pytest.raises(RuntimeError, match="killed"):
        train_run(recipe, data, cut, listener=Killed())
    train_run(recipe, data, cut, resume=True)
    assert content(cut) == content(whole)


def test_a_gradient_cache_gives_the_gradients_of_the_whole_batch(place: Path, tmp_path: Path):
    stores = ("one-store", "two-store")
    runs = [opened(place, tmp_path / f"run{size}", *stores, micro_batch=size) for size in (None, 3)]
    ours, theirs = (gradients(run, next(run.inputs.loader.batches())) for run in runs)
    assert furthest(ours, theirs) < 1e-5


def test_two_processes_draw_what_one_draws(place: Path, tmp_path: Path):
    loader = opened(place, tmp_path / "run", "one-store").inputs.loader
    spec, config = replace(loader.spec, batch=4), loader.config
    halves = [Loader(loader.data, spec, replace(config, rank=rank, world=2)) for rank in (0, 1)]
    whole, *parts = (next(one.batches(2)) for one in (loader, *halves))
    for name in ("rows", "turns"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(one, name) for one in parts]))
    for name, drawn in whole.drawn.items():
        assert torch.equal(drawn, torch.cat([one.drawn[name] for one in parts]))
    assert torch.equal(whole.images["main"], torch.cat([one.images["main"] for one in parts]))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_are_one(place: Path, tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_text(dump_yaml(recipe_of(place, "one-store", "two-store", steps=3)))
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for number, prefix in ((1, []), (2, start)):
        out = ["--out", str(tmp_path / str(number))]
        command = [sys.executable, *prefix, "-m", "frugalclip", "train", str(path), *out]
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
    checkpoints = (RunDirectory(tmp_path / number).checkpoint(3) for number in ("1", "2"))
    one, two = (load_file(folder / "model.safetensors") for folder in checkpoints)
    assert furthest(one, two) < 1e-5


@pytest.mark.parametrize("recipe", ["tinyclip-manual", "tinyclip-auto"])
def test_compress_learns_from_a_store(place: Path, tmp_path: Path, recipe: str):
    length = [f"{name}={'null' if value is None else value}" for name, value in LENGTH.items()]
    words = [*length, "keep=0.5", f"views.main={json.dumps(VIEW)}"]
    words.append(f"teachers.teacher.from={place / 'one-store'}")
    data = [f"data={place / 'data' / 'rows.jsonl'}", "data.validation=none"]
    compress(str(place / "one"), recipe, [*data, *words], out=tmp_path / "run")
    rows = list(RunDirectory(tmp_path / "run").rows())
    assert len(rows) == 6 and all(np.isfinite(row["affinity/loss"]) for row in rows)


# What is refused


def refusal(place: Path, tmp_path: Path, *stores: str, **changes: Any) -> str:
    with pytest.raises((RecipeError, DataError)) as caught:
        opened(place, tmp_path / "run", *stores, **changes)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"views": {"main": {**VIEW, "flip": 0}}}, "set views.main to that, or embed again with --view"),
        ({"views": {"main": "simclr"}}, "views.main is made with"),
        ({"views": {"main": {**VIEW, "size": 24}}}, "has 24 pixels on a side, and .* of 16; .*--size 24"),
        (
            {"texts": {**TEXTS, "caption": {"augment": {"operations": ["swap"]}}}},
            "texts.caption.augment changes words",
        ),
        ({"texts": {**TEXTS, "synthetic": {"fields": ["generated"]}}}, "embed again with --captions FIELD"),
    ],
)
def test_what_is_not_in_the_store_is_refused(
    place: Path, tmp_path: Path, changes: dict[str, Any], sentence: str
):
    assert re.search(sentence, refusal(place, tmp_path, "one-store", **changes))


def test_stores_that_differ_are_refused_together(place: Path, tmp_path: Path):
    stored(place, "two", out=str(tmp_path / "more"), augmentations=4)
    assert "has 4 augmentations of an image, another teacher of views.main has 3" in refusal(
        place, tmp_path, "one-store", str(tmp_path / "more")
    )


def test_a_later_stage_is_refused_before_the_first_one_trains(place: Path, tmp_path: Path):
    stages = [{"share": 0.5}, {"views": {"main": "simclr"}}]
    assert "views.main is made with" in refusal(place, tmp_path, "one-store", stages=stages)


def test_an_image_that_changed_is_refused_by_name(place: Path, tmp_path: Path):
    file = place / "data" / "07.png"
    before = file.read_bytes()
    Image.new("RGB", (20, 20), "red").save(file)
    try:
        assert "was embedded with another image of '" in refusal(place, tmp_path, "one-store")
    finally:
        file.write_bytes(before)


def test_captions_that_changed_are_refused_by_name(place: Path, tmp_path: Path):
    file = place / "data" / "rows.jsonl"
    before = file.read_text()
    file.write_text(before.replace("kind 3", "kind three", 1))
    try:
        assert "was embedded with other captions for 1 of 24 samples" in refusal(place, tmp_path, "one-store")
    finally:
        file.write_text(before)


@pytest.mark.parametrize("kind", ["store", "model"])
def test_another_teacher_in_the_same_place_is_refused_on_going_on(place: Path, tmp_path: Path, kind: str):
    ending = "-store" if kind == "store" else ""
    shutil.copytree(place / f"one{ending}", tmp_path / "teacher")
    run, checkpoints = RunDirectory(tmp_path / "run"), {"every": 3, "keep": 9}
    recipe, data = written(place, run.path, str(tmp_path / "teacher"), checkpoints=checkpoints)
    with pytest.raises(RuntimeError, match="killed"):
        train_run(recipe, data, run, listener=Killed())
    shutil.rmtree(tmp_path / "teacher")
    shutil.copytree(place / f"two{ending}", tmp_path / "teacher")
    with pytest.raises(DataError, match=r"teachers\.t0 of .* has changed since step 3; train into"):
        train_run(recipe, data, run, resume=True)


def test_a_store_that_is_not_finished_is_refused(place: Path, tmp_path: Path):
    store = stored(place, "one", out=str(tmp_path / "s"))
    head = store.head.model_copy(update={"complete": False})
    write_head(tmp_path / "s", head)
    assert "is not finished" in refusal(place, tmp_path, str(tmp_path / "s"))
