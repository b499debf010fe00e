"""CLIP's convolutional tower: sizes, shared batch statistics, counts, refusals.

Equality with the published code is in tests/readers.
"""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from frugalclip.core.errors import RecipeError
from frugalclip.core.random import generator
from frugalclip.towers import clip_resnet
from frugalclip.towers.clip_resnet import ClipResNet, ClipResNetConfig, SynchronisedBatchNorm2d
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.training.gradient_cache import GradientCache


def small(**settings: object) -> ClipResNet:
    values = {"kind": "clip_resnet", "width": 256, "blocks": [1, 2, 1, 1], "resolution": 64}
    tower = ClipResNetConfig.model_validate(values | settings).build(dim=24)
    tower.reset(generator(0, "test"))
    return tower.double().eval()


def pixels(batch: int = 3, side: int = 64) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(
    ("size", "width", "resolution"),
    [
        ("rn50", 2048, 224),
        ("rn101", 2048, 224),
        ("rn50x4", 2560, 288),
        ("rn50x16", 3072, 384),
        ("rn50x64", 4096, 448),
    ],
)
def test_the_published_sizes_are_known_by_name(size: str, width: int, resolution: int):
    config = ClipResNetConfig.model_validate({"kind": "clip_resnet", "size": size})
    assert (config.width, config.resolution) == (width, resolution)
    assert config.grid == (resolution // 32, resolution // 32)


def test_tokens_are_the_last_map_and_other_sizes_are_read():
    tower = small()
    found = tower(pixels(), with_tokens=True)
    assert found.tokens is not None and found.tokens.shape == (3, 4, 256) and tower.config.tokens == 4
    assert found.pooled.shape == (3, 256) and found.embedding.shape == (3, 24)
    assert tower(pixels()).tokens is None
    assert tower(pixels(side=96)).embedding.shape == (3, 24)


def test_a_new_block_is_its_shortcut():
    block = small().stages[1][1]  # pyright: ignore[reportIndexIssue]
    x = torch.rand(2, 64, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(block(x), x)


def test_counted_arithmetic_is_what_the_products_do():
    tower = small().float()
    with FlopCounterMode(display=False) as counter:
        tower(pixels(batch=2).float())
    projection = 2 * 2 * 256 * 24
    # the counter leaves attention out on some devices: one query over five places
    assert 2e9 * tower.config.forward_gflops(tokens=4) == pytest.approx(
        counter.get_total_flops() - projection, rel=1e-3
    )
    assert tower.config.kept_numbers(tokens=8) > tower.config.kept_numbers(tokens=4) > 0


def test_statistics_are_those_of_all_processes(monkeypatch: pytest.MonkeyPatch):
    whole = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(2)) * 3 + 1
    own, other = whole[:3], whole[3:]
    alone, shared = SynchronisedBatchNorm2d(4).train(), SynchronisedBatchNorm2d(4).train()
    theirs = torch.stack([other.mean(dim=(0, 2, 3)), other.square().mean(dim=(0, 2, 3))])[None]
    expected = alone(whole)[:3]
    monkeypatch.setattr(clip_resnet, "is_active", lambda: True)
    monkeypatch.setattr(clip_resnet, "world_size", lambda: 2)
    monkeypatch.setattr(clip_resnet, "gather", lambda x: torch.cat([x, theirs]))
    torch.testing.assert_close(shared(own), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(shared.running_mean, alone.running_mean)
    torch.testing.assert_close(shared.running_var, alone.running_var)
    assert shared.num_batches_tracked == alone.num_batches_tracked == 1


def test_the_gradient_cache_refuses_it_with_the_reason():
    config = ModelConfig.model_validate({"image": small().config.model_dump(), "text": "nano", "dim": 32})
    network = DualEncoder(config, vocabulary=50, context=8)
    step = type("Step", (), {"network": network})()
    with pytest.raises(
        RecipeError,
        match=r"model.image.stem.0.1 is a batch normalisation, whose statistics would be of 4 samples",
    ):
        GradientCache(step, micro_batch=4)
    assert network.dims(batch=4).image_width == 256 and network.dims(batch=4).patch_grid == (2, 2)


def test_what_it_cannot_do_is_refused_with_the_setting_to_change():
    tower = small()
    with pytest.raises(RecipeError, match=r"drops patches.*model.image.kind=vit"):
        tower(pixels(), keep=torch.zeros(3, 2, dtype=torch.int64))
    with pytest.raises(RecipeError, match=r"\[CLS\].*model.image.kind=vit"):
        tower(pixels(), with_attention=True)
    wrong = (
        ({"resolution": 40}, "not a multiple of 32"),
        ({"width": 100}, "not a multiple of 64"),
        ({"blocks": [1, 2]}, "four numbers"),
        ({"size": "rn9"}, "rn50"),
    )
    for settings, complaint in wrong:
        with pytest.raises(ValidationError, match=complaint):
            small(**settings)


def test_a_dual_encoder_is_built_again_from_its_description():
    config = ModelConfig.model_validate({"image": small().config.model_dump(), "text": "nano", "dim": 32})
    network = DualEncoder(config, vocabulary=50, context=8).eval()
    again = DualEncoder.build(network.architecture()).eval()
    again.load_state_dict(network.state_dict())
    images = pixels().float()
    torch.testing.assert_close(again.image(images).embedding, network.image(images).embedding)


def test_blocks_of_a_stage_have_a_bound():
    with pytest.raises(ValidationError, match="less than or equal to 1000"):
        ClipResNetConfig.model_validate({"kind": "clip_resnet", "blocks": [3, 4, 99_999_999, 3]})
