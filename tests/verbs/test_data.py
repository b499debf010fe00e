import io
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from frugalclip.core.errors import DataError
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.ledger import read_ledger
from frugalclip.sources.open import open_data
from frugalclip.verbs import data as verb


def printed(show, result) -> str:
    console = Console(file=io.StringIO(), width=200, color_system=None)
    show(result, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def fill(folder: Path, count: int, *, first: int = 0) -> Path:
    """Pictures 0.png, 1.png, ... of different sizes, with text beside."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        Image.new("RGB", (8 + number, 6), (number, 0, 0)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"picture number {number}")
    return folder


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    folder = fill(tmp_path / "my data", 10)
    (folder / "3.txt").write_text("")
    noise = Image.effect_noise((40, 40), 60)
    noise.save(folder / "4.png")
    (folder / "4.png").write_bytes((folder / "4.png").read_bytes()[:600])
    (folder / "5.png").write_text("<!DOCTYPE html>")
    (folder / "6.txt").write_text("[bold]picture number 7")  # is text, not markup
    (folder / "7.txt").write_text("picture number 8")
    (folder / "drawing.svg").write_text("<svg/>")
    return folder


def test_check_counts_and_explains(messy: Path):
    (check,) = verb.check([str(messy)])
    assert len(check.source.manifest) == 9
    assert check.source.ledger.counts() == {"no-caption": 1, "unsupported-format": 1}
    assert [(fault.id, fault.reason) for fault in check.images.faults] == [
        ("4", "truncated"),
        ("5", "web-page"),
    ]
    assert not check.is_clean
    assert check.source.seen == 11
    text = printed(verb.show_check, [check])
    for words in (
        "is a folder of images with text beside them: 9 samples",
        "2 of 11 left out",
        "no-caption: the caption is missing or empty",
        "3: expected 3.txt",
        "Decoded all 9 pictures: 2 cannot be used; training leaves them out",
        "web-page: the bytes are a web page",
        "6 x 17",
        "[bold]picture number 7",
        "2 samples share a caption",
        "3 words, 8 distinct",
        "height 6, width 8 to 17",
        "Fields: none",
        f"Next: frugalclip data verify '{messy}' --repair",
    ):
        assert words in text, (words, text)


def test_check_shows_eight_pairs_the_same_every_time(tmp_path: Path):
    fill(tmp_path / "d", 30)
    first, second = (verb.check(tmp_path / "d")[0].examples for _ in range(2))
    assert first == second
    assert len({example.id for example in first}) == 8
    for example in first:
        assert example.caption == f"picture number {example.id}"
        assert example.size == (6, 8 + int(example.id))


def test_check_decodes_a_bounded_sample_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(verb, "DECODED", 10)
    folder = fill(tmp_path / "d", 40)
    for number in range(20):
        (folder / f"{number}.png").write_bytes(b"no picture")
    (check,) = verb.check(folder)
    assert check.images.rows == 10
    assert 0 < len(check.images.faults) < 10
    text = printed(verb.show_check, [check])
    assert "Decoded 10 of 40 pictures, drawn at random (--full reads all)" in text
    assert "cannot be used, about" in text
    (full,) = verb.check(folder, full=True)
    assert len(full.images.faults) == 20
    assert "Decoded all 40 pictures: 20 cannot be used; " in printed(verb.show_check, [full])


def test_check_of_several_paths_goes_on_to_a_manifest(tmp_path: Path):
    one, two = fill(tmp_path / "one", 2), fill(tmp_path / "two", 3)
    text = printed(verb.show_check, verb.check([one, two]))
    assert "2 samples" in text
    assert "3 samples" in text
    assert f"Next: frugalclip data manifest {one} {two} --out all.parquet" in text


def test_check_names_columns(tmp_path: Path):
    fill(tmp_path, 2)
    (tmp_path / "t.csv").write_text("foto,wort,age\n0.png,null,3\n1.png,eins,4\n")
    (check,) = verb.check(tmp_path / "t.csv", columns={"image": "foto", "caption": "wort"})
    assert [facts.name for facts in check.fields] == ["age"]
    assert "integer" in printed(verb.show_check, [check])


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
    assert f"Next: frugalclip train clip data={written.path} --out runs/first" in text


def test_manifest_of_a_condition(tmp_path: Path):
    written = verb.manifest("sample", out=tmp_path / "flags", where="is_flag=true,style=noto")
    assert written.path == tmp_path / "flags.parquet"
    assert written.samples == 270
    assert set(open_data(written.path).field("is_flag")) == {True}
    assert ImageReader(open_data(written.path)).image(0).size == (64, 64)  # from another folder
    fates = read_ledger(written.ledger_path)
    assert len(fates) == len(open_data("sample"))
    assert fates["reason"].to_pylist().count("filtered") == len(fates) - 270


def test_what_cannot_be_done_says_what_to_do(tmp_path: Path):
    with pytest.raises(DataError, match=r"is a folder, expected a file; write --out .*manifest.parquet"):
        verb.manifest("sample", out=tmp_path)
    with pytest.raises(DataError, match="no data set was given"):
        verb.check([])
