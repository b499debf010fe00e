"""`data verify`: everything is decoded, originals stay as they are, and its manifest can be trained on."""

import hashlib
import io
from pathlib import Path

import pytest
from rich.console import Console

from frugalclip.cli import BAD_DATA, main
from frugalclip.core.errors import DataError
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.ledger import read_ledger
from frugalclip.sources.open import open_data, read_source
from frugalclip.training.recommendation import train_command
from frugalclip.verbs.data_check import check, show_check
from frugalclip.verbs.data_verify import show, verify

from ..data import hostile


def digests(root: Path) -> dict[str, str]:
    """What every file of a tree holds."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve good pairs, a caption in Latin-1, a torn picture, an error page and an empty caption."""
    root = tmp_path / "my data"
    root.mkdir()
    for number in range(15):
        (root / f"{number:02}.png").write_bytes(hostile.saved(hostile.noise(seed=number), "PNG"))
        (root / f"{number:02}.txt").write_text(f"picture number {number}")
    (root / "03.txt").write_bytes("ein Bär im Café".encode("latin-1"))
    (root / "04.png").write_bytes((root / "04.png").read_bytes()[:900])
    (root / "05.png").write_text("<!DOCTYPE html>")
    (root / "06.txt").write_text("")
    return root


def printed(folder: Path, **options: bool) -> str:
    console = Console(file=io.StringIO(), width=220, color_system=None)
    show(verify(folder, **options), console)
    return console.file.getvalue()


def test_everything_bad_is_named_and_the_exit_code_says_so(folder: Path, capsys: pytest.CaptureFixture[str]):
    before = digests(folder)
    assert main(["data", "verify", str(folder)]) == BAD_DATA
    text = " ".join(capsys.readouterr().out.split())
    for words in (
        "15 samples = 11 good + 0 joined to another + 4 left out",
        "truncated",
        "web-page",
        "not-utf8",
        "--repair",
    ):
        assert words in text, (words, text)
    rows = {
        row["id"]: row["reason"] for row in read_ledger(folder.parent / "my data.ledger.parquet").to_pylist()
    }
    assert len(rows) == 15
    assert {id: reason for id, reason in rows.items() if reason} == {
        "03": "not-utf8",
        "04": "truncated",
        "05": "web-page",
        "06": "no-caption",
    }
    assert not (folder.parent / "my data.clean.parquet").exists()
    assert digests(folder) == before


def test_repair_writes_what_can_be_trained_on_and_touches_no_original(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    before = digests(folder)
    assert main(["data", "verify", str(folder), "--repair"]) == 0
    assert digests(folder) == before
    clean = folder.parent / "my data.clean.parquet"
    assert train_command(clean, 12) in " ".join(capsys.readouterr().out.split())
    manifest = open_data(clean)
    assert manifest.ids == [f"{number:02}" for number in range(15) if number not in (4, 5, 6)]
    assert manifest.captions()[3] == ["ein Bär im Café"]
    assert all(ImageReader(manifest).image(row).size == (24, 24) for row in range(len(manifest)))
    rows = {
        row["id"]: (row["status"], row["reason"])
        for row in read_ledger(folder.parent / "my data.ledger.parquet").to_pylist()
    }
    assert rows["03"] == ("kept", "repaired")
    assert verify(clean).is_clean
    assert read_source(folder.parent / "my data").seen == 15  # what lies beside is not read


def test_a_cut_tar_gives_its_whole_samples(tmp_path: Path):
    hostile.tar_into(tmp_path / "shards" / "00000.tar")
    result = verify(str(tmp_path / "shards" / "{00000..00000}.tar"), repair=True)
    assert result.manifest_path == tmp_path / "shards" / "shards.clean.parquet"
    assert verify(result.manifest_path).is_clean
    assert result.ledger.counts()["truncated-shard"] == 1
    assert "repaired" in read_ledger(result.ledger_path)["reason"].to_pylist()
    assert result.seen == result.samples + len(result.ledger.entries)


def test_clean_data_says_so(folder: Path):
    for name in ("03", "04", "05", "06"):
        (folder / f"{name}.png").unlink()
        (folder / f"{name}.txt").unlink()
    assert main(["data", "verify", str(folder)]) == 0
    assert f"Next: {train_command(folder, 11)}" in printed(folder)


def test_nothing_of_the_users_is_overwritten(folder: Path, tmp_path: Path):
    (tmp_path / "mine.parquet").write_bytes(b"something of mine")
    with pytest.raises(DataError, match=r"would be overwritten; name another place with --out"):
        verify(folder, out=tmp_path / "mine.parquet")
    clean = verify(folder, repair=True).manifest_path
    with pytest.raises(DataError, match="would be overwritten"):
        verify(clean, repair=True, out=clean)
    with pytest.raises(DataError, match="is a folder"):
        verify(folder, out=tmp_path)
    assert verify(folder, repair=True, out=tmp_path / "clean").manifest_path == tmp_path / "clean.parquet"


def test_nothing_good_is_reported_and_named(folder: Path):
    for path in folder.glob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(
        DataError,
        match=r"none of 15 samples is good \(.*not-an-image",
    ):
        verify(folder, repair=True)
    assert (folder.parent / "my data.ledger.parquet").is_file()


def test_several_data_sets_are_one(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    hostile.tar_into(tmp_path / "t.tar", cut=False)
    result = verify([folder, tmp_path / "t.tar"], repair=True)
    assert result.manifest_path == tmp_path / "data.clean.parquet"
    assert len(open_data(result.manifest_path)) == result.samples


def test_check_leads_to_verify_where_training_would_stop(folder: Path):
    (one,) = check(folder)
    assert one.next_command == f"frugalclip data verify '{folder}' --repair"
    console = Console(file=io.StringIO(), width=220, color_system=None)
    show_check([one], console)
    text = console.file.getvalue()
    assert "training stops beyond 1 %" in text
    for name in ("04", "05"):
        (folder / f"{name}.png").write_bytes(hostile.saved(hostile.noise(), "PNG"))
    (one,) = check(folder)
    assert one.next_command == train_command(folder, 15)  # two never stop it
