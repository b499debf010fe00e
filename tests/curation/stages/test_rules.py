import pytest

from ..conftest import MakeRows, decided


@pytest.mark.parametrize(
    ("setting", "columns", "expected"),
    [
        ({"min_side": 10}, {"width": [9, 10], "height": [20, 20]}, ["small", None]),
        ({"max_aspect": 2}, {"width": [41, 40], "height": [20, 20]}, ["odd-aspect", None]),
        ({"min_contrast": 9}, {"contrast": [8, 9]}, ["blank", None]),
        ({"min_brightness": 3}, {"brightness": [2.9, 3.0]}, ["dark", None]),
        ({"max_brightness": 250}, {"brightness": [251, 250]}, ["bright", None]),
    ],
)
def test_rules_of_images(make_rows: MakeRows, setting: dict, columns: dict, expected: list):
    assert decided(make_rows(["a", "b"], **columns), "rules", **setting) == expected


def test_rules_of_captions(make_rows: MakeRows):
    rows = make_rows([["cat", "a red cat"], "cat", "", "a b c d e"])
    assert decided(rows, "rules", min_words=3) == [None, "few-words", "few-words", None]
    assert decided(rows, "rules", max_words=4) == [None, None, None, "many-words"]
    assert decided(rows, "rules", min_characters=4) == [None, "few-characters", "few-characters", None]


def test_rules_commute(make_rows: MakeRows):
    rows = make_rows(["a", "a b", "a b c"], width=[5, 50, 50], height=[50, 50, 50])
    both = decided(rows, "rules", min_side=10, min_words=2)
    apart = zip(decided(rows, "rules", min_side=10), decided(rows, "rules", min_words=2), strict=True)
    assert [reason is None for reason in both] == [a is None and b is None for a, b in apart]


def test_without_a_rule_of_images_none_is_read():
    from pathlib import Path

    from frugalclip.curation.stages.rules import Config, Rules

    assert not Rules(Config(stage="rules", min_words=1), Path()).needs().images
    assert Rules(Config(stage="rules", min_side=1), Path()).needs().images
