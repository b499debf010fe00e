"""Pretrained towers get their backbones, with or without weights; images must be prepared for them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from frugalclip.backbones.attach import (
    attach_backbones,
    attach_backbones_on_meta,
    backbone_tokenizer,
    check_preprocess,
)
from frugalclip.core.errors import RecipeError
from frugalclip.core.preprocess import Preprocess
from frugalclip.interop.tokenizers import PassThroughTokenizer
from frugalclip.models import load
from frugalclip.towers.dual import DualEncoder, ModelConfig

from .tiny_backbones import (
    BERT_WIDTH,
    TIMM_WIDTH,
    bert_source,
    text_backbone,
    text_tokenizer,
    timm_source,
)

TEXTS = ["red beside a square", "blue"]


def network_of(image: str, texts: list[str], *, seed: int | None = 0) -> DualEncoder:
    settings: dict[str, Any] = {
        "image": {"kind": "pretrained", "from": image, "width": TIMM_WIDTH, "resolution": 64},
        "text": {"kind": "pretrained", "from": texts, "width": BERT_WIDTH * len(texts)},
        "dim": 8,
    }
    return DualEncoder(ModelConfig.model_validate(settings), vocabulary=1, context=3, seed=seed)


@torch.inference_mode()
def test_towers_get_their_backbones_and_several_are_concatenated(tmp_path: Path):
    texts = [bert_source(tmp_path / "a"), bert_source(tmp_path / "b", seed=1)]
    network = attach_backbones(network_of(timm_source(tmp_path), texts), load)
    towers = network.pretrained_towers()
    tokenizer = backbone_tokenizer(towers["text"].config, load)
    assert isinstance(tokenizer, PassThroughTokenizer)
    found = towers["text"].run_backbone(tokenizer.encode(TEXTS)).pooled
    alone = [text_backbone(one)(text_tokenizer(one).encode(TEXTS)).pooled for one in texts]
    torch.testing.assert_close(found, torch.cat(alone, dim=1))
    with pytest.raises(Exception, match="give no tokens; name one backbone"):
        towers["text"].attached(tokenizer.encode(TEXTS), with_tokens=True)
    assert towers["image"].run_backbone(torch.zeros(1, 3, 64, 64)).pooled.shape == (1, TIMM_WIDTH)


def test_shapes_without_weights_and_the_reason_where_there_are_none(tmp_path: Path):
    image, texts = timm_source(tmp_path), [bert_source(tmp_path / "a"), bert_source(tmp_path / "b")]
    with torch.device("meta"):
        network = network_of(image, texts, seed=None)
    assert attach_backbones_on_meta(network, load) == {}
    shapes = network.pretrained_towers()["text"].attached
    whole = text_backbone(texts[0])
    assert sum(p.numel() for p in shapes.parameters()) == 2 * sum(p.numel() for p in whole.parameters())
    with torch.device("meta"):
        network = network_of(image, [f"hf:{tmp_path}/gone"], seed=None)
    reasons = attach_backbones_on_meta(network, load)
    assert reasons.keys() == {"text"} and "has no config.json" in reasons["text"]


def test_images_prepared_in_another_way_are_noted():
    own = Preprocess(size=8, crop=0.875, interpolation="bilinear")
    found = check_preprocess("timm:x", Preprocess(size=9), own)
    assert found is not None
    assert found.endswith("preprocess.crop=0.875 preprocess.interpolation=bilinear prepares them alike")
    assert check_preprocess("timm:x", own, own) is None


def test_images_normalised_in_another_way_are_refused_with_the_settings():
    own = Preprocess(size=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    check_preprocess("timm:x", own.model_copy(update={"size": 9}), own)
    with pytest.raises(
        RecipeError,
        match=r"set preprocess\.mean=\[0\.5, 0\.5, 0\.5\] preprocess\.std=\[0\.25, 0\.25, 0\.25\]",
    ):
        check_preprocess("timm:x", Preprocess(size=8), own)
