"""Cut networks: binary gates equal the cut network, fractional ones are folded, sizes are exact."""

from typing import Any

import pytest
import torch
from torch import Tensor

from frugalclip.compression.base import TowerCut
from frugalclip.compression.cutting import cut_network, units_of
from frugalclip.core.errors import RecipeError
from frugalclip.core.random import generator
from frugalclip.core.types import Gates, Tokens
from frugalclip.towers.base import Side
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.towers.units import KeptUnits, UnitCounts

IMAGE: dict[str, Any] = {
    "kind": "vit",
    "width": 24,
    "depth": 3,
    "head_dim": 4,
    "heads": [6, 5, 3],
    "neurons": [40, 96, 7],
}
TEXT = {"kind": "transformer", "width": 16, "depth": 2, "head_dim": 8, "heads": [2, 3], "neurons": [9, 64]}
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cls": ({}, {}),
    "mean": ({"pool": "mean", "pre_norm": False, "patch_bias": True}, {"pool": "mean"}),
    "attention": ({"pool": "attention", "pre_norm": False}, {}),
    "map": ({"pool": "attention", "pre_norm": False, "projection": "none", "pool_neurons": 30}, {}),
    "facets": ({"pool": "mean", "facets": {"depth": 2, "hidden": 20}}, {}),
    "bidirectional": ({"freeze_patch": True}, {"attention": "bidirectional", "project_bias": True}),
}


def _dim(image: dict[str, Any]) -> int:
    return IMAGE["width"] if image.get("projection") == "none" else 12


def network(form: str = "cls", *, seed: int = 0) -> DualEncoder:
    image, text = FORMS[form]
    config = ModelConfig.model_validate(
        {"image": IMAGE | {"patch": 8, "resolution": 16} | image, "text": TEXT | text, "dim": _dim(image)}
    )
    made = DualEncoder(config, vocabulary=50, context=9, seed=seed)
    with torch.no_grad():  # biases and norms start at 0 and 1, where mistakes would not show
        for number, parameter in enumerate(made.parameters()):
            if parameter.ndim == 1:
                parameter.add_(torch.randn(len(parameter), generator=generator(number, "test")) * 0.3)
    return made


def gates(made: DualEncoder, *, are_binary: bool, empty_layer: bool = False) -> dict[Side, Gates]:
    draw = torch.Generator().manual_seed(1)

    def values(count: int) -> Tensor:
        closed = torch.rand(count, generator=draw) < 0.4
        scale = torch.ones(count) if are_binary else 0.2 + torch.rand(count, generator=draw)
        return scale.masked_fill(closed, 0.0)

    found: dict[Side, Gates] = {}
    for side, units in units_of(made).items():
        c = units.config
        heads = [values(count) for count in c.heads]
        neurons = [values(count) for count in c.neurons]
        if empty_layer:
            heads[1], neurons[0] = torch.zeros(c.heads[1]), torch.zeros(c.neurons[0])
        found[side] = Gates(values(c.width), tuple(heads), tuple(neurons))
    return found


def kept(gates: Gates) -> KeptUnits:
    assert gates.hidden is not None and gates.heads is not None and gates.neurons is not None
    heads, neurons = (
        tuple(torch.nonzero(one).flatten() for one in kind) for kind in (gates.heads, gates.neurons)
    )
    return KeptUnits(torch.nonzero(gates.hidden).flatten(), tuple(range(len(heads))), heads, neurons)


def batch() -> tuple[Tensor, Tokens]:
    draw = torch.Generator().manual_seed(2)
    lengths = torch.tensor([9, 4, 6, 2])
    return torch.randn(4, 3, 16, 16, generator=draw), Tokens(
        torch.randint(0, 50, (4, 9), generator=draw), lengths
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("empty_layer", [False, True])
@pytest.mark.parametrize("are_binary", [True, False])
def test_the_cut_network_computes_what_the_gated_one_does(form: str, empty_layer: bool, are_binary: bool):
    made = network(form)
    given = gates(made, are_binary=are_binary, empty_layer=empty_layer)
    smaller = cut_network(made, {side: TowerCut(kept(one), one) for side, one in given.items()})
    images, texts = batch()
    with torch.no_grad():
        pairs = [
            (made.image(images, gates=given["image"]), smaller.image(images)),
            (made.text(texts, gates=given["text"]), smaller.text(texts)),
        ]
    for gated, cut in pairs:
        torch.testing.assert_close(cut.embedding, gated.embedding, rtol=0, atol=4e-7 * 8)
        assert cut.embedding.std() > 0.01


def test_a_network_cut_to_all_of_itself_is_the_same_bit_for_bit():
    made = network()
    cuts = {side: TowerCut(kept(gates)) for side, gates in _open(made).items()}
    images, texts = batch()
    smaller = cut_network(made, cuts)
    assert torch.equal(smaller.image(images).embedding, made.image(images).embedding)
    assert torch.equal(smaller.text(texts).embedding, made.text(texts).embedding)
    assert all(
        torch.equal(a, b) and a.data_ptr() != b.data_ptr()
        for a, b in zip(smaller.parameters(), made.parameters(), strict=True)
    )


def _open(made: DualEncoder) -> dict[Side, Gates]:
    return {
        side: Gates(
            torch.ones(units.config.width),
            tuple(map(torch.ones, units.config.heads)),
            tuple(map(torch.ones, units.config.neurons)),
        )
        for side, units in units_of(made).items()
    }


@pytest.mark.parametrize("form", FORMS)
def test_sizes_are_the_parameters_without_token_embedding(form: str):
    made = network(form)
    given = gates(made, are_binary=True)
    smaller = cut_network(made, {side: TowerCut(kept(one), one) for side, one in given.items()})
    for side, units in units_of(made).items():
        own = kept(given[side])
        counts = UnitCounts(
            float(len(own.hidden)), [float(len(h)) for h in own.heads], [float(len(n)) for n in own.neurons]
        )
        assert units.size() == _parameters(made, side)
        assert units.size(counts) == _parameters(smaller, side)


def _parameters(made: DualEncoder, side: Side) -> int:
    tower = made.image if side == "image" else made.text
    count = sum(parameter.numel() for parameter in tower.parameters())
    return count - (made.text.embedding_parameters if side == "text" else 0)


def test_layers_that_go_are_renumbered():
    made = network()
    units = units_of(made)["image"]
    c = units.config
    chosen = KeptUnits(
        torch.arange(c.width),
        (0, 2),
        tuple(torch.arange(c.heads[layer]) for layer in (0, 2)),
        tuple(torch.arange(c.neurons[layer]) for layer in (0, 2)),
    )
    smaller = cut_network(made, {"image": TowerCut(chosen)})
    assert smaller.config.image.depth == 2 and smaller.config.image.heads == (6, 3)
    ours, theirs = smaller.image.layers.blocks[1], made.image.layers.blocks[2]
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert units.size(layers=(0, 2)) == _parameters(smaller, "image")


def test_a_tower_without_units_is_refused_in_a_sentence():
    config = ModelConfig.model_validate(
        {"image": {"kind": "resnet", "size": "nano", "resolution": 32}, "text": TEXT, "dim": 12}
    )
    made = DualEncoder(config, vocabulary=50, context=9)
    with pytest.raises(
        RecipeError, match=r"image tower .resnet. cannot be cut; expected a vision or a text transformer"
    ):
        units_of(made)
