"""Every form of MODEL is opened by `load`, or refused with what was expected."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from frugalclip.core.checksums import write_checksums
from frugalclip.core.errors import ModelError
from frugalclip.models import Model, load

from ..backbones.tiny_backbones import bert_source, image_backbone, timm_source, vision_source
from .photos import photo


def test_what_is_no_model_is_refused_with_what_was_expected(model: Model, tmp_path: Path):
    with pytest.raises(ModelError, match="there is no model at"):
        load(tmp_path / "nothing")
    with pytest.raises(ModelError, match="neither a run nor a checkpoint"):
        load(tmp_path)
    (tmp_path / "epoch_3.pt").write_bytes(b"weights")
    with pytest.raises(ModelError, match=r"write open_clip:ARCH@.*epoch_3\.pt or timm:NAME@"):
        load(tmp_path / "epoch_3.pt")
    with pytest.raises(ModelError, match="'openclip:' is not a known format"):
        load("openclip:ViT-B-32")
    model.save(tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"model\.safetensors has .* bytes, expected .*; restore it"):
        load(tmp_path / "m")
    weights.write_bytes(save({"log_scale": torch.zeros(())}))
    write_checksums(tmp_path / "m", ["model.safetensors"])  # of weights of another model
    with pytest.raises(ModelError, match=r"does not fit model\.json"):
        load(tmp_path / "m")
    weights.write_bytes(whole)
    content = json.loads((tmp_path / "m" / "model.json").read_text())
    (tmp_path / "m" / "model.json").write_text(json.dumps(content | {"format": 99}))
    with pytest.raises(ModelError, match="has format 99, this version reads 3; update frugalclip"):
        load(tmp_path / "m")
    (tmp_path / "m" / "model.json").write_text(json.dumps(content | {"format": 1}))
    with pytest.raises(
        ModelError, match="has format 1, this version reads 3; train or import the model again"
    ):
        load(tmp_path / "m")
    with pytest.raises(ModelError, match="expected \\(batch, 3, height, width\\)"):
        model.encode_image(torch.zeros(4, 4))


def test_an_image_encoder_alone_is_a_model_without_texts(tmp_path: Path):
    for source in (timm_source(tmp_path), vision_source(tmp_path / "dino")):
        backbone, model = image_backbone(source, {}), load(source)
        image = photo("teal", (50, 40))
        assert backbone.preprocess is not None
        output = backbone(backbone.preprocess(image)).pooled
        torch.testing.assert_close(model.encode_image(image, normalize=False), output)
        torch.testing.assert_close(model.encode_image([image]), torch.nn.functional.normalize(output, dim=1))
        assert (model.reads, model.dim, model.preprocess) == ("images", backbone.width, backbone.preprocess)
        with pytest.raises(
            ModelError,
            match=r"this model encodes .* and no texts; give one with two towers, or train a text tower",
        ):
            model.encode_text("teal")
        model.save(tmp_path / "saved")
        again = load(tmp_path / "saved")
        assert again.reads == "images" and again.fingerprint == model.fingerprint == load(source).fingerprint
        assert torch.equal(again.encode_image(image), model.encode_image(image))


def test_text_encoders_alone_are_refused_with_where_they_belong(tmp_path: Path):
    with pytest.raises(
        ModelError,
        match=r"of type 'bert', expected clip or siglip, or .*'frugalclip embed' and model\.text\.from",
    ):
        load(bert_source(tmp_path / "bert"))
    with pytest.raises(
        ModelError,
        match=r"'package:minilm' is no image backbone; Known: package:efficientnet-lite0\.",
    ):
        load("package:minilm")
    with pytest.raises(
        ModelError, match=r"timm:resnet50 is not in the cache .*, and write timm:resnet50@FILE"
    ):
        load("timm:resnet50")


def test_schemes_of_foreign_models_are_known_and_others_are_not(tmp_path: Path):
    with pytest.raises(
        ModelError,
        match=r"'openclip:' is not a known format; did you mean 'open_clip'\? Known: hf, onnx, open_clip",
    ):
        load("openclip:ViT-B-32@x.pt")
    with pytest.raises(ModelError, match="nothing is not there"):
        load(f"hf:{tmp_path}/nothing")
    with pytest.raises(ModelError, match=r"write open_clip:ARCH@FILE"):
        load("open_clip:ViT-B-32")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(model: Model, tmp_path: Path, value: float):
    with torch.no_grad():
        next(model.network.image.parameters()).flatten()[0] = value
    model.save(tmp_path / "m")
    with pytest.raises(
        ModelError, match=r"model\.safetensors holds weights that are not finite, in image\..* \(1 of"
    ):
        load(tmp_path / "m")


def test_a_backbone_whose_weights_are_not_finite_is_refused(tmp_path: Path):
    source = timm_source(tmp_path)
    file = Path(source.partition("@")[2])
    weights = load_file(file)
    name = sorted(name for name, tensor in weights.items() if tensor.is_floating_point())[0]
    weights[name].flatten()[0] = float("nan")
    save_file(weights, file)
    with pytest.raises(ModelError, match=f"holds weights that are not finite, in .*{name}"):
        load(source)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("runs/frugl", r"there is no model at runs/frugl; did you mean 'runs/frugal'\?"),
        (
            "ViT-B-32",
            "a model of open_clip is written open_clip:ViT-B-32@FILE, with the file of its",
        ),
        ("hf:nowhere/model", "there is no folder nowhere/model, and hf:nowhere/model is not in the cache"),
    ],
)
def test_a_model_that_is_not_there_says_what_may_be_meant(
    source: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "runs" / "frugal").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=sentence):
        load(source)
