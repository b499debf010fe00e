"""The arms of compress.py: students of one teacher, on composed scenes and on emoji.

An arm differs from the others of its size in where its weights come from (drawn, inherited by rule, chosen by
gates), or in what it learns from (pairs, the teacher's affinities, the teacher's embeddings). Students whose
weights are drawn have the sizes of the inherited ones. One arm is the teacher itself, trained for as long as
a student. All take the shipped recipes, with the settings below.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from frugalclip.compression.inherit import Config as Inheritance
from frugalclip.compression.inherit import Inherit
from frugalclip.core.config import merge
from frugalclip.core.preprocess import Preprocess
from frugalclip.models import Model
from frugalclip.towers.dual import DualEncoder
from frugalclip.training.recipe import read_recipe

Start = Literal["random", "inherited", "auto", "staged", "staged-auto", "whole"]
Loss = Literal["infonce", "affinity", "features"]
RATES = (1e-3, 5e-4, 2e-3)  # in the order in which they are tried
OBJECTIVES: dict[Loss, dict[str, Any]] = {
    "infonce": {"affinity": None, "contrastive": {"weight": 1, "positives": "caption"}},
    "affinity": {"contrastive": None, "affinity": {"weight": 1}},
    "features": {"contrastive": None, "affinity": None, "feature_matching": {"weight": 1}},
}
RECIPES: dict[Start, str] = {
    "random": "clip",
    "inherited": "tinyclip-manual",
    "auto": "tinyclip-auto",
    "staged": "tinyclip-staged",
    "staged-auto": "tinyclip-staged-auto",
    "whole": "clip",
}
TOWERS: dict[str, Any] = {
    "tokenizer": {"vocabulary": 2048},
    "model": {
        "image": {"size": "nano", "patch": 8, "resolution": 48},
        "text": {"size": "nano", "attention": "bidirectional", "pool": "mean"},
        "dim": 128,
    },
}
SETTINGS: dict[str, Any] = {"batch": 128, "epochs": None, "threads": 1, "optimizer": {"clip": 5}}


@dataclass(frozen=True)
class Arm:
    """How a student begins, what it learns from, and its share of the teacher's parameters."""

    start: Start
    loss: Loss
    keep: float

    @property
    def name(self) -> str:
        """`50-inherited-affinity`."""
        return f"{100 * self.keep:g}-{self.family}"

    @property
    def family(self) -> str:
        """Arms of a family share a learning rate."""
        return f"{self.start}-{self.loss}"

    @property
    def tuned_as(self) -> str:
        """The family at half the size whose learning rate this arm takes."""
        like: dict[Start, Start] = {"staged": "inherited", "staged-auto": "auto", "whole": "inherited"}
        return f"{like.get(self.start, self.start)}-{self.loss}"


@dataclass(frozen=True)
class Teacher:
    """A trained teacher, and what students read of it."""

    folder: Path  # run directory
    digest: str  # of its weights
    model: Model
    source: Path  # run directory or store with its features of the training data
    views: dict[str, Any]  # of the students


def _arms(keep: float, starts: dict[Loss, list[Start]]) -> list[Arm]:
    return [Arm(start, loss, keep) for loss, listed in starts.items() for start in listed]


HALF = _arms(
    0.5,
    {
        "infonce": ["random", "inherited"],
        "affinity": ["random", "inherited", "auto"],
        "features": ["random"],
    },
)
SMALLER = [
    *_arms(
        0.25,
        {"infonce": ["random"], "affinity": ["random", "inherited", "auto", "staged", "staged-auto"]},
    ),
    *_arms(0.089, {"infonce": ["random"], "affinity": ["inherited"]}),
    Arm("whole", "infonce", 1.0),  # students are trained for longer than their teacher; so is this one
]


def teacher_recipe(*, samples: int, rate: float, views: dict[str, Any]) -> dict[str, Any]:
    """The recipe of a teacher: CLIP of the size `nano`."""
    changes = {"views": views, "samples": samples, "optimizer": {"lr": rate}}
    return merge(merge(read_recipe("clip"), TOWERS | SETTINGS), changes)


def student_recipe(arm: Arm, teacher: Teacher, *, samples: int, rate: float) -> dict[str, Any]:
    """The recipe of an arm, as `frugalclip compress` would resolve it."""
    content = copy.deepcopy(read_recipe(RECIPES[arm.start]))
    content = merge(content, SETTINGS)
    changes: dict[str, Any] = {
        "samples": samples,
        "optimizer": {"lr": rate},
        "views": teacher.views,
        "objectives": OBJECTIVES[arm.loss],
    }
    if arm.loss != "infonce":
        changes["teachers"] = {"teacher": {"from": str(teacher.source)}}
    elif "teachers" in content:
        changes["teachers"] = {"teacher": None}
    if arm.start == "whole":
        changes |= TOWERS
    if arm.start == "random":
        sizes = inherited(teacher.model.network, arm.keep).config.model_dump(mode="json", by_alias=True)
        changes |= {
            "tokenizer": TOWERS["tokenizer"],
            "model": {k: sizes[k] for k in ("image", "text", "dim")},
        }
    if arm.start != "random":
        changes["init_from"] = str(teacher.folder)
    if arm.start == "inherited":
        changes["change"] = {"kind": "inherit", "keep": arm.keep}
    if arm.start == "auto":
        content["stages"][0]["gates"]["keep"] = arm.keep
    return merge(content, changes)


def inherited(network: DualEncoder, keep: float) -> DualEncoder:
    """The student that starts from the first units of a network."""
    change = Inherit(Inheritance(kind="inherit", keep=keep))
    return change(network, gates=None, preprocess=Preprocess(size=network.config.image.resolution))
