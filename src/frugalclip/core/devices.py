"""The device that computes: checked, and a GPU of its own for each process of a machine."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from frugalclip.core.errors import RecipeError


def pick_device(name: str) -> torch.device:
    """The device of a name; `auto` is a GPU if there is one. Torchrun's LOCAL_RANK numbers the GPUs.

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
            f"device is '{name}', and torch finds no GPU here; set device=auto, or run 'frugalclip doctor'."
        )
    local, gpus = os.environ.get("LOCAL_RANK"), torch.cuda.device_count()
    index = device.index if device.index is not None else int(local) if local else torch.cuda.current_device()
    if index >= gpus:
        wanted = (
            f"device is '{name}'"
            if device.index is not None
            else f"process {index} of this machine needs a GPU of its own"
        )
        raise RecipeError(
            f"{wanted}, and there are {gpus}, counted from 0; start at most {gpus} processes a machine, "
            "or set device=cpu."
        )
    return torch.device("cuda", index)


@contextlib.contextmanager
def kept_threads() -> Iterator[None]:
    """Leave torch's number of threads as it was, whatever is set inside."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def without_weights() -> Iterator[None]:
    """Build modules on the meta device: shapes alone, no memory, no draws."""
    with torch.device("meta"), _NoDraws():
        yield


_DRAWS = frozenset({torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.random_})


class _NoDraws(TorchFunctionMode):
    """Leaves tensors of the meta device undrawn; torch imports its compiler for a draw there, in a second."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWS or getattr(func, "__module__", None) == "torch.nn.init":
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)
