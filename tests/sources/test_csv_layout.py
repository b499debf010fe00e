"""Separators, headers and quotes as programs write them."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from frugalclip.sources.base import DataFile
from frugalclip.sources.open import read_source
from frugalclip.sources.tables import names_pairs


@pytest.mark.parametrize("first", ["sep=;\r\n", '"sep=;"\r\n', "SEP=;\n", "sep=;;;\n"])
def test_a_separator_that_excel_declares(tmp_path: Path, make: SimpleNamespace, first: str):
    make.images(tmp_path, "a.png", "b.png")
    rows = "image;caption;n\na.png;a dog, a cat, a bird;1\nb.png;the sea;2\ngone.png;x;3\n"
    source = read_source(make.put(tmp_path / "t.csv", first + rows))
    assert source.manifest.captions() == [["a dog, a cat, a bird"], ["the sea"]]
    assert source.manifest.field("n") == [1, 2]
    assert [entry.detail for entry in source.ledger.entries] == ["line 5: gone.png"]


def test_a_quote_behind_a_space(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png", "b.png", "c.png")
    rows = 'image, caption, n\na.png, "a dog, a cat", 1\nb.png, "the ""sea""", 2\nc.png, plain, 3\n'
    source = read_source(make.put(tmp_path / "t.csv", rows))
    assert source.manifest.captions() == [["a dog, a cat"], ['the "sea"'], ["plain"]]
    assert source.manifest.field("n") == [1, 2, 3]


def test_quotes_within_a_caption_behind_a_space_stay(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png", "b.png")
    rows = 'image_name| comment_number| comment\na.png| 0| "Go" says the sign .\nb.png| 0| the sea\n'
    source = read_source(make.put(tmp_path / "results.csv", rows))
    assert source.manifest.captions() == [['"Go" says the sign .'], ["the sea"]]


def test_a_header_with_a_letter_that_is_not_utf8(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png")
    source = read_source(
        make.put(tmp_path / "t.csv", "image,caption,größe\na.png,a dog,3\n".encode("latin-1"))
    )
    assert source.manifest.field("größe") == [3]
    odd = read_source(make.put(tmp_path / "u.csv", b"image,caption,\x81\x8d\xfe\na.png,a dog,3\n"))
    assert len(odd.manifest.field_names) == 1


@pytest.mark.parametrize(
    ("content", "is_table"),
    [
        ("image,caption\na.jpg,A dog.\n", True),
        ("a.jpg\tA dog.\n", True),
        ("a.jpg,0\nb.jpg,1\n", False),
        ("image,label\na.jpg,0\nb.jpg,1\n", False),
        ("some words, and more\nof a text\n", False),
        ("price,colour\n1,red\n", False),
        ("", False),
        (b"\0\1\2", False),
    ],
)
def test_a_table_shows_by_its_head(
    tmp_path: Path, make: SimpleNamespace, content: str | bytes, is_table: bool
):
    assert names_pairs(DataFile(make.put(tmp_path / "t.txt", content))) == is_table


def test_text_that_is_no_table_leaves_class_folders_alone(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "cat/1.png", "dog/2.png")
    make.put(tmp_path / "val_list.txt", "cat/1.png,0\ndog/2.png,1\n")
    make.put(tmp_path / "wnids.txt", "a\nb\n")
    make.put(tmp_path / "statistics.csv", "class,count\ncat,1\ndog,1\n")
    make.put(tmp_path / "results/predictions.csv", "image,label\ncat/1.png,dog\ndog/2.png,dog\n")
    source = read_source(tmp_path)
    assert source.manifest.captions() == [["cat"], ["dog"]]
    assert source.ledger.entries == []  # lists are not captions without an image
