"""Checkpoints: all that a run needs to go on exactly where it stopped, in safetensors and JSON only.

A checkpoint is a folder that appears whole or not at all. `model.*` and the tokenizer's files make it a model
that `load` reads; the rest is for resuming: objectives, optimiser moments, random states and counters.
"""

import contextlib
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from frugalclip.core.errors import ModelError
from frugalclip.core.records import RunDirectory, publish_folder, read_json, write_atomically, write_json
from frugalclip.models import Model
from frugalclip.towers.dual import DualEncoder
from frugalclip.training.parallel import full_state
from frugalclip.training.stage import Stage

FORMAT = 2  # 2: stages


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Optimiser state as named tensors: `<parameter>/<entry>`."""
    tensors: dict[str, Tensor] = {}
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            for entry, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{name}/{entry}"] = torch.as_tensor(value).detach().cpu().contiguous()
    return tensors


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave; the groups come from the recipe.

    Raises:
        ModelError: if the state belongs to other parameters.
    """
    entries: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, entry = key.rpartition("/")
        entries.setdefault(name, {})[entry] = value
    named = {
        name: p
        for group in optimizer.param_groups
        for name, p in zip(group["names"], group["params"], strict=True)
    }
    if unknown := sorted(entries.keys() - named.keys()):
        raise ModelError(
            f"the checkpoint has optimiser state of '{unknown[0]}', which this recipe does not train; resume "
            "with the run's own recipe."
        )
    is_fused = {
        name: bool(group.get("fused") or group.get("capturable"))
        for group in optimizer.param_groups
        for name in group["names"]
    }
    for name, state in entries.items():
        parameter = named[name]
        # moments and the step of a fused update lie where the parameter does, other steps on the CPU
        counts_on = (
            parameter.device if parameter.device.type != "cpu" and is_fused[name] else torch.device("cpu")
        )
        optimizer.state[parameter] = {
            k: v.to(counts_on if k == "step" else parameter.device, copy=True) for k, v in state.items()
        }


def random_state() -> dict[str, Tensor]:
    """The states of the sequential generators."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_random(states: dict[str, Tensor]) -> None:
    """Put back what `random_state` gave, each state (bytes,) uint8."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def save_checkpoint(
    run: RunDirectory,
    step: int,
    *,
    model: Model,
    stage: Stage,
    state: dict[str, Any],
    keep: int,
) -> Path:
    """Write `checkpoints/step-N` and remove all but the newest `keep`.

    Args:
        run: the run directory.
        step: steps done.
        model: what `load` finds.
        stage: its objectives (heads, queues, moving averages), teachers and optimiser moments are saved.
        state: counters, as JSON.
        keep: complete checkpoints to leave, at least 1.

    Returns:
        The new folder.
    """
    target = run.checkpoint(step)
    with publish_folder(target) as building:
        model.save(building)
        for name, tensors in (
            ("objectives", full_state(stage.module.objectives)),
            ("teachers", full_state(stage.saved_teachers())),
            ("gates", {} if stage.module.gates is None else full_state(stage.module.gates)),
            ("optimizer", optimizer_tensors(stage.optimizer)),
            ("random", random_state()),
        ):
            write_atomically(building / f"{name}.safetensors", save(tensors))
        write_json(
            building / "state.json", {"format": FORMAT, "step": step, "stage": stage.number + 1, **state}
        )
    for old in run.steps_saved()[:-keep]:
        shutil.rmtree(run.checkpoint(old), ignore_errors=True)
    for stale in run.checkpoints.glob(".step-*.building"):
        with contextlib.suppress(OSError):
            shutil.rmtree(stale)
    return target


def read_state(folder: Path) -> dict[str, Any]:
    """The counters of a checkpoint: step, stage (from 1) and what `save_checkpoint` was given.

    Raises:
        ModelError: if another version of this package wrote it.
    """
    state = read_json(folder / "state.json")
    if state.get("format") != FORMAT:
        raise ModelError(
            f"{folder} has format {state.get('format')}, this version resumes {FORMAT}; finish the run with "
            "the version that began it."
        )
    return state


def restore_checkpoint(folder: Path, stage: Stage) -> dict[str, Any]:
    """Put a stage back to where the checkpoint was written.

    Returns:
        The counters that `save_checkpoint` was given.

    Raises:
        ModelError: if the checkpoint is damaged, or another recipe's.
    """
    state = read_state(folder)
    _check_backbones(folder, stage.network)
    teachers = stage.saved_teachers()
    try:
        stage.network.load_state_dict(load_file(folder / "model.safetensors"))
        stage.module.objectives.load_state_dict(load_file(folder / "objectives.safetensors"))
        if teachers.state_dict():
            teachers.load_state_dict(load_file(folder / "teachers.safetensors"))
        if stage.module.gates is not None:
            stage.module.gates.load_state_dict(load_file(folder / "gates.safetensors"))
        restore_optimizer(stage.optimizer, load_file(folder / "optimizer.safetensors"))
        restore_random(load_file(folder / "random.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(
            f"{folder} cannot be resumed ({str(error).splitlines()[0]}); delete it to fall back to the one "
            "before."
        ) from error
    return state


def _check_backbones(folder: Path, network: DualEncoder) -> None:
    """Refuse frozen backbones whose files have changed: the checkpoint does not hold their weights."""
    then, now = (
        content.get("backbones", {})
        for content in (read_json(folder / "model.json")["architecture"], network.architecture())
    )
    for side in sorted(then):
        if then[side] != now.get(side):
            source = (
                network.pretrained_towers()[side].config.source
                if side in network.pretrained_towers()
                else "no backbone"
            )
            raise ModelError(
                f"{folder} was trained on {side} backbone {then[side]}, and {source} is {now.get(side)}; "
                "restore its files, or train anew."
            )
