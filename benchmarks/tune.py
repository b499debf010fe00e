"""Tune the arms of the emoji comparison on validation concepts: six settings each, for open_clip too.

Every setting is trained once on each fold (`frugalclip compare --split validation --seeds 1`). The setting
with the best mean of the primary metric, ties broken by top 5, is written to results/tuning.json and belongs
into benchmarks/arms/. Test concepts are not used.
Run: FRUGALCLIP_PACKS=... python benchmarks/tune.py [--samples 8000] [--jobs 2]
"""

import itertools
from pathlib import Path
from typing import Any

import yaml
from _common import options

from frugalclip.core.records import environment, read_json, write_json
from frugalclip.core.yaml_text import read_yaml
from frugalclip.training.recipe import load_recipe
from frugalclip.verbs.compare import compare

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "runs" / "tuning"
MILD, STRONG = (
    {"views.main.crop_scale": [0.9, 1], "views.main.flip": 0},
    {"views.main.crop_scale": [0.6, 1], "views.main.flip": 0.5},
)
WORDS = [
    {"tokenizer.vocabulary": 6000, **MILD},
    {"tokenizer.vocabulary": 6000, **STRONG},
    {"tokenizer.vocabulary": 2048, **STRONG},
]
GRIDS: dict[
    str, list[list[dict[str, Any]]]
] = {  # arm: choices to be made, each of several settings; six combinations an arm
    "plain": [[{"optimizer.lr": 7.5e-4}, {"optimizer.lr": 1.5e-3}], WORDS],
    "siglip": [[{"optimizer.lr": 7.5e-4}, {"optimizer.lr": 1.5e-3}], WORDS],
    "default": [
        [{"optimizer.lr": lr} for lr in (7.5e-4, 1.5e-3, 3e-3)],
        [{"views.main.crop_scale": [least, 1]} for least in (0.6, 0.35)],
    ],
    "open_clip": [
        [{"lr": lr} for lr in (5e-4, 1.5e-3, 3e-3)],
        [{"crop_scale": [least, 1.0]} for least in (0.9, 0.6)],
    ],
}


def variants(arm: str) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """The settings to try: name -> (content of the arm file, what was set)."""
    found = {}
    for number, choices in enumerate(itertools.product(*GRIDS[arm])):
        chosen = {key: value for choice in choices for key, value in choice.items()}
        content = read_yaml(HERE / "arms" / f"{arm}.yaml")
        if "command" in content:
            content["settings"] |= chosen
        else:
            recipe = load_recipe(
                str(HERE / "arms" / f"{arm}.yaml"), [f"{key}={value}" for key, value in chosen.items()]
            )
            content = yaml.safe_load(recipe.to_yaml())
        found[f"{arm}-{number}"] = content, chosen
    return found


def main() -> None:
    """Run the trials that are missing and write the record."""
    chosen = options(__doc__ or "", "../tuning", samples=8_000, jobs=2)
    everything = {name: found for arm in GRIDS for name, found in variants(arm).items()}
    files = []
    for name, (content, _) in everything.items():
        path = OUT / "arms" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content | {"name": name}, sort_keys=False))
        files.append(str(path))
    protocol = HERE / "protocols" / "emoji.yaml"
    compare(
        files,
        out=OUT / "compare",
        seeds=1,
        samples=chosen.samples,
        protocol=protocol,
        split="validation",
        jobs=chosen.jobs,
    )
    found: dict[str, Any] = {}
    for name, (_, what) in everything.items():
        trials = [read_json(path) for path in sorted((OUT / "compare" / "trials" / name).rglob("trial.json"))]
        unseen = [trial["metrics"]["unseen"]["metrics"] for trial in trials]
        found[name] = {"settings": what, "trials": len(trials)} | {
            key: sum(metrics[key] for metrics in unseen) / len(unseen) for key in ("top1", "top5") if unseen
        }
        print(name, found[name])
    best = {
        arm: max(
            (n for n in found if n.rsplit("-", 1)[0] == arm),
            key=lambda n: (found[n]["top1"], found[n]["top5"]),
        )
        for arm in GRIDS
    }
    print("best:", best)
    write_json(
        chosen.json, {"samples": chosen.samples, "best": best, "arms": found, "environment": environment()}
    )


if __name__ == "__main__":
    main()
