"""The convolutional image tower: shapes, independence of batch mates, counts, refusals."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from frugalclip.core.config import validated
from frugalclip.core.errors import RecipeError
from frugalclip.core.random import generator
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.towers.resnet import ResidualBlock, ResNet, ResNetConfig


def small(**settings: object) -> ResNet:
    tower = ResNetConfig.model_validate(
        {"kind": "resnet", "width": 64, "blocks": [1, 2], "resolution": 16} | settings
    ).build(dim=24)
    tower.reset(generator(0, "test"))
    return tower.double().eval()


def images(batch: int = 3, side: int = 16) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(("stem", "side"), [(1, 16), (2, 32), (4, 64)])
def test_the_stem_and_each_stage_shrink_the_image(stem: int, side: int):
    tower = small(stem=stem, resolution=side)
    found = tower(images(side=side), with_tokens=True)
    assert found.tokens is not None
    assert found.tokens.shape == (3, 16, 64) and tower.config.grid == (4, 4) and tower.config.tokens == 16
    torch.testing.assert_close(found.tokens.mean(1), found.pooled)
    assert found.embedding.shape == (3, 24)
    assert tower(images(side=side)).tokens is None


def test_a_image_does_not_depend_on_its_batch_mates():
    tower = small()
    torch.testing.assert_close(tower(images()[:1]).embedding, tower(images()).embedding[:1])


def test_a_new_block_is_its_shortcut():
    tower = small()
    block = tower.stages[2]
    assert isinstance(block, ResidualBlock) and block.shortcut is None
    x = torch.randn(2, 64, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(block(x), x)


def test_counted_arithmetic_is_what_the_products_do():
    tower = small().float()
    with FlopCounterMode(display=False) as counter:
        tower(images(batch=2).float())
    projection = 2 * 2 * 64 * 24
    assert 2e9 * tower.config.forward_gflops(tokens=tower.config.tokens) == pytest.approx(
        counter.get_total_flops() - projection
    )


def test_what_it_cannot_do_is_refused_with_the_setting_to_change():
    tower = small()
    with pytest.raises(RecipeError, match=r"drops patches.*model.image.kind=vit"):
        tower(images(), keep=torch.zeros(3, 2, dtype=torch.int64))
    with pytest.raises(RecipeError, match=r"\[CLS\].*model.image.kind=vit"):
        tower(images(), with_attention=True)
    for settings, complaint in (
        ({"resolution": 18}, "not a multiple of 4"),
        ({"width": 40}, "not a multiple of 32"),
        ({"size": "big"}, "nano"),
    ):
        with pytest.raises(ValidationError, match=complaint):
            small(**settings)
    with pytest.raises(RecipeError, match="patch"):
        validated(ModelConfig, {"image": {"kind": "resnet", "patch": 4}}, where="model")


def test_a_dual_encoder_is_built_again_from_its_description():
    config = ModelConfig.model_validate(
        {"image": {"kind": "resnet", "size": "nano"}, "text": "nano", "dim": 32}
    )
    network = DualEncoder(config, vocabulary=50, context=8)
    again = DualEncoder.build(network.architecture())
    again.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(again.image(images).embedding, network.image(images).embedding)
    assert network.dims(batch=4).image_width == 128 and network.dims(batch=4).patch_grid == (4, 4)


def test_blocks_of_a_stage_have_a_bound():
    with pytest.raises(ValidationError, match="less than or equal to 1000"):
        ResNetConfig.model_validate({"kind": "resnet", "width": 64, "blocks": [99_999_999]})
