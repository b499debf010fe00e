"""An image tower with descriptors beside it."""

import pytest
import torch

from frugalclip.core.errors import RecipeError
from frugalclip.core.types import CachedFeatures
from frugalclip.functional.descriptors import SIDE, WIDTH, describe
from frugalclip.towers.described import DescribedConfig, DescribedTower

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


@pytest.fixture
def tower() -> DescribedTower:
    config = DescribedConfig.model_validate(
        {
            "kind": "described",
            "tower": {"kind": "resnet", "size": "nano", "resolution": SIDE, "stem": 2},
            "embedding": 6,
            "mean": MEAN,
            "std": STD,
            "head": {"kind": "whitening"},
        }
    )
    built = config.build(dim=5)
    built.reset(torch.Generator().manual_seed(0))
    return built


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(
        0, 256, (3, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(1), dtype=torch.uint8
    )


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (pixels / 255 - mean) / std


def test_features_are_the_towers_embedding_and_the_descriptors_of_the_same_pixels(tower, pixels):
    found = tower.features(normalised(pixels))
    assert found.shape == (3, tower.config.width) == (3, 6 + WIDTH)
    embedding = tower.tower(normalised(pixels)).embedding
    torch.testing.assert_close(found[:, :6], embedding / embedding.norm(dim=1, keepdim=True))
    torch.testing.assert_close(
        found[:, 6:], describe(pixels)
    )  # normalising and back loses no level of a colour


def test_features_from_before_stand_for_the_image(tower, pixels):
    tower.head.fit_to(torch.randn(20, tower.config.width))
    output = tower(normalised(pixels))
    torch.testing.assert_close(tower(CachedFeatures(output.pooled)).embedding, output.embedding)
    assert tower.fitted_head is tower.head


def test_the_inner_tower_is_trained_no_more(tower):
    tower.train()
    assert not tower.tower.training
    assert not any(p.requires_grad for p in tower.parameters())


def test_a_half_precision_step_changes_nothing(tower, pixels):
    exact = tower.features(normalised(pixels))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(tower.features(normalised(pixels)), exact, rtol=0, atol=0)


def test_what_it_does_not_support_is_refused(tower, pixels):
    with pytest.raises(RecipeError, match="drops patches, which a tower with descriptors beside it does not"):
        tower(normalised(pixels), keep=torch.zeros(3, 1, dtype=torch.int64))
    with pytest.raises(RecipeError, match="reads token outputs"):
        tower(normalised(pixels), with_tokens=True)
