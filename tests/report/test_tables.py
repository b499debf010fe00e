from frugalclip.report.formats import Html
from frugalclip.report.rows import ChangedValue, Column, Label, Measure, Strip
from frugalclip.report.tables import cell_markup, definitions, evaluation_block, table


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


def test_cells_have_their_notes_and_intervals_below():
    assert cell_markup(Label("a<b", note="c&d")) == "a&lt;b<small>c&amp;d</small>"
    assert (
        cell_markup(Measure(40.0, (30.0, 50.0), is_main=True))
        == "<b>40.0\xa0%</b><small>30.0 to 50.0</small>"
    )
    assert cell_markup(Measure(3.0, in_percent=False)) == "3"
    change = cell_markup(ChangedValue(30.0, -10.0, (-12.0, 1.5)))
    assert change == "<b>30.0\xa0%</b><small>\N{MINUS SIGN}10.0, \N{MINUS SIGN}12.0 to 1.5</small>"
    assert 'aria-label="half"' in cell_markup(Strip(50.0, None, (10.0,), "half"))


def test_an_evaluation_shows_every_metric_with_interval_chance_and_baselines(evaluation):
    html = evaluation_block(evaluation)
    for text in (
        "Top-1 accuracy",
        "50.0\xa0%",
        "30.0 to 70.0",
        "16.7\xa0%",
        "20.0\xa0%",
        "25.0\xa0%",
        "90.0\xa0%",
        "Top-1 accuracy, all names",
        "0123456789abcdef",
    ):
        assert text in html
    assert html.count('<tr role="row">') == 1 + len(evaluation["metrics"])
