from pathlib import Path

import pytest

from frugalclip.core.errors import DataError
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.ledger import read_ledger
from frugalclip.sources.open import open_data
from frugalclip.training.recommendation import train_command
from frugalclip.verbs import data_manifest as verb

from . import data_folders
from .data_folders import fill, printed


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    return data_folders.messy(tmp_path / "my data")


def test_manifest_concatenates_and_keeps_the_ledger(messy: Path, tmp_path: Path):
    other = fill(tmp_path / "other", 3)
    written = verb.manifest([messy, other], out=tmp_path / "out/all.parquet", where=None)
    assert written.samples == 12
    manifest = open_data(tmp_path / "out/all.parquet")
    assert manifest.ids[0] == "my data/0"
    assert manifest.ids[-1] == "other/2"
    assert manifest.fingerprint() == written.fingerprint
    assert ImageReader(manifest).image(11).size == (10, 6)
    fates = read_ledger(tmp_path / "out/all.ledger.parquet").to_pylist()
    assert [row["id"] for row in fates if row["status"] == "kept"] == manifest.ids
    assert sorted(row["reason"] for row in fates if row["status"] == "dropped") == [
        "no-caption",
        "unsupported-format",
    ]
    text = printed(verb.show_manifest, written)
    assert "12 samples" in text
    assert "2 left out" in text
    assert f"Next: {train_command(written.path, 12)}" in text


def test_manifest_of_a_condition(tmp_path: Path):
    written = verb.manifest("sample", out=tmp_path / "flags", where="is_flag=true,style=noto")
    assert written.path == tmp_path / "flags.parquet"
    assert written.samples == 270
    assert set(open_data(written.path).field("is_flag")) == {True}
    assert ImageReader(open_data(written.path)).image(0).size == (64, 64)  # from another folder
    fates = read_ledger(written.ledger_path)
    assert len(fates) == len(open_data("sample"))
    assert fates["reason"].to_pylist().count("filtered") == len(fates) - 270


def test_a_folder_is_no_manifest(tmp_path: Path):
    with pytest.raises(DataError, match=r"is a folder, expected a file; write --out .*manifest.parquet"):
        verb.manifest("sample", out=tmp_path)
