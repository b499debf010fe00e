import json
import re

import numpy as np
import pytest
from PIL import Image

from frugalclip.core.errors import DataError
from frugalclip.data.sources import open_data
from frugalclip.data.tokens import train_tokenizer
from frugalclip.data.views import Preprocess
from frugalclip.models import Model
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.verbs.evaluate import TASKS, evaluate, metric_name, show

COLOURS = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250)}
CONTRACT = {"task", "metrics", "interval", "chance", "floors", "samples", "split_hash", "prompts", "preprocess"}
TINY = {"width": 16, "depth": 1, "head_dim": 8}


@pytest.fixture
def folder(tmp_path):
    """Four coloured squares of three classes, each with a caption and a split."""
    place = tmp_path / "my"
    place.mkdir()
    for i, name in enumerate(["red", "green", "blue", "red"] * 2):
        Image.fromarray(np.full((20, 20, 3), COLOURS[name], np.uint8)).save(place / f"{i}.png")
        (place / f"{i}.txt").write_text(f"a {name} square", encoding="utf-8")
        (place / f"{i}.json").write_text(json.dumps({"label": name, "split": "train" if i < 4 else "test"}), encoding="utf-8")
    return place


def make_model(folder=None) -> Model:
    tokenizer = train_tokenizer([f"a {name} square" for name in COLOURS] * 3, vocabulary=520, context=12)
    config = ModelConfig.model_validate({"image": {**TINY, "patch": 8, "resolution": 16}, "text": TINY, "dim": 8})
    network = DualEncoder(config, vocabulary=tokenizer.vocabulary, context=tokenizer.context, seed=0)
    data = {"path": str(folder), "where": "split=train"} if folder else None
    return Model(network, tokenizer, Preprocess(size=16), training_data=data)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_gives_the_contracts_json(task, folder, tmp_path, capsys):
    make_model(folder).save(tmp_path / "model")
    result = evaluate(tmp_path / "model", data=folder, task=task, where="split=test", json=tmp_path / "out" / "result.json")
    assert json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8")) == result
    assert result.keys() >= CONTRACT
    assert (result["task"], result["samples"]) == (task, 4)
    assert result["split_hash"] == open_data(folder, where="split=test").fingerprint()
    assert result["preprocess"]["size"] == 16
    assert set(result["metrics"]) == set(result["interval"]) == set(result["chance"])
    show(result)
    printed = capsys.readouterr().out
    for name, value in result["metrics"].items():
        assert re.search(rf"{re.escape(metric_name(name))}\W+{value:.1f}\W", printed), f"{name} is not shown"


def test_floors_stand_in_the_same_row(folder, capsys):
    result = evaluate(make_model(folder), data=folder, where="split=test", floors=True)
    assert result["floors"]["pixel_nn_1"]["top1"] == result["floors"]["feature_nn_1"]["top1"] == 100
    assert result["floors_about"]["features"].startswith("shape and colour")
    assert result["floors_about"]["training_rows"] == 4
    show(result)
    row = next(line for line in capsys.readouterr().out.splitlines() if "top 1 " in line)
    assert "33.33" in row
    assert row.count("100.0/") == 2


def test_any_model_can_be_the_frozen_encoder_of_the_feature_floor(folder, tmp_path):
    make_model().save(tmp_path / "other")
    result = evaluate(make_model(folder), data=folder, where="split=test", floors_model=tmp_path / "other")
    assert "frozen encoder" in result["floors_about"]["features"]
    assert result["floors"]["feature_nn_1"]["top1"] == 100  # equal pictures have equal features


def test_the_classes_come_from_the_label_field_and_a_caption_can_be_asked_for(folder):
    model = make_model()
    assert [entry["name"] for entry in sorted(evaluate(model, data=folder)["per_class"], key=lambda e: e["name"])] == ["blue", "green", "red"]
    other = evaluate(model, data=folder, label_field="captions", prompts="drawing", classes=["a red square", "a blue square | azure"])
    assert other["classes"] == {"restricted": 2, "generalised": 2}
    assert other["left_out"] == {"without a name of the list": 2}
    assert other["prompts"]["set"] == "drawing"


def test_what_is_misspelt_or_missing_is_named(folder, tmp_path):
    model = make_model()
    with pytest.raises(DataError, match="'zero-shot' is not a task; did you mean 'zeroshot'"):
        evaluate(model, data=folder, task="zero-shot")
    with pytest.raises(DataError, match="did you mean 'photo'"):
        evaluate(model, data=folder, prompts="photos")
    with pytest.raises(DataError, match="no field 'labl'; did you mean 'label'"):
        evaluate(model, data=folder, label_field="labl")
    with pytest.raises(DataError, match="this model does not say where they are"):
        evaluate(model, data=folder, floors=True)
    with pytest.raises(DataError, match=r"--floors needs the training pictures, and .*absent"):
        evaluate(make_model(tmp_path / "absent"), data=folder, floors=True)


def test_options_without_effect_warn(folder):
    with pytest.warns(UserWarning, match="--classes has no effect on --task retrieval"):
        evaluate(make_model(), data=folder, task="retrieval", classes=["red"])
    with pytest.warns(UserWarning, match="--floors has no effect on --task knn"):
        evaluate(make_model(), data=folder, task="knn", where="split=test", floors=True)
