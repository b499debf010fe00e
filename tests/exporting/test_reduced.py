"""Smaller numbers: what they keep, which layers lose most, and the gate that refuses."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import frugalclip
from frugalclip.core.errors import ModelError, UsageError
from frugalclip.exporting.base import ExportSettings, Precision
from frugalclip.exporting.gate import Quality, pass_gate
from frugalclip.exporting.onnx import Onnx, _finish
from frugalclip.exporting.quantised import quantise_folder
from frugalclip.exporting.reduced import Int8Graph, halve
from frugalclip.interop.onnx_folder import graph_runner
from frugalclip.models import Model, load
from frugalclip.sources.open import open_data

from .kinds import build

COLOURS = ["red", "blue", "green", "teal", "white", "black", "orange", "pink", "gold", "grey", "navy", "lime"]


@pytest.fixture(scope="module")
def model() -> Model:
    return build("vit")


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("graphs")
    Onnx().write(model, made, ExportSettings())
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pictures")
    for i, colour in enumerate(COLOURS):
        Image.new("RGB", (40 + i, 50), colour).save(made / f"{i:02}.png")
        (made / f"{i:02}.txt").write_text(f"a {colour} square\n")
    return made


def copied(folder: Path, to: Path) -> None:
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())


def pixels(number: int = 6) -> np.ndarray:
    return torch.randn(number, 3, 32, 32, generator=torch.Generator().manual_seed(0)).numpy()


def test_fp16_is_half_as_large_and_nearly_equal(folder: Path, model: Model, tmp_path: Path):
    graph = tmp_path / "image.onnx"
    graph.write_bytes((folder / "image.onnx").read_bytes())
    before, size = graph_runner(graph)(pixels()), graph.stat().st_size
    halve(graph)
    assert graph.stat().st_size < 0.62 * size
    assert np.abs(graph_runner(graph)(pixels()) - before).max() < 2e-3


def test_int8_layers_are_chosen_and_ranked(folder: Path):
    graph = Int8Graph(folder / "image.onnx", [pixels(2), pixels(3)])
    assert len(graph.layers) >= 10
    whole, none = graph.quantised(graph.layers), graph.quantised([])
    assert len(whole) < 0.5 * len(none)
    expected = graph_runner(folder / "image.onnx")(pixels())
    assert np.abs(graph_runner(none)(pixels()) - expected).max() < 1e-5
    cosines = (graph_runner(whole)(pixels()) * expected).sum(axis=1)
    assert 0.98 < cosines.min() < 0.9999999
    ranked = graph.by_loss()
    assert sorted(name for group in ranked for name in group) == sorted(graph.layers)


def test_a_broken_case_is_refused_with_its_metrics(
    model: Model, folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Ranges of pixels that no picture has, in all layers at every attempt: all images become one."""
    copied(folder, tmp_path)
    real, made = Int8Graph.quantised, dict[int, bytes]()

    def broken(graph: Int8Graph, layers: list[str]) -> bytes:
        if id(graph) not in made:
            graph.rows = [inputs * 1e6 if inputs.ndim == 4 else inputs for inputs in graph.rows]
            made[id(graph)] = real(graph, graph.layers)
        return made[id(graph)]

    monkeypatch.setattr(Int8Graph, "quantised", broken)
    monkeypatch.setattr(Int8Graph, "by_loss", lambda graph: [[name] for name in graph.layers])
    finish = partial(_finish, model, tmp_path, ExportSettings(precision="int8"), [])
    chance = f"{100 * (1 + 5 + 10) / 3 / len(COLOURS):.2f}"
    with pytest.raises(ModelError, match=rf"too much on these rows \(retrieval .* to {chance}, zero"):
        quantise_folder(model, tmp_path, open_data(data), finish=finish)
    assert len(made) == 2


def test_the_refusal_holds_the_best_attempt():
    with pytest.raises(
        ModelError, match=r"int8 costs too much on these rows \(retrieval 50\.00 to 49\.00, zero"
    ):
        pass_gate(Quality(50.0, 40.0), [lambda: Quality(40.0, 40.0), lambda: Quality(49.0, 40.0)])


def test_a_folder_without_texts_passes_no_gate(model: Model, folder: Path, data: Path, tmp_path: Path):
    copied(folder, tmp_path)
    (tmp_path / "text.onnx").unlink()
    with pytest.raises(ModelError, match="the folder encodes images alone; use --precision fp16"):
        quantise_folder(model, tmp_path, open_data(data), finish=lambda: None)


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        (Quality(50.0, 40.0), True),
        (Quality(49.75, 39.0), True),
        (Quality(49.74, 40.0), False),
        (Quality(50.0, 38.9), False),
        (Quality(60.0, None), True),
    ],
)
def test_the_gate(after: Quality, kept: bool):
    assert Quality(50.0, 40.0).is_kept_by(after) is kept


def test_the_first_attempt_that_passes_is_taken():
    attempts = [lambda: Quality(1.0, None), lambda: Quality(50.0, None), lambda: Quality(99.0, None)]
    assert pass_gate(Quality(50.0, None), attempts) == (1, Quality(50.0, None))


def test_int8_needs_rows(model: Model, tmp_path: Path):
    with pytest.raises(
        UsageError, match=r"int8 takes its ranges and its gate from your own rows; add --data"
    ):
        frugalclip.export(model, to="onnx", out=tmp_path / "out", precision="int8")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_verb_writes_a_smaller_model(
    model: Model, data: Path, tmp_path: Path, precision: Precision, monkeypatch: pytest.MonkeyPatch
):
    whole = frugalclip.export(model, to="onnx", out=tmp_path / "whole", data=data)
    monkeypatch.setattr(Quality, "is_kept_by", lambda before, after: True)  # the weights are random
    out = tmp_path / precision
    found = frugalclip.export(model, to="onnx", out=out, precision=precision, data=data)
    assert found.parity["size_mb"] < 0.7 * whole.parity["size_mb"]
    assert found.parity["image"]["min_cosine"] > 0.97
    assert load(f"onnx:{out}").encode_text("a red square").shape == (1, model.dim)
