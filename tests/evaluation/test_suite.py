import json

import numpy as np
import pytest
from PIL import Image

from frugalclip.core.errors import DataError
from frugalclip.evaluation import suite_run
from frugalclip.evaluation.groups import find_groups
from frugalclip.evaluation.suite import (
    LabelConfig,
    TaskConfig,
    _label,
    flag_region,
    labels,
    load_suite,
    open_packs,
)
from frugalclip.evaluation.suite_run import evaluate_suite
from frugalclip.sources.open import open_data

OWN = """
packs:
  colours: {file: colours}
  absent: {file: absent.tar}
tasks:
  hue: {about: which colour, pack: colours, label: {field: hue}}
  warmth:
    about: warm or cold
    pack: colours
    where: hue!=green
    label: {field: hue, patterns: {warm: red|yellow, cold: blue}}
    split: folds
  elsewhere: {about: not here, pack: absent, label: {field: hue}}
suites:
  all: [hue, warmth, elsewhere]
"""
HUES = {"red": (240, 20, 20), "yellow": (240, 240, 20), "green": (20, 240, 20), "blue": (20, 20, 240)}


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """A folder of packs with one of 48 coloured squares in 24 families, and a suite on it."""
    place = tmp_path_factory.mktemp("packs")
    (place / "colours").mkdir()
    for i in range(48):
        hue = list(HUES)[(i // 2) % 4]
        shade = np.clip(np.array(HUES[hue]) + 3 * (i % 5), 0, 255).astype(np.uint8)
        Image.fromarray(np.broadcast_to(shade, (10, 10, 3))).save(place / "colours" / f"{i:02d}.png")
        (place / "colours" / f"{i:02d}.txt").write_text(hue, encoding="utf-8")
        fields = {
            "hue": hue,
            "split": ("train", "train", "val", "test")[(i // 8) % 4],
            "family": f"f{i // 2}",
        }
        (place / "colours" / f"{i:02d}.json").write_text(json.dumps(fields), encoding="utf-8")
    (place / "own.yaml").write_text(OWN, encoding="utf-8")
    return place


def test_the_shipped_suite_has_eleven_tests_and_six_need_no_pack():
    assert len(load_suite("packs").tasks) == 11
    sample = load_suite("sample")
    found, missing = open_packs(sample, None)
    assert not missing
    assert set(found[0].tasks) == set(sample.tasks)
    codes = find_groups(found[0].data).codes
    for name, labelled in found[0].tasks.items():
        sizes = np.bincount(labelled.labels[labelled.test].numpy(), minlength=len(labelled.names))
        assert sizes.min() >= 6, name  # every class is tested
        for fold in labelled.folds:
            trained, tested = (
                set(codes[labelled.rows[part]].tolist())
                for part in (np.r_[fold.train, fold.validation], fold.test)
            )
            assert not trained & tested, name  # no family crosses
    assert set(open_packs(load_suite("packs"), None)[1]) == set(load_suite("packs").tasks) - set(sample.tasks)


def test_a_flag_is_of_the_region_of_its_country():
    assert flag_region("1f1f0-1f1ea") == "Africa"  # KE
    assert flag_region("1f1f3-1f1f4") == "Europe"  # NO, which YAML would otherwise read as no
    assert flag_region("1f1e6-1f1f6") is None  # AQ
    assert (
        flag_region("1f3f4-e0067-e0062") is None
        and flag_region("1f600") is None
        and flag_region("rainbow") is None
    )
    flags = open_data("sample", where="subcategory=country-flag,style=noto")
    unknown = [
        name
        for concept, name in zip(flags.field("concept"), flags.field("name"), strict=True)
        if flag_region(concept) is None
    ]
    assert sorted(unknown) == ["antarctica flag", "european union flag", "united nations flag"]


def test_a_label_is_read_by_the_whole_value():
    config = LabelConfig(field="x", patterns={"drawing": ".*/cartoon(/.*)?", "photo": "((?!/cartoon).)*"})
    assert [
        _label(value, config) for value in ("animals/cartoon", "animals/birds", "animals/cartoon/x", None, [])
    ] == [
        "drawing",
        "photo",
        "drawing",
        None,
        None,
    ]
    assert _label(["first", "second"], LabelConfig(field="x")) == "first"


def test_small_classes_take_no_part_and_are_counted(packs):
    data = open_data(packs / "colours")
    config = TaskConfig(
        about="",
        pack="colours",
        label=LabelConfig(field="hue"),
        where="family!=f0|f4|f8|f12",
        min_train_groups=4,
    )
    found = labels(data, config, name="hue")
    assert found.names == ["blue", "green", "yellow"]  # four of the six red families are not selected
    assert found.left_out["in classes that are too small"] == 4
    with pytest.raises(DataError, match=r"test hue: 0 of 4 classes in .* have rows enough"):
        labels(data, config.model_copy(update={"min_train_groups": 40}), name="hue")


def test_every_test_with_a_pack_is_run(packs, model, monkeypatch):
    seen = []
    monkeypatch.setattr(
        suite_run,
        "image_features",
        lambda *given, real=suite_run.image_features, **more: (
            seen.append(len(given[1])) or real(*given, **more)
        ),
    )
    result = evaluate_suite(model, folder=packs, suite=str(packs / "own.yaml"))
    assert seen == [48]  # encoded once for both tests
    assert (
        set(result["metrics"])
        == {"hue", "warmth", "mean"}
        == set(result["interval"])
        == set(result["chance"])
    )
    assert result["metrics"] == {"hue": 100, "warmth": 100, "mean": 100}
    assert result["chance"] == {"hue": 25, "warmth": 50, "mean": 37.5}
    assert result["baselines"]["pixel_nn_1"]["warmth"] == result["baselines"]["feature_nn_1"]["warmth"] == 100
    assert result["tests"]["warmth"]["samples"] == 36  # every row but the green ones, each tested in one fold
    assert result["tests"]["warmth"]["split"]["folds"] == 5
    assert result["tests"]["hue"]["interval_over"] == "samples"  # eight rows of fewer than ten families
    assert "absent.tar is missing" in result["missing"]["elsewhere"]
    assert (result["suite"]["tests"], result["suite"]["mean_of"]) == (3, 2)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_test_images_that_the_model_was_trained_on_are_counted(packs, model):
    model.training_data = {"path": str(packs / "colours"), "where": "split=train|test"}
    result = evaluate_suite(model, folder=packs, suite=str(packs / "own.yaml"), draws=0)
    tests = result["tests"]
    assert tests["hue"]["trained_on"] == tests["hue"]["samples"] == 8
    assert 0 < tests["warmth"]["trained_on"] < tests["warmth"]["samples"]
    assert result["interval"] == {}


def test_what_cannot_run_is_an_error(packs, model, tmp_path):
    with pytest.raises(DataError, match="'pakcs' is not a suite; did you mean 'packs'"):
        load_suite("pakcs")
    with pytest.raises(DataError, match=r"there is no file .*nowhere\.yaml"):
        load_suite(str(tmp_path / "nowhere.yaml"))
    (tmp_path / "bad.yaml").write_text(
        "packs: {}\ntasks: {a: {about: x, pack: p, label: {field: f}}}", encoding="utf-8"
    )
    with pytest.raises(DataError, match="task a is of pack 'p'"):
        load_suite(str(tmp_path / "bad.yaml"))
    with pytest.raises(DataError, match="is not a folder"):
        evaluate_suite(model, folder=tmp_path / "absent", suite="skin-tone")
    with pytest.raises(
        DataError,
        match=r"no test of suite skin-tone can run: pack emoji-noto-tones.tar is missing .*FRUGALCLIP_PACKS",
    ):
        evaluate_suite(model, suite="skin-tone")
