"""Smaller networks out of larger ones: the units of both towers that stay, and what gates fold into them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from frugalclip.compression.base import TowerCut
from frugalclip.compression.rebuild import rebuilt
from frugalclip.core.errors import RecipeError
from frugalclip.towers.base import Side, Tower
from frugalclip.towers.dual import DualEncoder
from frugalclip.towers.units import KeptUnits, Units


def units_of(network: DualEncoder) -> dict[Side, Units]:
    """The units of both towers.

    Raises:
        RecipeError: for a tower that cannot be made smaller.
    """
    towers: dict[Side, Tower] = {"image": network.image, "text": network.text}
    found: dict[Side, Units] = {}
    for side, tower in towers.items():
        units = tower.units
        if units is None:
            kind = getattr(getattr(network.config, side), "kind", type(tower).__name__)
            raise RecipeError(
                f"the {side} tower ({kind}) cannot be cut; expected a vision transformer with pool: cls or "
                "mean and a linear projection, or a text transformer. Train a student of another kind "
                "from its features instead, with objectives.feature_matching or objectives.affinity."
            )
        found[side] = units
    return found


def cut_network(network: DualEncoder, cuts: Mapping[Side, TowerCut]) -> DualEncoder:
    """The network of which only some units are left, with weights of its own.

    Args:
        network: the larger one.
        cuts: for each tower what stays, and gates that are folded into its weights.
    """
    units = units_of(network)
    towers: dict[Side, Tower] = {"image": network.image, "text": network.text}
    content = network.config.model_dump(mode="json", by_alias=True)
    changes: dict[str, Any] = {side: content[side] | _sizes(cut.kept) for side, cut in cuts.items()}
    weights: dict[Side, dict[str, Tensor]] = {
        side: units[side].cut(dict(towers[side].named_parameters()), cut.kept, gates=cut.gates)
        for side, cut in cuts.items()
    }
    return rebuilt(network, changes, weights)


def _sizes(kept: KeptUnits) -> dict[str, Any]:
    return {
        "size": None,
        "width": len(kept.hidden),
        "depth": len(kept.layers),
        "heads": [len(one) for one in kept.heads],
        "neurons": [len(one) for one in kept.neurons],
    }
