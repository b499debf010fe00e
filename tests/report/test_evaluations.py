from typing import Any

from frugalclip.report.evaluations import (
    altered_table,
    baselines_of,
    chance_of,
    evaluation_notes,
    evaluation_remarks,
    evaluation_tables,
    metric_table,
    suite_table,
)
from frugalclip.report.headline import bars, headline_metric
from frugalclip.report.rows import ChangedValue, Label, Measure, Strip
from frugalclip.report.tables import evaluation_block


def suite() -> dict[str, Any]:
    """A suite of one test, with markup in every text that a user could have written."""
    test = {"about": "is it <b>so</b>", "classes": 3, "samples": 12, "trained_on": 5}
    metrics = {"a-test": 61.25, "mean": 61.25}
    return {
        "task": "suite",
        "metrics": metrics,
        "interval": {"a-test": [50.5, 70.25], "mean": [50.5, 70.25]},
        "chance": dict.fromkeys(metrics, 33.3),
        "baselines": {
            "pixel_nn_1": {"a-test": 44.4, "mean": 44.4},
            "feature_nn_1": {"a-test": 55.5, "mean": 55.5},
        },
        "knn": {"a-test": 58.8, "mean": 58.8},
        "samples": 12,
        "suite": {"name": "mine", "features": "embedding", "mean_of": 1},
        "tests": {"a-test": test},
        "missing": {"other<i>": "pack x.tar is missing (not in <folder>)"},
        "bootstrap": {"draws": 100, "level": 95},
    }


def test_baselines_and_chance_are_those_of_the_metric(evaluation):
    assert baselines_of(evaluation, "top1") == {"pixel_nn_1": 20.0, "pixel_nn_10": 25.0}
    assert baselines_of(evaluation, "top5") == {"pixel_nn_1": 90.0}
    assert chance_of(evaluation, "generalised_top1") is None
    assert baselines_of({"baselines": None}, "top1") == {}


def test_a_metric_has_a_row_of_typed_cells(evaluation):
    table = metric_table(evaluation)
    assert [column.short for column in table.columns if not column.kind] == [
        "",
        "value %",
        "chance",
        "px\nNN 1",
        "px\nNN 10",
    ]
    label, value, strip, *compared = table.rows[0]
    assert label == Label("Top-1 accuracy", short="Top-1")
    assert value == Measure(50.0, (30.0, 70.0), is_main=True)
    assert isinstance(strip, Strip) and strip.marks == (20.0, 25.0, 16.7)
    assert compared == [Measure(16.7), Measure(20.0), Measure(25.0)]
    assert table.rows[2][3:] == [None, None, None]  # nothing to compare with in the generalised pool


def test_a_count_has_no_place_on_a_scale_of_percent():
    (row,) = metric_table({"metrics": {"t2i_median_rank": 3.5}}).rows
    assert row[1:3] == [Measure(3.5, in_percent=False, is_main=True), None]


def test_a_suite_has_a_row_a_test_with_everything_beside_the_metric():
    test, mean = suite_table(suite()).rows
    assert test[:2] == [
        Label("A-test", "is it <b>so</b>. 3 classes; 5 of the images were trained on.", "a-test"),
        12,
    ]
    compared = [cell.value for cell in test if isinstance(cell, Measure)]
    assert compared == [61.25, 58.8, 33.3, 44.4, 55.5]
    assert mean[0].text == "Mean of 1 tests"
    assert suite_table(suite()).has_total
    block = evaluation_block(suite())
    assert "is it &lt;b&gt;so&lt;/b&gt;" in block
    assert "other&lt;i&gt; did not run: pack x.tar is missing (not in &lt;folder&gt;)." in block
    assert "<i>" not in block and "<folder>" not in block


def test_the_mean_stands_for_a_suite():
    assert headline_metric(suite()) == "mean"
    assert len(bars(suite(), "mean", name="this model")) == 4  # the model, two baselines, chance


def test_altered_copies_stand_below_the_unaltered_images():
    result = {
        "task": "zeroshot",
        "metrics": {"top1": 40.0, "top5": 70.0, "t2i_median_rank": 3.0},
        "robustness": {
            "hue": {
                "about": "turned & moved",
                "metrics": {"top1": 30.0, "top5": 71.5},
                "difference": {"top1": -10.0, "top5": 1.5},
                "interval": {"top1": [-12.0, -8.0], "top5": [-1.0, 4.0]},
            }
        },
    }
    table = altered_table(result)
    assert table is not None and table in evaluation_tables(result)
    before, hue = table.rows
    assert before == [Label("as they are"), Measure(40.0), Measure(70.0)]  # ranks have no place here
    assert hue[0] == Label("hue", note="turned & moved")
    assert hue[1:] == [ChangedValue(30.0, -10.0, (-12.0, -8.0)), ChangedValue(71.5, 1.5, (-1.0, 4.0))]
    assert altered_table({"metrics": {"top1": 1.0}}) is None


def test_what_a_metric_depends_on_is_listed(evaluation):
    notes = evaluation_notes(evaluation | {"left_out": {"truncated": 2, "without a name": 0}})
    found = {note.name: note.text for note in notes}
    assert found["split hash"] == "0123456789abcdef"
    assert found["condition"] == "split=test"
    assert found["prompts"] == "plain: {}"
    assert found["left out"] == "truncated: 2"
    assert found["interval"] == "bootstrap, 100 draws over samples"
    assert "size: 32" in found["images prepared by"]


def test_copies_of_training_images_and_missing_tests_are_warnings(evaluation):
    about = {"near_duplicates": 3, "training": "sample"}
    (remark,) = evaluation_remarks(evaluation | {"baselines_about": about})
    assert remark.is_warning and remark.text == "3 images are nearly in the training data (sample)."
    missing, trained = evaluation_remarks(suite())
    assert missing.is_warning and missing.text.startswith("other<i> did not run")
    assert trained.text == "Test images that the model was trained on: a-test 5."
