"""Units of a transformer tower: residual channels, heads and neurons, and where they stand in its weights.

One table of axes serves everything that makes towers smaller: counting what stays, cutting weights to the
units that stay, and folding gates into them.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from frugalclip.core.types import Gates
from frugalclip.towers.sizes import TransformerConfig

UnitKind = Literal["hidden", "heads", "neurons"]


@dataclass(frozen=True)
class Axis:
    """One axis of a weight: (outer, units, inner) flattened, or an axis without units."""

    unit: UnitKind | None = None
    layer: int = 0  # of heads and neurons
    outer: int = 1  # 3 for queries, keys and values in one matrix
    inner: int = 1  # channels of a head
    is_scaled: bool = False  # whether gates multiply here when they are folded into the weights

    def places(self, units: Tensor, count: int) -> Tensor:
        """(outer * kept * inner,) places on the axis of (kept,) units among `count`."""
        outer, inner = (torch.arange(number, device="cpu") for number in (self.outer, self.inner))
        places = outer[:, None, None] * (count * self.inner) + units[None, :, None] * self.inner + inner
        return places.reshape(-1)


HIDDEN, SCALED_HIDDEN, WHOLE = Axis("hidden"), Axis("hidden", is_scaled=True), Axis()


@dataclass(frozen=True)
class KeptUnits:
    """The units of a tower that stay, in the order in which they stand afterwards."""

    hidden: Tensor  # (kept,) int64
    layers: tuple[int, ...]  # layers that stay
    heads: tuple[Tensor, ...]  # for each layer that stays: (kept,) int64
    neurons: tuple[Tensor, ...]  # likewise

    def of(self, axis: Axis, layer: int) -> Tensor:
        """(kept,) int64 units of an axis; `layer` counts those that stay."""
        if axis.unit == "hidden":
            return self.hidden
        return (self.heads if axis.unit == "heads" else self.neurons)[layer]


@dataclass(frozen=True)
class UnitCounts:
    """How many units of each kind there are, or stay in expectation: numbers, or () tensors with gradient."""

    hidden: Tensor | float
    heads: Sequence[Tensor | float]  # of each layer
    neurons: Sequence[Tensor | float]

    def of(self, axis: Axis) -> Tensor | float:
        """Units along an axis: a number or ()."""
        if axis.unit == "hidden":
            return self.hidden
        return (self.heads if axis.unit == "heads" else self.neurons)[axis.layer]


@dataclass(frozen=True)
class Units:
    """The units of one tower.

    Weights of layer N are named `layers.blocks.N.…`. Every unit is kept or cut as a whole.
    """

    config: TransformerConfig
    axes: Mapping[str, tuple[Axis, ...]]  # parameter -> its axes
    shapes: Mapping[str, tuple[int, ...]]  # parameter -> its shape
    token_embedding: frozenset[str] = frozenset()  # parameters that sizes leave out
    implied: Mapping[str, Tensor] = field(default_factory=dict)  # weights of the smaller tower alone
    pinned: Mapping[str, Any] = field(default_factory=dict)  # settings of the smaller tower, whatever is cut

    @property
    def counts(self) -> UnitCounts:
        """Of the whole tower."""
        c = self.config
        return UnitCounts(float(c.width), [float(n) for n in c.heads], [float(n) for n in c.neurons])

    def size(
        self, counts: UnitCounts | None = None, *, layers: Collection[int] | None = None
    ) -> Tensor | float:
        """Parameters, without token embedding, of a tower with so many units: a number or ().

        Exact for whole numbers. For expected numbers it is the expected size, since units of different kinds
        are drawn independently and every weight has at most one axis of a kind.

        Args:
            counts: default those of the whole tower.
            layers: that stay; default all.
        """
        total: Tensor | float = 0.0
        if counts is None:  # the whole tower has no implied weights
            total -= sum(one.numel() for one in self.implied.values())
        counts = counts or self.counts
        for (layer, axes), number in self._products.items():
            if layers is None or layer is None or layer in layers:
                total = total + math.prod((counts.of(axis) for axis in axes), start=number)
        return total

    @cached_property
    def _products(self) -> dict[tuple[int | None, tuple[Axis, ...]], float]:
        """(layer, kinds of units) -> parameters for each product of their counts."""
        found: dict[tuple[int | None, tuple[Axis, ...]], float] = {}
        for name, axes in self.axes.items():
            if name in self.token_embedding:
                continue
            lengths = zip(axes, self.shapes[name], strict=True)
            number = math.prod(n if axis.unit is None else axis.outer * axis.inner for axis, n in lengths)
            kinds = [Axis(axis.unit, axis.layer) for axis in axes if axis.unit is not None]
            key = (layer_of(name), tuple(sorted(kinds, key=lambda axis: str(axis.unit))))
            found[key] = found.get(key, 0.0) + number
        return found

    def cut(
        self, weights: Mapping[str, Tensor], kept: KeptUnits, *, gates: Gates | None = None
    ) -> dict[str, Tensor]:
        """The weights of the tower that is left.

        Args:
            weights: of the whole tower, by name.
            kept: units that stay.
            gates: multipliers of the whole tower, folded into the weights, so that the smaller tower computes
                what the whole one computes under these gates. Final projections are cut and not multiplied,
                since the gated tower does not multiply there either.

        Returns:
            Weights by the names of the smaller tower.
        """
        place = {layer: number for number, layer in enumerate(kept.layers)}
        result: dict[str, Tensor] = {}
        weights = {**self.implied, **weights}
        for name, axes in self.axes.items():
            layer = layer_of(name)
            if layer is not None and layer not in place:
                continue
            weight, number = weights[name], 0 if layer is None else place[layer]
            for dim, axis in enumerate(axes):
                if axis.unit is not None:
                    weight = self._cut_axis(weight, dim, axis, kept.of(axis, number), gates)
            result[name if layer is None else renumbered(name, layer, number)] = weight.clone()
        return result

    def _cut_axis(self, weight: Tensor, dim: int, axis: Axis, units: Tensor, gates: Gates | None) -> Tensor:
        count = self._count(axis)
        places = axis.places(units, count).to(weight.device)
        weight = weight.index_select(dim, places)
        gate = _gate(gates, axis) if axis.is_scaled else None
        if gate is None:
            return weight
        values = gate.to(weight)[units.to(weight.device)].repeat_interleave(axis.inner).repeat(axis.outer)
        return weight * values.view(-1, *[1] * (weight.ndim - dim - 1))

    def _count(self, axis: Axis) -> int:
        if axis.unit == "hidden":
            return self.config.width
        return (self.config.heads if axis.unit == "heads" else self.config.neurons)[axis.layer]


def _gate(gates: Gates | None, axis: Axis) -> Tensor | None:
    if gates is None or axis.unit is None:
        return None
    found = getattr(gates, axis.unit)
    return found if found is None or axis.unit == "hidden" else found[axis.layer]


def layer_of(name: str) -> int | None:
    """The layer in the name of a weight, or None."""
    return int(name.split(".")[2]) if name.startswith("layers.blocks.") else None


def renumbered(name: str, layer: int, number: int) -> str:
    """The name of a weight whose layer gets another number."""
    return name.replace(f"layers.blocks.{layer}.", f"layers.blocks.{number}.", 1)


def layer_axes(config: TransformerConfig) -> Iterator[tuple[str, tuple[Axis, ...]]]:
    """Names and axes of the weights of every layer, see `blocks.Block`."""
    for layer in range(config.depth):
        start = f"layers.blocks.{layer}."
        heads = Axis("heads", layer, outer=3, inner=config.head_dim)
        mixed = Axis("heads", layer, inner=config.head_dim, is_scaled=True)
        for norm in ("norm_attention", "norm_feed_forward"):
            yield f"{start}{norm}.weight", (HIDDEN,)
            yield f"{start}{norm}.bias", (HIDDEN,)
        yield f"{start}attention.qkv.weight", (heads, HIDDEN)
        yield f"{start}attention.qkv.bias", (heads,)
        yield f"{start}attention.out.weight", (SCALED_HIDDEN, mixed)
        yield f"{start}attention.out.bias", (SCALED_HIDDEN,)
        yield f"{start}feed_forward.enter.weight", (Axis("neurons", layer), HIDDEN)
        yield f"{start}feed_forward.enter.bias", (Axis("neurons", layer),)
        yield f"{start}feed_forward.leave.weight", (SCALED_HIDDEN, Axis("neurons", layer, is_scaled=True))
        yield f"{start}feed_forward.leave.bias", (SCALED_HIDDEN,)
