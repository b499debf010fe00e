"""Whether a foreign format can hold a tower of ours: its settings, read back, must be the tower's own."""

from frugalclip.core.config import Settings
from frugalclip.core.errors import ModelError
from frugalclip.towers.sizes import TransformerConfig

WITHOUT_EFFECT = ("size", "freeze_patch", "length_groups")  # of a trained tower
TIP = "export it with --to onnx, which takes any tower"


def refuse_uneven(config: TransformerConfig, *, where: str, tower: str) -> None:
    """Refuse a transformer whose layers differ, or whose heads do not fill its width.

    Args:
        config: settings of the tower.
        where: the format, for the message.
        tower: which tower.

    Raises:
        ModelError: with the sizes of every layer.
    """
    whole = {config.width / config.head_dim}
    for name, values, expected in (
        ("heads", config.heads, "as many heads as fill the width"),
        ("neurons", config.neurons, "as many neurons"),
    ):
        if len(found := set(values)) > 1 or (name == "heads" and found != whole):
            raise ModelError(
                f"the {tower} has {name}: {list(values)}, and {where} has {expected} in every layer; {TIP}."
            )


def refuse_difference(own: Settings, read: Settings, *, where: str, tower: str) -> None:
    """Refuse a tower whose settings a format cannot hold.

    Args:
        own: settings of the tower.
        read: what reading the written settings gives.
        where: the format, for the message.
        tower: which tower.

    Raises:
        ModelError: naming the first setting that differs.
    """
    ours, theirs = _plain(own), _plain(read)
    for name, value in ours.items():
        if name not in WITHOUT_EFFECT and value != theirs.get(name):
            raise ModelError(
                f"the {tower} has {name}: {_shown(value)}, and {where} computes {name}: "
                f"{_shown(theirs.get(name))}; {TIP}."
            )


def _plain(settings: Settings) -> dict[str, object]:
    """Every setting, those at their default too, with tower-wide counts filled in."""
    found = {name: getattr(settings, name) for name in type(settings).model_fields}
    if found.get("pool_neurons") == 0:
        found["pool_neurons"] = 4 * int(found.get("width") or 0)
    if found.get("pool") != "attention":  # its settings have no effect
        found.pop("pool_neurons", None)
        found.pop("pool_activation", None)
    return found


def _shown(value: object) -> str:
    if isinstance(value, tuple) and len(set(value)) == 1:
        return f"{value[0]} in all {len(value)} layers"
    return str(list(value)) if isinstance(value, tuple) else str(value)
