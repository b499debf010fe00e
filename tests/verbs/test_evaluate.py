import json
import re

import numpy as np
import pytest
from PIL import Image

from frugalclip.cli import main
from frugalclip.core.errors import DataError, ModelError, UsageError
from frugalclip.core.preprocess import Preprocess
from frugalclip.core.records import RunDirectory, read_json, write_json
from frugalclip.data.tokens import train_tokenizer
from frugalclip.evaluation.metrics import in_percent, metric_name
from frugalclip.evaluation.tasks import TASKS
from frugalclip.language_model import Lexicon
from frugalclip.models import Model, load
from frugalclip.report.formats import difference, number, percent
from frugalclip.report.run import write_run_report
from frugalclip.sources.open import open_data
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.verbs.evaluate import evaluate, show

from ..backbones.tiny_backbones import timm_source, vision_source

COLOURS = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250)}
CONTRACT = {
    "task",
    "metrics",
    "interval",
    "chance",
    "baselines",
    "samples",
    "split_hash",
    "prompts",
    "preprocess",
}
TINY = {"width": 16, "depth": 1, "head_dim": 8}


@pytest.fixture
def folder(tmp_path):
    """Four coloured squares of three classes, each with a caption and a split."""
    place = tmp_path / "my"
    place.mkdir()
    for i, name in enumerate(["red", "green", "blue", "red"] * 2):
        Image.fromarray(np.full((20, 20, 3), COLOURS[name], np.uint8)).save(place / f"{i}.png")
        (place / f"{i}.txt").write_text(f"a {name} square", encoding="utf-8")
        (place / f"{i}.json").write_text(
            json.dumps({"label": name, "split": "train" if i < 4 else "test"}), encoding="utf-8"
        )
    return place


def make_model(folder=None, *, seed=0) -> Model:
    tokenizer = train_tokenizer([f"a {name} square" for name in COLOURS] * 3, vocabulary=520, context=12)
    config = ModelConfig.model_validate(
        {"image": {**TINY, "patch": 8, "resolution": 16}, "text": TINY, "dim": 8}
    )
    network = DualEncoder(config, vocabulary=tokenizer.vocabulary, context=tokenizer.context, seed=seed)
    data = {"path": str(folder), "where": "split=train"} if folder else None
    return Model(network, tokenizer, Preprocess(size=16), training_data=data)


@pytest.mark.parametrize("task", [task for task in TASKS if task != "suite"])
def test_every_task_gives_the_contracts_json(task, folder, tmp_path, capsys):
    model = make_model(folder)
    model.lexicon = (
        Lexicon([f"word{i}" for i in range(model.dim)], range(model.dim)) if task == "words" else None
    )
    model.save(tmp_path / "model")
    result = evaluate(
        tmp_path / "model", data=folder, task=task, where="split=test", json=tmp_path / "out" / "result.json"
    )
    assert json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8")) == result
    assert result.keys() >= CONTRACT
    assert (result["task"], result["samples"]) == (task, 4)
    assert result["split_hash"] == open_data(folder, where="split=test").fingerprint()
    assert result["preprocess"]["size"] == 16
    unknown = {"most_used_word", "non_zeros"} if task == "words" else set()  # what guessing would give
    assert set(result["metrics"]) == set(result["interval"]) == set(result["chance"]) | unknown
    show(result)
    printed = capsys.readouterr().out
    for name, value in result["metrics"].items():
        text = percent(value, unit=False) if in_percent(name) else number(value)
        words = re.escape(metric_name(name, short=True))
        assert re.search(rf"{words}\s+{re.escape(text)}\W", printed), f"{name} is not shown"


def test_long_work_prints_how_far_it_is(folder, monkeypatch, capsys):
    monkeypatch.setattr("frugalclip.core.progress.SILENCE", 0.0)
    monkeypatch.setattr("frugalclip.evaluation.descriptors._CHUNK", 2)
    encode = Model.image_features
    monkeypatch.setattr(Model, "image_features", lambda *given, **more: encode(*given, batch=2, **more))
    model = make_model(folder)
    evaluate(model, data=folder, baselines=True, robustness=True)
    lines = {line.partition(":")[0] for line in capsys.readouterr().err.splitlines()}
    assert lines >= {"encoding images", "describing images for the feature baseline"}
    evaluate(model, data=folder, task="retrieval")
    assert "encoding images: 2 of 8, about 1 s left" in capsys.readouterr().err


def test_columns_that_were_named_for_training_are_read_again(folder, tmp_path):
    rows = "".join(f"my/{i}.png,a {name} square\n" for i, name in enumerate(COLOURS))
    (tmp_path / "pairs.csv").write_text(f"foto,worte\n{rows}", encoding="utf-8")
    model = make_model(folder)
    model.training_data = {
        "path": str(tmp_path / "pairs.csv"),
        "columns": {"image": "foto", "caption": "worte"},
        "where": None,
    }
    found = evaluate(model, data=tmp_path / "pairs.csv", task="retrieval", baselines=True)
    assert found["samples"] == 3 and found["baselines"]["pixel_nn_1"]["i2t_r1"] == 100


def image_only_source(kind, place) -> str:
    return timm_source(place) if kind == "timm" else vision_source(place / "hf")


@pytest.mark.parametrize("kind", ["timm", "hf"])
@pytest.mark.parametrize(
    "task", [name for name, one in TASKS.items() if not one.needs_texts and name != "suite"]
)
def test_an_image_only_model_takes_the_tasks_without_texts(task, kind, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FRUGALCLIP_CACHE", str(tmp_path / "cache"))
    source = image_only_source(kind, tmp_path)
    result = evaluate(source, data=folder, task=task, where="split=test", label_field="label")
    assert (result["samples"], result["model"], result["model_path"]) == (4, load(source).fingerprint, source)
    assert result["preprocess"]["size"] == (160 if kind == "timm" else 32)
    if task == "grouping":
        assert result["geometry"] is None  # there are no captions to be far from
    if task == "knn":
        assert result["metrics"]["top1"] == 100  # squares of one colour are one image
    show(result)
    assert result["model"] in capsys.readouterr().out


def test_tasks_with_texts_say_which_others_an_image_only_model_takes(folder, tmp_path):
    source = image_only_source("hf", tmp_path)
    for task in ("zeroshot", "retrieval"):
        with pytest.raises(
            DataError,
            match=rf"hf encodes images only, and --task {task} needs texts; .*\(probe, knn, fewshot,",
        ):
            evaluate(source, data=folder, task=task)
    with pytest.raises(DataError, match="the model encodes images only"):
        evaluate(load(source), data=folder)
    found = evaluate(make_model(folder), data=folder, where="split=test", baselines_model=source)
    assert found["baselines"]["feature_nn_1"]["top1"] == 100


def test_baselines_stand_in_the_same_row(folder, capsys):
    result = evaluate(make_model(folder), data=folder, where="split=test", baselines=True)
    assert result["baselines"]["pixel_nn_1"]["top1"] == result["baselines"]["feature_nn_1"]["top1"] == 100
    assert result["baselines_about"]["features"].startswith("shape and colour")
    assert result["baselines_about"]["training_rows"] == 4
    show(result)
    row = next(line for line in capsys.readouterr().out.splitlines() if "Top-1 " in line)
    assert "33.3" in row
    assert row.split()[-5:] == ["100.0", "50.0", "100.0", "50.0", "100.0"]  # the last one is the fit


def test_any_model_can_be_the_frozen_encoder_of_the_feature_baseline(folder, tmp_path):
    make_model().save(tmp_path / "other")
    result = evaluate(make_model(folder), data=folder, where="split=test", baselines_model=tmp_path / "other")
    assert "frozen encoder" in result["baselines_about"]["features"]
    assert result["baselines"]["feature_nn_1"]["top1"] == 100  # equal images have equal features


def test_the_classes_come_from_the_label_field_or_a_caption(folder):
    model = make_model()
    assert [
        entry["name"] for entry in sorted(evaluate(model, data=folder)["per_class"], key=lambda e: e["name"])
    ] == ["blue", "green", "red"]
    other = evaluate(
        model,
        data=folder,
        label_field="captions",
        prompts="drawing",
        classes=["a red square", "a blue square | azure"],
    )
    assert other["classes"] == {"restricted": 2, "generalised": 2}
    assert other["left_out"] == {"without a name of the list": 2}
    assert other["prompts"]["set"] == "drawing"


def test_what_is_misspelt_or_missing_is_named(folder, tmp_path):
    model = make_model()
    with pytest.raises(UsageError, match="'zero-shot' is not a task; did you mean 'zeroshot'"):
        evaluate(model, data=folder, task="zero-shot")
    with pytest.raises(DataError, match="did you mean 'photo'"):
        evaluate(model, data=folder, prompts="photos")
    with pytest.raises(DataError, match="no field 'labl'; did you mean 'label'"):
        evaluate(model, data=folder, label_field="labl")
    with pytest.raises(UsageError, match="--features pool is not understood; did you mean 'pooled'"):
        evaluate(model, data=folder, task="probe", features="pool")
    with pytest.raises(ModelError, match=r"no lexical head, .*'frugalclip train lexvla'"):
        evaluate(model, data=folder, task="words")
    with pytest.raises(DataError, match="--task knn needs a data set; add --data PATH"):
        evaluate(model, task="knn")
    with pytest.raises(DataError, match="the model has no record of them; add --baselines-data PATH"):
        evaluate(model, data=folder, baselines=True)
    with pytest.raises(DataError, match=r"--baselines needs the training images, and .*absent"):
        evaluate(make_model(tmp_path / "absent"), data=folder, baselines=True)


def test_options_without_effect_warn(folder):
    with pytest.warns(UserWarning, match="--classes has no effect on --task retrieval"):
        evaluate(make_model(), data=folder, task="retrieval", classes=["red"])
    with pytest.warns(UserWarning, match="--baselines has no effect on --task knn"):
        evaluate(make_model(), data=folder, task="knn", where="split=test", baselines=True)
    with pytest.warns(UserWarning, match="--robustness has no effect on --task probe"):
        evaluate(make_model(), data=folder, task="probe", where="split=test", robustness=True)


def test_altered_copies_are_shown_beside_the_unaltered_images(folder, capsys):
    result = evaluate(make_model(folder), data=folder, where="split=test", robustness=True)
    show(result)
    printed = capsys.readouterr().out
    for name, found in result["robustness"].items():
        assert re.search(
            rf"{name}\s+{re.escape(percent(found['metrics']['top1'], unit=False))}\s", printed
        ), name
        assert difference(found["difference"]["top1"]) in printed


SUITE = """
packs:
  mine: {file: my}
  other: {file: other.tar}
tasks:
  colour: {about: which colour, pack: mine, label: {field: label}, min_train_groups: 1}
  elsewhere: {about: not here, pack: other, label: {field: label}}
"""


@pytest.fixture
def run(folder, tmp_path):
    """A run directory with a checkpoint and a report."""
    place = RunDirectory(tmp_path / "run")
    make_model(folder).save(place.checkpoint(1))
    write_json(place.checkpoint(1) / "state.json", {})
    place.recipe.write_text("name: tiny", encoding="utf-8")
    write_json(
        place.summary,
        {"evaluations": [evaluate(place.path, data=folder, where="split=test")], "training": {"steps": 1}},
    )
    write_run_report(place)
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    return place


def test_grouping_joins_the_report_of_its_run_once(run, folder):
    for _ in range(2):
        evaluate(run.path, data=folder, task="grouping", label_field="label")
    evaluate(run.path, data=folder, task="grouping", label_field="split")
    found = [
        one
        for one in json.loads(run.summary.read_text(encoding="utf-8"))["evaluations"]
        if one["task"] == "grouping"
    ]
    assert [one["clusters"]["label_field"] for one in found] == ["label", "split"]
    assert found[0]["metrics"].keys() == {"ami", "ari"}
    assert "grouping" in run.report.read_text(encoding="utf-8")


def test_a_suite_is_shown_and_joins_the_report_of_its_run(run, tmp_path, capsys, monkeypatch):
    before = run.report.read_text(encoding="utf-8")
    monkeypatch.setenv("FRUGALCLIP_PACKS", str(tmp_path))
    evaluate(run.path, task="suite", suite=str(tmp_path / "suite.yaml"))
    # the second takes the place of the first
    result = evaluate(
        run.path, task="suite", suite=str(tmp_path / "suite.yaml"), json=tmp_path / "suite.json"
    )
    assert result.keys() >= CONTRACT
    assert json.loads((tmp_path / "suite.json").read_text(encoding="utf-8")) == result
    show(result)
    printed = capsys.readouterr().out
    assert re.search(rf"colour\s+4\s+{percent(result['metrics']['colour'], unit=False)}\W", printed)
    assert "mean of 1" in printed
    assert "elsewhere did not run: pack other.tar is missing" in printed
    evaluations = read_json(run.summary)["evaluations"]
    assert [e["task"] for e in evaluations] == ["zeroshot", "suite"]
    page = run.report.read_text(encoding="utf-8")
    assert "which colour" in page and "which colour" not in before
    assert "elsewhere did not run" in page
    first, last = page.find("<section"), page.find('id="evaluations"')
    assert page[:first] == before[:first] and page[first:last] == before[first:last]
    assert page.count("</section>") == before.count("</section>")
    assert page.endswith(before[before.find('id="repeat"') :])


def test_packs_are_looked_for_where_the_user_says(run, tmp_path, monkeypatch):
    monkeypatch.delenv("FRUGALCLIP_PACKS", raising=False)
    suite = str(tmp_path / "suite.yaml")
    with pytest.raises(DataError, match="set FRUGALCLIP_PACKS or give --data FOLDER"):
        evaluate(run.path, task="suite", suite=suite)
    assert evaluate(run.path, task="suite", suite=suite, data=tmp_path)["metrics"].keys() == {
        "colour",
        "mean",
    }
    with pytest.warns(UserWarning, match="--where has no effect on --task suite"):
        evaluate(run.path, task="suite", suite=suite, data=tmp_path, where="split=test")


@pytest.mark.parametrize("task", ["zeroshot", "retrieval", "knn"])
def test_several_models_stand_in_one_table(task, folder, tmp_path, capsys):
    names = []
    for seed in (0, 1):
        make_model(folder, seed=seed).save(tmp_path / f"model-{seed}")
        names.append(str(tmp_path / f"model-{seed}"))
    options = ["--data", str(folder), "--task", task, "--where", "split=test"]
    assert main(["evaluate", *names, *options, "--json", str(tmp_path / "r.json")]) == 0
    printed = capsys.readouterr().out
    assert all(f"model-{seed}" in printed for seed in (0, 1)) and "chance" in printed
    result = read_json(tmp_path / "r.json")
    assert (list(result["models"]), result["against"]) == (names, names[0])
    alone = evaluate(names[1], data=folder, task=task, where="split=test")
    assert result["models"][names[1]]["metrics"] == alone["metrics"]
    if task == "knn":
        assert result["compared"] == {} and "has no paired interval" in printed
        return
    metric = result["compared"][names[1]]["metric"]
    gap = alone["metrics"][metric] - result["models"][names[0]]["metrics"][metric]
    assert result["compared"][names[1]]["difference"] == pytest.approx(gap, abs=1e-3)
    with pytest.raises(DataError, match="named twice"):
        evaluate([names[0], names[0]], data=folder)


def test_images_that_were_trained_on_are_counted(folder, capsys):
    (folder / "9.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "9.txt").write_text("a red square", encoding="utf-8")
    (folder / "9.json").write_text(json.dumps({"label": "red", "split": "test"}), encoding="utf-8")
    result = evaluate(make_model(folder), data=folder, task="zeroshot", where="split=test")
    found = result["leakage"]
    assert found["checked"]
    assert found["of"] == 5
    assert found["kinds"] == {"exact": found["images"]}
    assert found["images"] == 5  # the squares of a colour are one picture
    show(result)
    assert "5 of 5 evaluated images are in the training data (5 exact)." in capsys.readouterr().out


def test_unknown_training_data_is_said(folder):
    result = evaluate(make_model(), data=folder, task="retrieval")
    assert result["leakage"] == {"checked": False, "reason": "the model has no record of its training data"}
    gone = make_model(folder.with_name("gone"))
    found = evaluate(gone, data=folder, task="retrieval")["leakage"]
    assert not found["checked"]
    assert "cannot be read" in found["reason"]
