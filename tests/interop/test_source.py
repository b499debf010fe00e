"""A MODEL string is split once."""

import json
from pathlib import Path

import pytest

from frugalclip.interop.source import ModelSource


@pytest.mark.parametrize(
    ("text", "scheme", "rest"),
    [
        ("runs/demo", "", "runs/demo"),
        ("runs/a@b:c", "", "runs/a@b:c"),
        ("C:/runs/demo", "", "C:/runs/demo"),
        ("model.gguf", "", "model.gguf"),
        ("hf:dir@2/model", "hf", "dir@2/model"),
        ("package:e5", "package", "e5"),
        ("new_format:x", "new_format", "x"),
    ],
)
def test_a_scheme_is_what_stands_before_the_colon(text: str, scheme: str, rest: str):
    source = ModelSource.parse(text, {"a": 1})
    assert (source.scheme, source.rest, source.folder) == (scheme, rest, Path(rest))
    assert str(source) == source.text == text and source.options == {"a": 1}


@pytest.mark.parametrize(
    ("text", "name", "file"),
    [
        ("open_clip:ViT-B-32@w.pt", "ViT-B-32", "w.pt"),
        ("open_clip:a.json@dir/w@2.pt", "a.json", "dir/w@2.pt"),
        ("open_clip:ViT-B-32@", "ViT-B-32", None),
        ("timm:resnet50", "resnet50", None),
    ],
)
def test_a_file_stands_behind_the_at_sign(text: str, name: str, file: str | None):
    source = ModelSource.parse(text)
    assert (source.name, source.file) == (name, file and Path(file))


def test_a_folder_may_have_an_at_sign_in_its_name(tmp_path: Path):
    folder = tmp_path / "me@work"
    folder.mkdir()
    (folder / "a.json").write_text("{}")
    source = ModelSource.parse(f"open_clip:{folder}/a.json@{folder}/w@2.pt")
    assert (source.name, source.file) == (f"{folder}/a.json", folder / "w@2.pt")
    (folder / "a.json").unlink()
    assert ModelSource.parse(source.text).file == folder / "w@2.pt", "not there, and still understood"
    assert ModelSource.parse(f"timm:resnet18@{folder}/w.pt").file == folder / "w.pt"
    assert ModelSource.parse("open_clip:ViT-B-32@x.json@2/w.pt").file == Path("x.json@2/w.pt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("onnx:made", "onnx:{here}/made"),
        ("made", "{here}/made"),
        ("timm:vit@w.bin", "timm:vit@{here}/w.bin"),
        ("open_clip:a.json@w.bin#key=ema", "open_clip:{here}/a.json@{here}/w.bin#key=ema"),
        ("hf:ORG/NAME", "hf:ORG/NAME"),
        ("hf:made#prefix=model.", "hf:{here}/made#prefix=model."),
        ("timm:vit@absent.bin", "timm:vit@absent.bin"),
        ("package:minilm", "package:minilm"),
    ],
)
def test_what_is_there_gets_an_absolute_path(text: str, expected: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made").mkdir()
    for name in ("w.bin", "a.json"):
        (tmp_path / name).write_bytes(b"")
    found = ModelSource.parse(text).absolute
    assert found == expected.format(here=tmp_path)
    assert ModelSource.parse(found).absolute == found


def test_the_configuration_of_a_folder_is_read_when_it_is_there(tmp_path: Path):
    source = f"hf:{tmp_path}"
    assert ModelSource.parse(source).config is None
    (tmp_path / "config.json").write_text("[1]")
    assert ModelSource.parse(source).config == {}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    assert ModelSource.parse(source).config == {"model_type": "clip"}
    assert ModelSource.parse(f"package:{tmp_path}").config is None
