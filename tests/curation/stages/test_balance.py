from pathlib import Path

import pytest

from frugalclip.core.config import validated
from frugalclip.core.errors import DataError, RecipeError
from frugalclip.curation.stages.balance import Balance, Config

from ..conftest import MakeRows, decided

CAPTIONS = [*["a dog"] * 40, *["a cat"] * 4, "nothing of the kind", "a dog and a newt"]


def test_common_entries_are_thinned_and_rare_ones_stay(make_rows: MakeRows, tmp_path: Path):
    (tmp_path / "words.txt").write_text("dog\ncat\nnewt\n")
    rows = make_rows(CAPTIONS)
    reasons = decided(rows, "balance", vocabulary=str(tmp_path / "words.txt"), limit=8)
    assert 2 <= reasons[:40].count(None) <= 18
    assert reasons[40:44] == [None] * 4
    assert reasons[44:] == ["no-entry", None]
    keep = {"vocabulary": str(tmp_path / "words.txt"), "limit": 8, "unmatched": "keep"}
    assert decided(rows, "balance", **keep)[44] is None


def test_a_row_keeps_its_fate_whatever_rows_of_other_entries_are_added(make_rows: MakeRows, tmp_path: Path):
    (tmp_path / "words.txt").write_text("dog\ncat\nnewt\n")
    settings = {"vocabulary": str(tmp_path / "words.txt"), "limit": 8}
    before = decided(make_rows(CAPTIONS[:40]), "balance", **settings)
    after = decided(make_rows([*CAPTIONS[:40], *["a cat"] * 30]), "balance", **settings)
    assert after[:40] == before


def test_entries_are_words_of_the_captions_or_values_of_a_field(make_rows: MakeRows):
    rows = make_rows(["a dog", "dogs", "one newt"], fields={"label": ["dog", "dog", None]})
    assert decided(rows, "balance", limit=5) == [None, None, "no-entry"]  # lemmas; a newt is there once
    assert decided(rows, "balance", vocabulary="field:label", limit=5) == [None, "no-entry", "no-entry"]


def test_wrong_settings_name_what_to_set(tmp_path: Path, make_rows: MakeRows):
    with pytest.raises(RecipeError, match="give one"):
        validated(Config, {"stage": "balance"}, where="stages.0")
    stage = Balance(Config(stage="balance", vocabulary="absent.txt", limit=3), tmp_path)
    with pytest.raises(DataError, match=r"absent\.txt cannot be read"):
        stage.decide(make_rows(["a"]))
