"""Backbones of timm against timm itself; wrong names, files and settings are answered with what to write."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from frugalclip.backbones.timm import TimmBackbone, read_timm
from frugalclip.core.errors import ModelError, RecipeError

from .tiny_backbones import TIMM_WIDTH, image_backbone, timm_source

PIXELS = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def file_of(source: str) -> Path:
    return Path(source.partition("@")[2])


def original(source: str) -> Any:
    module = timm.create_model(
        source.partition("@")[0].removeprefix("timm:"), pretrained=False, num_classes=3
    ).eval()
    module.load_state_dict(load_file(file_of(source)))
    return module


@torch.inference_mode()
def test_a_convolutional_network_gives_the_feature_before_timms_classifier(tmp_path: Path):
    source = timm_source(tmp_path)
    backbone = image_backbone(source, {})
    preprocess = backbone.preprocess
    own, features = original(source), original(source).forward_features(PIXELS)
    output = backbone(PIXELS, with_tokens=True)
    assert backbone.width == TIMM_WIDTH == output.pooled.shape[1]
    torch.testing.assert_close(
        output.pooled, own.forward_head(features, pre_logits=True), atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(output.tokens, features.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-4)
    assert backbone(PIXELS).tokens is None
    assert (preprocess.size, preprocess.mean, preprocess.std) == (160, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@torch.inference_mode()
def test_a_transformer_gives_its_patches_without_the_prefix(tmp_path: Path):
    source = timm_source(tmp_path, name="test_vit")
    pixels = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    output = image_backbone(source, {})(pixels, with_tokens=True)
    torch.testing.assert_close(
        output.tokens, original(source).forward_features(pixels)[:, 1:], atol=1e-5, rtol=1e-4
    )
    assert output.tokens.shape == (2, 100, 64)


@torch.inference_mode()
@pytest.mark.parametrize("stages", [False, True])
def test_feature_maps_with_channels_last_and_wider_heads_are_read_as_they_are(tmp_path: Path, stages: bool):
    source = timm_source(tmp_path, name="test_mambaout")  # 64 channels in the map, 256 before the classifier
    backbone = image_backbone(source, {"stages": stages})
    output = backbone(PIXELS, with_tokens=True)
    features = original(source).forward_features(PIXELS)  # (batch, rows, columns, 64)
    assert backbone.width == output.pooled.shape[1] and (stages or backbone.width == 256)
    torch.testing.assert_close(output.tokens, features.flatten(1, 2), atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_stages_stand_before_the_pooled_feature(tmp_path: Path):
    source = timm_source(tmp_path)
    plain, wide = image_backbone(source, {}), image_backbone(source, {"stages": True})
    output = wide(PIXELS).pooled
    assert (
        wide.width == output.shape[1] == TIMM_WIDTH + 32 + 32 + 48 + 192 + 96
        and wide.fingerprint != plain.fingerprint
    )
    torch.testing.assert_close(output[:, -TIMM_WIDTH:], plain(PIXELS).pooled, atol=1e-5, rtol=1e-4)
    _, stages = original(source).forward_intermediates(PIXELS)
    torch.testing.assert_close(output[:, :32], stages[0].mean((2, 3)), atol=1e-5, rtol=1e-4)


def test_the_fingerprint_is_that_of_the_weights(tmp_path: Path):
    found = [image_backbone(timm_source(tmp_path, seed=seed), {}).fingerprint for seed in (0, 1, 0)]
    assert found[0] == found[2] != found[1]
    assert image_backbone(timm_source(tmp_path, dtype=torch.bfloat16), {}).fingerprint not in found


@torch.inference_mode()
@torch.inference_mode()
def test_checkpoints_of_ordinary_loops_are_read(tmp_path: Path):
    source = timm_source(tmp_path)
    expected, own = image_backbone(source, {})(PIXELS).pooled, load_file(file_of(source))
    behind = {f"backbone.{name}": tensor for name, tensor in own.items()} | {"head.weight": torch.zeros(3, 3)}
    zeros = {name: 0 * tensor for name, tensor in own.items()}
    for content, selection in (
        ({"epoch": 1, "model_state_dict": own, "loss": torch.tensor(1.0)}, ""),
        ({"state_dict": behind}, ""),
        ({"student": own, "teacher": zeros}, "#key=student"),
        ({f"a.{k}": v for k, v in own.items()} | {f"b.{k}": v for k, v in zeros.items()}, "#prefix=a."),
    ):
        torch.save(content, tmp_path / "last.ckpt")
        name = source.partition("@")[0]
        found = image_backbone(f"{name}@{tmp_path}/last.ckpt{selection}", {})(PIXELS).pooled
        assert torch.equal(found, expected)


def test_an_encoder_whose_library_finds_the_tensors_takes_no_key(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ModelError, match=rf"finds the tensors itself; write hf:{tmp_path}\."):
        image_backbone(f"hf:{tmp_path}#key=ema", {})


def test_weights_under_other_names_are_taken_in_their_order(tmp_path: Path):
    source = timm_source(tmp_path)
    weights, module = (
        load_file(file_of(source)),
        timm.create_model("test_resnet", pretrained=False, num_classes=3),
    )
    ordered = {f"{i:04}.other": weights[name] for i, name in enumerate(module.state_dict())}
    torch.save(ordered, tmp_path / "renamed.pth")  # safetensors keeps no order
    renamed = read_timm("test_resnet", tmp_path / "renamed.pth", in_order=True)
    assert torch.equal(renamed(PIXELS).pooled, image_backbone(source, {})(PIXELS).pooled)
    torch.save(dict(zip(ordered, reversed(list(ordered.values())), strict=True)), tmp_path / "turned.pth")
    with pytest.raises(ModelError, match=r"has shape \(.*\), timm's test_resnet expects"):
        read_timm("test_resnet", tmp_path / "turned.pth", in_order=True)


def test_wrong_image_sources_are_refused_with_what_to_write(tmp_path: Path):
    file = file_of(timm_source(tmp_path))
    for source, message in {
        "timm:test_resnet": r"names no file; write timm:NAME@FILE, such as timm:test_resnet@weights\.",
        f"timm:test_resnett@{file}": "timm has no model 'test_resnett'; did you mean 'test_resnet'",
        f"timm:test_vit@{file}": r"does not hold the weights of timm's test_vit \(it lacks blocks\.0",
        f"timm:test_resnet@{tmp_path}/gone.safetensors": "is not there; expected weights",
        "tim:resnet": "there is no model at tim:resnet; 'tim:' is not a known format; did you mean 'timm'",
    }.items():
        with pytest.raises(ModelError, match=message):
            image_backbone(source, {})
    with pytest.raises(
        RecipeError, match=r"model\.image\.options\.stage is not a setting; did you mean 'stages'"
    ):
        image_backbone(f"timm:test_resnet@{file}", {"stage": True})


class Flat(torch.nn.Module):
    """A backbone without stages."""

    num_features = 4


def test_a_backbone_without_stages_is_refused():
    with pytest.raises(ModelError, match=r"Flat of timm has no stages to read; leave options\.stages out"):
        TimmBackbone(Flat(), fingerprint="x", stages=True)


def test_a_transformer_of_one_size_is_fitted_to_the_pictures_that_come(tmp_path: Path):
    source = timm_source(tmp_path, name="test_vit")  # places for 160 pixels
    own, small = image_backbone(source, {}), image_backbone(source, {}, size=64)
    output = small(PIXELS, with_tokens=True)
    assert (
        output.tokens is not None
        and output.tokens.shape[:2] == (3, 16)
        and small.fingerprint != own.fingerprint
    )
    module = original(source)
    module.set_input_size(img_size=(64, 64))
    torch.testing.assert_close(
        output.pooled, module.forward_head(module.forward_features(PIXELS), pre_logits=True)
    )
    assert image_backbone(source, {}, size=160).fingerprint == own.fingerprint
    convolutions = timm_source(tmp_path)
    assert (
        image_backbone(convolutions, {}, size=64).fingerprint == image_backbone(convolutions, {}).fingerprint
    ), "they read any size"


def test_a_classifier_of_imagenet_tells_which_names_a_backbone_knows(tmp_path: Path):
    small = file_of(timm_source(tmp_path))  # three classes without names
    assert read_timm("test_resnet", small).classes is None
    tensors = load_file(small)
    weight = torch.randn(1000, TIMM_WIDTH, generator=torch.Generator().manual_seed(1))
    save_file(tensors | {"fc.weight": weight, "fc.bias": torch.zeros(1000)}, tmp_path / "wide.safetensors")
    for stages in (False, True):
        backbone = read_timm("test_resnet", tmp_path / "wide.safetensors", stages=stages)
        classes = backbone.classes
        assert classes is not None and classes.weight.shape == (1000, backbone.width)
        assert (classes.names[1], classes.names[340]) == ("goldfish", "zebra")
        features = backbone(PIXELS).pooled
        torch.testing.assert_close(features @ classes.weight.T, features[:, -TIMM_WIDTH:] @ weight.T)
