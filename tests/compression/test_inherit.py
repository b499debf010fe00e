"""Inheritance by rule: which layers, heads and channels a smaller network starts from."""

from typing import Any

import pytest
import torch

from frugalclip.compression.cutting import units_of
from frugalclip.compression.inherit import Config, Inherit, kept_layers
from frugalclip.core.errors import RecipeError
from frugalclip.core.preprocess import Preprocess
from frugalclip.towers.dual import DualEncoder, ModelConfig

from .test_cutting import batch, network
from .test_hard_concrete import parameters


def regular(text: dict[str, Any] | None = None, **image: Any) -> DualEncoder:
    config = ModelConfig.model_validate(
        {
            "image": {"width": 64, "depth": 6, "head_dim": 8, "patch": 8, "resolution": 16} | image,
            "text": {"width": 48, "depth": 4, "head_dim": 8} | (text or {}),
            "dim": 24,
        }
    )
    return DualEncoder(config, vocabulary=50, context=9)


def inherit(made: DualEncoder, **settings: Any) -> DualEncoder:
    change = Inherit(Config.model_validate({"kind": "inherit", **settings}))
    return change(made, gates=None, preprocess=Preprocess(size=16))


@pytest.mark.parametrize(
    ("rule", "depth", "kept", "layers"),
    [
        ("official", 12, 6, (0, 2, 4, 6, 8, 10)),
        ("official", 12, 3, (0, 4, 8)),
        ("official", 12, 9, tuple(range(9))),
        ("official", 9, 6, tuple(range(6))),
        ("official", 5, 2, (0, 2)),
        ("official", 7, 3, (0, 2, 4)),
        ("even", 12, 9, (0, 1, 2, 4, 5, 6, 8, 9, 10)),
        ("even_with_last", 12, 3, (0, 6, 11)),
        ("even_with_last", 12, 1, (11,)),
        ("even_with_last", 6, 6, (0, 1, 2, 3, 4, 5)),
    ],
)
def test_layers_by_rule(rule: Any, depth: int, kept: int, layers: tuple[int, ...]):
    assert kept_layers(depth, kept, rule=rule) == layers


def test_inheriting_everything_is_the_same_network_bit_for_bit():
    made = regular()
    same = inherit(made, image={"depth": 6}, text={"depth": 4})
    images, texts = batch()
    assert torch.equal(same.image(images).embedding, made.image(images).embedding)
    assert torch.equal(same.text(texts).embedding, made.text(texts).embedding)


def test_inheriting_twice_takes_the_first_layers_as_the_rule_does():
    made = regular(depth=12)
    twice = inherit(inherit(made, image={"depth": 9}), image={"depth": 6})
    for layer in range(6):
        ours, theirs = twice.image.layers.blocks[layer], made.image.layers.blocks[layer]
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_widths_take_whole_heads_from_the_front():
    made = regular()
    small = inherit(made, image={"width": 24})
    ours, theirs = small.image.layers.blocks[0], made.image.layers.blocks[0]
    assert ours.attention.heads == 3 and ours.attention.head_dim == 8
    qkv = theirs.attention.qkv.weight.view(3, 8, 8, 64)[:, :3, :, :24].reshape(72, 24)
    assert torch.equal(ours.attention.qkv.weight, qkv)
    assert torch.equal(ours.feed_forward.enter.weight, theirs.feed_forward.enter.weight[:96, :24])
    assert torch.equal(small.image.project.weight, made.image.project.weight[:, :24])


@pytest.mark.parametrize("keep", [0.75, 0.5, 0.25, 0.1])
def test_keep_gives_the_share_of_the_parameters(keep: float):
    made = regular()
    small = inherit(made, keep=keep)
    assert parameters(small) / parameters(made) == pytest.approx(keep, abs=0.005)
    for side, units in units_of(made).items():
        assert units_of(small)[side].size() == pytest.approx(keep * float(units.size()), rel=0.02)


@pytest.mark.parametrize("keep", [0.75, 0.5, 0.25])
def test_keep_takes_fast_numbers_of_neurons_where_the_size_allows(keep: float):
    tower = {"width": 128, "depth": 4, "head_dim": 32}
    small = inherit(regular(tower, **tower), keep=keep)
    for units in units_of(small).values():
        assert all(number % 8 == 0 for number in units.config.neurons)


@pytest.mark.parametrize("keep", [0.9, 0.75, 0.6, 0.5])
@pytest.mark.parametrize("head_dim", [8, 16, 32])
def test_keep_is_met_where_a_head_is_a_large_part_of_a_tower(keep: float, head_dim: int):
    """Three of four heads hold 0.62 of a tower with all neurons: a share of 0.75 needs the fourth."""
    tower = {"width": 32, "depth": 2, "head_dim": head_dim}
    made = regular(tower, **tower)
    small = inherit(made, keep=keep)
    assert parameters(small) / parameters(made) == pytest.approx(keep, abs=0.02)


def test_irregular_networks_are_inherited_from_too():
    small = inherit(network(), keep=0.5)
    assert parameters(small) / parameters(network()) == pytest.approx(0.5, abs=0.05)
    small.image(batch()[0])


def test_layers_may_be_listed():
    made = regular()
    small = inherit(made, image={"layers": [0, 5]})
    assert torch.equal(
        small.image.layers.blocks[1].attention.qkv.weight, made.image.layers.blocks[5].attention.qkv.weight
    )


@pytest.mark.parametrize("size", [{"width": 128}, {"neurons": 1000}, {"heads": 9}, {"layers": [7]}])
def test_more_than_there_is_is_refused(size: dict[str, Any]):
    with pytest.raises(RecipeError, match="and the larger network has"):
        inherit(regular(), image=size)


def test_neurons_may_differ_by_layer():
    small = inherit(regular(), image={"depth": 2, "neurons": [40, 24]})
    assert units_of(small)["image"].config.neurons == (40, 24)
    with pytest.raises(RecipeError, match="neurons has 2 numbers, and 3 layers stay"):
        inherit(regular(), image={"depth": 3, "neurons": [40, 24]})


def test_keep_and_sizes_exclude_each_other():
    for settings in ({}, {"keep": 0.5, "image": {"depth": 2}}):
        with pytest.raises(ValueError, match="give either keep"):
            Config.model_validate({"kind": "inherit", **settings})


RESIDUAL: dict[str, dict[str, Any]] = {
    "clip_resnet": {"kind": "clip_resnet", "width": 256, "blocks": [1, 2, 1, 1], "resolution": 32},
    "resnet": {"kind": "resnet", "width": 256, "blocks": [1, 1, 1], "resolution": 16},
}


def residual(kind: str) -> DualEncoder:
    text = {"width": 48, "depth": 4, "head_dim": 8}
    config = ModelConfig.model_validate({"image": RESIDUAL[kind], "text": text, "dim": 24})
    made = DualEncoder(config, vocabulary=50, context=9)
    with torch.no_grad():
        for number, one in enumerate(made.image.state_dict().values()):
            if one.is_floating_point() and one.ndim == 1:
                one.add_(torch.rand(len(one), generator=torch.Generator().manual_seed(number)))
    return made.eval()


@pytest.mark.parametrize("kind", RESIDUAL)
def test_a_residual_network_keeps_its_blocks_and_the_first_channels(kind: str):
    made = residual(kind)
    small = inherit(made, image={"width": 128}).eval()
    assert small.config.image.width == 128 and small.config.image.blocks == made.config.image.blocks
    old = made.image.state_dict()
    for name, one in small.image.state_dict().items():  # statistics of normalisations too
        assert torch.equal(one, old[name][tuple(map(slice, one.shape))])
    images, texts = torch.randn(2, 3, 32, 32), batch()[1]
    assert small.image(images).embedding.shape == (2, 24)
    assert torch.equal(small.text(texts).embedding, made.text(texts).embedding)


@pytest.mark.parametrize("kind", RESIDUAL)
def test_a_residual_network_of_the_same_width_is_the_same_bit_for_bit(kind: str):
    made, images = residual(kind), torch.randn(2, 3, 32, 32)
    same = inherit(made, image={"width": 256}).eval()
    assert torch.equal(same.image(images).embedding, made.image(images).embedding)


def test_a_share_of_a_residual_network_is_the_nearest_width():
    made = residual("clip_resnet")
    small = inherit(made, keep=0.5)
    counts = [sum(p.numel() for p in one.image.parameters()) for one in (small, made)]
    assert small.config.image.width == 192 and 0.4 < counts[0] / counts[1] < 0.65
    assert small.config.text.depth < 4 or small.config.text.width < 48


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"width": 100}, r"may have a multiple of 64 up to that"),
        ({"width": 512}, r"of width 256 may have a multiple of 64 up to that"),
        ({"depth": 2}, r"keeps its blocks and becomes narrower alone; give image\.width"),
        ({"width": 128, "heads": 2}, r"becomes narrower alone"),
    ],
)
def test_other_sizes_of_a_residual_network_are_refused(image: dict[str, Any], message: str):
    with pytest.raises(RecipeError, match=message):
        inherit(residual("clip_resnet"), image=image)


def test_only_one_tower_may_become_smaller():
    made = regular()
    small = inherit(made, image={"width": 32})
    texts = batch()[1]
    assert torch.equal(small.text(texts).embedding, made.text(texts).embedding)
    assert small.config.text == made.config.text and small.config.image.width == 32
