from pathlib import Path

import pytest

import frugalclip
from frugalclip.curation.coverage import language_counts, word_coverage
from frugalclip.data.manifest import Manifest, image_places, make_manifest
from frugalclip.verbs import ledger

from ..verbs.test_curate import drawing


def rows(*captions: list[str]) -> Manifest:
    ids = [f"r{number:03d}" for number in range(len(captions))]
    return make_manifest(ids=ids, images=image_places(ids), captions=list(captions), root=Path(), name="rows")


def test_words_that_fall_below_five_rows_are_those_that_lose_rows():
    before = rows(*[["a red cat", "cats on a mat"]] * 6, *[["a dog"]] * 5, *[["one newt"]] * 3)
    after = before.take([0, 1, 2, 3, 4, 6, 7, 8, 9])
    found = word_coverage(before, after)
    assert dict(found.fallen) == {"dog": (5, 4)}  # cat: 5 rows, although each names it twice
    assert found.common == 4  # red, cat, mat, dog
    assert found.words == found.common + found.lost  # one newt


def test_nothing_falls_where_nothing_is_dropped_and_order_plays_no_part():
    before = rows(*[["a red cat"]] * 6, [], *[["a dog"]] * 7)
    assert dict(word_coverage(before, before.take(range(13, -1, -1))).fallen) == {}
    found = word_coverage(before, before.take([6]))
    assert list(found.fallen) == ["dog", "cat", "red"] and found.lost == 3


def test_languages_are_counted_before_and_after():
    english, german = ["a big dog runs in the park"], ["ein großer Hund läuft durch den Wald"]
    before = rows(english, english, german)
    assert language_counts(before, before.take([0, 2])) == {"en": (2, 1), "de": (1, 1)}


@pytest.mark.parametrize("is_taken_back", [False, True])
def test_the_report_says_which_words_a_plan_makes_rare(tmp_path: Path, is_taken_back: bool):
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for number in range(12):
        drawing(number).save(data / f"p{number:02d}.png")
        (data / f"p{number:02d}.txt").write_text("grebe" if number < 6 else "two plain boxes here")
    (tmp_path / "plan.yaml").write_text("stages: [{stage: rules, min_words: 2}]")
    frugalclip.curate(data, plan=tmp_path / "plan.yaml", out=out)
    if is_taken_back:
        ledger.undo(out, "rules")
    page = (out / "report.html").read_text()
    assert "Words and languages" in page
    assert f"Of these, {int(not is_taken_back)} fall below 5 rows" in page
