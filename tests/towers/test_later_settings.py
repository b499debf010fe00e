"""Settings added after the first checkpoints: their effect, and that older models keep their fingerprints."""

import pytest
import torch

from frugalclip.core.errors import RecipeError
from frugalclip.towers.blocks import NORM_EPS, FeedForward, activated
from frugalclip.towers.dual import ModelConfig
from frugalclip.towers.vit import VitConfig

FIRST = {  # the description of these towers in a checkpoint of the first version
    "image": {
        "size": "nano", "width": 128, "depth": 4, "head_dim": 32, "heads": [4, 4, 4, 4],
        "neurons": [512, 512, 512, 512], "activation": "gelu", "kind": "vit", "patch": 16, "resolution": 224,
        "pool": "cls", "pre_norm": True, "patch_bias": False, "freeze_patch": False,
    },
    "text": {
        "size": "nano", "width": 128, "depth": 2, "head_dim": 32, "heads": [4, 4], "neurons": [512, 512],
        "activation": "gelu", "kind": "transformer", "attention": "causal", "pool": "end",
        "project_bias": False, "length_groups": 4,
    },
    "dim": 256, "scale": 14.285714285714285, "scale_min": 1.0, "scale_max": 100.0, "learn_scale": True,
}  # fmt: skip


def test_an_older_description_is_read_and_written_as_it_was():
    assert ModelConfig.model_validate({"image": "nano", "text": "nano"}).model_dump(mode="json") == FIRST
    assert ModelConfig.model_validate(FIRST).model_dump(mode="json") == FIRST


def test_a_later_setting_is_written_where_it_is_set():
    settings = {
        "image": {"size": "nano", "norm_eps": 1e-6, "trim": True},
        "text": {"size": "nano", "fill": 1, "pool": "last"},
    }
    written = ModelConfig.model_validate(settings).model_dump(mode="json")
    assert (
        written["image"]["norm_eps"] == 1e-6
        and written["image"]["trim"] is True
        and "projection" not in written["image"]
    )
    assert written["text"]["fill"] == 1 and "norm_eps" not in written["text"]
    assert ModelConfig.model_validate(written).model_dump(mode="json") == written


def vit(**settings: object) -> torch.nn.Module:
    tower = VitConfig.model_validate(
        {"width": 32, "depth": 1, "head_dim": 16, "patch": 7, "resolution": 20, "trim": True} | settings
    ).build(dim=32)
    tower.reset(torch.Generator().manual_seed(0))
    return tower.eval()


def test_pixels_that_fill_no_patch_are_left_out():
    images = torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    tower = vit()
    torch.testing.assert_close(tower(images).embedding, tower(images[:, :, :14, :14]).embedding)
    with pytest.raises(ValueError, match="or set trim: true"):
        vit(trim=False)


def test_a_tower_without_projection_gives_what_it_pools():
    found = vit(projection="none", pool="attention", pool_neurons=48, pool_activation="gelu_tanh")(
        torch.zeros(1, 3, 20, 20)
    )
    torch.testing.assert_close(found.embedding, found.pooled)
    with pytest.raises(RecipeError, match=r"its width is 32 and model\.dim is 24"):
        VitConfig.model_validate({"width": 32, "depth": 1, "projection": "none"}).build(dim=24)


def test_epsilon_reaches_every_normalisation():
    tower = vit(norm_eps=1e-3, pool="attention")
    assert {module.eps for module in tower.modules() if isinstance(module, torch.nn.LayerNorm)} == {1e-3}
    assert {
        module.eps for module in vit(pool="attention").modules() if isinstance(module, torch.nn.LayerNorm)
    } == {NORM_EPS}


def test_the_three_activations_are_near_each_other_and_not_the_same():
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)
    exact, tanh, sigmoid = (activated(x, kind) for kind in ("gelu", "gelu_tanh", "quick_gelu"))
    torch.testing.assert_close(
        tanh, 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))
    )
    assert 1e-5 < (exact - tanh).abs().max() < 1e-3 < (exact - sigmoid).abs().max() < 0.03
    assert FeedForward(4, neurons=8, activation="gelu_tanh").activation == "gelu_tanh"
