"""Folders of CLIPModel and SiglipModel against transformers: random weights, and damaged folders."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

from frugalclip.core.errors import ModelError
from frugalclip.data.byte_pairs import clip_merges
from frugalclip.interop.huggingface import read_huggingface
from frugalclip.interop.source import ModelSource
from frugalclip.interop.tokenizers import published_tokenizer
from frugalclip.models import Model, load

TEXTS = ["a photo of a cat", "Two dogs, running!", "", "blue_grey sea", "a very long caption " * 10]
SIZES = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 3}
CONTEXT = 12


def tokenizer_of(folder: Path, *, kind: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with the special tokens of CLIP (start, end) or SigLIP (end, also pads)."""
    start, end = ("<|startoftext|>", "<|endoftext|>") if kind == "clip" else ("<unused>", "</s>")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[start, end],
    )
    backend.train_from_iterator(TEXTS, trainer)
    template = f"{start} $A {end}" if kind == "clip" else f"$A {end}"
    special = [(name, backend.token_to_id(name)) for name in (start, end)]
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=end, eos_token=end, bos_token=start, model_max_length=CONTEXT
    )
    fast.save_pretrained(folder)
    return fast


def saved(
    folder: Path, *, kind: str, activation: str, image: dict[str, Any] | None = None, **save: Any
) -> tuple[Any, PreTrainedTokenizerFast]:
    """A random model of transformers in a folder, with its tokenizer."""
    tokenizer = tokenizer_of(folder, kind=kind)
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = {
        **SIZES,
        **ids,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": CONTEXT,
        "hidden_act": activation,
    }
    vision = {**SIZES, "image_size": 32, "patch_size": 8, "hidden_act": activation, **(image or {})}
    torch.manual_seed(0)
    if kind == "clip":
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))
    else:
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.eval().save_pretrained(folder, **save)
    side = vision["image_size"]
    if kind == "clip":
        CLIPImageProcessorPil(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        ).save_pretrained(folder)
    else:
        SiglipImageProcessorPil(size={"height": side, "width": side}).save_pretrained(folder)
    return model, tokenizer


def embedding(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.pooler_output


@torch.inference_mode()
def agree(model: Model, original: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    """Pictures and texts have the same embeddings to 1e-5 of the largest entry."""
    side = model.preprocess.size
    pixels = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))
    expected = embedding(original.get_image_features(pixel_values=pixels))
    torch.testing.assert_close(
        model.encode_image(pixels, normalize=False), expected, rtol=0, atol=float(1e-5 * expected.abs().max())
    )
    words = tokenizer(TEXTS, padding="max_length", truncation=True, return_tensors="pt")
    expected = embedding(original.get_text_features(input_ids=words["input_ids"]))
    torch.testing.assert_close(
        model.encode_text(TEXTS, normalize=False), expected, rtol=0, atol=float(1e-5 * expected.abs().max())
    )
    alone = model.encode_text(TEXTS[1], normalize=False)
    torch.testing.assert_close(alone[0], expected[1], rtol=0, atol=float(1e-5 * expected.abs().max()))
    assert model.network.scale().item() == pytest.approx(original.logit_scale.exp().item(), rel=1e-6)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu", "gelu_pytorch_tanh"])
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_embeddings_are_those_of_transformers(kind: str, activation: str, tmp_path: Path):
    original, tokenizer = saved(tmp_path, kind=kind, activation=activation)
    model = load(f"hf:{tmp_path}")
    agree(model, original, tokenizer)
    assert model.origin is not None
    assert model.origin["activation"] == activation.replace("pytorch_", "")
    assert model.origin["architecture"] == ("CLIPModel" if kind == "clip" else "SiglipModel")
    bias = model.origin["logit_bias"]
    assert bias is None if kind == "clip" else bias == pytest.approx(original.logit_bias.item())


def test_a_picture_that_is_no_multiple_of_the_patch_is_read_as_there(tmp_path: Path):
    original, tokenizer = saved(
        tmp_path, kind="siglip", activation="gelu_pytorch_tanh", image={"image_size": 30, "patch_size": 7}
    )
    agree(load(f"hf:{tmp_path}"), original, tokenizer)


def test_shards_are_put_together(tmp_path: Path):
    original, tokenizer = saved(tmp_path, kind="clip", activation="quick_gelu", max_shard_size="100KB")
    assert (
        len(list(tmp_path.glob("model-*.safetensors"))) > 1 and not (tmp_path / "model.safetensors").exists()
    )
    agree(load(f"hf:{tmp_path}"), original, tokenizer)
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    for change, sentence in (
        (
            {"weight_map": content["weight_map"] | {"extra": next(iter(content["weight_map"].values()))}},
            "lists the tensor 'extra'",
        ),
        ({"weight_map": {"x": "../model.safetensors"}}, "not in its own folder"),
        ({}, "has no weight_map"),
    ):
        index.write_text(json.dumps(change))
        with pytest.raises(ModelError, match=sentence):
            load(f"hf:{tmp_path}")


def test_weights_of_an_ordinary_loop_are_found(tmp_path: Path):
    original, tokenizer = saved(tmp_path, kind="clip", activation="quick_gelu")
    (tmp_path / "model.safetensors").unlink()
    state = {f"module.model.{name}": tensor for name, tensor in original.state_dict().items()}
    average = {name: 0 * tensor for name, tensor in original.state_dict().items()}
    torch.save({"model": state, "ema": average, "epoch": 1}, tmp_path / "pytorch_model.bin")
    model = load(f"hf:{tmp_path}")
    agree(model, original, tokenizer)
    assert model.origin is not None and f"hf:{tmp_path}#key=ema takes that" in model.origin["notes"][0]
    assert load(f"hf:{tmp_path}#key=ema").network.scale().item() == 1.0


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_pictures_are_prepared_as_transformers_does(kind: str, tmp_path: Path):
    saved(tmp_path, kind=kind, activation="gelu")
    model = load(f"hf:{tmp_path}")
    theirs = (CLIPImageProcessorPil if kind == "clip" else SiglipImageProcessorPil).from_pretrained(tmp_path)
    for size in ((32, 32), (64, 64), (50, 32), (91, 130)):
        image = Image.frombytes("RGB", size, bytes(i * 37 % 251 for i in range(size[0] * size[1] * 3)))
        expected = theirs(image, return_tensors="pt")["pixel_values"][0]
        is_cut = (
            kind == "clip" and size[0] != size[1]
        )  # there the order of cropping and resampling, and half a pixel of the crop, differ
        found = model.preprocess(image)[0]
        if not is_cut:
            torch.testing.assert_close(found, expected, rtol=0, atol=1.01 / 255 / min(model.preprocess.std))
        assert found.shape == expected.shape
    assert model.preprocess.resize == ("shorter" if kind == "clip" else "squash")
    assert model.preprocess.mean == tuple(theirs.image_mean)


def test_a_configuration_without_what_is_usual_is_read_with_the_library_s_defaults(tmp_path: Path):
    original, tokenizer = saved(tmp_path, kind="clip", activation="quick_gelu")
    content = json.loads((tmp_path / "config.json").read_text())
    for part in ("text_config", "vision_config"):
        for name in ("hidden_act", "layer_norm_eps", "num_channels"):
            content[part].pop(name, None)
    content["text_config_dict"], content["text_config"] = content["text_config"], {}
    (tmp_path / "config.json").write_text(json.dumps(content))
    agree(load(f"hf:{tmp_path}"), original, tokenizer)


def test_newer_folders_keep_the_preprocessing_elsewhere(tmp_path: Path):
    saved(tmp_path, kind="siglip", activation="gelu")
    file = tmp_path / "preprocessor_config.json"
    (tmp_path / "processor_config.json").write_text(
        json.dumps({"image_processor": json.loads(file.read_text())})
    )
    file.unlink()
    assert load(f"hf:{tmp_path}").preprocess.mean == (0.5, 0.5, 0.5)
    (tmp_path / "processor_config.json").unlink()
    with pytest.raises(ModelError, match=r"has no preprocessor_config\.json"):
        load(f"hf:{tmp_path}")


def changed(file: Path, **change: Any) -> None:
    content = json.loads(file.read_text())
    for name, value in change.items():
        content[name] = {**content[name], **value} if isinstance(value, dict) and name in content else value
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        ("config.json", {"model_type": "blip"}, "model of type 'blip', expected clip or siglip"),
        ("config.json", {"text_config": {"hidden_act": "relu"}}, "activation relu; quick_gelu"),
        ("config.json", {"text_config": {"hidden_size": "x"}}, "cannot be understood .ValueError"),
        ("config.json", {"vision_config": {"num_attention_heads": 0}}, "cannot be understood"),
        (
            "config.json",
            {"vision_config": {"num_hidden_layers": 3}},
            "no tensor 'vision_model.encoder.layers.2",
        ),
        ("config.json", {"vision_config": {"num_hidden_layers": 1}}, "16 tensors have no place"),
        (
            "config.json",
            {"projection_dim": 25},
            r"'visual_projection.weight' gives our image.project.weight the shape \(24, 48\)",
        ),
        ("config.json", {"text_config": {"vocab_size": 100}}, r"the model's embedding has 100 rows"),
        ("preprocessor_config.json", {"resample": 1}, "Pillow's filter 1"),
        ("preprocessor_config.json", {"do_normalize": False}, "not normalised"),
        ("preprocessor_config.json", {"rescale_factor": 1 / 127.5}, "not normalised"),
        (
            "preprocessor_config.json",
            {"size": {"shortest_edge": 28}},
            "asks for size {'shortest_edge': 28} and crop_size {'height': 32, 'width': 32}",
        ),
        (
            "preprocessor_config.json",
            {"crop_size": 24},
            "prepares images of 24 by 24 pixels, and its model expects 32 by 32",
        ),
        (
            "preprocessor_config.json",
            {"do_center_crop": False},
            "asks for size {'shortest_edge': 32} without cutting; only squares",
        ),
        ("preprocessor_config.json", {"size": "large"}, "cannot be understood .ValueError"),
    ],
)
def test_what_cannot_be_read_is_named(file: str, change: dict[str, Any], sentence: str, tmp_path: Path):
    saved(tmp_path, kind="clip", activation="quick_gelu")
    changed(tmp_path / file, **change)
    with pytest.raises(ModelError, match=sentence):
        load(f"hf:{tmp_path}")


def test_missing_and_damaged_files_say_what_to_do(tmp_path: Path):
    saved(tmp_path, kind="clip", activation="quick_gelu")
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        load(f"hf:{tmp_path}")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has no weights; expected one of model\.safetensors"):
        load(f"hf:{tmp_path}")
    (tmp_path / "model.safetensors").write_bytes(whole)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(
        ModelError, match=r"tokenizer\.json is not there.* hf download ORG/NAME tokenizer\.json"
    ):
        load(f"hf:{tmp_path}")
    (tmp_path / "config.json").unlink()
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"has no config\.json.*write open_clip:"):
        load(f"hf:{tmp_path}")
    with pytest.raises(ModelError, match="nothing is not there; expected a model saved with save_pretrained"):
        read_huggingface(ModelSource.parse(f"hf:{tmp_path}/nothing"))


@pytest.mark.parametrize("is_special", [False, True])
def test_a_token_that_the_model_does_not_have_is_refused(is_special: bool, tmp_path: Path):
    _, tokenizer = saved(tmp_path, kind="clip", activation="quick_gelu")
    rows = len(tokenizer)
    tokenizer.add_tokens(["<mydog>"], special_tokens=is_special)
    tokenizer.save_pretrained(tmp_path)
    sentence = (
        rf"tokens up to id {rows}, and .* embedding has {rows} rows: none for 1 of them, such as '<mydog>'"
    )
    with pytest.raises(ModelError, match=sentence):
        load(f"hf:{tmp_path}")


def test_a_tokenizer_and_a_model_that_were_enlarged_together_are_read(tmp_path: Path):
    model, tokenizer = saved(tmp_path, kind="clip", activation="quick_gelu")
    tokenizer.add_tokens(["<mydog>"])
    tokenizer.save_pretrained(tmp_path)
    model.text_model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64)
    model.save_pretrained(tmp_path)
    assert model.config.text_config.vocab_size > len(tokenizer), "rounded up"
    found = load(f"hf:{tmp_path}")
    agree(found, model, tokenizer)
    texts = ["a <mydog> in a boat", "a dog"]
    words = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt", max_length=CONTEXT)
    with torch.inference_mode():
        expected = embedding(model.get_text_features(input_ids=words["input_ids"]))
    torch.testing.assert_close(found.encode_text(texts, normalize=False), expected, rtol=1e-4, atol=1e-5)


def test_what_transformers_writes_into_a_folder_without_tokenizer_is_refused(tmp_path: Path):
    _, tokenizer = saved(tmp_path, kind="clip", activation="quick_gelu")
    for file in tmp_path.glob("*token*"):
        file.unlink()
    AutoTokenizer.from_pretrained(str(tmp_path), local_files_only=True).save_pretrained(tmp_path)
    sentence = (
        rf"has [1-4] tokens, and the model's embedding has {len(tokenizer)} rows, so .*hf download ORG/NAME"
    )
    with pytest.raises(ModelError, match=sentence):
        load(f"hf:{tmp_path}")


def test_the_proposed_command_writes_the_tokenizer(tmp_path: Path):
    model, _ = saved(tmp_path, kind="clip", activation="quick_gelu")
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*symbols, *(f"{one}</w>" for one in symbols), "ab</w>", "<|startoftext|>", "<|endoftext|>"]
    model.text_model.resize_token_embeddings(len(entries))
    model.config.text_config.eos_token_id = len(entries) - 1
    model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "vocab.json").write_text(json.dumps({entry: i for i, entry in enumerate(entries)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    with pytest.raises(ModelError, match=r"is not there.*from vocab\.json and merges\.txt") as error:
        load(f"hf:{tmp_path}")
    code = str(error.value).partition('python -c "')[2].removesuffix('".')
    exec(code, {})  # noqa: S102  (what the message proposes)
    assert load(f"hf:{tmp_path}").tokenizer.size == len(entries)


def test_texts_must_end_where_the_model_pools_them(tmp_path: Path):
    _, tokenizer = saved(tmp_path, kind="clip", activation="quick_gelu")
    end = tokenizer.eos_token_id
    assert isinstance(end, int)
    content = json.loads((tmp_path / "config.json").read_text())
    content["text_config"]["eos_token_id"] = end + 5
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(
        ModelError, match=f"ends texts with the id {end}, and the model pools them at the id {end + 5}"
    ):
        load(f"hf:{tmp_path}")
    content["text_config"]["eos_token_id"] = 2  # older configurations, of which the largest id is pooled
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=f"pools them at the id {len(tokenizer) - 1:,}"):
        load(f"hf:{tmp_path}")


def test_clips_own_tokenizer_gives_the_ids_of_transformers(tmp_path: Path):
    merges = clip_merges()
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [
        *symbols,
        *(f"{one}</w>" for one in symbols),
        *("".join(pair) for pair in merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    theirs = CLIPTokenizer(
        vocab={entry: i for i, entry in enumerate(entries)}, merges=merges, model_max_length=CONTEXT
    )
    theirs.save_pretrained(tmp_path)
    ours = published_tokenizer(tmp_path, context=CONTEXT, rows=len(entries), cleaning=None)
    texts = [*TEXTS, "Größe, 100 % of it's <b>BOLD</b>", "日本語 😀", " \n tabs\tand  spaces "]
    expected = theirs(texts, padding="max_length", truncation=True, return_tensors="pt")["input_ids"]
    found = ours.encode(texts, pad_to=CONTEXT)
    assert found.ids.tolist() == expected.tolist()
