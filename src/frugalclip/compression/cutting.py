"""Smaller networks out of larger ones: the units of both towers that stay, and what gates fold into them."""

from collections.abc import Mapping
from typing import Any

from frugalclip.compression.base import TowerCut
from frugalclip.core.config import validated
from frugalclip.core.errors import RecipeError
from frugalclip.towers.base import Side, Tower
from frugalclip.towers.dual import DualEncoder, ModelConfig
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
    content = network.config.model_dump(mode="json", by_alias=True)
    for side, cut in cuts.items():
        content[side] |= _sizes(cut.kept)
    smaller = DualEncoder(
        validated(ModelConfig, content, where="the smaller network: model"),
        vocabulary=network.vocabulary,
        context=network.context,
        seed=None,
    )
    towers: dict[Side, tuple[Tower, Tower]] = {
        "image": (network.image, smaller.image),
        "text": (network.text, smaller.text),
    }
    for side, (whole, rest) in towers.items():
        weights = dict(whole.named_parameters())
        if side in cuts:
            weights = units[side].cut(weights, cuts[side].kept, gates=cuts[side].gates)
        rest.load_state_dict(weights)
    smaller.log_scale.data.copy_(network.log_scale.data)
    return smaller.to(network.log_scale.device)


def _sizes(kept: KeptUnits) -> dict[str, Any]:
    return {
        "size": None,
        "width": len(kept.hidden),
        "depth": len(kept.layers),
        "heads": [len(one) for one in kept.heads],
        "neurons": [len(one) for one in kept.neurons],
    }
