from typing import Any

from frugalclip.report.evaluations import evaluation_block, robustness_table, suite_table
from frugalclip.report.tables import bars, primary_metric


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


def test_a_suite_has_a_row_a_test_with_everything_beside_the_figure():
    page = suite_table(suite())
    metrics = ("61.2 %", "50.5 to 70.2", "58.8 %", "33.3 %", "44.4 %", "55.5 %")
    for part in (
        "A-test",
        *metrics,
        "Mean of 1 tests",
        "3 classes, 12 pictures judged, 5 of them trained on.",
    ):
        assert part.replace(" %", "\N{NO-BREAK SPACE}%") in page, part
    assert "is it &lt;b&gt;so&lt;/b&gt;" in page
    block = evaluation_block(suite())
    assert "other&lt;i&gt; did not run: pack x.tar is missing (not in &lt;folder&gt;)." in block
    assert "<i>" not in block and "<folder>" not in block


def test_the_mean_speaks_for_a_suite():
    assert primary_metric(suite()) == "mean"
    assert len(bars(suite(), "mean", name="this model")) == 4  # the model, two floors, chance


def test_altered_copies_stand_below_the_pictures_as_they_are():
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
    page = robustness_table(result)
    assert "\N{MINUS SIGN}10.0, \N{MINUS SIGN}12.0 to \N{MINUS SIGN}8.0" in page
    assert "+1.5" in page and "turned &amp; moved" in page and "as they are" in page
    assert "rank" not in page
    assert robustness_table({"metrics": {"top1": 1.0}}) == ""
