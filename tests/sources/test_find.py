"""Formats are found by their files: one more file is one more format, with no list to change."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from frugalclip.sources import formats
from frugalclip.sources.find import data_formats
from frugalclip.sources.open import read_source

FORMAT = '''
"""A list of images and captions with an arrow between."""

from typing import final

from frugalclip.data.manifest import image_places, make_manifest
from frugalclip.sources.base import DataFile, DataFolder, DataFormat, Found, ReadOptions, Source


@final
class ArrowList(DataFormat):
    name = "arrows"
    precedence = 50

    def recognises(self, file: DataFile) -> bool:
        return file.suffix == ".arrows"

    def find(self, folder: DataFolder) -> Found | None:
        files = folder.ending(".arrows")
        return Found(str(folder.path), files, folder) if files else None

    def read(self, found: Found, options: ReadOptions) -> Source:
        path = found.paths[0]
        names, captions = zip(*(line.split(" -> ") for line in path.read_text().splitlines()), strict=True)
        manifest = make_manifest(
            ids=list(names), images=image_places(names), captions=[[text] for text in captions],
            root=path.parent, name=found.name,
        )
        return Source(manifest, "a list with arrows")
'''


@pytest.fixture
def one_more_file(tmp_path: Path, make: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    make.put(tmp_path / "package/arrow_list.py", FORMAT)
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path / "package")])
    data_formats.cache_clear()
    yield
    data_formats.cache_clear()
    sys.modules.pop("frugalclip.sources.formats.arrow_list", None)


@pytest.mark.usefixtures("one_more_file")
def test_a_new_file_is_a_new_format_by_name_and_in_a_folder(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path / "data", "a.png", "b.png")
    path = make.put(tmp_path / "data/list.arrows", "a.png -> a dog\nb.png -> the sea\n")
    assert read_source(path).kind == "a list with arrows"
    source = read_source(tmp_path / "data")
    assert source.kind == "a folder with a list with arrows"
    assert source.manifest.captions() == [["a dog"], ["the sea"]]
    assert source.manifest.name == str(tmp_path / "data")


def test_every_format_has_a_name_and_a_precedence_of_its_own():
    every = data_formats()
    assert len({one.name for one in every}) == len({one.precedence for one in every}) == len(every)
    assert every[-1].name == "images"  # takes every folder that is nothing else
