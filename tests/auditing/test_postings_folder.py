"""Kept postings are read for the same captions and written anew for others."""

from pathlib import Path

import pytest

from frugalclip.auditing import postings_folder
from frugalclip.auditing.postings_folder import postings_of
from frugalclip.auditing.words import WordForms
from frugalclip.core.errors import DataError

from .manifests import manifest_of


def test_postings_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = manifest_of([["a dog"]])
    with postings_of(first, WordForms(), tmp_path / "p") as found:
        assert found.rows_with(["dog"]).tolist() == [0]
    with postings_of(manifest_of([["a cat"], ["a dog"]]), WordForms(), tmp_path / "p") as found:
        assert found.rows_with(["dog"]).tolist() == [1]
    monkeypatch.setattr(postings_folder, "caption_postings", None)  # is not called again
    with postings_of(manifest_of([["a cat"], ["a dog"]]), WordForms(), tmp_path / "p") as found:
        assert found.rows_with(["cat"]).tolist() == [0]


def test_another_folder_is_left_alone(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with (
        pytest.raises(DataError, match="holds something else"),
        postings_of(manifest_of([["a dog"]]), WordForms(), tmp_path),
    ):
        pass
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_damaged_postings_are_written_anew(tmp_path: Path):
    manifest, place = manifest_of([["a dog"], ["a cat"]]), tmp_path / "p"
    with postings_of(manifest, WordForms(), place):
        pass
    for file in sorted(place.iterdir()):
        if file.name == "checksums.json":
            continue  # white space in it changes nothing
        whole = file.read_bytes()
        for damaged in (None, whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
            file.unlink() if damaged is None else file.write_bytes(damaged)
            if file.name == "postings.json" and damaged is None:
                file.write_bytes(b"[")  # without it the folder is another one
            with postings_of(manifest, WordForms(), place) as found:
                assert found.rows_with(["cat"]).tolist() == [1]
            assert file.read_bytes() == whole
