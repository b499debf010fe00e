"""The recipe to start with, by the number of pairs, and the measurement behind that advice.

README, `data check`, `recipes`, `plan` and `train` name recipes by this table and by no other.
"""

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frugalclip.backbones.packages import PACKAGES
from frugalclip.core.users_text import command_line
from frugalclip.training.catalogue import recipe_entries

if TYPE_CHECKING:  # `data check` does not wait for torch
    from frugalclip.training.recipe import Recipe

PRETRAINED = "pretrained"  # the recipe over frozen backbones
PARTS = ("efficientnet-lite0", "minilm", "e5")  # packaged backbones that it reads
READERS = ("timm", "transformers")  # what reads them
BY_NAME = "hf:openai/clip-vit-base-patch32"  # not measured here
LEAST_PAIRS = 250  # the smallest data set that was measured (results/few_pairs.json)


@dataclass(frozen=True)
class Recommendation:
    """What to start with, up to some number of pairs."""

    up_to: float  # pairs
    scratch: str  # recipe where nothing pretrained may be used
    pretrained: str | None  # recipe where it may; None where the published recipes are the place to start
    evidence: str
    records: tuple[str, ...]  # files in results/

    @property
    def size(self) -> str:
        """The sizes it is for, in words."""
        return "more" if math.isinf(self.up_to) else f"up to {self.up_to:,.0f}"


TABLE = (
    Recommendation(
        10_000,
        "frugal",
        PRETRAINED,
        "on 3,038 emoji `frugal` names 6.6 % of unseen concepts, CLIP with transformers 3.7 %, "
        "`pretrained` 26.1 %",
        ("emoji.json", "pretrained.json", "few_pairs.json"),
    ),
    Recommendation(
        500_000,
        "clip",
        PRETRAINED,
        "on 50,000 scenes `clip` finds 18.6 % after 256,000 samples, copying 1.4 %; `pretrained` was not "
        "measured beyond 3,038 pairs",
        ("scenes-long.json",),
    ),
    Recommendation(5e6, "clip-cc3m", None, "published settings of that size, not run here", ()),
    Recommendation(math.inf, "clip-cc12m", None, "published settings of that size, not run here", ()),
)


def recommend(pairs: int) -> Recommendation:
    """The row of the table for so many training pairs."""
    return next(row for row in TABLE if pairs <= row.up_to)


def has_pretrained_parts() -> bool:
    """Whether everything that the recipe `pretrained` reads is installed."""
    modules = [*(PACKAGES[name].module for name in PARTS), *READERS]
    return all(importlib.util.find_spec(module) is not None for module in modules)


def first_recipe(pairs: int) -> str:
    """The recipe to start with here: the pretrained one where its parts are installed."""
    row = recommend(pairs)
    return row.pretrained if row.pretrained and has_pretrained_parts() else row.scratch


def train_command(path: object, pairs: int) -> str:
    """The command that trains on a data set of so many pairs."""
    return command_line("train", first_recipe(pairs), f"data={path}", "--out", "runs/first")


def advice(pairs: int) -> Iterator[str]:
    """What to start with for so many pairs, a sentence each."""
    row = recommend(pairs)
    scratch = f"{row.scratch} from scratch{_duration(row.scratch, pairs)}"
    if row.pretrained is None:
        yield f"For {pairs:,} pairs: {scratch}."
    else:
        parts = "" if has_pretrained_parts() else "; make frozen installs them"
        yield (
            f"For {pairs:,} pairs a pretrained model comes first: {row.pretrained} over frozen backbones "
            f"(one pass over the pictures, then seconds{parts}), or a CLIP as MODEL, such as {BY_NAME}, "
            f"which 'frugalclip finetune' trains further. Second: {scratch}."
        )
    if pairs < LEAST_PAIRS:
        yield f"Nothing was measured below {LEAST_PAIRS} pairs: expect little from training on {pairs:,}."


def warning(recipe: "Recipe", pairs: int) -> str | None:
    """Why another recipe suits so many pairs better, or None.

    It concerns vision transformers that are trained from scratch on fewer pairs than they need.
    """
    row = recommend(pairs)
    is_scratch = recipe.init_from is None and not recipe.model.pretrained_towers()
    if not is_scratch or recipe.model.image.kind != "vit" or pairs > TABLE[0].up_to:
        return None
    alternatives = " or ".join(name for name in (row.scratch, row.pretrained) if name)
    return (
        f"a vision transformer from scratch learns little from {pairs:,} pairs; start with {alternatives} "
        f"({row.evidence.replace('`', '')})"
    )


def _duration(recipe: str, pairs: int) -> str:
    """Minutes on one thread, in brackets; empty where they were not measured."""
    cost = next(entry.cost for entry in recipe_entries() if entry.name == recipe)
    minutes = cost.minutes_for(pairs)
    return "" if minutes is None else f" (about {max(1, round(minutes)):,} min on one CPU thread)"
