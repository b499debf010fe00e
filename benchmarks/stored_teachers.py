"""Claim: a stored teacher costs next to nothing, and gates on a whole model little.

A step with stored teachers is compared with one of the same student without a teacher; the step with the
teacher itself stands beside it. The stage of tinyclip-auto that learns gates is compared with a plain step of
the whole model, its teacher stored. A step is teachers, towers, objectives, backward pass and optimiser.
Making the views is measured beside it: stored augmentations cost what any other view costs.
Run: python benchmarks/stored_teachers.py [--batch 128]
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _common import in_turn, medians, options, record

from frugalclip.core.records import RunDirectory
from frugalclip.core.types import Batch
from frugalclip.core.yaml_text import dump_yaml
from frugalclip.data.manifest import Manifest
from frugalclip.sources.open import open_data
from frugalclip.training.recipe import load_recipe
from frugalclip.training.run import open_run
from frugalclip.verbs.embed import embed

WHERE = "split=train,pack=clipart"
VIEW = {"crop_scale": [0.9, 1]}
STORED, MASKED = 1.1, 1.15  # at most, of a plain step


def recipes(folder: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Arm -> the recipe that it extends, and its settings."""

    def learning(*teachers: str) -> dict[str, Any]:
        return {
            "objectives": {"contrastive": None, "affinity": {"teachers": list(teachers)}},
            "teachers": {name: {"from": str(folder / name)} for name in teachers},
        }

    whole = {"init_from": str(folder / "model"), "teachers": {"teacher": {"from": str(folder / "store")}}}
    return {
        "plain": ("clip", {}),
        "stored": ("clip", learning("store")),
        "two stored": ("clip", learning("store", "other")),
        "online": ("clip", learning("model")),
        "gates, stored": ("tinyclip-auto", whole),
    }


class Arm:
    """One recipe, a step at a time."""

    def __init__(self, name: str, data: Manifest, folder: Path, *, batch: int) -> None:
        base, settings = recipes(folder)[name]
        path = folder / f"{name.replace(', ', '-').replace(' ', '-')}.yaml"
        path.write_text(dump_yaml({"extends": base, "views": {"main": VIEW}} | settings))
        length = ["epochs=null", "samples=1000000", f"batch={batch}"]
        words = ["data=sample", f"data.where={WHERE}", "data.validation=none", *length]
        self.run = open_run(load_recipe(str(path), words), data, RunDirectory(folder / f"run-{path.stem}"))
        self.batches = self.run.inputs.loader.batches(0)
        self.batch: Batch = next(self.batches)

    def compute(self) -> None:
        """A step on the batch at hand."""
        self.run.stage.update(self.batch, step=0)

    def views(self) -> None:
        """Make the next batch."""
        self.batch = next(self.batches)


def teachers(data: Manifest, folder: Path, *, augmentations: int) -> dict[str, float]:
    """A model with weights as drawn, a store of it and the same once more; what one takes."""
    words = ["data=sample", f"data.where={WHERE}", "data.validation=none", "epochs=null", "samples=256"]
    run = open_run(load_recipe("clip", words), data, RunDirectory(folder / "start"))
    run.model.save(folder / "model")
    given = {"where": WHERE, "augmentations": augmentations, "view": VIEW}
    store = embed(folder / "model", "sample", out=folder / "store", **given).store
    shutil.copytree(folder / "store", folder / "other")
    size = sum(file.stat().st_size for file in (folder / "store").rglob("*") if file.is_file())
    return {"rows": len(store), "bytes_a_row": size / len(store)}


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__ or "", "stored-teachers", batch=128, repeats=7, augmentations=2)
    torch.set_num_threads(1)
    data = open_data("sample")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        store = teachers(data, folder, augmentations=chosen.augmentations)
        arms = {name: Arm(name, data, folder, batch=chosen.batch) for name in recipes(folder)}
        runs: dict[str, Callable[[], object]] = {}
        for name, arm in arms.items():
            runs[f"{name} views"] = arm.views
            runs[name] = arm.compute
        seconds = in_turn(runs, repeats=chosen.repeats)
    median = medians(seconds)
    step = {name: median[name] for name in arms}
    whole = {name: step[name] + median[f"{name} views"] for name in arms}
    for name in arms:
        print(
            f"{name:14} {step[name] / step['plain']:5.2f} x a plain step, with views "
            f"{whole[name] / whole['plain']:5.2f} x; {chosen.batch / whole[name]:5.0f} samples/s"
        )
    limits = {"stored": STORED, "two stored": STORED, "gates, stored": MASKED}
    goals = [
        (f"{name}: a step over a plain step of the same towers", step[name] / step["plain"], limit, "at most")
        for name, limit in limits.items()
    ]
    content = {"batch": chosen.batch, "store": store, "seconds": step, "with_views": whole}
    record(chosen.json, {**content, "all_seconds": seconds}, goals)


if __name__ == "__main__":
    main()
