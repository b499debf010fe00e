"""Counts in the published format and in ours."""

import json
from pathlib import Path

import pytest

from frugalclip.auditing.released import read_counts, write_released
from frugalclip.core.errors import DataError

COUNTS = {"dog": {"text": 3, "image": 2, "both": 1}, "cat": {"text": 0, "image": None, "both": None}}


def test_what_is_written_is_read(tmp_path: Path):
    files = write_released(tmp_path / "counts", COUNTS, dataset="my/classes.txt", corpus="pool")
    assert [file.name for file in files] == [
        "classes_pool_lemmatized_search_counts.json",
        "classes_pool_tagged_search_counts.json",
        "classes_pool_integrated_tlemmatized_search_counts.json",
    ]
    assert json.loads(files[0].read_text()) == {"dog": 3, "cat": 0}
    found = [read_counts(file) for file in files]
    assert found[0]["dog"] == {"text": 3, "image": None, "both": None}
    assert found[1]["dog"] == {"text": None, "image": 2, "both": None}
    assert found[2] == {"dog": {"text": None, "image": None, "both": 1}}


def test_published_names_tell_the_kind_of_search(tmp_path: Path):
    for name, kind in (
        ("cifar10_cc3m_lowercased_search_counts.json", "text"),
        ("cifar10_cc3m_rampp0.7_search_counts.json", "image"),
        ("cifar10_cc3m_integrated_tlemmatized_i0.7_search_counts.json", "both"),
    ):
        (tmp_path / name).write_text('{"airplane": 5}')
        assert read_counts(tmp_path / name)["airplane"][kind] == 5


def test_our_own_json_is_read(tmp_path: Path):
    (tmp_path / "ours.json").write_text(json.dumps({"concepts": COUNTS, "samples": 9}))
    assert read_counts(tmp_path / "ours.json") == COUNTS


@pytest.mark.parametrize(
    "content", ["[1]", '{"dog": "many"}', '{"dog": -1}', '{"dog": true}', "{", '{"concepts": 3}']
)
def test_other_files_are_refused(tmp_path: Path, content: str):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match=r"x\.json"):
        read_counts(tmp_path / "x.json")
    with pytest.raises(DataError, match="there is no file"):
        read_counts(tmp_path / "none.json")
