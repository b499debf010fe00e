import json
import math

from .page import report


def test_the_loss_is_compared_with_guessing(make_run, rows, evaluation):
    text = report(make_run(rows=rows, evaluations=[evaluation])).text
    assert f"guessing: {math.log(32):.2f} nats" in text
    end = (rows[-1]["loss"] + rows[-2]["loss"]) / 2
    assert f"Over the last 2 steps the loss is {end:.2f} nats, {math.log(32) - end:.2f} below ln(32)" in text


def test_evaluation_points_are_drawn_and_tabulated(make_run, rows, evaluation):
    page = report(make_run(rows=rows, evaluations=[evaluation]))
    charts = [json.loads(str(a["data-hover"])) for a in page.all("svg") if "data-hover" in a]
    lines = {line["name"]: [p[3] for p in line["points"]] for chart in charts for line in chart["lines"]}
    assert lines["top-1"] == ["30", "50"]
    assert lines["text → image R@1"] == ["20", "40"]
    assert "text → image, median rank" not in lines  # places are not percent
    assert "2 evaluation points as a table" in page.text
    assert "text → image, median rank" in page.text


def test_a_loss_that_is_not_a_number_is_named_and_drawn_as_a_gap(make_run, rows, evaluation):
    for row in rows[10:20]:
        row["loss"] = math.nan
    rows[20]["loss"] = None
    page = report(make_run(rows=rows, evaluations=[evaluation]))
    assert "11 of 40 steps, first at step 11" in page.text
    assert any(a.get("class") == "missing" for a in page.all("path"))


def test_a_run_without_a_finite_loss_renders(make_run, rows):
    for row in rows:
        row["loss"] = math.inf
    assert "no finite value" in report(make_run(rows=rows, evaluations=[])).text
