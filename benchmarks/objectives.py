"""Claim: what each published sum costs, as a ratio to a step of our own CLIP (64 patches an image).

A step is what a GPU would be busy with: teachers, towers, objectives, backward pass, optimiser, queues and
averages. Making the views is measured beside it, since a CPU has to do that too. An episode of ProtoCLIP is
measured once and shared out over its steps. The sample's pictures and captions go through the trainer that
users run.
Run: python benchmarks/objectives.py [--batch 128]
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _common import in_turn, medians, options, record

from frugalclip.core.records import RunDirectory
from frugalclip.core.types import Batch
from frugalclip.data.manifest import Manifest
from frugalclip.sources.open import open_data
from frugalclip.training.recipe import load_recipe
from frugalclip.training.run import open_run

GOALS = {"declip": 2.3, "aclip": 1.45, "aclip-efficient": 1.15, "protoclip": 1.5, "protoclip, reused": 1.15}
ARMS: dict[str, tuple[str, tuple[str, ...]]] = {  # name: recipe, settings
    "clip": ("clip", ()),
    "declip": ("declip", ()),
    "aclip": ("aclip", ()),
    "aclip-efficient": ("aclip-efficient", ()),
    "protoclip": ("protoclip", ("objectives.prototypes.during=[0,1]",)),
    "protoclip, reused": (
        "protoclip",
        ("objectives.prototypes.during=[0,1]", "objectives.prototypes.features=reuse"),
    ),
    "slip": ("slip", ()),
    "maskclip": ("maskclip", ()),
    "filip": ("filip", ()),
}


class Arm:
    """One recipe, a step at a time."""

    def __init__(self, name: str, data: Manifest, folder: Path, *, batch: int) -> None:
        recipe, settings = ARMS[name]
        own = [
            "data=sample",
            "data.where=split=train,pack=emoji|clipart",
            "data.validation=none",
            f"batch={batch}",
            "samples=1000000",
        ]
        self.run = open_run(
            load_recipe(recipe, [*own, *settings]), data, RunDirectory(folder / name.replace(", ", "-"))
        )
        self.stage = self.run.stage
        self.batches = self.run.inputs.loader.batches(0)
        self.batch: Batch = next(self.batches)
        self.episode = self.episode_seconds()

    def episode_seconds(self) -> float:
        """Seconds of an episode, per step; where features are reused, an epoch is cached before."""
        if not self.stage.episode:
            return 0.0
        if "reuse" in str(getattr(self.run.recipe.objectives["prototypes"], "features", "")):
            for _ in range(self.stage.episode + 1):
                self.batch = next(self.batches)
                self.compute()
        begun = time.process_time()
        self.stage.begin_step(0, batches=self.run.episode)
        seconds = time.process_time() - begun
        return seconds / self.stage.episode

    def compute(self) -> None:
        """A step on the batch at hand."""
        self.stage.update(self.batch, step=0)

    def views(self) -> None:
        """Make the next batch."""
        self.batch = next(self.batches)


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__ or "", "objectives", batch=128, repeats=5)
    torch.set_num_threads(1)
    data = open_data("sample")
    with tempfile.TemporaryDirectory() as folder:
        arms = {name: Arm(name, data, Path(folder), batch=chosen.batch) for name in ARMS}
        runs: dict[str, Callable[[], object]] = {}
        for name, arm in arms.items():
            runs[f"{name} views"] = arm.views
            runs[name] = arm.compute
        seconds = in_turn(runs, repeats=chosen.repeats)
    median = medians(seconds)
    step = {name: median[name] + arm.episode for name, arm in arms.items()}
    whole = {name: step[name] + median[f"{name} views"] for name in arms}
    for name in arms:
        passes = arms[name].stage.module.needs
        print(
            f"{name:18} {step[name] / step['clip']:5.2f} x a CLIP step, with views "
            f"{whole[name] / whole['clip']:5.2f} x; "
            f"{len(passes.images)} image and {len(passes.texts)} text passes; "
            f"{chosen.batch / whole[name]:5.0f} samples/s"
        )
    goals = [
        (f"{name}: a step over a step of CLIP", step[name] / step["clip"], goal, "at most")
        for name, goal in GOALS.items()
    ]
    content = {"batch": chosen.batch, "seconds": step, "with_views": whole, "all_seconds": seconds}
    record(chosen.json, content, goals)


if __name__ == "__main__":
    main()
