"""The recipes of the package with purpose, status and cost, read without building one."""

import json
from dataclasses import dataclass
from importlib import resources

SAMPLES = 16_000  # of the run that the minutes are given for


@dataclass(frozen=True)
class RecipeCost:
    """What a recipe costs. Counts are those of `frugalclip plan`; the ratio and the minutes are measured."""

    image_passes: int  # with gradient, of a step
    text_passes: int
    passes_without_gradient: int
    parameters: int
    gflops_per_sample: float  # forward and backward of every pass
    step_ratio: float | None  # a training step over one of `clip`, same towers and batch
    minutes: float | None  # of 16,000 samples on one CPU thread
    epochs: float | None  # length of the recipe; None where it is given in samples or steps

    def minutes_for(self, pairs: int) -> float | None:
        """Minutes on one CPU thread of the whole run on so many pairs; None where they were not measured."""
        if self.minutes is None or self.epochs is None:
            return None
        return self.minutes * pairs * self.epochs / SAMPLES


@dataclass(frozen=True)
class RecipeEntry:
    """One recipe of the package."""

    name: str
    purpose: str
    status: str  # proven, experimental, not run here
    cost: RecipeCost


def recipe_entries() -> list[RecipeEntry]:
    """Every recipe of the package.

    Returns:
        The recipes that were run here first, then those in the papers' sizes; by name.
    """
    content = json.loads((resources.files("frugalclip") / "recipes" / "reference.json").read_text("utf-8"))
    found = [
        RecipeEntry(name, one["purpose"], one["status"], RecipeCost(**one["cost"]))
        for name, one in content["recipes"].items()
    ]
    return sorted(found, key=lambda entry: (entry.status == "not run here", entry.name))
