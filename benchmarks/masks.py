"""Which patches to keep, at equal tokens: by attention (A-CLIP), at random, or all but a block.

Trained on 50,000 composed scenes of 64 px. Every arm but the first has two views at half of their 64 patches,
as many patches a step as CLIP in its one view. Expected before the runs: attentive above random above block
in retrieval by captions, as A-CLIP reports (41.3 against 38.0 on ImageNet); attention keeps more of the
objects than chance, late in the run at least.

A hit is a patch that an object covers by half or more and that the attention of the trained tower keeps.
Chance is the share of all patches that is kept. Finished trials are not trained again.
Run: FRUGALCLIP_PACKS=... python benchmarks/masks.py [--seeds 3] [--samples 50000] [--jobs 2]
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from _common import compared, emoji_data, options, written

from frugalclip.core.records import write_json
from frugalclip.data.manifest import Manifest
from frugalclip.models import Model, load, readable_images
from frugalclip.objectives.attentive_mask import Config as Selection
from frugalclip.report.kept import kept_patches
from frugalclip.sources.open import open_data
from frugalclip.synthetic.truth import patch_labels, regions
from frugalclip.verbs.data_compose import compose

HERE = Path(__file__).resolve().parent
RUNS = HERE.parent / "runs"
SCENES = 52_000
BASE: dict[str, Any] = {
    "extends": "clip",
    "tokenizer": {"vocabulary": 2048},
    "model": {
        "image": {"size": "nano", "patch": 8, "resolution": 64},
        "text": {"size": "nano", "attention": "bidirectional", "pool": "mean"},
        "dim": 128,
    },
    "batch": 128,
    "epochs": None,
    "samples": 50_000,
    "optimizer": {"lr": 1.5e-3},
}
KEEP = {"keep": 0.5, "block": 2}
TWO = {"images": ["main@kept", "second@kept"], "texts": ["caption"], "positives": "caption"}


def masked(description: str, *, choose: str) -> dict[str, Any]:
    """Two thinned views of a picture, both contrasted with the caption."""
    views: dict[str, Any] = {"main": "aclip", "second": "aclip"}
    if choose == "attentive":
        views["around"] = {"contains": ["main", "second"]}
    selection = {"views": ["main", "second"], "choose": choose, **KEEP}
    return BASE | {
        "description": description,
        "views": views,
        "objectives": {"contrastive": None, "attentive_mask": selection, "multiview": TWO},
        "teachers": {
            "ema": {"from": "ema", "momentum": [0.99, 1]}
        },  # of a run of 390 steps, where A-CLIP's 0.996 would hardly leave the start
    }


ARMS: dict[str, dict[str, Any]] = {
    "whole": BASE | {"description": "CLIP, one view with all patches.", "views": {"main": "aclip"}},
    "random": masked("Half of the patches at random, two views.", choose="random"),
    "block": masked("All but a block, two views.", choose="block"),
    "attentive": masked("The half that a slowly moving copy attends to, two views.", choose="attentive"),
}


def hits(model: Model, scenes: Manifest) -> dict[str, float]:
    """Percent of the patches on objects, and of all patches, that the attention of the tower keeps.

    Args:
        model: with a [CLS] token.
        scenes: with known regions.
    """
    grid, config = model.network.config.image.grid, Selection.model_validate(KEEP)
    on, kept_on, kept, everything, whole, objects = 0, 0, 0, 0, 0, 0
    for rows, images in readable_images(scenes, batch=64, faults=[]):
        is_kept = (
            kept_patches(model, model.preprocess(images), config).flatten(1).numpy()
        )  # (pictures, patches)
        for row, chosen in zip(rows, is_kept, strict=True):
            seen = regions(scenes, row)  # (objects, height, width)
            share = patch_labels(seen, seen.shape[1] // grid[0]).reshape(len(seen), -1)  # (objects, patches)
            covered = share.sum(axis=0) >= 0.5
            on, kept_on = (on + int(covered.sum()), kept_on + int((covered & chosen).sum()))
            kept, everything = kept + int(chosen.sum()), everything + len(chosen)
            visible = share[share.sum(axis=1) > 0]
            objects, whole = (
                objects + len(visible),
                whole + int(((visible * chosen).sum(axis=1) / visible.sum(axis=1) >= 0.75).sum()),
            )
    return {
        "of object patches kept": 100 * kept_on / on,
        "of all patches kept": 100 * kept / everything,
        "objects kept by 3/4": 100 * whole / objects,
    }


def hits_of(folder: Path, arms: Sequence[str], *, seeds: int) -> dict[str, Any]:
    """What attention keeps on the test scenes: mean and runs of each value, by arm."""
    scenes, found = open_data(str(RUNS / "scenes" / "data")).where("split=test"), {}
    for arm in arms:
        runs = sorted((folder / "trials" / arm).glob("*/1/seed-*"))
        each = [hits(load(run), scenes) for run in runs[:seeds]]
        found[arm] = {
            name: {"mean": fmean(one[name] for one in each), "runs": [one[name] for one in each]}
            for name in each[0]
        }
        print(arm, {name: round(entry["mean"], 1) for name, entry in found[arm].items()})
    return found


def main() -> None:
    """Compose, train what is missing, and measure what attention keeps."""
    chosen = options(__doc__ or "", "../masks", seeds=3, samples=50_000, jobs=2)
    place = RUNS / "scenes" / "data"
    compose(emoji_data(), plan=HERE / "protocols" / "scenes_plan.yaml", out=place, scenes=SCENES)
    files = written(ARMS, RUNS / "masks-arms")
    found = compared(
        list(files.values()),
        chosen,
        reference="random",
        samples=chosen.samples,
        protocol=HERE / "protocols" / "scenes.yaml",
        is_record=False,
    )
    found["hits"] = hits_of(RUNS / "masks", ("whole", "random", "attentive"), seeds=chosen.seeds)
    write_json(chosen.json, found)


if __name__ == "__main__":
    main()
