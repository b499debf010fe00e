"""ONNX: every kind of tower, any batch and length, and the folder as a model of its own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import frugalclip
from frugalclip.backbones.attach import attach_backbones
from frugalclip.core.errors import ModelError
from frugalclip.data.tokens import Tokenizer
from frugalclip.exporting.base import ExportSettings
from frugalclip.exporting.graphs import text_lengths
from frugalclip.exporting.onnx import Onnx
from frugalclip.interop.tokenizers import PassThroughTokenizer
from frugalclip.models import Model, load
from frugalclip.sources.open import open_data
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.verbs.search_build import search_build

from .kinds import CAPTIONS, KINDS, build

SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS if kind != "vit"]
TEXTS = [*CAPTIONS, "", "x" * 200, "one two three four five six seven eight nine ten eleven twelve thirteen"]


def written(model: Model, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    Onnx().write(model, folder, ExportSettings(given="runs/x"))
    return folder


def pixels(model: Model, number: int) -> torch.Tensor:
    """Of pictures, since descriptors round what lies between their values."""
    values = torch.randint(0, 256, (number, 3, *(model.preprocess.size,) * 2), dtype=torch.uint8)
    return model.preprocess.normalised(values)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    model = build("vit")
    return model, written(model, tmp_path_factory.mktemp("vit"))


@pytest.mark.parametrize("kind", ["vit", *SLOW])
def test_a_graph_gives_the_models_vectors_for_any_batch(kind: str, tmp_path: Path, vit: tuple[Model, Path]):
    model, folder = vit if kind == "vit" else (build(kind), tmp_path)
    other = load(f"onnx:{folder if kind == 'vit' else written(model, tmp_path)}")
    images = pixels(model, 64)
    expected, words = model.encode_image(images), model.encode_text(TEXTS)
    for size in (1, 2, 7, 64):
        found = other.encode_image(images[:size])
        limit = 1e-3 if model.network.image.has_steps else 1e-5
        assert (found - expected[:size]).abs().max() < limit
    assert (other.encode_text(TEXTS) - words).abs().max() < 1e-5
    one_by_one = torch.cat([other.encode_text(text) for text in TEXTS[:3]])
    assert (one_by_one - words[:3]).abs().max() < 1e-5


def test_graphs_have_the_names_and_types_of_the_contract(vit: tuple[Model, Path]):
    model, folder = vit
    for file, name, kind, shape in (
        ("image.onnx", "pixels", "tensor(float)", [3, 32, 32]),
        ("text.onnx", "ids", "tensor(int64)", None),
    ):
        session = onnxruntime.InferenceSession(str(folder / file), providers=["CPUExecutionProvider"])
        (given,), (output,) = session.get_inputs(), session.get_outputs()
        assert (given.name, given.type, output.name) == (name, kind, "embedding")
        assert isinstance(given.shape[0], str) and output.shape[1] == model.dim
        assert given.shape[1:] == shape if shape else isinstance(given.shape[1], str)
    ids = model.tokenizer.encode(["green"], pad_to=9).ids.numpy()
    (found,) = session.run(None, {"ids": ids})
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-5
    assert (torch.from_numpy(found) - model.encode_text("green")).abs().max() < 1e-5


def test_graphs_hold_no_paths_of_the_machine_that_made_them(vit: tuple[Model, Path]):
    for name in ("image.onnx", "text.onnx"):
        content = (vit[1] / name).read_bytes()
        assert b"site-packages" not in content and b"frugalclip" not in content and b".py" not in content


@pytest.mark.slow  # evaluation also looks for the rows among the thousands of the training data
def test_a_folder_is_a_model_in_verbs_that_encode(vit: tuple[Model, Path], tmp_path: Path):
    model, folder = vit
    rows = open_data("sample").take(np.arange(30))
    given, found = (
        frugalclip.evaluate(one, data=rows, task="retrieval") for one in (model, f"onnx:{folder}")
    )
    assert found["metrics"] == given["metrics"]
    picture = Image.new("RGB", (50, 40), "teal")
    again = load(f"onnx:{folder}")
    assert (again.encode_image(picture) - model.encode_image(picture)).abs().max() < 1e-5
    assert again.scale == pytest.approx(model.scale) and again.dim == model.dim
    assert again.training_data == {"path": "sample"} and again.fingerprint != model.fingerprint
    assert load(f"onnx:{folder}").fingerprint == again.fingerprint


def test_a_changed_file_is_refused(vit: tuple[Model, Path], tmp_path: Path):
    for name in ("image.onnx", "tokenizer.json", "export.json"):
        for file in vit[1].iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        content = bytearray((tmp_path / name).read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=name):
            load(f"onnx:{tmp_path}")


def test_a_folder_of_something_else_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match=r"holds no export\.json; expected a folder that 'frugalclip export"):
        load(f"onnx:{tmp_path}")


@pytest.mark.slow
def test_a_part_that_reads_strings_is_named_and_left_out(tmp_path: Path):
    model = build("resnet and bag")
    model.tokenizer = PassThroughTokenizer()
    folder = written(model, tmp_path)
    record = json.loads((folder / "export.json").read_text())
    assert "reads strings" in record["notes"][0] and not (folder / "text.onnx").exists()
    other = load(f"onnx:{folder}")
    images = pixels(model, 3)
    assert (other.encode_image(images) - model.encode_image(images)).abs().max() < 1e-5
    assert other.reads == "images"


@pytest.mark.parametrize(("end", "pad"), [(1, 3), (1, 1), (3, 0)])
def test_lengths_are_told_by_the_end_token(end: int, pad: int):
    lengths = torch.tensor([2, 5, 3])
    ids = torch.full((3, 5), 9)
    for row, length in enumerate(lengths):
        ids[row, length - 1], ids[row, length:] = end, pad
    assert text_lengths(ids, end=end, pad=pad).tolist() == lengths.tolist()


def test_an_end_token_inside_a_text_counts_only_where_padding_is_another():
    ids = torch.tensor([[9, 1, 9, 1, 3, 3]])
    assert text_lengths(ids, end=1, pad=3).tolist() == [4]
    assert text_lengths(ids, end=1, pad=1).tolist() == [2]


def test_tokenizers_say_whether_they_give_ids():
    assert Tokenizer.gives_ids and not PassThroughTokenizer.gives_ids


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "beside"),
    [({}, {}), ({"lora": {"rank": 2}}, {}), ({}, {"descriptors": ["colours", "layout"], "width": 64 + 256})],
    ids=["frozen", "low-rank additions", "descriptors"],
)
def test_pretrained_towers_are_part_of_the_graphs(
    changes: dict[str, Any], beside: dict[str, Any], tmp_path: Path
):
    given = build("vit")
    given.save(tmp_path / "given")
    tower = {"kind": "pretrained", "from": str(tmp_path / "given"), "width": 64, "head": {"kind": "mlp"}}
    config = {"image": tower | changes | {"resolution": 32} | beside, "text": tower | changes, "dim": 24}
    words = given.tokenizer
    network = DualEncoder(
        ModelConfig.model_validate(config), vocabulary=words.vocabulary, context=words.context
    )
    attach_backbones(network, load)
    for name, parameter in network.named_parameters():
        if name.endswith(".up"):
            torch.nn.init.normal_(parameter, std=0.1)
    model = Model(network.eval(), words, given.preprocess)
    other, images = load(f"onnx:{written(model, tmp_path / 'onnx')}"), pixels(model, 5)
    limit = 1e-3 if model.network.image.has_steps else 1e-5
    assert (other.encode_image(images) - model.encode_image(images)).abs().max() < limit
    assert (other.encode_text(TEXTS) - model.encode_text(TEXTS)).abs().max() < 1e-5


def test_an_index_over_a_relative_folder_answers_from_any_other(
    vit: tuple[Model, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (20, 20), "red").save(tmp_path / "pictures" / "red.png")
    monkeypatch.chdir(vit[1].parent)
    search_build(f"onnx:{vit[1].name}", tmp_path / "pictures", out=tmp_path / "index")
    monkeypatch.chdir(tmp_path)
    index = frugalclip.search("index")
    assert [hit["id"] for hit in index.query("a red square")["hits"]] == ["red"]
    assert index.head.named == f"onnx:{vit[1]}"
