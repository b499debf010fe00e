"""Which device computes: the one asked for, checked, and a GPU of its own for each of several processes on a machine."""

import os

import torch

from frugalclip.core.errors import RecipeError


def pick_device(name: str) -> torch.device:
    """`auto` is a GPU if there is one; several processes on a machine (torchrun's LOCAL_RANK) take a GPU each.

    Raises:
        RecipeError: when there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RecipeError(f"device is '{name}'; expected auto, cpu, cuda or cuda:N.") from error
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise RecipeError(
            f"device is '{name}', and torch sees no GPU here; set device=auto, or see what 'frugalclip doctor' says."
        )
    local, gpus = os.environ.get("LOCAL_RANK"), torch.cuda.device_count()
    index = device.index if device.index is not None else int(local) if local else torch.cuda.current_device()
    if index >= gpus:
        wanted = (
            f"device is '{name}'"
            if device.index is not None
            else f"process {index} of this machine wants a GPU of its own"
        )
        raise RecipeError(
            f"{wanted}, and there are {gpus}, counted from 0; start at most {gpus} processes a machine, or set device=cpu."
        )
    return torch.device("cuda", index)
