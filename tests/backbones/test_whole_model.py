"""A tower of a whole model is a backbone: its pooled features, its tokenizer, its preprocessing."""

from pathlib import Path

import pytest
import torch

from frugalclip.core.errors import ModelError, RecipeError
from frugalclip.core.preprocess import Preprocess
from frugalclip.data.tokens import train_tokenizer
from frugalclip.models import Model
from frugalclip.towers.dual import DualEncoder, ModelConfig

from .tiny_backbones import image_backbone, image_shape, text_backbone, text_tokenizer


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A model with random weights, saved in the folder `model`."""
    tokenizer = train_tokenizer(["a red square", "a blue circle"], vocabulary=600, context=8)
    image = {"width": 32, "depth": 1, "head_dim": 16, "patch": 8, "resolution": 16}
    text = {"width": 48, "depth": 1, "head_dim": 16}
    config = ModelConfig.model_validate({"image": image, "text": text, "dim": 12})
    network = DualEncoder(config, vocabulary=tokenizer.vocabulary, context=8).eval()
    made = Model(network, tokenizer, Preprocess(size=16, mean=(0.5, 0.5, 0.5)))
    made.save(tmp_path / "model")
    return made


@torch.inference_mode()
def test_it_gives_the_pooled_features_of_the_tower(model: Model, tmp_path: Path):
    source = str(tmp_path / "model")
    images, texts = image_backbone(source), text_backbone(source)
    pixels = torch.randn(2, 3, 16, 16)
    tokens = text_tokenizer(source).encode(["a red square", "blue"])
    assert (images.width, texts.width) == (32, 48) and images.preprocess == model.preprocess
    assert images.fingerprint == texts.fingerprint == model.fingerprint
    torch.testing.assert_close(images(pixels).pooled, model.network.image(pixels).pooled)
    torch.testing.assert_close(texts(tokens).pooled, model.network.text(tokens).pooled)
    assert images(pixels, with_tokens=True).tokens is not None


def test_its_shape_is_that_of_the_tower(model: Model, tmp_path: Path):
    shape = image_shape(str(tmp_path / "model"), size=16)
    assert {p.device.type for p in shape.parameters()} == {"meta"}
    assert sum(p.numel() for p in shape.parameters()) == sum(
        p.numel() for p in model.network.image.parameters()
    )


def test_it_has_no_options_and_must_be_there(model: Model, tmp_path: Path):
    with pytest.raises(RecipeError, match=r"model\.image\.options \(stages\) have no effect"):
        image_backbone(str(tmp_path / "model"), {"stages": True})
    with pytest.raises(ModelError, match="there is no model at"):
        image_backbone(str(tmp_path / "gone"))
