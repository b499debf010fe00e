"""Layouts of other programs: names, types, and the same vectors."""

import json
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import torch

from frugalclip.core.errors import ModelError
from frugalclip.core.preprocess import Preprocess
from frugalclip.exporting.base import ExportSettings
from frugalclip.exporting.layouts import LAYOUTS, arrange, check_layout
from frugalclip.exporting.onnx import Onnx
from frugalclip.interop.tokenizers import PassThroughTokenizer
from frugalclip.models import Model, load

from .kinds import CAPTIONS, build, without_texts

NAMES = {
    "transformers.js": {
        "onnx/vision_model.onnx": ("pixel_values", "tensor(float)", "image_embeds"),
        "onnx/text_model.onnx": ("input_ids", "tensor(int64)", "text_embeds"),
    },
    "immich": {
        "visual/model.onnx": ("image", "tensor(float)", "embedding"),
        "textual/model.onnx": ("text", "tensor(int32)", "embedding"),
    },
}
FILES = {
    "transformers.js": {"config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"},
    "immich": {
        "config.json", "visual/preprocess_cfg.json",
        "textual/tokenizer.json", "textual/tokenizer_config.json",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    model, folder = build("resnet and bag"), tmp_path_factory.mktemp("plain")
    Onnx().write(model, folder, ExportSettings())
    return model, folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_has_its_names_and_the_same_vectors(
    layout: str, exported: tuple[Model, Path], tmp_path: Path
):
    model, plain = exported
    for file in plain.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    notes = arrange(tmp_path, layout, model, "fp32")
    assert any("not mended" in note for note in notes)
    found = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert found == FILES[layout] | NAMES[layout].keys()
    for file, (name, kind, output) in NAMES[layout].items():
        session = onnxruntime.InferenceSession(str(tmp_path / file), providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        assert (given.name, given.type, session.get_outputs()[0].name) == (name, kind, output)
    back = Onnx().read(tmp_path, ExportSettings(layout=layout))
    images = torch.randn(5, 3, 32, 32)
    assert (back.encode_pixels(images) - model.encode_image(images)).abs().max() < 1e-5
    assert back.encode_texts is not None
    texts = [text for text in CAPTIONS if "&" not in text]
    assert (back.encode_texts(texts) - model.encode_text(texts)).abs().max() < 1e-5
    with pytest.raises(ModelError, match=r"holds no export\.json"):
        load(f"onnx:{tmp_path}")


def strings() -> Model:
    model = build("resnet and bag")
    model.tokenizer = PassThroughTokenizer()
    return model


def margin() -> Model:
    model = build("vit")
    model.preprocess = Preprocess(size=32, crop=0.875)
    return model


@pytest.mark.parametrize(
    ("made", "layout", "sentence"),
    [
        (without_texts, "immich", "immich has a graph of texts, and this model encodes images alone"),
        (without_texts, "transformers.js", "has a graph of texts"),
        (strings, "transformers.js", "a part that reads strings"),
        (margin, "immich", r"cut with a margin \(crop: 0.875\), for which immich has no counterpart"),
    ],
)
def test_a_model_without_counterpart_in_a_layout_is_refused_before_its_graphs_are_made(
    made: Callable[[], Model], layout: str, sentence: str, tmp_path: Path
):
    with pytest.raises(ModelError, match=sentence):
        Onnx().write(made(), tmp_path, ExportSettings(layout=layout))
    assert not list(tmp_path.iterdir())


def test_a_margin_has_a_counterpart_in_transformers_js():
    check_layout("transformers.js", margin())


def test_a_layout_is_no_model(tmp_path: Path):
    (tmp_path / "export.json").write_text(json.dumps({"to": "onnx"}))
    with pytest.raises(
        ModelError, match=r"holds no image\.onnx, so it is an export of another format or layout"
    ):
        load(f"onnx:{tmp_path}")
