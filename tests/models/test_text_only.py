"""A text encoder by itself has the interface of a model, and refuses images."""

from pathlib import Path

import pytest
import torch

from frugalclip.core.errors import ModelError
from frugalclip.models import TextOnlyModel

from ..backbones.tiny_backbones import BERT_WIDTH, bert_source, text_backbone, text_tokenizer, vision_source


def test_it_gives_the_vectors_of_its_backbone(tmp_path: Path):
    source, texts = bert_source(tmp_path), ["red beside a square", "blue"]
    model = TextOnlyModel(source)
    expected = text_backbone(source)(text_tokenizer(source).encode(texts)).pooled
    torch.testing.assert_close(model.encode_text(texts, normalize=False), expected)
    assert model.encode_text(texts).shape == (2, BERT_WIDTH)
    torch.testing.assert_close(model.encode_text(texts).norm(dim=1), torch.ones(2))
    assert model.fingerprint == text_backbone(source).fingerprint and model.reads == "texts"
    with pytest.raises(ModelError, match="encodes texts and no images"):
        model.encode_image(torch.zeros(1, 3, 8, 8))


def test_an_image_encoder_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match="which is no text backbone"):
        TextOnlyModel(vision_source(tmp_path))
