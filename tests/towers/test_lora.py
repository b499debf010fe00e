"""Low-rank additions: the start is the base, the formula is the paper's, targets choose by name."""

import pytest
import torch
from torch import nn

from frugalclip.core.errors import RecipeError
from frugalclip.towers.lora import LoraConfig, LoraLinear, add_lora, merge_lora
from frugalclip.towers.vit import VitConfig

X = torch.randn(7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 8), nn.Tanh(), nn.ModuleDict({"inner": nn.Linear(8, 3, bias=False)})["inner"]
    ).double()


def with_lora(**settings: object) -> nn.Sequential:
    made = network()
    add_lora(made, LoraConfig.model_validate({"rank": 2, **settings}))
    return made


def test_the_start_equals_the_base():
    assert torch.equal(with_lora()(X), network()(X))


def test_the_addition_is_the_formula_of_the_paper():
    made = with_lora(alpha=5.0)
    first = made[0]
    assert isinstance(first, LoraLinear)
    nn.init.normal_(first.up)
    expected = X @ (first.base.weight + 5.0 / 2 * first.up @ first.down).T + first.base.bias
    torch.testing.assert_close(first(X), expected)


def test_targets_choose_by_name_and_a_second_call_finds_no_layer_inside_an_addition():
    made = network()
    assert add_lora(made, LoraConfig(targets=("2",))) == ["2"]
    assert isinstance(made[0], nn.Linear)
    assert add_lora(made, LoraConfig()) == ["0"]
    with pytest.raises(
        RecipeError, match=r"lora\.targets names 'q_proj', which matches no linear layer; Known: 0, 2"
    ):
        add_lora(network(), LoraConfig(targets=("0", "q_proj")))


def test_dropout_acts_on_the_addition_alone():
    made = with_lora(dropout=0.9)
    assert torch.equal(made.train()(X), network()(X))  # the additions are zero
    nn.init.normal_(made[0].up)
    assert not torch.equal(made(X), made(X))
    made.eval()
    assert torch.equal(made(X), made(X))


def test_towers_of_ours_take_additions_in_every_layer():
    """Attention reads the bias of its first layer, and gates the weights of others where there are gates."""
    config = VitConfig.model_validate({"width": 16, "depth": 2, "head_dim": 8, "patch": 4, "resolution": 8})
    tower = config.build(dim=8)
    tower.reset(torch.Generator().manual_seed(0))
    images = torch.randn(3, 3, 8, 8)
    before = tower(images).embedding
    tower.requires_grad_(False)
    names = add_lora(tower, LoraConfig(rank=2))
    assert {name.rpartition(".")[2] for name in names} >= {"qkv", "out", "enter", "leave"}
    assert torch.equal(tower(images).embedding, before)
    tower(images).embedding.square().sum().backward()
    ups = {name: one.grad for name, one in tower.named_parameters() if name.endswith(".up")}
    assert len(ups) == len(names) and all(one is not None and one.any() for one in ups.values())


def test_merged_additions_compute_the_same():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    assert merge_lora(module) is module
    add_lora(module, LoraConfig(rank=2, alpha=3.0))
    for layer in module.modules():
        if isinstance(layer, LoraLinear):
            nn.init.normal_(layer.up)
    merged, x = merge_lora(module), torch.randn(3, 6)
    assert not any(isinstance(layer, LoraLinear) for layer in merged.modules())
    assert torch.allclose(merged(x), module(x), atol=1e-6)
    assert any(isinstance(layer, LoraLinear) for layer in module.modules())
