"""How far below the top of its tower each parameter lies, for rates that fall from layer to layer.

Layers are counted by their names, in the order in which a tower holds them: `layers.blocks.3`, `stages.1.0`
and `encoder.layer.5` are one layer each. What a tower holds before its first layer lies below all of them,
what it holds behind them (a last norm, the projection) at the top. Everything else of a run, such as the
scale and the heads of objectives, lies at the top too.
"""

import re
from collections.abc import Iterable

_TOWER = re.compile(r"(?:^|\.)network\.(image|text)\.(.+)")
_LAYER = re.compile(r"(?:.*?\.)?\d+(?:\.\d+)*(?=\.)")  # up to the first numbers of a name
_BELOW, _TOP = "below", "top"


def depths_below_top(names: Iterable[str]) -> dict[str, int]:
    """Layers between each parameter and the top of its tower: 0 at the top.

    Args:
        names: of parameters, in the order of the module that holds them, such as `network.image.cls`.
    """
    names = list(names)
    layers: dict[str, str] = {}  # name of a parameter -> its layer, `image/layers.blocks.3`
    order: dict[str, list[str]] = {"image": [], "text": []}  # side -> layers, lowest first
    for name in names:
        if (match := _TOWER.search(name)) is None:
            continue
        side, inner = match[1], match[2]
        found = _LAYER.match(inner)
        layer = found[0] if found else _TOP if any(one != _BELOW for one in order[side]) else _BELOW
        layers[name] = f"{side}/{layer}"
        if layer not in order[side]:
            order[side].append(layer)
    places: dict[str, int] = {}
    for side, known in order.items():
        from_below = [layer for layer in known if layer != _TOP] + [_TOP]
        places |= {f"{side}/{layer}": len(from_below) - 1 - place for place, layer in enumerate(from_below)}
    return {name: places[layers[name]] if name in layers else 0 for name in names}
