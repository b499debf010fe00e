"""How fast recipes and frozen backbones ran on this machine, remembered so that a plan can name minutes.

One small file a measurement lies in the cache folder. Losing them costs nothing but the minutes in a plan.
"""

import contextlib
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from frugalclip.core import distributed
from frugalclip.core.errors import ModelError
from frugalclip.core.records import read_json, write_json
from frugalclip.data.parquet_images import cache_folder
from frugalclip.features.format import canonical, digest
from frugalclip.training.recipe import Recipe

PROBE, RUN = "a probe", "an earlier run"
LEAST_STEPS = 20  # of a run whose speed is remembered; the first steps are slow
_NO_MATTER = {  # settings that do not change how long a step takes
    "name", "description", "source", "run_here", "data", "seed", "epochs", "samples", "steps", "optimizer",
    "schedule", "evaluation", "checkpoints", "log",
}  # fmt: skip


@dataclass(frozen=True)
class Speed:
    """Seconds of one step, or of one sample that a frozen backbone encodes."""

    seconds: float
    origin: str  # a probe, or an earlier run


def step_key(recipe: Recipe, device: torch.device) -> str:
    """What decides how long a step of a recipe takes: its computation, and this machine."""
    content = {k: v for k, v in recipe.model_dump(mode="json").items() if k not in _NO_MATTER}
    return _key("step", content, device, recipe.threads)


def backbone_key(config: Mapping[str, Any], device: torch.device, *, threads: int | None) -> str:
    """What decides how long a frozen backbone takes for a sample.

    Args:
        config: the settings of its tower.
        device: where it computes.
        threads: of the recipe.
    """
    chosen = {name: config.get(name) for name in ("from", "options", "resolution")}
    return _key("backbone", chosen, device, threads)


def remember_speed(key: str, speed: Speed) -> None:
    """Write a measurement; the newest replaces an older one."""
    with contextlib.suppress(OSError):  # a full disk or a read-only home must not end a run
        write_json(cache_folder() / "speeds" / f"{key}.json", asdict(speed))


def remember_run(recipe: Recipe, device: torch.device, *, seconds: float, steps: int) -> None:
    """Remember how long the steps of a finished run took, where they were enough and of one process.

    Args:
        recipe: of the run.
        device: where it computed.
        seconds: of all steps.
        steps: of the run.
    """
    if steps >= LEAST_STEPS and not distributed.is_active():
        remember_speed(step_key(recipe, device), Speed(seconds / steps, RUN))


def known_speed(key: str) -> Speed | None:
    """The last measurement on this machine, or None."""
    path = cache_folder() / "speeds" / f"{key}.json"
    with contextlib.suppress(OSError, ModelError, TypeError):
        speed = Speed(**read_json(path))
        return speed if isinstance(speed.seconds, float) and speed.seconds > 0 else None
    return None


def _key(kind: str, content: Mapping[str, Any], device: torch.device, threads: int | None) -> str:
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    used = threads or torch.get_num_threads()
    machine = {"host": platform.node(), "device": device.type, "gpu": gpu, "threads": used}
    return f"{kind}-{digest(canonical({**content, **machine})).hex()[:16]}"
