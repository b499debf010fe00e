"""The verb: what is printed, written, replaced and refused."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import frugalclip
from frugalclip.cli import main
from frugalclip.core.errors import ModelError, UsageError
from frugalclip.exporting.folder import replaced_contents
from frugalclip.exporting.parity import refuse_apart
from frugalclip.verbs.export import PARITY

from ..exporting.kinds import build


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, colour in enumerate(("red", "blue", "green")):
        Image.new("RGB", (40 + i, 50), colour).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"a {colour} square\n")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    build("vit").save(tmp_path / "model")
    return tmp_path / "model"


def test_an_export_is_measured_on_the_rows_that_are_given(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    words = ["export", str(run), "--to", "huggingface", "--out", str(out), "--data", str(data)]
    assert main(words) == 0
    shown, parity = capsys.readouterr().out, json.loads((out / PARITY).read_text())
    assert "read by transformers" in shown and "from transformers import" in shown
    assert parity["rows"] == {"data": str(data), "images": 3, "texts": 3}
    assert parity["image"]["max_abs"] < 1e-5 and parity["text"]["min_cosine"] > 0.99999
    assert parity["batches"]["sizes"] == [1, 2, 7, 64] and parity["batches"]["max_abs"] < 1e-5
    assert parity["size_mb"] > 0.1 and set(parity["images_per_second"]) == {"torch", "transformers"}
    record = json.loads((out / "export.json").read_text())
    assert record["given"] == str(run) and record["to"] == "huggingface" and record["precision"] == "fp32"
    card = (out / "MODEL_CARD.md").read_text()
    assert "- compared on 3 images and 3 texts" in card and f'from_pretrained("{out}")' in card
    (out / "stale.txt").touch()
    assert main(["export", str(run), "--to", "open_clip", "--out", str(out), "--data", str(data)]) == 0
    assert (out / "open_clip_config.json").is_file() and not (out / "config.json").exists()
    assert not (out / "stale.txt").exists() and not (out / ".building").exists()


def test_the_function_takes_a_loaded_model(data: Path, tmp_path: Path):
    model = build("vit")
    found = frugalclip.export(model, to="huggingface", out=tmp_path / "out", data=data)
    assert found.parity["image"]["max_abs"] < 1e-5
    again = frugalclip.import_model(f"hf:{tmp_path / 'out'}", out=tmp_path / "again").model
    assert (again.encode_text("a red square") - model.encode_text("a red square")).abs().max() < 1e-5
    assert torch.equal(again.network.log_scale, model.network.log_scale)


def test_a_folder_of_something_else_stays(run: Path, data: Path, tmp_path: Path):
    with pytest.raises(ModelError, match="holds something else than an export"):
        frugalclip.export(run, to="huggingface", out=data)
    assert len(list(data.iterdir())) == 6
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="is a file; give a new folder"):
        frugalclip.export(run, to="huggingface", out=tmp_path / "file")


def test_what_is_not_known_is_refused(run: Path, tmp_path: Path):
    out = tmp_path / "out"
    with pytest.raises(
        UsageError, match=r"--to tensorrt is not understood; Known: huggingface, onnx, open_clip"
    ):
        frugalclip.export(run, to="tensorrt", out=out)
    with pytest.raises(UsageError, match="--precision int8 is not for --to huggingface; Known: fp32"):
        frugalclip.export(run, to="huggingface", out=out, precision="int8")
    with pytest.raises(UsageError, match="--layout immich is not for --to open_clip"):
        frugalclip.export(run, to="open_clip", out=out, layout="immich")
    assert not out.exists()


def test_an_export_that_gives_other_vectors_is_refused():
    same = {"max_abs": 1e-6, "min_cosine": 1.0, "rows_within": 1.0}
    stepped = {"max_abs": 4e-3, "min_cosine": 0.9999, "rows_within": 0.97}
    refuse_apart({"image": stepped, "text": same}, has_steps=True)
    for side, has_steps in (("image", False), ("text", True)):
        with pytest.raises(ModelError, match=f"the exported {side} tower"):
            refuse_apart({"image": same, "text": same} | {side: stepped}, has_steps=has_steps)
    refuse_apart({"image": same, "text": None})
    with pytest.raises(
        ModelError, match=r"the exported text tower is up to 2\.0e-02 from the model's vectors"
    ):
        refuse_apart({"image": same, "text": {"max_abs": 0.02, "min_cosine": 0.99}})


def test_an_export_that_fails_leaves_the_older_one(tmp_path: Path):
    (tmp_path / "export.json").write_text("{}")

    def fail() -> None:
        with replaced_contents(tmp_path) as building:
            (building / "new").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["export.json"]


@pytest.mark.parametrize("side", ["image", "text"])
def test_a_model_whose_vectors_are_not_finite_is_not_exported(
    side: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = build("vit")
    with torch.no_grad():
        getattr(model.network, side).project.weight.fill_(3e38)
    out = tmp_path / "out"
    model.save(tmp_path / "model")
    words = [str(tmp_path / "model"), "--to", "huggingface", "--out", str(out), "--data", str(data)]
    assert main(["export", *words]) == 2
    assert f"the model gives a{'n' * (side == 'image')} {side} vector that is not finite" in (
        capsys.readouterr().err
    )
    assert not out.exists()
