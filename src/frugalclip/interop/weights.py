"""Tensors of a foreign file by name, without running anything that the file brings."""

import _codecs
import argparse
import pathlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from frugalclip.core.errors import ModelError
from frugalclip.core.records import read_json
from frugalclip.interop.source import EVERYTHING, TensorSelection
from frugalclip.interop.state_dicts import Belongs, Weights, own_tensors

PICKLED = (".pt", ".pth", ".bin", ".ckpt")


def read_weights(
    file: Path, belongs: Belongs = lambda _: True, selection: TensorSelection = EVERYTHING
) -> Weights:
    """The model's tensors by name, from safetensors, a pickled state dict, or a training checkpoint.

    Args:
        file: of weights.
        belongs: whether a name may be one of the architecture's own.
        selection: entry and prefix as the user named them.

    Raises:
        ModelError: when the file is absent, damaged, of another kind, holds code, or does not say which of
            its tensors are the model's.
    """
    return own_tensors(_content(file), belongs, selection, where=str(file))


def _content(file: Path) -> Any:
    """What a file of weights holds."""
    if not file.is_file():
        what = "a folder, not a file" if file.is_dir() else "not there"
        raise ModelError(f"{file} is {what}; expected weights ({', '.join(('.safetensors', *PICKLED))}).")
    if file.suffix == ".safetensors":
        return _safetensors(file)
    if file.suffix in PICKLED:
        return _pickled(file)
    raise ModelError(
        f"{file} is no file of weights that is read here; expected {', '.join(('.safetensors', *PICKLED))}."
    )


def read_shards(
    index: Path, belongs: Belongs = lambda _: True, selection: TensorSelection = EVERYTHING
) -> Weights:
    """Tensors of the files that an index (`model.safetensors.index.json`) lists.

    Args:
        index: beside the files.
        belongs: whether a name may be one of the architecture's own.
        selection: prefix as the user named it.

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
        tensors |= read_weights(index.parent / name).tensors
    if missing := sorted(places.keys() - tensors.keys()):
        raise ModelError(
            f"{index} lists the tensor '{missing[0]}', which {places[missing[0]]} does not hold; copy the "
            "shards again."
        )
    return own_tensors(tensors, belongs, selection, where=str(index))


def _harmless() -> list[Any]:
    """What training loops keep beside tensors and what runs nothing: arguments, paths, numbers of NumPy."""
    scalar: Any = np.float64(0).__reduce__()[0]
    kinds = {type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u1", "?")}
    paths = [(pathlib.PosixPath, f"{module}.PosixPath") for module in ("pathlib", "pathlib._local")]
    scalars = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [argparse.Namespace, np.dtype, _codecs.encode, *kinds, *paths, *scalars]


def _safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{file} is not a whole safetensors file ({str(error).splitlines()[0]}); copy it again."
        ) from error


def _pickled(file: Path) -> Any:
    try:
        # warnings are of pickle protocols, where the error that follows is enough
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(_harmless()):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # UnpicklingError, RuntimeError, EOFError, KeyError and others, by the damage
        if type(error).__name__ == "UnpicklingError":  # its module is imported nowhere in this project
            raise ModelError(
                f"{file} is damaged, or a pickle with more than tensors in it, which could run code and is "
                "not read; copy it again, or save its state dict alone where it comes from: "
                "torch.save(model.state_dict(), 'weights.pt')."
            ) from error
        first = (str(error).splitlines() or [type(error).__name__])[0]
        if "TorchScript" in str(error):
            raise ModelError(
                f"{file} is a TorchScript archive, which is a program and is not run; open it with open_clip "
                "and save its state dict as safetensors."
            ) from error
        raise ModelError(f"{file} is not a whole file of weights ({first}); copy it again.") from error
