"""Start a smaller network from the first units of a larger one: weights by rule, before any training.

Source: TinyCLIP, arXiv 2309.12314, section 3.2 (manual inheritance), and its code (`weight_inherit.py`): the
first channels, heads and neurons of every layer that stays. Heads are never mixed. The code's rule for layers
takes every step-th one, which for 12 to 9 layers are the first nine; `even` spreads them.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator

from frugalclip.compression.base import ChangeConfig, GateSource, NetworkChange, TowerCut
from frugalclip.compression.cutting import cut_network, units_of
from frugalclip.core.config import Settings
from frugalclip.core.errors import RecipeError
from frugalclip.core.preprocess import Preprocess
from frugalclip.towers.base import Side
from frugalclip.towers.dual import DualEncoder
from frugalclip.towers.units import KeptUnits, UnitCounts, Units

DepthRule = Literal["official", "even", "even_with_last"]


class TowerSize(Settings):
    """Sizes of one smaller tower; what is not given stays."""

    width: int | None = Field(None, gt=0, description="channels")
    depth: int | None = Field(None, gt=0, description="layers")
    heads: int | None = Field(None, gt=0, description="heads of each layer; null: in proportion to the width")
    neurons: int | None = Field(
        None, gt=0, description="feed-forward neurons of each layer; null: in proportion to the width"
    )
    layers: tuple[int, ...] = Field((), description="layers to take, from 0, in place of depth and its rule")


class Config(ChangeConfig):
    keep: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of the parameters of each tower, without token embedding, that stays: a narrower "
        "image tower and a shallower text tower, as published. null: sizes as given",
    )
    image: TowerSize = Field(default_factory=TowerSize)
    text: TowerSize = Field(default_factory=TowerSize)
    depth_rule: DepthRule = Field(
        "official",
        description="official: layers 0, step, 2 step, ... with step = floor(all / kept); even: spread, from "
        "the first; even_with_last: spread, the last among them",
    )

    @model_validator(mode="after")
    def _is_smaller(self) -> "Config":
        given = any(tower != TowerSize() for tower in (self.image, self.text))
        if (self.keep is not None) == given:
            raise ValueError("give either keep, such as 0.5, or sizes of the image and the text tower")
        return self


class Inherit(NetworkChange):
    """A smaller network whose weights are a part of the larger one's."""

    Config = Config

    def __call__(
        self, network: DualEncoder, *, gates: GateSource | None, preprocess: Preprocess
    ) -> DualEncoder:
        """The smaller network; see `NetworkChange`."""
        c, units = self.config, units_of(network)
        if c.keep is not None:
            sizes = {"image": narrower(units["image"], c.keep), "text": shallower(units["text"], c.keep)}
        else:
            sizes = {"image": c.image, "text": c.text}
        cuts: dict[Side, TowerCut] = {}
        for side, own in units.items():
            cuts[side] = TowerCut(first_units(own, sizes[side], rule=c.depth_rule, side=side))
        return cut_network(network, cuts)


def kept_layers(depth: int, kept: int, *, rule: DepthRule) -> tuple[int, ...]:
    """Which of `depth` layers stay, in order."""
    if rule == "official":
        step = depth // kept
        return tuple(range(0, step * kept, step))
    if rule == "even":
        return tuple(layer * depth // kept for layer in range(kept))
    if kept == 1:
        return (depth - 1,)
    return tuple(round(layer * (depth - 1) / (kept - 1)) for layer in range(kept))


def first_units(units: Units, size: TowerSize, *, rule: DepthRule, side: str) -> KeptUnits:
    """The first channels, heads and neurons of the layers that stay.

    Raises:
        RecipeError: for a size that the tower does not have.
    """
    c = units.config
    width = size.width or c.width
    layers = size.layers or kept_layers(c.depth, min(size.depth or c.depth, c.depth), rule=rule)
    share = width / c.width
    heads = [size.heads or max(1, round(share * c.heads[layer])) for layer in layers if layer < c.depth]
    neurons = [size.neurons or max(1, round(share * c.neurons[layer])) for layer in layers if layer < c.depth]
    limits = [
        ("width", width, c.width),
        ("depth", size.depth or 0, c.depth),
        ("layers", max(layers) + 1, c.depth),
        *(("heads", own, c.heads[layer]) for own, layer in zip(heads, layers, strict=False)),
        *(("neurons", own, c.neurons[layer]) for own, layer in zip(neurons, layers, strict=False)),
    ]
    for name, own, most in limits:
        if own > most:
            raise RecipeError(
                f"change inherit: {side}.{name} is {own}, and the larger network has {most}; give at most "
                "that."
            )
    return KeptUnits(
        hidden=torch.arange(width),
        layers=tuple(layers),
        heads=tuple(map(torch.arange, heads)),
        neurons=tuple(map(torch.arange, neurons)),
    )


def narrower(units: Units, keep: float) -> TowerSize:
    """A tower of all layers with fewer channels, in whole heads, and the neurons that make up its size."""
    c = units.config
    most = min(c.heads)
    wanted = keep * float(units.size())
    per_head = c.width / max(most, 1)
    candidates = [(number, round(number * per_head)) for number in range(1, most + 1)]
    heads, width = min(candidates, key=lambda one: abs(_size(units, c.depth, *one) - wanted))
    return TowerSize(width=width, heads=heads, neurons=_neurons(units, c.depth, heads, width, wanted=wanted))


def shallower(units: Units, keep: float) -> TowerSize:
    """A tower of at least half the layers, narrower only where that is not small enough."""
    c = units.config
    wanted, most = keep * float(units.size()), min(c.heads)
    least = max(1, c.depth // 2)
    per_head = c.width / max(most, 1)
    depths = range(least, c.depth + 1)
    depth = min(depths, key=lambda number: abs(_size(units, number, most, c.width) - wanted))
    candidates = [(number, round(number * per_head)) for number in range(1, most + 1)]
    heads, width = (
        (most, c.width)
        if depth > least or _size(units, depth, most, c.width) <= 1.1 * wanted
        else min(candidates, key=lambda one: abs(_size(units, depth, *one) - wanted))
    )
    return TowerSize(
        width=width, depth=depth, heads=heads, neurons=_neurons(units, depth, heads, width, wanted=wanted)
    )


def _size(units: Units, depth: int, heads: int, width: int, *, neurons: float | None = None) -> float:
    """Parameters of a tower whose layers are alike."""
    c = units.config
    own = width / c.width * max(c.neurons, default=0) if neurons is None else neurons
    counts = UnitCounts(float(width), [float(heads)] * c.depth, [own] * c.depth)
    return float(units.size(counts, layers=range(depth)))


def _neurons(units: Units, depth: int, heads: int, width: int, *, wanted: float) -> int:
    """Neurons of each layer that bring a tower nearest to its size, at most those of the larger tower."""
    without = _size(units, depth, heads, width, neurons=0.0)
    return int(min(max(round((wanted - without) / (depth * (2 * width + 1))), 1), min(units.config.neurons)))
