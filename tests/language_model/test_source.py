"""Folders and GGUF files: found, converted once, hashed."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from frugalclip.core.errors import MissingExtra, ModelError
from frugalclip.language_model import source


@pytest.fixture
def conversions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The conversions made, none of them real, into a cache of the test's own."""
    made: list[str] = []

    def convert(gguf: Path, folder: Path) -> None:
        made.append(gguf.name)
        (folder / "config.json").write_text(gguf.read_text())

    monkeypatch.setenv("FRUGALCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(source, "convert_gguf", convert)
    return made


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_a_gguf_file_is_converted_once_wherever_it_lies(tmp_path: Path, conversions: list[str]):
    first = source.model_folder(write(tmp_path / "a" / "one.gguf", "weights"))
    again = source.model_folder(tmp_path / "a")  # the folder with one GGUF file
    moved = source.model_folder(write(tmp_path / "b" / "moved.gguf", "weights"))
    assert first == again == moved
    assert conversions == ["one.gguf"]
    assert json.loads((first / "source.json").read_text())["sha256"] == first.name
    other = source.model_folder(write(tmp_path / "a" / "one.gguf", "other weights"))
    assert other != first
    assert (other / "config.json").read_text() == "other weights"


def test_a_killed_conversion_leaves_nothing_that_is_read(
    tmp_path: Path, conversions: list[str], monkeypatch: pytest.MonkeyPatch
):
    file = write(tmp_path / "one.gguf", "weights")
    whole = source.convert_gguf

    def killed(gguf: Path, folder: Path) -> None:
        whole(gguf, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(source, "convert_gguf", killed)
    with pytest.raises(KeyboardInterrupt):
        source.model_folder(file)
    assert list((tmp_path / "cache" / "language_models").iterdir()) == []
    monkeypatch.setattr(source, "convert_gguf", whole)
    assert (source.model_folder(file) / "config.json").is_file()


def test_another_process_may_be_faster(
    tmp_path: Path, conversions: list[str], monkeypatch: pytest.MonkeyPatch
):
    file = write(tmp_path / "one.gguf", "weights")

    def overtaken(gguf: Path, folder: Path) -> None:
        (folder / "config.json").write_text("slower")
        monkeypatch.setattr(
            source, "convert_gguf", lambda gguf, folder: (folder / "config.json").write_text("faster")
        )
        source.model_folder(gguf)

    monkeypatch.setattr(source, "convert_gguf", overtaken)
    assert (source.model_folder(file) / "config.json").read_text() == "faster"
    assert len(list((tmp_path / "cache" / "language_models").iterdir())) == 1


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ([], "no config.json and 0 GGUF files"),
        (["a.gguf", "b.gguf"], "no config.json and 2 GGUF files"),
        (["config.json", "pytorch_model.bin"], r"holds no \*.safetensors"),
        (["config.json", "model.safetensors"], "holds no tokenizer.json"),
    ],
)
def test_a_folder_that_is_no_model_says_what_is_missing(tmp_path: Path, files: list[str], sentence: str):
    for name in files:
        write(tmp_path / name, "{}")
    with pytest.raises(ModelError, match=sentence):
        source.model_folder(tmp_path)


def test_an_absent_model_and_a_broken_gguf_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FRUGALCLIP_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelError, match="no language model at"):
        source.model_folder(tmp_path / "absent")
    with pytest.raises(ModelError, match="is no GGUF file"):
        source.model_folder(write(tmp_path / "broken.gguf", "not GGUF"))
    assert list((tmp_path / "cache" / "language_models").iterdir()) == []


def test_a_missing_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch):
    import sys

    import torch

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"pip install 'frugalclip\[hf\]'"):
        source.read_network(folder, dtype=torch.float32)


def test_an_encoder_is_refused(folder: Path, tmp_path: Path):
    import torch

    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertForMaskedLM"]}))
    with pytest.raises(ModelError, match="BertForMaskedLM, expected a causal language model"):
        source.read_network(tmp_path, dtype=torch.float32)


def test_the_hash_follows_weights_and_settings_but_not_files_and_versions(folder: Path, tmp_path: Path):
    copied = tmp_path / "copy"
    shutil.copytree(folder, copied)
    expected = source.weights_hash(folder)
    weights = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    half = len(weights) // 2
    for i, names in enumerate((list(weights)[half:], list(weights)[:half])):
        save_file({name: weights[name] for name in names}, copied / f"model-{i}.safetensors")
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"transformers_version": "0"}))
    assert source.weights_hash(copied) == expected
    (copied / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    assert source.weights_hash(copied) != expected
    (copied / "config.json").write_text(json.dumps(config))
    weights["model.norm.weight"] += 1
    save_file(weights, copied / "model-0.safetensors")
    (copied / "model-1.safetensors").unlink()
    assert source.weights_hash(copied) != expected
