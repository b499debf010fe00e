import json

import numpy as np
import pytest
import torch
from torch import Tensor

from frugalclip.core.errors import DataError
from frugalclip.evaluation.baselines import Baselines
from frugalclip.evaluation.ranking import TIE_RULE
from frugalclip.evaluation.zeroshot import ZeroshotTask, evaluate_zeroshot, zeroshot_task
from frugalclip.functional import unit
from frugalclip.report.evaluations import evaluation_remarks

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


def metrics_of(images: Tensor, classes: Tensor, labels: Tensor) -> dict[str, float]:
    """Metrics of a task with one text a class; labels (samples,) or (samples, most), -1 for none."""
    names, rows = [f"class {i}" for i in range(len(classes))], np.arange(len(images))
    labels = labels[:, None] if labels.ndim == 1 else labels
    task = ZeroshotTask(
        names, [[name] for name in names], names, torch.arange(len(names)), rows, [], labels, rows, {}
    )
    return task.metrics(images, classes)


def test_metrics_equal_their_formulas_written_as_loops():
    generator = torch.Generator().manual_seed(0)
    images, classes = torch.randn(60, 6, generator=generator), torch.randn(12, 6, generator=generator)
    labels = torch.randint(0, 9, (60,), generator=generator)  # three names have no sample
    cosines = (unit(images) @ unit(classes).T).tolist()
    expected = {}
    for prefix, pool in (("", sorted(set(labels.tolist()))), ("generalised_", list(range(12)))):
        ranked = [sorted(pool, key=lambda c: -row[c]) for row in cosines]
        hits = [order[0] == label for order, label in zip(ranked, labels.tolist(), strict=True)]
        classwise = [
            [h for h, other in zip(hits, labels.tolist(), strict=True) if other == c]
            for c in set(labels.tolist())
        ]
        expected[f"{prefix}top1"] = 100 * sum(hits) / 60
        expected[f"{prefix}top5"] = (
            100 * sum(label in order[:5] for order, label in zip(ranked, labels.tolist(), strict=True)) / 60
        )
        expected[f"{prefix}mean_per_class"] = 100 * sum(sum(h) / len(h) for h in classwise) / len(classwise)
    assert metrics_of(images, classes, labels) == pytest.approx(expected, abs=1e-9)
    assert (
        expected["top1"] > expected["generalised_top1"]
    )  # the pools differ here, so mixing them up would show


def test_any_of_several_labels_is_right():
    classes = torch.eye(3)
    labels = torch.tensor([[0, 1], [2, -1]])
    metrics = metrics_of(torch.tensor([[0.1, 1, 0.2], [1, 0, 0.5]]), classes, labels)
    assert metrics["top1"] == 50
    assert metrics["mean_per_class"] == pytest.approx(
        100 * 2 / 3
    )  # classes 0 and 1 share the sample that is right


def test_length_of_features_does_not_matter_and_a_collapsed_model_is_at_chance():
    images, classes, labels = torch.randn(20, 4), torch.randn(7, 4), torch.arange(20) % 7
    assert metrics_of(images, classes, labels) == metrics_of(
        images * 3, classes * torch.arange(1, 8)[:, None], labels
    )
    collapsed = metrics_of(torch.ones(20, 4), torch.ones(7, 4), labels % 4)
    assert collapsed == pytest.approx(
        {
            "top1": 25,
            "top5": 100,
            "mean_per_class": 25,
            "generalised_top1": 100 / 7,
            "generalised_top5": 500 / 7,
            "generalised_mean_per_class": 100 / 7,
        }
    )


def test_a_task_asks_for_every_prompt_of_every_synonym(squares):
    task = zeroshot_task(squares.where("split=test"), classes=["red|crimson", "blue"], prompts="emoji")
    assert len(task.texts) == 3 * 4
    assert task.owners.tolist() == [0] * 8 + [1] * 4
    assert "an icon of crimson" in task.texts
    assert task.about["left_out"] == {"without a name of the list": 3}
    assert task.rows.tolist() == [0, 1, 2, 5]


def test_the_result_holds_table_examples_and_intervals_that_enclose_the_value(squares, model):
    chosen = squares.where("split=test")
    task = zeroshot_task(chosen, squares, group="pair")
    images = model.image_features(chosen.take(task.rows)).features
    texts = model.encode_text(task.texts)
    images[0] = texts[task.names.index("green")]  # one red square is taken for green
    result = task.result(images, texts)
    assert result["metrics"] == task.metrics(images, texts)
    assert result["metrics"]["top1"] == pytest.approx(100 * 6 / 7)
    assert result["metrics"]["mean_per_class"] == pytest.approx(100 * (2 / 3 + 3) / 4)
    assert result["classes"] == {"restricted": 4, "generalised": 5}
    assert result["chance"]["top1"] == 25
    assert result["chance"]["generalised_top1"] == pytest.approx(20)
    assert result["bootstrap"]["groups"] == 4
    for name, value in result["metrics"].items():
        low, high = result["interval"][name]
        assert low <= value <= high
    assert result["per_class"][-1] == {
        "name": "red",
        "samples": 3,
        "top1": pytest.approx(200 / 3),
        "mistaken_for": "green",
        "times": 1,
    }
    assert result["examples"]["worst"][0]["name"] == "red"
    assert result["examples"]["worst"][0]["rows"][0] == {"id": "s0", "row": 0, "named": "green"}
    assert [entry["name"] for entry in result["examples"]["confusions"]] == ["red"]


def test_names_that_lose_their_images_leave_the_restricted_pool(squares):
    task = zeroshot_task(squares.where("split=test"), squares)
    fewer = task.only(torch.tensor([0, 3]).numpy())
    assert fewer.chance()["top1"] == 50
    assert fewer.ids == ["s0", "s3"]


def test_zero_shot_counts_what_is_lost_and_stores_what_it_depends_on(squares, model):
    chosen = squares.where("split=test|broken")
    result = evaluate_zeroshot(
        model, chosen, squares, where="split=test|broken", baselines=Baselines(squares.where("split=train"))
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
    # dark blue is the one name that copying the nearest training image cannot give
    assert result["baselines"]["pixel_nn_1"]["top1"] == pytest.approx(100 * 6 / 7, abs=1e-5)
    assert result["baselines"]["pixel_nn_1"].keys() == result["metrics"].keys()
    assert result["baselines_about"]["training_rows"] == 4
    assert result["baselines_about"]["near_duplicates"] == 6
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_baselines_are_only_measured_on_request(squares, model):
    assert evaluate_zeroshot(model, squares.where("split=test"))["baselines"] == {}


def test_names_in_another_language(squares, model):
    result = evaluate_zeroshot(
        model,
        squares.where("split=test"),
        squares,
        language="de",
        baselines=Baselines(squares.where("split=train")),
    )
    assert result["metrics"]["top1"] == 100
    assert result["baselines"]["pixel_nn_1"]["top1"] == 100
    assert result["left_out"] == {"without a name": 1}
    assert result["names"] == "first caption in de"


def test_no_readable_image_is_an_error(squares, model):
    with pytest.raises(
        DataError, match="no image of squares could be read; run: frugalclip data check squares"
    ):
        evaluate_zeroshot(model, squares.where("split=broken"), squares)


def test_a_model_is_compared_with_each_baseline_image_by_image(model, squares):
    tested, training = squares.where("split=test"), squares.where("split=train")
    result = evaluate_zeroshot(model, tested, label_field="name", baselines=Baselines(training))
    assert result["compared"].keys() == result["baselines"].keys()
    for name, one in result["compared"].items():
        apart = result["metrics"]["top1"] - result["baselines"][name]["top1"]
        assert one["difference"] == pytest.approx(apart, abs=1e-4)
        assert one["interval"][0] <= one["difference"] <= one["interval"][1]
        low, high = one["interval"]
        assert one["verdict"] == ("above" if low > 0 else "below" if high < 0 else "level")
    remarks = " ".join(remark.text for remark in evaluation_remarks(result))
    assert "Top-1 accuracy is " in remarks, remarks
