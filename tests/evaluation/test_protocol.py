import json

import pytest

from frugalclip.core.errors import DataError
from frugalclip.evaluation.protocol import evaluate_retrieval, evaluate_zeroshot
from frugalclip.evaluation.ranking import TIE_RULE

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


def test_zero_shot_counts_what_is_lost_and_stores_what_it_depends_on(squares, model):
    chosen = squares.where("split=test|broken")
    result = evaluate_zeroshot(
        model, chosen, squares, where="split=test|broken", training=squares.where("split=train")
    )
    assert result.keys() >= CONTRACT
    assert result["samples"] == 7
    assert sum(result["left_out"].values()) == 1
    assert result["metrics"]["top1"] == 100
    assert result["split_hash"] == chosen.fingerprint()
    assert (result["where"], result["tie_rule"], result["preprocess"]) == (
        "split=test|broken",
        TIE_RULE,
        {"size": 8},
    )
    assert result["prompts"] == {"set": "plain", "templates": ["{}"]}
    # dark blue is the one name that copying the nearest training picture cannot give
    assert result["baselines"]["pixel_nn_1"]["top1"] == pytest.approx(100 * 6 / 7, abs=1e-5)
    assert result["baselines"]["pixel_nn_1"].keys() == result["metrics"].keys()
    assert result["floors_about"]["training_rows"] == 4
    assert result["floors_about"]["near_duplicates"] == 6
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_floors_are_only_measured_when_asked_for(squares, model):
    assert evaluate_zeroshot(model, squares.where("split=test"))["baselines"] == {}


def test_names_in_another_language(squares, model):
    result = evaluate_zeroshot(
        model, squares.where("split=test"), squares, language="de", training=squares.where("split=train")
    )
    assert result["metrics"]["top1"] == 100
    assert result["baselines"]["pixel_nn_1"]["top1"] == 100
    assert result["left_out"] == {"without a name": 1}
    assert result["names"] == "first caption in de"


def test_retrieval_with_a_lost_picture_and_floors(squares, model):
    result = evaluate_retrieval(
        model, squares.where("split=test|broken"), training=squares.where("split=train"), group="pair"
    )
    assert result.keys() >= CONTRACT
    assert (result["samples"], result["texts"], result["pairs"]) == (7, 4, 7)
    assert result["metrics"]["i2t_r1"] == 100
    assert result["baselines"]["pixel_nn_1"]["i2t_r1"] == pytest.approx(100 * 6 / 7, abs=1e-5)
    assert result["baselines"]["pixel_nn_1"].keys() == result["metrics"].keys()
    assert result["interval_over"] == "pair"


def test_no_readable_picture_is_an_error(squares, model):
    with pytest.raises(
        DataError, match="no picture of squares could be read; run 'frugalclip data check squares'"
    ):
        evaluate_zeroshot(model, squares.where("split=broken"), squares)
