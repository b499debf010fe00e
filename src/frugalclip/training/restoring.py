"""What a checkpoint holds is compared with what the run expects, before a byte of it is used.

A tensor of another shape or type would not always be an error: a fused optimiser reads it as if it fitted,
beyond its end.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from frugalclip.core.errors import ModelError, shortened
from frugalclip.core.finite import refuse_weights
from frugalclip.core.guard import reading

ADVICE = "delete this checkpoint to fall back to the one before, or resume with the run's own recipe"
MOMENTS = ("exp_avg", "exp_avg_sq")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a file of a checkpoint.

    Raises:
        ModelError: for a file that is missing or not whole.
    """
    with reading(file, advice=ADVICE, error=ModelError):
        return load_file(file)


def restore_module(module: nn.Module, file: Path) -> None:
    """Fill parameters and buffers of a module.

    Raises:
        ModelError: for another name, shape or type of a tensor, or a value that is not finite.
    """
    tensors = read_tensors(file)
    refuse_others(tensors, module.state_dict(), file=file)
    module.load_state_dict(tensors)


def refuse_others(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, file: Path) -> None:
    """Refuse tensors that are not those expected by name, shape and type, or are not finite.

    Raises:
        ModelError: naming the file and the first tensor.
    """
    for names, word in ((expected.keys() - found.keys(), "lacks"), (found.keys() - expected.keys(), "has")):
        if names:
            only = "" if word == "lacks" else ", which this run does not have"
            raise ModelError(f"{file} {word} '{shortened(min(names))}'{only}; {ADVICE}.")
    for name, tensor in found.items():
        _refuse_other(name, tensor, expected[name], file=file)
    refuse_weights(found, where=str(file), advice=ADVICE)


def restore_optimizer(optimizer: torch.optim.Optimizer, file: Path) -> None:
    """Put back the moments that `checkpoint.optimizer_tensors` gave; the groups come from the recipe.

    Raises:
        ModelError: if they belong to other parameters, or are not what AdamW keeps of them.
    """
    entries: dict[str, dict[str, Tensor]] = {}
    for key, value in read_tensors(file).items():
        name, _, entry = key.rpartition("/")
        entries.setdefault(name, {})[entry] = value
    parameters = dict(_named(optimizer))
    if unknown := sorted(entries.keys() - parameters.keys()):
        raise ModelError(f"{file} has moments of '{shortened(unknown[0])}', which is not trained; {ADVICE}.")
    for name, state in entries.items():
        _refuse_other_moments(name, state, parameters[name], file=file)
    is_fused = {
        name: bool(group.get("fused") or group.get("capturable"))
        for group in optimizer.param_groups
        for name in group["names"]
    }
    for name, state in entries.items():
        parameter = parameters[name]
        # moments and the step of a fused update lie where the parameter does, other steps on the CPU
        counts_on = (
            parameter.device if parameter.device.type != "cpu" and is_fused[name] else torch.device("cpu")
        )
        optimizer.state[parameter] = {
            k: v.to(counts_on if k == "step" else parameter.device, copy=True) for k, v in state.items()
        }


def _named(optimizer: torch.optim.Optimizer) -> Iterable[tuple[str, Tensor]]:
    for group in optimizer.param_groups:
        yield from zip(group["names"], group["params"], strict=True)


def _refuse_other_moments(name: str, state: Mapping[str, Tensor], parameter: Tensor, *, file: Path) -> None:
    expected = {"step": torch.zeros((), dtype=torch.float32)} | dict.fromkeys(MOMENTS, parameter)
    named, wanted = (
        {f"{name}/{entry}": tensor for entry, tensor in one.items()} for one in (state, expected)
    )
    refuse_others(named, wanted, file=file)
    steps = float(state["step"])
    if steps < 0 or steps != int(steps) or bool((state["exp_avg_sq"] < 0).any()):
        raise ModelError(f"{file}: the moments of '{shortened(name)}' are those of no update; {ADVICE}.")


def restore_random(file: Path) -> None:
    """Put back the states of the sequential generators, each (bytes,) uint8.

    Raises:
        ModelError: if one is missing, or no state of a generator.
    """
    states = read_tensors(file)
    known = {"cpu": torch.get_rng_state()}
    if "cuda" in states and torch.cuda.is_available():
        known["cuda"] = torch.cuda.get_rng_state()
    refuse_others({name: states[name] for name in states if name in known}, known, file=file)
    with reading(file, advice=ADVICE, error=ModelError):
        torch.set_rng_state(states["cpu"])
        if "cuda" in known:
            torch.cuda.set_rng_state(states["cuda"])


def _refuse_other(name: str, found: Tensor, expected: Tensor, *, file: Path) -> None:
    for what, one, other in (
        ("shape", tuple(found.shape), tuple(expected.shape)),
        ("type", found.dtype, expected.dtype),
    ):
        if one != other:
            raise ModelError(f"{file}: '{shortened(name)}' has the {what} {one}, expected {other}; {ADVICE}.")
