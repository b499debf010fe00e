"""Image encoders of Hugging Face against transformers: pixels, forward pass, and damaged folders."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image

from frugalclip.core.errors import ModelError, RecipeError
from frugalclip.towers.pretrained import BackboneOutput

from .tiny_backbones import VISION, VISION_WIDTH, bert_source, image_backbone, vision_model, vision_source

PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LARGE = torch.randn(2, 3, 44, 44, generator=torch.Generator().manual_seed(0))  # not a whole number of patches
SQUARE = {"height": 32, "width": 32}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
PROCESSORS = {  # as the published folders have them, smaller
    "vit": transformers.ViTImageProcessorPil(size=SQUARE),
    "deit": transformers.DeiTImageProcessorPil(
        size={"height": 36, "width": 36}, crop_size=SQUARE, **IMAGENET
    ),
    "dinov2": transformers.BitImageProcessorPil(size={"shortest_edge": 36}, crop_size=SQUARE, **IMAGENET),
    "clip_vision_model": transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE),
    "siglip_vision_model": transformers.SiglipImageProcessorPil(size=SQUARE),
}


def image(size: tuple[int, int]) -> Image.Image:
    """A smooth one: only the crop is resampled here, and a sharp image would differ at its edge."""
    width, height = size
    ramp = [
        (x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height))
        for y in range(height)
        for x in range(width)
    ]
    return Image.frombytes("RGB", size, bytes(value for one in ramp for value in one))


@torch.inference_mode()
@pytest.mark.parametrize("kind", VISION)
def test_a_backbone_gives_the_states_of_transformers(tmp_path: Path, kind: str):
    backbone, own = image_backbone(vision_source(tmp_path, kind=kind), {}), vision_model(kind)
    output, expected = backbone(PIXELS, with_tokens=True), own(pixel_values=PIXELS)
    pooled = expected.last_hidden_state[:, 0] if kind in ("vit", "deit") else expected.pooler_output
    assert backbone.width == VISION_WIDTH and backbone(PIXELS).tokens is None
    torch.testing.assert_close(output.pooled, pooled, rtol=0, atol=1e-6)
    torch.testing.assert_close(
        output.tokens, expected.last_hidden_state[:, -16:], rtol=0, atol=1e-6
    )  # patches stand last
    options = {} if kind.startswith("dino") else {"interpolate_pos_encoding": True}
    expected = own(pixel_values=LARGE, **options).last_hidden_state
    torch.testing.assert_close(backbone(LARGE, with_tokens=True).tokens, expected[:, -25:], rtol=0, atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("vit", "ViTForImageClassification"),
        ("dinov2", "Dinov2ForImageClassification"),
        ("clip_vision_model", "CLIPVisionModelWithProjection"),
    ],
)
def test_heads_of_other_tasks_are_left_out(tmp_path: Path, kind: str, name: str):
    backbone, own = (
        image_backbone(vision_source(tmp_path, kind=kind, name=name), {}),
        vision_model(kind, name=name),
    )
    body: Any = getattr(own, own.base_model_prefix if kind != "clip_vision_model" else "vision_model")
    expected = body(pixel_values=PIXELS)
    pooled = (
        expected.pooler_output if expected.pooler_output is not None else expected.last_hidden_state[:, 0]
    )
    torch.testing.assert_close(backbone(PIXELS).pooled, pooled, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", PROCESSORS)
def test_pictures_are_prepared_as_the_folder_says(tmp_path: Path, kind: str):
    source = vision_source(tmp_path, kind=kind, processor=PROCESSORS[kind])
    preprocess = image_backbone(source, {}).preprocess
    assert preprocess is not None
    for size in ((32, 32), (64, 64), (90, 60), (61, 200)):
        expected = PROCESSORS[kind](image(size), return_tensors="pt")["pixel_values"]
        found = preprocess(image(size))
        assert found.shape == expected.shape == (1, 3, 32, 32)
        levels = (found - expected).abs().amax((0, 2, 3)) * torch.tensor(preprocess.std) * 255
        assert levels.max() <= 1.01, size
    assert preprocess.crop == (pytest.approx(32 / 36) if kind in ("deit", "dinov2") else 1)
    assert preprocess.resize == ("shorter" if kind in ("dinov2", "clip_vision_model") else "squash")
    assert preprocess.interpolation == ("bilinear" if kind == "vit" else "bicubic")


def test_sizes_of_older_files_are_plain_numbers(tmp_path: Path):
    source = vision_source(tmp_path)
    for old, (resize, crop) in {
        (32, None, "ViTFeatureExtractor"): ("squash", 1),
        (40, 32, "DeiTFeatureExtractor"): ("squash", 0.8),
        (40, 32, "CLIPFeatureExtractor"): ("shorter", 0.8),
    }.items():
        size, cut, maker = old
        cutting = {} if cut is None else {"crop_size": cut, "do_center_crop": True}
        content = {"size": size, "resample": 3, "feature_extractor_type": maker, **IMAGENET, **cutting}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
        found = image_backbone(source, {}).preprocess
        assert (found.size, found.resize, found.crop) == (32, resize, pytest.approx(crop))


def test_the_fingerprint_is_that_of_weights_and_settings(tmp_path: Path):
    options: list[dict[str, Any]] = [{}, {"seed": 1}, {"layer_norm_eps": 1e-3}, {}]
    found = [
        image_backbone(vision_source(tmp_path / str(i), **own), {}).fingerprint
        for i, own in enumerate(options)
    ]
    assert len(set(found)) == 3 and found[0] == found[3]


def test_every_parameter_of_a_tuned_backbone_has_a_gradient(tmp_path: Path):
    for kind in VISION:  # otherwise several processes would wait for it
        backbone = image_backbone(vision_source(tmp_path / kind, kind=kind), {}).requires_grad_(True)
        output: BackboneOutput = backbone(PIXELS)
        output.pooled.square().sum().backward()
        assert [name for name, parameter in backbone.named_parameters() if parameter.grad is None] == []


def changed(file: Path, *without: str, **change: Any) -> None:
    content = json.loads(file.read_text()) | change
    file.write_text(json.dumps({name: value for name, value in content.items() if name not in without}))


def test_folders_that_cannot_be_read_say_what_to_do(tmp_path: Path):
    source = vision_source(tmp_path / "own")
    settings, config, weights = (
        tmp_path / "own" / name for name in ("preprocessor_config.json", "config.json", "model.safetensors")
    )
    whole = {file: file.read_bytes() for file in (settings, config, weights)}

    def refused(message: str, **options: Any) -> None:
        with pytest.raises(ModelError, match=message):
            image_backbone(source, {}, **options)
        for file, content in whole.items():
            file.write_bytes(content)

    settings.unlink()
    refused("has no preprocessor_config.json, so the preprocessing of images is unknown; copy it")
    changed(settings, "image_mean", "resample")
    refused("does not give resample, image_mean, which images depend on; copy the file")
    changed(settings, size={"height": 32, "width": 40})
    refused("asks for size {'height': 32, 'width': 40} without cutting; only squares of one size")
    changed(settings, do_normalize=False)
    refused("leaves images unscaled or not normalised")
    settings.write_text("[]")
    refused("holds no settings of images")
    changed(config, model_type="beit")
    refused(
        r"holds a model of type 'beit', which is no image backbone; "
        r"expected hf:DIR with an image encoder \(vit.*timm:NAME@FILE"
    )
    changed(config, num_hidden_layers=3)
    refused("lacks 18 tensors of its dinov2, such as encoder.layer.2.attention.k_proj.bias; copy it again")
    changed(config, hidden_size=40)
    refused("cannot be read as an image encoder of type dinov2")
    weights.write_bytes(b"broken")
    refused("cannot be read as an image encoder of type dinov2")
    weights.unlink()
    refused(r"holds no \*\.safetensors; save the model with save_pretrained")
    refused(r"has patches of 8 pixels, and images have 4; set model\.image\.resolution=16", size=4)
    with pytest.raises(ModelError, match=r"has no config\.json; expected hf:DIR with an image encoder"):
        image_backbone(f"hf:{tmp_path}/gone", {})
    with pytest.raises(ModelError, match="holds a model of type 'bert'"):
        image_backbone(bert_source(tmp_path / "bert"), {})
    with pytest.raises(ModelError, match=r"has no pooling \(vision_use_head: false\)"):
        image_backbone(
            vision_source(tmp_path / "siglip", kind="siglip_vision_model", vision_use_head=False), {}
        )
    with pytest.raises(RecipeError, match=r"model\.image\.options \(stages\) have no effect on hf:"):
        image_backbone(source, {"stages": True})
