"""Descriptors behind the features of a frozen backbone: of the same pixels, and part of what it is."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from frugalclip.backbones.attach import attach_backbones, attach_backbones_on_meta
from frugalclip.functional.descriptors import DESCRIPTORS
from frugalclip.models import load
from frugalclip.towers.base import KnownClasses
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.towers.pretrained import PretrainedImageConfig

from .tiny_backbones import TIMM_WIDTH, image_backbone, timm_source

NAMES = ["colours", "layout"]
WIDTH = TIMM_WIDTH + 64 + 192


def network_of(source: str, *, seed: int | None = 0) -> DualEncoder:
    image = {"kind": "pretrained", "from": source, "width": WIDTH, "resolution": 64, "descriptors": NAMES}
    settings: dict[str, Any] = {"image": image, "text": "nano", "dim": 8}
    return DualEncoder(ModelConfig.model_validate(settings), vocabulary=9, context=5, seed=seed)


@torch.inference_mode()
def test_descriptors_of_the_same_pixels_stand_behind_the_features(tmp_path: Path):
    source = timm_source(tmp_path)
    network = attach_backbones(network_of(source), load)
    tower, alone = network.pretrained_towers()["image"], image_backbone(source)
    levels = torch.randint(0, 256, (3, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    pixels = (levels / 255 - 0.5) / 0.5  # as the backbone's preprocessing has it
    found = tower.run_backbone(pixels).pooled
    described = [DESCRIPTORS[name].of(levels.to(torch.uint8)) for name in ("colours", "layout")]
    torch.testing.assert_close(found, torch.cat([alone(pixels).pooled, *described], dim=1))
    assert network.image.has_steps  # so that an export is compared as descriptors allow
    assert tower.fingerprint == f"{alone.fingerprint}+colours+layout"
    tokens = tower.run_backbone(pixels, with_tokens=True).tokens
    torch.testing.assert_close(tokens, alone(pixels, with_tokens=True).tokens)


def test_a_plan_knows_the_width_without_weights(tmp_path: Path):
    source = timm_source(tmp_path)
    with torch.device("meta"):
        network = network_of(source, seed=None)
    assert attach_backbones_on_meta(network, load) == {}


def test_an_older_description_stays_and_a_tuned_backbone_has_no_descriptors():
    old = {"kind": "pretrained", "from": "timm:resnet18@a.safetensors", "width": 512}
    assert "descriptors" not in PretrainedImageConfig.model_validate(old).model_dump(by_alias=True)
    new = PretrainedImageConfig.model_validate(old | {"descriptors": NAMES})
    assert PretrainedImageConfig.model_validate(new.model_dump(mode="json", by_alias=True)) == new
    with pytest.raises(ValidationError, match="behind the vector of a frozen backbone; leave tune"):
        PretrainedImageConfig.model_validate(old | {"descriptors": NAMES, "tune": "all"})


def test_a_classifier_does_not_read_what_stands_behind_its_features():
    classes = KnownClasses(("red", "blue"), torch.tensor([[1.0, 2.0], [3.0, 4.0]])).beside(1)
    assert classes.weight.tolist() == [[1, 2, 0], [3, 4, 0]] and classes.names == ("red", "blue")
