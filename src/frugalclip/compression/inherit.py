"""Start a smaller network from the first units of a larger one: weights by rule, before any training.

Source: TinyCLIP, arXiv 2309.12314, section 3.2 (manual inheritance), and its code (`weight_inherit.py`): the
first channels, heads and neurons of every layer that stays. Heads are never mixed. The code's rule for layers
takes every step-th one, which for 12 to 9 layers are the first nine; `even` spreads them.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field, PositiveInt, model_validator

from frugalclip.compression.base import ChangeConfig, GateSource, NetworkChange, TowerCut
from frugalclip.compression.cutting import cut_network, units_of
from frugalclip.compression.rounding import STEP, TOLERANCE, rounded_down
from frugalclip.core.config import Settings
from frugalclip.core.devices import without_weights
from frugalclip.core.errors import RecipeError
from frugalclip.core.preprocess import Preprocess
from frugalclip.towers.base import Side
from frugalclip.towers.dual import DualEncoder
from frugalclip.towers.units import KeptUnits, UnitCounts, Units

DepthRule = Literal["official", "even", "even_with_last"]
Neurons = int | tuple[int, ...]  # of every layer, or of each


class TowerSize(Settings):
    """Sizes of one smaller tower; what is not given stays."""

    width: int | None = Field(None, gt=0, description="channels")
    depth: int | None = Field(None, gt=0, description="layers")
    heads: int | None = Field(
        None, gt=0, description="heads of a layer, where it has as many; null: by the width"
    )
    neurons: PositiveInt | tuple[PositiveInt, ...] | None = Field(
        None,
        description="neurons of a layer, where it has as many, or of each that stays; null: by the width",
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
        if (self.keep is not None and given) or not (self.keep or given or self.vocabulary):
            raise ValueError(
                "give either keep, such as 0.5, or sizes of the image and the text tower; with vocabulary, "
                "both may be left out"
            )
        return self


class Inherit(NetworkChange):
    """A smaller network whose weights are a part of the larger one's."""

    Config = Config

    def __call__(
        self, network: DualEncoder, *, gates: GateSource | None, preprocess: Preprocess
    ) -> DualEncoder:
        """The smaller network; see `NetworkChange`."""
        sizes, width = self._sizes(), None
        if "image" in sizes and (widths := network.config.image.narrower_widths()):
            width = _image_width(network, widths, sizes.pop("image"), keep=self.config.keep)
        cuts: dict[Side, TowerCut] = {}
        for side, own in units_of(network, sizes).items():
            size = sizes[side] if self.config.keep is None else _of_share(own, side, self.config.keep)
            cuts[side] = TowerCut(first_units(own, size, rule=self.config.depth_rule, side=side))
        return cut_network(network, cuts, image_width=width) if sizes or width else network

    def _sizes(self) -> dict[Side, TowerSize]:
        """Sizes as given, of the towers that become smaller."""
        given: dict[Side, TowerSize] = {"image": self.config.image, "text": self.config.text}
        return {side: one for side, one in given.items() if self.config.keep or one != TowerSize()}


def _of_share(units: Units, side: Side, keep: float) -> TowerSize:
    """A narrower image tower, or a shallower text tower, as published."""
    return narrower(units, keep) if side == "image" else shallower(units, keep)


def _image_width(network: DualEncoder, widths: Sequence[int], size: TowerSize, *, keep: float | None) -> int:
    """The width of a smaller residual network, whose blocks stay: as given, or nearest to a share.

    Args:
        network: the larger one.
        widths: that its image tower may have.
        size: as given.
        keep: share of the parameters; None: the size decides.

    Raises:
        RecipeError: for a size that it cannot have.
    """
    if keep is not None:
        wanted = keep * sum(p.numel() for p in network.image.parameters())
        return min(widths, key=lambda width: abs(_parameters(network, width) - wanted))
    if size != TowerSize(width=size.width):
        raise RecipeError(
            f"change inherit: {network.image.description} keeps its blocks and becomes narrower alone; give "
            "image.width and nothing else of image."
        )
    if size.width is None or size.width not in widths:
        raise RecipeError(
            f"change inherit: image.width is {size.width}, and {network.image.description} of width "
            f"{network.config.image.width} may have a multiple of {widths[0]} up to that."
        )
    return size.width


def _parameters(network: DualEncoder, width: int) -> int:
    """Parameters of the image tower at another width."""
    with without_weights():
        tower = network.config.image.at_width(width).build(dim=network.config.dim)
    return sum(p.numel() for p in tower.parameters())


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
    given = size.neurons if isinstance(size.neurons, tuple) else (size.neurons,) * len(layers)
    limits = [
        ("width", width, c.width),
        ("depth", size.depth or 0, c.depth),
        ("layers", max(layers) + 1, c.depth),
        ("heads", size.heads or 0, max(c.heads)),
        ("neurons", max(one or 0 for one in given), max(c.neurons)),
    ]
    for name, own, most in limits:
        if own > most:
            raise RecipeError(
                f"change inherit: {side}.{name} is {own}, and the larger network has {most}; give at most "
                "that."
            )
    if len(given) != len(layers):
        raise RecipeError(
            f"change inherit: {side}.neurons has {len(given)} numbers, and {len(layers)} layers stay; give "
            "one for each of them, or one number for all."
        )
    share = width / c.width
    heads = [min(size.heads or max(1, round(share * c.heads[n])), c.heads[n]) for n in layers]
    neurons = [
        min(own or max(1, round(share * c.neurons[n])), c.neurons[n])
        for own, n in zip(given, layers, strict=True)
    ]
    return KeptUnits(
        hidden=_first(width),
        layers=tuple(layers),
        heads=tuple(map(_first, heads)),
        neurons=tuple(map(_first, neurons)),
    )


def _first(count: int) -> torch.Tensor:
    return torch.arange(count, device="cpu")  # also where the network is only counted, on the meta device


def narrower(units: Units, keep: float) -> TowerSize:
    """A tower of all layers with fewer channels, in whole heads, and the neurons that make up its size."""
    c, wanted = units.config, keep * float(units.size())
    heads, width = min(_widths(units), key=lambda one: _distance(units, c.depth, *one, wanted=wanted))
    return TowerSize(width=width, heads=heads, neurons=_neurons(units, c.depth, heads, width, wanted=wanted))


def shallower(units: Units, keep: float) -> TowerSize:
    """A tower of at least half the layers, narrower only where that is not small enough."""
    c, wanted = units.config, keep * float(units.size())
    heads, width = max(_widths(units))
    depth = min(
        range(max(1, c.depth // 2), c.depth + 1),
        key=lambda number: _distance(units, number, heads, width, wanted=wanted),
    )
    if _size(units, depth, heads, width) > 1.1 * wanted:
        heads, width = min(_widths(units), key=lambda one: _distance(units, depth, *one, wanted=wanted))
    return TowerSize(
        width=width, depth=depth, heads=heads, neurons=_neurons(units, depth, heads, width, wanted=wanted)
    )


def _widths(units: Units) -> list[tuple[int, int]]:
    """Heads, and as many channels as belong to them."""
    most = max(units.config.heads)
    return [(number, round(number * units.config.width / most)) for number in range(1, most + 1)]


def _size(units: Units, depth: int, heads: int, width: int, *, neurons: Neurons | None = None) -> float:
    """Parameters of a tower whose first layers stay, with neurons in proportion to the width or as given."""
    c = units.config
    size = TowerSize(width=width, heads=heads, neurons=neurons, layers=tuple(range(depth)))
    kept = first_units(units, size, rule="official", side="")
    missing = [0.0] * (c.depth - depth)
    counts = UnitCounts(
        float(width),
        [float(len(one)) for one in kept.heads] + missing,
        [float(len(one)) for one in kept.neurons] + missing,
    )
    return float(units.size(counts, layers=kept.layers))


def _distance(units: Units, depth: int, heads: int, width: int, *, wanted: float) -> tuple[float, float]:
    """How far a tower is from its size with any number of neurons, then with neurons in proportion."""
    least, most = (
        _size(units, depth, heads, width, neurons=number) for number in (1, max(units.config.neurons))
    )
    return max(least - wanted, wanted - most, 0.0), abs(_size(units, depth, heads, width) - wanted)


def _neurons(units: Units, depth: int, heads: int, width: int, *, wanted: float) -> Neurons:
    """Neurons of a layer, where it has as many, that bring a tower to its size.

    Fast numbers where they do, which the first layers may have one step more of; else one number.
    """

    def distance(neurons: Neurons) -> float:
        return abs(_size(units, depth, heads, width, neurons=neurons) - wanted)

    low, high = 1, max(units.config.neurons)
    most = high
    while low < high:
        middle = (low + high) // 2
        reached = _size(units, depth, heads, width, neurons=middle)
        low, high = (middle + 1, high) if reached < wanted else (low, middle)
    nearest = min(max(1, low - 1), low, key=distance)
    if nearest < STEP:
        return nearest
    below = rounded_down(nearest, most=most)
    above = min(below + STEP, most)
    fast = min(((above,) * n + (below,) * (depth - n) for n in range(depth + 1)), key=distance)
    if distance(fast) > max(TOLERANCE * wanted, distance(nearest)):
        return nearest
    return fast[0] if len(set(fast)) == 1 else fast
