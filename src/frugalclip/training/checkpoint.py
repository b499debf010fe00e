"""Checkpoints: all that a run needs to go on exactly where it stopped, in safetensors and JSON only.

A checkpoint is a folder that appears whole or not at all. `model.*` and the tokenizer's files make it a model
that `load` reads; the rest is for resuming: objectives, optimiser moments, random states and counters.
"""

import contextlib
import shutil
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors.torch import save
from torch import Tensor

from frugalclip.core.checksums import verify_checksums, write_checksums
from frugalclip.core.errors import ModelError, shortened
from frugalclip.core.records import RunDirectory, publish_folder, write_atomically, write_json
from frugalclip.core.stored import StoredRecord, read_object, typed
from frugalclip.models import FILES, Model, read_description
from frugalclip.towers.dual import DualEncoder
from frugalclip.training.guard import GuardState
from frugalclip.training.parallel import full_state
from frugalclip.training.restoring import (
    ADVICE,
    read_tensors,
    refuse_others,
    restore_module,
    restore_optimizer,
    restore_random,
)
from frugalclip.training.stage import Stage

FORMAT = 5  # 2: stages; 3: checksums; 4: fingerprints of teachers; 5: start of decay, guard
STATE = "state.json"
PARTS = tuple(
    f"{name}.safetensors" for name in ("objectives", "teachers", "gates", "optimizer", "random", "start")
)


class CheckpointState(StoredRecord):
    """The counters of a run: the content of `state.json`."""

    format: Literal[5] = FORMAT
    step: int = Field(ge=0, description="steps done")
    stage: int = Field(ge=1, description="from 1")
    steps: int = Field(ge=1, description="of the run")
    samples_seen: int = Field(ge=0)
    seconds: float = Field(ge=0)
    cpu_seconds: float = Field(ge=0)
    joules: float | None = Field(None, description="of the processor packages; null where not readable")
    data: str = Field(description="fingerprint of the training rows")
    teachers: dict[str, str] = Field(description="fingerprints of the stage's teachers that do not change")
    advice_given: list[str]
    guard: GuardState | None = Field(None, description="of a run that watches a guard")


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Optimiser state as named tensors: `<parameter>/<entry>`."""
    tensors: dict[str, Tensor] = {}
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            for entry, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{name}/{entry}"] = torch.as_tensor(value).detach().cpu().contiguous()
    return tensors


def random_state() -> dict[str, Tensor]:
    """The states of the sequential generators."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def save_checkpoint(
    run: RunDirectory, state: CheckpointState, *, model: Model, stage: Stage, keep: int
) -> Path:
    """Write `checkpoints/step-N` and remove all but the newest `keep`.

    Args:
        run: the run directory.
        state: the run's counters.
        model: what `load` finds.
        stage: its objectives (heads, queues, moving averages), teachers and optimiser moments are saved.
        keep: complete checkpoints to leave, at least 1.

    Returns:
        The new folder.
    """
    target = run.checkpoint(state.step)
    contents = (
        full_state(stage.module.objectives),
        full_state(stage.saved_teachers()),
        {} if stage.module.gates is None else full_state(stage.module.gates),
        optimizer_tensors(stage.optimizer),
        random_state(),
        stage.start,
    )
    with publish_folder(target) as building:
        model.save(building)
        for name, tensors in zip(PARTS, contents, strict=True):
            write_atomically(building / name, save(tensors))
        write_json(building / STATE, state.model_dump())
        write_checksums(building, [*PARTS, STATE])
    for old in run.steps_saved()[:-keep]:
        shutil.rmtree(run.checkpoint(old), ignore_errors=True)
    for stale in run.checkpoints.glob(".step-*.building"):
        with contextlib.suppress(OSError):
            shutil.rmtree(stale)
    return target


def read_state(folder: Path, *, stages: int) -> CheckpointState:
    """The counters of a checkpoint whose files are all as they were written.

    Args:
        folder: of the checkpoint.
        stages: of the run.

    Raises:
        ModelError: if it is damaged, or another version of this package wrote it.
    """
    if not (folder / STATE).is_file():
        raise ModelError(f"{folder} holds no {STATE}; {ADVICE}.")
    content = read_object(folder / STATE, advice=ADVICE)
    if content.get("format") != FORMAT:
        raise ModelError(
            f"{folder} has format {shortened(content.get('format'), 40)}, this version resumes {FORMAT}; "
            "finish the run with the version that began it."
        )
    state = typed(content, CheckpointState, path=folder / STATE, advice=ADVICE)
    if state.step > state.steps or state.stage > stages or folder.name != f"step-{state.step}":
        raise ModelError(
            f"{folder / STATE} has step {state.step:,} of {state.steps:,} in stage {state.stage:,} of "
            f"{stages:,}, which is no place of this run; {ADVICE}."
        )
    verify_checksums(folder, [*FILES, *PARTS, STATE])
    return state


def restore_checkpoint(folder: Path, stage: Stage) -> None:
    """Put a stage back to where the checkpoint was written; `read_state` comes first.

    Raises:
        ModelError: if the checkpoint is another recipe's.
    """
    _check_backbones(folder, stage.network)
    teachers = stage.saved_teachers()
    restore_module(stage.network, folder / "model.safetensors")
    restore_module(stage.module.objectives, folder / "objectives.safetensors")
    if teachers.state_dict():
        restore_module(teachers, folder / "teachers.safetensors")
    if stage.module.gates is not None:
        restore_module(stage.module.gates, folder / "gates.safetensors")
    restore_optimizer(stage.optimizer, folder / "optimizer.safetensors")
    if stage.start:
        start = read_tensors(folder / "start.safetensors")
        refuse_others(start, stage.start, file=folder / "start.safetensors")
        for name, tensor in start.items():
            stage.start[name].copy_(tensor)
    restore_random(folder / "random.safetensors")


def _check_backbones(folder: Path, network: DualEncoder) -> None:
    """Refuse frozen backbones whose files have changed: the checkpoint does not hold their weights."""
    then, now = (
        architecture.get("backbones", {})
        for architecture in (read_description(folder).architecture, network.architecture())
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
