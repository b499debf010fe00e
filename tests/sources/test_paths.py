"""Paths of tables from other systems and folders lead to their images, and never to another one."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from frugalclip.core.errors import DataError
from frugalclip.data.image_reader import ImageReader
from frugalclip.sources.open import read_source
from frugalclip.sources.paths import clean_path, find_images


@pytest.mark.parametrize(
    ("written", "clean"),
    [
        ("./a/b.png", "a/b.png"),
        ("a\\b.png", "a/b.png"),
        ("a\\b/c.png", "a/b/c.png"),
        ("E:\\set\\a.png", "E:/set/a.png"),
        ("\\\\server\\set\\a.png", "/server/set/a.png"),
        ("file:///home/me/a%20b.png", "/home/me/a b.png"),
        ("file://localhost/a.png", "/a.png"),
        ("file:///C:/set/a.png", "C:/set/a.png"),
        ("http://x.org/a.png", "http://x.org/a.png"),
        ("  ", None),
        (None, None),
    ],
)
def test_paths_are_cleaned(written: str | None, clean: str | None):
    found = clean_path(written)
    assert (found.removeprefix("/") if found and found.startswith("//") else found) == clean


def test_a_backslash_in_a_name_stays(tmp_path: Path, make: SimpleNamespace):
    make.put(tmp_path / "a\\b.png", make.encoded())
    assert clean_path("a\\b.png", tmp_path) == "a\\b.png"


@pytest.mark.parametrize(
    "written",
    [
        "E:\\big\\set\\photos\\{}",
        "E:/big/set/photos/{}",
        "/home/other/set/photos/{}",
        "set/photos/{}",
        "photos\\{}",
        "photos/./{}",
        "/photos/{}",
        "file://{folder}/photos/{}",
    ],
)
def test_last_folders_beside_the_table_are_found(tmp_path: Path, make: SimpleNamespace, written: str):
    make.images(tmp_path / "photos", "a b.png", "c.png")
    rows = [written.replace("{folder}", str(tmp_path)).format(name) for name in ("a b.png", "c.png")]
    make.put(tmp_path / "t.csv", f"image,caption\n{rows[0]},one\n{rows[1]},two\n")
    source = read_source(tmp_path / "t.csv")
    assert source.manifest.captions() == [["one"], ["two"]]
    reader = ImageReader(source.manifest)
    names = ("a b.png", "c.png")
    assert [reader.bytes(row) for row in range(2)] == [(tmp_path / "photos" / n).read_bytes() for n in names]
    if "other" in written:
        assert any("2 paths lead to folders that are not here, such as" in note for note in source.notes)


def test_two_paths_never_become_one_image(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "1.png", "c/2.png")
    paths = ["/far/a/1.png", "/far/b/1.png", "/far/c/2.png", "c/1.png", "c/2.png"]
    found = find_images(paths, tmp_path / "t.csv", [])
    assert found.faults == ["missing-file"] * 4 + [None]  # c/2.png has a row of its own, c/1.png a folder


def test_images_of_many_folders_elsewhere(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path / "set", "one/1.png", "two/1.png", "two/2.png")
    make.put(tmp_path / "annotations/x.txt")
    paths = [
        "D:\\x\\set\\one\\1.png",
        "D:\\x\\set\\two\\1.png",
        "D:\\x\\set\\two\\2.png",
        "D:\\x\\set\\two\\3.png",
    ]
    found = find_images(paths, tmp_path / "annotations/t.csv", [])
    assert [path and Path(path).relative_to(tmp_path).as_posix() for path in found.paths[:3]] == [
        "set/one/1.png",
        "set/two/1.png",
        "set/two/2.png",
    ]
    assert found.faults == [None, None, None, "missing-file"]


def test_paths_that_leave_the_folder_say_what_to_do_and_it_works(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "pictures/x.png", "pictures/y.png")
    make.put(tmp_path / "lists/t.csv", "image,caption\n../pictures/x.png,one\n../pictures/y.png,two\n")
    with pytest.raises(DataError, match=rf"2 outside-folder.*frugalclip data check {tmp_path};"):
        read_source(tmp_path / "lists/t.csv")
    source = read_source(tmp_path)
    assert source.manifest.ids == ["pictures/x", "pictures/y"]
    assert source.manifest.captions() == [["one"], ["two"]]
    make.put(tmp_path / "lists/t.csv", "image,caption\n../../etc/x.png,one\n../pictures/y.png,two\n")
    source = read_source(tmp_path)
    assert source.manifest.ids == ["pictures/y"]
    assert source.ledger.counts() == {"outside-folder": 1}
