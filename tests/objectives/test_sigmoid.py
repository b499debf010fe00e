"""The sigmoid objective as a module: its own bias, its start, its gradients."""

import math

import pytest
import torch

from frugalclip.core.types import Dims, Features, TowerOutput
from frugalclip.objectives.sigmoid import Config, Sigmoid

DIMS = Dims(image_width=8, text_width=8, embedding=4, vocabulary=10, context=5, patch_grid=(2, 2), batch=64)


def views() -> Features:
    images, texts = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor(10.0, requires_grad=True)
    codes = {"caption": torch.tensor([1, 1, 2, 3, 4, 5])}
    return Features(
        {"main": TowerOutput(None, images, images)},
        {"caption": TowerOutput(None, texts, texts)},
        scale,
        fields=codes,
    )


def test_the_bias_starts_where_the_paper_or_the_batch_says():
    assert Sigmoid(Config(), DIMS).bias.item() == -10
    assert Sigmoid(Config(bias="batch"), DIMS).bias.item() == pytest.approx(-math.log(63))


def test_bias_and_scale_are_learned():
    given, objective = views(), Sigmoid(Config(), DIMS)
    objective(given).loss.backward()
    assert objective.bias.grad.abs() > 0 and given.scale.grad.abs() > 0


def test_other_positives_are_left_out_or_counted():
    losses = {}
    for same in ("drop", "positive"):
        losses[same] = Sigmoid(Config.model_validate({"positives": "caption", "same": same}), DIMS)(
            views()
        ).loss.item()
    losses["none"] = Sigmoid(Config(), DIMS)(views()).loss.item()
    assert losses["drop"] <= losses["none"] and losses["positive"] > losses["drop"]
    assert len(set(losses.values())) == 3
