"""Backbones by their source, against the library each comes from; every wrong source, file and setting is answered with what to write."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer as Backend
from transformers import BertModel

from frugalclip.backbones.sources import (
    check_preprocess,
    image_backbone,
    text_backbone,
    text_kind,
    text_tokenizer,
)
from frugalclip.backbones.timm import TimmBackbone, read_timm
from frugalclip.core.errors import ModelError, RecipeError
from frugalclip.core.types import Strings, Tokens
from frugalclip.interop.tokenizers import Verbatim, read_tokenizer
from frugalclip.loading.views import Preprocess

from .tiny_backbones import BERT_WIDTH, TIMM_WIDTH, bert_source, timm_source, vision_source

PIXELS = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
TEXTS = ["red beside a square", "blue", "the grey square above black below white beside green"]


def file_of(source: str) -> Path:
    return Path(source.partition("@")[2])


def original(source: str) -> Any:
    module = timm.create_model(
        source.partition("@")[0].removeprefix("timm:"), pretrained=False, num_classes=3
    ).eval()
    module.load_state_dict(load_file(file_of(source)))
    return module


@torch.inference_mode()
def test_a_convolutional_trunk_says_what_timm_says_before_the_classifier(tmp_path: Path):
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
        "timm:test_resnet": r"names no file; write timm:NAME@FILE, such as timm:test_resnet@weights\.safetensors",
        f"timm:test_resnett@{file}": "timm has no model 'test_resnett'; did you mean 'test_resnet'",
        f"timm:test_vit@{file}": r"does not hold the weights of timm's test_vit \(it lacks blocks\.0",
        f"timm:test_resnet@{tmp_path}/gone.safetensors": "is not there; expected weights",
        "package:minilm": "'package:minilm' is no image backbone; expected timm:NAME@FILE",
        "tim:resnet": "is no image backbone",
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


@torch.inference_mode()
@pytest.mark.parametrize("pool", ["mean", "first", "end"])
def test_an_encoder_says_what_transformers_says(tmp_path: Path, pool: str):
    source = bert_source(tmp_path / "bert")
    options = {"pool": pool, "context": 20}
    backbone, tokenizer = text_backbone(source, options), text_tokenizer(source, options)
    output = backbone(tokenizer.encode(TEXTS), with_tokens=True)
    backend, module = (
        Backend.from_file(str(tmp_path / "bert" / "tokenizer.json")),
        BertModel.from_pretrained(tmp_path / "bert").eval(),
    )
    assert backbone.width == BERT_WIDTH and output.pooled.shape == (3, BERT_WIDTH)
    for i, text in enumerate(TEXTS):  # alone, so without padding
        ids = torch.tensor(
            [
                [
                    backend.token_to_id("[CLS]"),
                    *backend.encode(text, add_special_tokens=False).ids,
                    backend.token_to_id("[SEP]"),
                ]
            ]
        )
        states = module(input_ids=ids).last_hidden_state[0]
        expected = {"mean": states.mean(0), "first": states[0], "end": states[-1]}[pool]
        torch.testing.assert_close(output.pooled[i], expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(output.tokens[i, : len(states)], states, atol=1e-5, rtol=1e-4)
        assert not output.tokens[i, len(states) :].any()


def test_pictures_prepared_in_another_way_are_noted():
    own = Preprocess(size=8, crop=0.875, interpolation="bilinear")
    output = check_preprocess("timm:x", Preprocess(size=9), own)
    assert output and output.endswith(
        "in another way; preprocess.crop=0.875 preprocess.interpolation=bilinear prepares them so"
    )
    assert check_preprocess("timm:x", own, own) is None


@pytest.mark.parametrize("source", ["package:minilm", "package:e5"])
def test_a_part_that_reads_texts_is_no_image_trunk(source: str):
    with pytest.raises(ModelError, match="is no image backbone"):
        image_backbone(source, {})


def test_an_image_encoder_is_no_text_trunk(tmp_path: Path):
    with pytest.raises(ModelError, match="holds an image encoder, expected one of texts"):
        text_kind(vision_source(tmp_path))


def test_every_parameter_of_an_encoder_has_a_gradient(tmp_path: Path):
    backbone = text_backbone(bert_source(tmp_path), {})
    assert any(name.endswith("query.weight") for name, _ in backbone.named_parameters())
    backbone(
        Tokens(torch.tensor([[2, 3, 4]]), torch.tensor([3])), with_tokens=False
    ).pooled.square().sum().backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None] == []


def test_what_changes_a_text_vector_changes_the_fingerprint(tmp_path: Path):
    first, second = bert_source(tmp_path / "a"), bert_source(tmp_path / "b", seed=1)
    options = [
        (first, {"context": 20}),
        (second, {"context": 20}),
        (first, {"context": 9}),
        (first, {"context": 20, "pool": "end"}),
    ]
    found = [text_backbone(source, own).fingerprint for source, own in options]
    assert len(set(found)) == 4 and text_backbone(first, {"context": 20}).fingerprint == found[0]


def test_wrong_text_sources_are_refused_with_what_to_write(tmp_path: Path):
    source = bert_source(tmp_path / "bert")
    with pytest.raises(
        ModelError,
        match=r"reads at most 20 tokens, and options\.context is 256; set model\.text\.options\.context=20",
    ):
        text_backbone(source, {"context": 256})
    assert (
        text_backbone(source, {}).fingerprint == text_backbone(source, {"context": 20}).fingerprint
    )  # a text is as long as the encoder reads
    assert text_tokenizer(source, {}).context == 20
    with pytest.raises(RecipeError, match=r"model\.text\.options\.pol is not a setting; did you mean 'pool'"):
        text_backbone(source, {"pol": "end"})
    with pytest.raises(
        ModelError, match="'package:minilmm' is no text backbone; did you mean 'package:minilm'"
    ):
        text_backbone("package:minilmm", {})
    with pytest.raises(
        ModelError,
        match=r"has no config\.json, expected a folder that Hugging Face's library saved, or a GGUF file",
    ):
        text_backbone(f"hf:{tmp_path}/gone", {})
    (tmp_path / "bert" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match="cannot be read as an encoder"):
        text_backbone(source, {"context": 20})


def test_what_a_source_of_texts_is_stands_in_its_name_or_configuration(tmp_path: Path):
    assert text_kind(bert_source(tmp_path / "bert")) == "encoder"
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    assert (
        text_kind(f"hf:{tmp_path}/lm")
        == text_kind("package:smollm2")
        == text_kind("some/file.gguf")
        == "language_model"
    )
    assert text_kind("package:e5") == "e5" and text_kind("package:minilm") == "encoder"
    assert isinstance(text_tokenizer("package:e5", {}), Verbatim)  # nothing has to be installed for that


def test_texts_are_handed_on_as_they_are(tmp_path: Path):
    verbatim = Verbatim()
    assert verbatim.encode(["A b", " ü\n"]) == Strings(("A b", " ü\n"))
    assert verbatim.truncated(["x" * 10_000]) == 0
    verbatim.save(tmp_path)
    again = read_tokenizer(tmp_path)
    assert isinstance(again, Verbatim) and again.fingerprint() == verbatim.fingerprint()


def test_pictures_normalised_in_another_way_are_refused_with_the_settings():
    own = Preprocess(size=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    check_preprocess("timm:x", own.model_copy(update={"size": 9}), own)
    with pytest.raises(
        RecipeError,
        match=r"set preprocess\.mean=\[0\.5, 0\.5, 0\.5\] preprocess\.std=\[0\.25, 0\.25, 0\.25\]",
    ):
        check_preprocess("timm:x", Preprocess(size=8), own)


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


def test_a_configuration_that_is_a_list_names_no_language_model(tmp_path: Path):
    (tmp_path / "config.json").write_text("[1]")
    assert text_kind(f"hf:{tmp_path}") == "encoder"
    (tmp_path / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}')
    assert text_kind(f"hf:{tmp_path}") == "language_model"
