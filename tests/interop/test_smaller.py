"""Imported models become smaller like our own: units, residual widths and vocabularies."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from frugalclip.compression.inherit import Config, Inherit
from frugalclip.compression.vocabulary import Vocabulary, VocabularyConfig, smaller_vocabulary
from frugalclip.models import Model, load

from .test_huggingface import saved
from .test_open_clip import GAP, RESNET, SIGLIP, TINY, built

CAPTIONS = ["a photo of a cat", "Two dogs, running!", "blue_grey sea"]
OTHERS = ["an unseen zeppelin", "Größe", ""]
OPEN_CLIP = {"vit": TINY, "resnet": RESNET, "siglip": SIGLIP, "gap": GAP}


@pytest.fixture(params=[*OPEN_CLIP, "hf clip", "hf siglip"])
def model(request: pytest.FixtureRequest, known: Callable[..., str], tmp_path: Path) -> Model:
    if kind := request.param.partition("hf ")[2]:
        saved(tmp_path, kind=kind, activation="gelu")
        return load(f"hf:{tmp_path}")
    name = known("tiny-arch", OPEN_CLIP[request.param])
    save_file(built(name).state_dict(), tmp_path / "weights.safetensors")
    return load(f"open_clip:{name}@{tmp_path}/weights.safetensors")


def inherited(model: Model, **settings: Any) -> Model:
    change = Inherit(Config.model_validate({"kind": "inherit", **settings}))
    network = change(model.network, gates=None, preprocess=model.preprocess)
    return Model(network.eval(), model.tokenizer, model.preprocess)


def test_a_smaller_one_is_saved_and_read_and_captions_are_encoded_alike(model: Model, tmp_path: Path):
    vocabulary = Vocabulary(model.tokenizer, lambda: CAPTIONS)
    network, after = smaller_vocabulary(model.network, VocabularyConfig(keep="captions"), vocabulary)
    assert after.tokenizer is not None and network.vocabulary < model.network.vocabulary
    Model(network.eval(), after.tokenizer, model.preprocess).save(tmp_path / "small")
    small = load(tmp_path / "small")
    assert torch.equal(small.encode_text(CAPTIONS), model.encode_text(CAPTIONS))
    assert torch.isfinite(small.encode_text(OTHERS)).all()

    width = model.network.config.image.width
    half = inherited(small, image={"width": width // 2}, text={"depth": 1})
    half.save(tmp_path / "half")
    again, side = load(tmp_path / "half"), model.preprocess.size
    assert again.network.config.image.width == width // 2
    assert again.encode_image(torch.randn(2, 3, side, side)).shape == (2, model.dim)
    assert torch.equal(again.encode_text(CAPTIONS + OTHERS), half.encode_text(CAPTIONS + OTHERS))


def test_nothing_cut_computes_the_same(model: Model):
    c = model.network.config
    same = inherited(model, image={"width": c.image.width}, text={"width": c.text.width})
    side = model.preprocess.size
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(same.encode_image(pixels), model.encode_image(pixels), rtol=0, atol=1e-6)
    assert torch.equal(same.encode_text(CAPTIONS), model.encode_text(CAPTIONS))
