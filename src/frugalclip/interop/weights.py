"""Tensors of a foreign file by name, without running anything that the file brings."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from frugalclip.core.errors import ModelError
from frugalclip.core.records import read_json

PICKLED = (".pt", ".pth", ".bin", ".ckpt")
WRAPPERS = ("module.", "_orig_mod.")  # names of data-parallel and compiled modules begin so


def read_weights(file: Path) -> dict[str, Tensor]:
    """Tensors by name, from safetensors, a pickled state dict, or a training checkpoint with a `state_dict`.

    Raises:
        ModelError: when the file is absent, damaged, of another kind or holds code.
    """
    if not file.is_file():
        what = "a folder, not a file" if file.is_dir() else "not there"
        raise ModelError(f"{file} is {what}; expected weights ({', '.join(('.safetensors', *PICKLED))}).")
    if file.suffix == ".safetensors":
        content: Any = _safetensors(file)
    elif file.suffix in PICKLED:
        content = _pickled(file)
    else:
        raise ModelError(
            f"{file} is no file of weights that is read here; expected "
            f"{', '.join(('.safetensors', *PICKLED))}."
        )
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    tensors = (
        {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise ModelError(
            f"{file} holds no tensors by name; expected a state dict, or a training checkpoint with a "
            "'state_dict' in it."
        )
    for wrapper in WRAPPERS:
        if all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    return tensors


def read_shards(index: Path) -> dict[str, Tensor]:
    """Tensors of the files that an index (`model.safetensors.index.json`) lists.

    Raises:
        ModelError: when the index or one of its files cannot be read, or a tensor is not where the index
            says.
    """
    content = read_json(index)
    places = content.get("weight_map") if isinstance(content, Mapping) else None
    if not isinstance(places, Mapping) or not places:
        raise ModelError(
            f"{index} has no weight_map; expected names of tensors with the files that hold them."
        )
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(map(str, places.values()))):
        if Path(name).name != name:  # an index must not reach outside its folder
            raise ModelError(
                f"{index} names the file '{name}', which is not in its own folder; put the shards beside the "
                "index."
            )
        tensors |= read_weights(index.parent / name)
    if missing := sorted(places.keys() - tensors.keys()):
        raise ModelError(
            f"{index} lists the tensor '{missing[0]}', which {places[missing[0]]} does not hold; copy the "
            "shards again."
        )
    return tensors


def _safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{file} is not a whole safetensors file ({str(error).splitlines()[0]}); copy it again."
        ) from error


def _pickled(file: Path) -> Any:
    try:
        with warnings.catch_warnings(
            action="ignore"
        ):  # of pickle protocols, where the error that follows is enough
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # UnpicklingError, RuntimeError, EOFError, KeyError and others, by the damage
        if type(error).__name__ == "UnpicklingError":  # its module is imported nowhere in this project
            raise ModelError(
                f"{file} is damaged, or a pickle with more than tensors in it, which could run code and is "
                "not read; copy it again, or save its state dict as safetensors where it comes from."
            ) from error
        first = (str(error).splitlines() or [type(error).__name__])[0]
        if "TorchScript" in str(error):
            raise ModelError(
                f"{file} is a TorchScript archive, which is a program and is not run; open it with open_clip "
                "and save its state dict as safetensors."
            ) from error
        raise ModelError(f"{file} is not a whole file of weights ({first}); copy it again.") from error
