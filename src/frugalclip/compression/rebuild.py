"""A network of other sizes with given weights: the last step of everything that makes one smaller."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from frugalclip.core.config import validated
from frugalclip.towers.base import Side, Tower
from frugalclip.towers.dual import DualEncoder, ModelConfig


def rebuilt(
    network: DualEncoder,
    changes: Mapping[str, Any],
    weights: Mapping[Side, Mapping[str, Tensor]],
    *,
    vocabulary: int | None = None,
) -> DualEncoder:
    """A network like another one, with other settings and weights of some tower.

    Args:
        network: what it is made from; it stays as it is.
        changes: settings of the `model` section in place of its own.
        weights: of a tower by name; a tower without keeps its own.
        vocabulary: rows of the token embedding; default as many.
    """
    content = network.config.model_dump(mode="json", by_alias=True) | dict(changes)
    made = DualEncoder(
        validated(ModelConfig, content, where="the smaller network: model"),
        vocabulary=network.vocabulary if vocabulary is None else vocabulary,
        context=network.context,
        seed=None,
    )
    towers: dict[Side, tuple[Tower, Tower]] = {
        "image": (network.image, made.image),
        "text": (network.text, made.text),
    }
    for side, (old, new) in towers.items():
        if side in weights:
            new.load_state_dict(weights[side])
        else:
            setattr(made, side, copy.deepcopy(old))  # with the backbone of a pretrained tower
    made.log_scale.data.copy_(network.log_scale.data)
    return made.to(network.log_scale.device)
