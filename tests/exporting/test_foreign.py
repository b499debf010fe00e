"""Hugging Face, open_clip and sentence-transformers: read back by the libraries and by our importer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from frugalclip.core.errors import ModelError
from frugalclip.core.preprocess import Preprocess
from frugalclip.exporting.base import ExportSettings
from frugalclip.exporting.find import export_targets, find_target
from frugalclip.models import Model, load

from .kinds import CAPTIONS, build, clip_words

TEXTS = [*CAPTIONS[:3], "", "one two three four five six seven eight nine ten eleven twelve", "Red\t Circle"]
BROKEN = [CAPTIONS[3], "the cafÃ© &lt;b&gt;"]
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("vit", {}),
    "vit of CLIP's words": ("vit", {"tokenizer": clip_words()}),
    "quick_gelu, other epsilon, trimmed": (
        "vit",
        {
            "image": {"activation": "quick_gelu", "norm_eps": 1e-6, "resolution": 36, "trim": True},
            "text": {"activation": "quick_gelu", "norm_eps": 1e-6},
        },
    ),
    "siglip": ("siglip", {}),
    "clip_resnet": ("clip_resnet", {"text": {"activation": "gelu"}}),
    "no norm before": ("vit", {"image": {"pre_norm": False}, "text": {"activation": "gelu_tanh"}}),
    "odd sizes": ("vit", {"image": {"neurons": [101, 101]}, "text": {"neurons": [55, 55]}}),
}
TAKEN = {
    "huggingface": ("vit", "vit of CLIP's words", "quick_gelu, other epsilon, trimmed", "siglip"),
    "open_clip": (
        "vit", "vit of CLIP's words", "quick_gelu, other epsilon, trimmed", "clip_resnet", "no norm before",
        "odd sizes",
    ),
    "sentence_transformers": ("vit",),
}  # fmt: skip
SOURCES = {
    "huggingface": "hf:{0}",
    "open_clip": "open_clip:{0}/open_clip_config.json@{0}/open_clip_model.safetensors",
    "sentence_transformers": "hf:{0}/0_CLIPModel",
}


def made(name: str) -> Model:
    kind, changes = MODELS[name]
    return build(kind, **changes)


def pictures(number: int) -> list[Image.Image]:
    generator = torch.Generator().manual_seed(3)
    small = torch.randint(0, 256, (number, 5, 7, 3), generator=generator, dtype=torch.uint8)
    return [Image.fromarray(one.numpy()).resize((70, 50)) for one in small]


@pytest.mark.parametrize(("to", "name"), [(to, name) for to, names in TAKEN.items() for name in names])
def test_the_library_gives_the_models_vectors(to: str, name: str, tmp_path: Path):
    model, target, settings = made(name), find_target(to), ExportSettings()
    target.check(model)
    target.write(model, tmp_path, settings)
    back, pixels = target.read(tmp_path, settings), model.preprocess(pictures(7))
    expected = model.encode_image(pixels)
    for size in (1, 2, 7):
        assert (back.encode_pixels(pixels[:size]) - expected[:size]).abs().max() < 1e-5
    assert back.encode_texts is not None and back.encode_images is not None
    assert (back.encode_texts(TEXTS) - model.encode_text(TEXTS)).abs().max() < 1e-5
    assert (back.encode_images(pictures(7)) - expected).abs().max() < 5e-3
    if to == "open_clip":  # it mends texts as we do
        assert (back.encode_texts(BROKEN) - model.encode_text(BROKEN)).abs().max() < 1e-5
    assert [file.parent for file in tmp_path.rglob("export.json")] == [tmp_path]
    again = load(SOURCES[to].format(tmp_path))
    ours, theirs = model.network.state_dict(), again.network.state_dict()
    assert ours.keys() == theirs.keys()
    for key, tensor in ours.items():  # the same bytes, but of biases that have no effect
        if not key.endswith(("pool.k.bias", "log_scale")):
            assert torch.equal(tensor, theirs[key]), key
    assert torch.equal(ours["log_scale"], theirs["log_scale"])
    assert (again.encode_text(TEXTS) - model.encode_text(TEXTS)).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("to", "kind", "changes", "sentence"),
    [
        (
            "huggingface",
            "resnet and bag",
            {},
            "two transformers, and this model has the towers resnet and bag",
        ),
        (
            "huggingface",
            "irregular",
            {},
            r"image tower has heads: \[2, 0, 1\], and Hugging Face's CLIPM",
        ),
        (
            "huggingface",
            "vit",
            {"image": {"pool": "mean"}},
            "has pool: mean, and Hugging Face's CLIPModel comp",
        ),
        ("huggingface", "vit", {"text": {"attention": "bidirectional"}}, "has attention: bidirectional"),
        ("huggingface", "facets", {"text": {"kind": "transformer", "width": 64, "depth": 1}}, "has facets"),
        (
            "open_clip",
            "resnet and bag",
            {},
            "no counterpart for the text tower bag; export it with --to onnx",
        ),
        ("open_clip", "siglip", {}, "vit with attention pooling; .*--to huggingface takes"),
        ("open_clip", "irregular", {}, r"tower has heads: \[1, 0\], and open_clip has as many heads as"),
        ("open_clip", "vit of means", {}, "the image tower has pool: mean, and open_clip computes pool: cls"),
        ("huggingface", "vit", {"image": {"neurons": [100, 90]}}, r"has neurons: \[100, 90\], and Hugging"),
        ("sentence_transformers", "siglip", {}, "no counterpart for SigLIP's form"),
    ],
)
def test_what_has_no_counterpart_is_named(to: str, kind: str, changes: dict[str, Any], sentence: str):
    with pytest.raises(ModelError, match=sentence):
        find_target(to).check(build(kind, **changes))


def test_a_margin_around_images_has_no_counterpart_in_open_clip():
    model = build("vit")
    model.preprocess = Preprocess(size=32, crop=0.875)
    with pytest.raises(ModelError, match=r"cut with a margin \(crop: 0.875\)"):
        find_target("open_clip").check(model)


def test_targets_are_the_files_of_the_package():
    assert set(export_targets()) == {"onnx", "huggingface", "open_clip", "sentence_transformers"}
