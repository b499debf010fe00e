"""Pretrained towers: frozen backbones stay out of the weights, and tuning trains what the settings name."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from frugalclip.core.errors import ModelError, RecipeError
from frugalclip.core.random import generator
from frugalclip.core.types import CachedFeatures
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.towers.pretrained import (
    Backbone,
    BackboneOutput,
    PretrainedImageConfig,
    PretrainedTextConfig,
    PretrainedTower,
)

PIXELS = torch.randn(11, 3, 4, 4, generator=torch.Generator().manual_seed(0))


class Small(Backbone):
    """A backbone of two layers over the pixels, with dropout and four tokens."""

    width = 6

    def __init__(self, fingerprint: str = "small") -> None:
        super().__init__()
        self.fingerprint = fingerprint
        torch.manual_seed(0)
        self.enter, self.leave, self.dropout = nn.Linear(48, 8), nn.Linear(8, 6), nn.Dropout(0.5)

    def forward(self, inputs: Any, *, with_tokens: bool = False) -> BackboneOutput:
        pooled = self.leave(torch.tanh(self.dropout(self.enter(inputs.flatten(1)))))
        return BackboneOutput(pooled, pooled[:, None].expand(-1, 4, -1) if with_tokens else None)


def tower(*, backbone: Backbone | None = None, dim: int = 5, **settings: Any) -> PretrainedTower:
    config = PretrainedImageConfig.model_validate(
        {"kind": "pretrained", "from": "small", "width": 6, "resolution": 4, **settings}
    )
    built = config.build(dim=dim)
    built.reset(generator(0, "test"))
    made = backbone or Small()
    built.attach(lambda: made)
    return built


def test_a_frozen_backbone_has_no_gradient_and_is_not_among_the_weights():
    own = tower()
    own.train()(PIXELS).embedding.sum().backward()
    assert own.head.linear.weight.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in own.attached.parameters())
    assert (
        {name.split(".")[0] for name in own.state_dict()}
        == {name.split(".")[0] for name, _ in own.named_parameters()}
        == {"head"}
    )


def test_a_frozen_backbone_is_loaded_once_when_needed_and_never_in_training_mode():
    calls = []
    own = tower()
    own.attach(lambda: calls.append(1) or Small())
    assert not calls
    first, second = own.train()(PIXELS).pooled, own.train()(PIXELS).pooled
    assert calls == [1] and torch.equal(first, second) and not own.attached.training


@pytest.mark.parametrize("head", [{"kind": "mlp"}, {"kind": "identity"}, {"kind": "whitening"}])
def test_a_frozen_backbone_moves_with_the_tower(head: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "frugalclip.towers.pretrained._exact", lambda device: nullcontext()
    )  # the meta device knows no autocast
    own = tower(head=head, dim=6)
    own(PIXELS)
    assert {p.device.type for p in own.attached.parameters()} == {"cpu"}
    assert own.to("meta").run_backbone(PIXELS.to("meta")).pooled.device.type == "meta"
    assert {p.device.type for p in own.attached.parameters()} == {"meta"}


def test_cached_features_replace_the_images():
    own = tower()
    output = own.run_backbone(PIXELS).pooled
    torch.testing.assert_close(own(CachedFeatures(output)).embedding, own(PIXELS).embedding)
    torch.testing.assert_close(output, own.attached(PIXELS).pooled)  # in parts as at once
    torch.testing.assert_close(own(PIXELS, with_tokens=True).tokens, output[:, None].expand(-1, 4, -1))
    facets = torch.stack([output, output.flip(0)], dim=1)
    torch.testing.assert_close(
        own(CachedFeatures(facets)).embedding[:, 0], own(CachedFeatures(output)).embedding
    )


def test_a_frozen_backbone_has_the_same_features_in_every_precision_of_the_step():
    own = tower()
    exact = own.run_backbone(PIXELS).pooled
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = own(PIXELS)
    assert found.embedding.dtype == torch.bfloat16 and torch.equal(found.pooled, exact)


def test_another_width_another_backbone_and_none_are_refused_with_what_to_do():
    with pytest.raises(RecipeError, match=r"small gives vectors of 6; set model\.image\.width=6"):
        tower(width=7)(PIXELS)
    own = tower(backbone=Small("another"))
    own.fingerprint = "small"
    with pytest.raises(
        ModelError, match=r"small is not the backbone .* \(another, expected small\); restore its files"
    ):
        own(PIXELS)
    bare = PretrainedImageConfig.model_validate({"kind": "pretrained", "from": "small", "width": 6}).build(
        dim=5
    )
    with pytest.raises(
        ModelError, match=r"has no backbone attached, expected small; load the model with frugalclip\.load"
    ):
        bare(PIXELS)


def test_what_a_pretrained_tower_does_not_support_is_refused():
    own = tower()
    with pytest.raises(
        RecipeError, match="an objective drops patches, which a pretrained image tower does not support"
    ):
        own(PIXELS, keep=torch.zeros(11, 2, dtype=torch.int64))
    with pytest.raises(RecipeError, match=r"reads the attention of \[CLS\]"):
        own(PIXELS, with_attention=True)
    with pytest.raises(
        RecipeError, match=r"reads tokens of model\.image, and the store holds one vector a sample"
    ):
        own(CachedFeatures(torch.zeros(2, 6)), with_tokens=True)
    with pytest.raises(RecipeError, match=r"embeddings of 6 numbers, and model\.dim is 5; set model\.dim=6"):
        tower(head={"kind": "identity"})


def test_heads_of_the_other_side_are_refused():
    with pytest.raises(
        ValidationError,
        match=r"head\.kind kernel_ridge is not for image towers; they take mlp, identity, whitening",
    ):
        PretrainedImageConfig.model_validate(
            {"kind": "pretrained", "from": "x", "width": 6, "head": {"kind": "kernel_ridge"}}
        )
    with pytest.raises(
        ValidationError,
        match=r"head\.kind whitening is not for text towers; they take mlp, identity, kernel_ridge, lexical",
    ):
        PretrainedTextConfig.model_validate(
            {"kind": "pretrained", "from": "x", "width": 6, "head": {"kind": "whitening"}}
        )


def trained(own: PretrainedTower) -> list[str]:
    own.eval()(PIXELS).embedding.square().sum().backward()
    return [
        name
        for name, p in own.named_parameters()
        if p.grad is not None and p.grad.abs().sum() > 0 and not name.startswith("head")
    ]


def test_tune_trains_what_is_named_and_nothing_else():
    assert trained(tower(tune="all")) == [
        "backbone.enter.weight",
        "backbone.enter.bias",
        "backbone.leave.weight",
        "backbone.leave.bias",
    ]
    own = tower(tune=["leave.*"])
    assert trained(own) == ["backbone.leave.weight", "backbone.leave.bias"]
    assert [name for name, p in own.backbone.named_parameters() if p.requires_grad] == [
        "leave.weight",
        "leave.bias",
    ]
    assert (
        "backbone.enter.weight" in own.state_dict()
    )  # the whole backbone is saved, so that one file is the model


def test_additions_are_drawn_from_the_seed_of_the_run():
    def drawn(seed: int) -> Tensor:
        built = PretrainedImageConfig.model_validate(
            {
                "kind": "pretrained",
                "from": "small",
                "width": 6,
                "resolution": 4,
                "lora": {"targets": ["leave"], "rank": 2},
            }
        ).build(dim=5)
        built.reset(generator(seed, "test"))
        built.attach(Small)
        return built.get_parameter("backbone.leave.down").detach()

    assert torch.equal(drawn(0), drawn(0)) and not torch.equal(drawn(0), drawn(1))


def test_lora_trains_its_additions_and_patterns_go_with_it():
    assert trained(tower(lora={"targets": ["leave"], "rank": 2})) == [
        "backbone.leave.up"
    ]  # `down` has no gradient while `up` is zero
    own = tower(lora={"targets": ["leave"], "rank": 2}, tune=["enter.bias"])
    assert [name for name, p in own.backbone.named_parameters() if p.requires_grad] == [
        "enter.bias",
        "leave.down",
        "leave.up",
    ]
    torch.testing.assert_close(own.eval()(PIXELS).pooled, tower()(PIXELS).pooled)


def test_a_pattern_that_matches_nothing_is_refused_with_the_nearest_name():
    with pytest.raises(
        RecipeError,
        match=r"tune names 'leave\.wieght', which matches no parameter of small; did you mean "
        r"'leave\.weight'",
    ):
        tower(tune=["enter.*", "leave.wieght"])
    with pytest.raises(
        RecipeError, match=r"lora\.targets names 'laeve', which matches no linear layer; did you mean 'leave'"
    ):
        tower(lora={"targets": ["laeve"]})


def test_a_tuned_backbone_is_in_training_mode_with_the_tower():
    own = tower(tune="all").train()
    assert not torch.equal(own(PIXELS).pooled, own(PIXELS).pooled)  # dropout


def test_the_hidden_part_of_a_head_starts_at_the_linear_map():
    plain, deep = tower(), tower(head={"kind": "mlp", "hidden": 7})
    deep.head.linear.load_state_dict(plain.head.linear.state_dict())
    output = CachedFeatures(plain.run_backbone(PIXELS).pooled)
    assert torch.equal(plain(output).embedding, deep(output).embedding)
    deep(output).embedding.square().sum().backward()
    assert deep.head.leave.weight.grad.abs().sum() > 0


def test_the_description_names_the_backbone_and_the_built_network_expects_it():
    image: dict[str, Any] = {"kind": "pretrained", "from": "small", "width": 6, "resolution": 4}
    network = DualEncoder(
        ModelConfig.model_validate({"image": image, "text": {"kind": "bag"}, "dim": 5}),
        vocabulary=9,
        context=4,
    )
    network.pretrained_towers()["image"].attach(Small)
    description = network.architecture()
    assert description["backbones"] == {"image": "small"}
    again = DualEncoder.build(description)
    again.load_state_dict(network.state_dict())
    again.pretrained_towers()["image"].attach(Small)

    def embedding(one: DualEncoder) -> Tensor:
        return one.image(PIXELS).embedding

    assert torch.equal(embedding(again), embedding(network))
    third = DualEncoder.build(description)
    third.pretrained_towers()["image"].attach(lambda: Small("exchanged"))
    with pytest.raises(ModelError, match="is not the backbone"):
        embedding(third)
