"""What the closing fit of the demo gives on every fold, beside the same run without it and all baselines.

Every style of the sample is held out in turn: the demo's recipe trains on the other two, once per seed, with
and without its last stage. The metric is naming unseen concepts of the held-out style, without flags, on
validation concepts (from which settings were chosen) and on test concepts. `feature_fit` is the same fit with
descriptors alone. Writes results/closing-fit.json.
Run: python benchmarks/closing_fit.py [--seeds 1]
"""

import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

from _common import HERE, options

import frugalclip
from frugalclip.core.records import environment, read_json, write_json
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.zeroshot import evaluate_zeroshot
from frugalclip.sources.open import open_data
from frugalclip.verbs.train import train

STYLES = ("noto", "openmoji", "twemoji")
RESULT = HERE.parent / "results" / "closing-fit.json"
ARMS: dict[str, list[str]] = {"closing fit": [], "contrast alone": ["stages=null"]}


def measured(arm: str, held_out: str, seed: int, everything: Manifest, folder: Path) -> dict[str, Any]:
    """Metrics of one run on the validation and test concepts of the style that was held out."""
    others = "|".join(style for style in STYLES if style != held_out)
    words = [
        f"data.where=split=train,style={others}",
        f"data.validation=split=val,style={others},is_flag=false",
        "evaluation.points=1",
        f"seed={seed}",
    ]
    run = folder / f"{arm}-{held_out}-{seed}"
    train("demo", [*words, *ARMS[arm]], out=run)
    model = frugalclip.load(run)
    training = everything.where(f"split=train,style={others}")
    found: dict[str, Any] = {"arm": arm, "held_out": held_out, "seed": seed}
    for split in ("val", "test"):
        rows = everything.where(f"split={split},style={held_out},is_flag=false")
        result = evaluate_zeroshot(model, rows, label_field="name", group="family", training=training)
        found[split] = {
            "top1": result["metrics"]["top1"],
            "top5": result["metrics"]["top5"],
            "baselines": {name: one["top1"] for name, one in result["baselines"].items()},
            "compared": result["compared"],
        }
    return found


def main() -> None:
    chosen = options(__doc__ or "", "closing-fit", seeds=1)
    known = read_json(RESULT)["runs"] if RESULT.is_file() else []
    done = {(one["arm"], one["held_out"], one["seed"]) for one in known}
    everything = open_data("sample").where("pack=emoji")
    runs = list(known)
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(chosen.seeds):
            for held_out in STYLES:
                for arm in ARMS:
                    if (arm, held_out, seed) not in done:
                        runs.append(measured(arm, held_out, seed, everything, Path(folder)))
                        write_json(RESULT, {"runs": runs, "environment": environment()})
    for split in ("val", "test"):
        print(f"{split}: top 1 of unseen concepts in the style held out, mean over {', '.join(STYLES)}")
        for arm in ARMS:
            print(f"  {arm:15} {fmean(one[split]['top1'] for one in runs if one['arm'] == arm):5.1f}")
        for name in runs[0][split]["baselines"]:
            print(f"  {name:15} {fmean(one[split]['baselines'][name] for one in runs):5.1f}")


if __name__ == "__main__":
    main()
