"""An image tower with descriptors beside it."""

from typing import Any, get_args

import pytest
import torch
from pydantic import ValidationError

from frugalclip.core.errors import RecipeError
from frugalclip.core.types import CachedFeatures
from frugalclip.functional.descriptors import DESCRIPTORS, SIDE, describe
from frugalclip.towers.described import WIDTHS, DescribedConfig, DescribedTower, DescriptorName

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


NAMES = ["layout", "patches", "shapes", "colours", "coarse shapes"]


def build(**settings: Any) -> DescribedTower:
    config = DescribedConfig.model_validate(
        {
            "kind": "described",
            "tower": {"kind": "resnet", "size": "nano", "resolution": SIDE, "stem": 2},
            "embedding": 6,
            "mean": MEAN,
            "std": STD,
            **settings,
        }
    )
    built = config.build(dim=5)
    built.reset(torch.Generator().manual_seed(0))
    return built


def parts_head(names: list[str]) -> dict[str, Any]:
    return {"kind": "whitened_parts", "parts": [6, *(WIDTHS[name] for name in names)]}


@pytest.fixture
def tower() -> DescribedTower:
    built = build(descriptors=NAMES, head=parts_head(NAMES))
    assert built.patches is not None
    built.patches.fit(torch.randint(0, 256, (9, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(2)))
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
    assert found.shape == (3, tower.config.width) == (3, 6 + sum(WIDTHS[name] for name in NAMES))
    embedding = tower.tower(normalised(pixels)).embedding
    torch.testing.assert_close(found[:, :6], embedding / embedding.norm(dim=1, keepdim=True))
    parts = [tower.patches(pixels) if name == "patches" else DESCRIPTORS[name].of(pixels) for name in NAMES]
    torch.testing.assert_close(found[:, 6:], torch.cat(parts, dim=1))  # normalising loses no level


def test_descriptors_have_names_widths_and_length_one(pixels):
    assert set(get_args(DescriptorName)) == set(WIDTHS)
    for descriptor in DESCRIPTORS.values():
        found = descriptor.of(pixels)
        assert found.shape == (3, descriptor.width)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(3))


def test_a_model_from_before_there_was_a_choice_reads_what_it_read(pixels):
    """Its settings name no descriptors, and its state has no patches; its fingerprint is of both."""
    tower = build(head={"kind": "whitening", "power": 0.25})
    assert "descriptors" not in tower.config.model_dump(mode="json")
    assert {name for name in tower.state_dict() if not name.startswith("tower.")} == {
        "head.mean",
        "head.projection",
        "head.centre",
        "head.level",
    }
    found = tower.features(normalised(pixels))
    torch.testing.assert_close(found[:, 6:], describe(pixels), rtol=0, atol=0)
    tower.head.fit_to(torch.randn(20, 6 + WIDTHS["shapes and colours"]))
    mean, projection, centre = (tower.head.get_buffer(name) for name in ("mean", "projection", "centre"))
    x = (found - mean) @ projection
    embedding = x / x.norm(dim=1, keepdim=True) - centre
    torch.testing.assert_close(tower(normalised(pixels)).embedding, embedding)


def test_parts_of_other_widths_are_refused():
    """In another order the widths add up too."""
    with pytest.raises(ValidationError, match=r"head\.parts are \[6, 64, 192\], and .* of \[6, 192, 64\]"):
        build(descriptors=["layout", "colours"], head=parts_head(["colours", "layout"]))


def test_features_from_before_stand_for_the_image(tower, pixels):
    tower.head.fit_to(torch.randn(20, tower.config.width), torch.arange(20) // 2)
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
