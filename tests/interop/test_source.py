"""A MODEL string is split once."""

import json
from pathlib import Path

import pytest

from frugalclip.interop.formats import foreign_formats
from frugalclip.interop.source import SCHEMES, ModelSource


@pytest.mark.parametrize(
    ("text", "scheme", "name", "file"),
    [
        ("runs/demo", "", "runs/demo", None),
        ("runs/a@b:c", "", "runs/a@b:c", None),
        ("open_clip:ViT-B-32@w.pt", "open_clip", "ViT-B-32", "w.pt"),
        ("open_clip:a.json@dir/w@2.pt", "open_clip", "a.json", "dir/w@2.pt"),
        ("open_clip:ViT-B-32@", "open_clip", "ViT-B-32", None),
        ("timm:resnet50", "timm", "resnet50", None),
        ("hf:dir@2/model", "hf", "dir@2/model", None),
        ("package:e5", "package", "e5", None),
        ("model.gguf", "", "model.gguf", None),
        ("openclip:ViT-B-32", "", "openclip:ViT-B-32", None),
    ],
)
def test_scheme_name_and_file(text: str, scheme: str, name: str, file: str | None):
    source = ModelSource.parse(text, {"a": 1})
    assert (source.scheme, source.name, source.file) == (scheme, name, file and Path(file))
    assert str(source) == source.text == text and source.options == {"a": 1}


def test_the_configuration_of_a_folder_is_read_when_it_is_there(tmp_path: Path):
    source = f"hf:{tmp_path}"
    assert ModelSource.parse(source).config is None
    (tmp_path / "config.json").write_text("[1]")
    assert ModelSource.parse(source).config == {}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    assert ModelSource.parse(source).config == {"model_type": "clip"}
    assert ModelSource.parse(f"package:{tmp_path}").config is None


def test_a_format_is_a_file_and_needs_no_other_line():
    assert {"open_clip", "hf"} <= foreign_formats().keys() <= set(SCHEMES)
