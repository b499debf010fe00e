from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from frugalclip.core.errors import DataError
from frugalclip.training.recommendation import train_command
from frugalclip.verbs import data_check as verb

from . import data_folders
from .data_folders import fill, printed


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    return data_folders.messy(tmp_path / "my data")


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


def test_no_path_is_refused():
    with pytest.raises(DataError, match="no data set was given"):
        verb.check([])


def test_check_names_the_recipe_and_blank_and_repeated_pictures(tmp_path: Path):
    folder = fill(tmp_path / "d", 20)  # pictures of one colour, none like another
    noise = Image.effect_noise((30, 30), 60)
    for name in ("noise", "again"):
        noise.save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(f"a picture of {name}")
    (check,) = verb.check(folder)
    assert (len(check.images.blank), check.images.copies) == (20, 1)
    text = printed(verb.show_check, [check])
    assert (
        "Pictures: 20 are blank, of one colour (such as 0, 1, 10); 1 repeat an earlier one (most: again"
        in text
    )
    assert f"frugalclip data stats {folder} also" in text
    assert "For 22 pairs a pretrained model comes first: pretrained over frozen backbones" in text
    assert f"Next: {train_command(folder, 22)}" in text


def test_nearly_white_is_blank_and_a_thin_line_is_not(tmp_path: Path):
    folder = fill(tmp_path / "d", 2)
    page = Image.new("RGB", (64, 64), (250, 250, 250))
    page.putpixel((3, 3), (255, 255, 255))
    page.save(folder / "0.png")
    for x in range(64):
        page.putpixel((x, 30), (0, 0, 0))
    page.save(folder / "1.png")
    (check,) = verb.check(folder)
    assert check.images.blank == ["0"]
    clean = replace(check, images=replace(check.images, blank=[]))
    assert "are blank" not in printed(verb.show_check, [clean])
