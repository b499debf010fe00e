"""Smaller networks out of larger ones: the units of both towers that stay, and what gates fold into them."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from frugalclip.compression.base import TowerCut
from frugalclip.compression.rebuild import rebuilt
from frugalclip.core.devices import without_weights
from frugalclip.core.errors import RecipeError
from frugalclip.towers.base import ImageTowerConfig, Side, Tower
from frugalclip.towers.dual import DualEncoder
from frugalclip.towers.units import KeptUnits, Units

SIDES: tuple[Side, ...] = ("image", "text")


def units_of(network: DualEncoder, sides: Iterable[Side] = SIDES) -> dict[Side, Units]:
    """The units of some towers.

    Raises:
        RecipeError: for a tower of which no units can be cut.
    """
    found: dict[Side, Units] = {}
    for side in sides:
        tower = _towers(network)[side]
        units = tower.units
        if units is None:
            kind = getattr(getattr(network.config, side), "kind", type(tower).__name__)
            raise RecipeError(
                f"the {side} tower ({kind}) cannot be cut; expected a vision or a text transformer, or for "
                "change inherit a residual network. Give sizes of the other tower alone, or train a student "
                "of another kind from its features, with objectives.feature_matching or objectives.affinity."
            )
        found[side] = units
    return found


def cut_network(
    network: DualEncoder, cuts: Mapping[Side, TowerCut], *, image_width: int | None = None
) -> DualEncoder:
    """The network of which only some units are left, with weights of its own.

    Args:
        network: the larger one.
        cuts: for each tower what stays, and gates that are folded into its weights. A tower without stays.
        image_width: of an image tower that keeps the first channels of every weight instead.
    """
    content = network.config.model_dump(mode="json", by_alias=True)
    changes: dict[str, Any] = {}
    weights: dict[Side, dict[str, Tensor]] = {}
    for side, units in units_of(network, cuts).items():
        changes[side] = content[side] | dict(units.pinned) | _sizes(cuts[side].kept)
        own = dict(_towers(network)[side].named_parameters())
        weights[side] = units.cut(own, cuts[side].kept, gates=cuts[side].gates)
    if image_width is not None:
        narrower = network.config.image.at_width(image_width)
        changes["image"] = narrower.model_dump(mode="json", by_alias=True)
        weights["image"] = front_slices(
            network.image.state_dict(), shapes_of(narrower, dim=network.config.dim)
        )
    return rebuilt(network, changes, weights)


def front_slices(weights: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The first entries along every axis, statistics of normalisations too.

    Args:
        weights: by name, of any shape such as (width, dim).
        shapes: of the smaller ones.
    """
    return {name: weights[name][tuple(map(slice, shape))].clone() for name, shape in shapes.items()}


def shapes_of(config: ImageTowerConfig, *, dim: int) -> dict[str, torch.Size]:
    """Shapes of the weights and statistics of a tower with these settings."""
    with without_weights():
        return {name: one.shape for name, one in config.build(dim=dim).state_dict().items()}


def _towers(network: DualEncoder) -> dict[Side, Tower]:
    return {"image": network.image, "text": network.text}


def _sizes(kept: KeptUnits) -> dict[str, Any]:
    return {
        "size": None,
        "width": len(kept.hidden),
        "depth": len(kept.layers),
        "heads": [len(one) for one in kept.heads],
        "neurons": [len(one) for one in kept.neurons],
    }
