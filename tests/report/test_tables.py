import pytest

from frugalclip.report.formats import Html
from frugalclip.report.tables import (
    Column,
    bars,
    baselines_of,
    chance_of,
    definitions,
    evaluation_notes,
    evaluation_table,
    in_percent,
    metric_name,
    plain,
    primary_metric,
    table,
    verdict,
    words,
)


def test_cells_and_titles_are_escaped_unless_they_are_markup_already():
    html = table(
        [Column("<i>a</i>"), Column("b", numeric=True)], [["<script>", Html("<b>1</b>")]], caption="<c>"
    )
    assert "<i>" not in html
    assert "<script>" not in html
    assert "<c>" not in html
    assert "<b>1</b>" in html
    assert html.count('scope="col"') == 2
    assert html.count('scope="row"') == 1


def test_a_missing_cell_is_a_dash_and_an_empty_definition_is_left_out():
    assert "—" in table([Column("a"), Column("b")], [["x", None]], caption="c")
    assert "<dt>b" not in definitions([("a", 1), ("b", None), ("c", "")])


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("top1", "Top-1 accuracy"),
        ("t2i_r5", "Text → picture, recall at 5"),
        ("i2t_median_rank", "Picture → text, median rank"),
        ("generalised_top5", "Top-5 accuracy, all names"),
        ("mean_per_class", "Mean over classes"),
        ("brand_new", "Brand new"),
    ],
)
def test_metrics_are_said_in_words(name, output):
    assert metric_name(name) == output


def test_floors_are_said_in_words():
    assert words("pixel_nn_1") == "pixel nearest neighbour"
    assert words("pixel_nn_10") == "10 pixel nearest neighbours"


def test_ranks_bear_no_percent_sign():
    assert [in_percent(m) for m in ("top1", "t2i_median_rank", "loss")] == [True, False, False]


def test_the_primary_metric_is_one_with_a_value():
    assert primary_metric({"metrics": {"i2t_r1": 3.0, "t2i_r1": 2.0}}) == "t2i_r1"
    assert primary_metric({"metrics": {"top1": None, "odd": 2.0}}) == "odd"
    assert primary_metric({"metrics": {}}) is None
    assert primary_metric({}) is None


def test_floors_and_chance_are_those_of_the_metric(evaluation):
    assert baselines_of(evaluation, "top1") == {"pixel_nn_1": 20.0, "pixel_nn_10": 25.0}
    assert baselines_of(evaluation, "top5") == {"pixel_nn_1": 90.0}
    assert chance_of(evaluation, "generalised_top1") is None
    assert baselines_of({"baselines": None}, "top1") == {}


def test_the_bars_are_the_model_then_floors_from_the_strongest_then_chance(evaluation):
    shown = bars(evaluation, "top1", name="this model")
    assert [(b.label, b.value, b.role) for b in shown] == [
        ("this model", 50.0, "model"),
        ("10 pixel nearest neighbours", 25.0, "baseline"),
        ("pixel nearest neighbour", 20.0, "baseline"),
        ("chance", 16.7, "chance"),
    ]
    assert shown[0].interval == (30.0, 70.0)


def test_a_verdict_says_no_more_than_the_interval_allows(evaluation):
    clear = " ".join(verdict(evaluation, "top1"))
    assert "25.0 points above the strongest floor, 10 pixel nearest neighbours" in clear
    assert "not distinguishable" not in clear.lower()
    evaluation["interval"]["top1"] = [10.0, 70.0]
    unclear = verdict(evaluation, "top1")
    assert "chance lies inside the interval: not distinguishable from guessing" in unclear[0]
    assert unclear[1].startswith("Not distinguishable from the strongest floor")
    evaluation["interval"]["top1"] = [20.0, 24.0]
    evaluation["metrics"]["top1"] = 22.0
    assert verdict(evaluation, "top1")[1].startswith("3.0 points below the strongest floor")
    del evaluation["interval"]["top1"]
    assert "no interval was computed" in verdict(evaluation, "top1")[1]


def test_a_figure_without_floors_says_how_to_get_them(evaluation):
    assert "--baselines" in " ".join(verdict(evaluation | {"baselines": {}}, "top1"))


def test_every_metric_stands_with_interval_chance_and_floors(evaluation):
    html = evaluation_table(evaluation)
    for text in (
        "Top-1 accuracy",
        "50.0\xa0%",
        "30.0 to 70.0",
        "16.7\xa0%",
        "20.0\xa0%",
        "25.0\xa0%",
        "90.0\xa0%",
        "Top-1 accuracy, all names",
    ):
        assert text in html
    assert html.count('<tr role="row">') == 1 + len(evaluation["metrics"])


def test_what_a_figure_depends_on_is_listed(evaluation):
    html = evaluation_notes(evaluation | {"left_out": {"truncated": 2, "without a name": 0}})
    for text in (
        "0123456789abcdef",
        "split=test",
        "plain: {}",
        "size: 32",
        "truncated: 2",
        "bootstrap, 100 draws",
    ):
        assert text in html
    assert "without a name" not in html


def test_lists_and_mappings_become_one_line():
    assert plain({"a_b": [1, 2, 3, 4, 5]}) == "a b: 1 · 2 · 3 and 2 more"
