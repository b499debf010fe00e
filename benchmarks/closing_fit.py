"""What the closing fit of the demo gives on every fold, beside the same run without it and all baselines.

Every style of the sample is held out in turn: the demo's recipe trains on the other two, once per seed, with
and without its last stage, and with a single step before it. The metric is naming unseen concepts of the
held-out style, without flags, on validation concepts (from which settings were chosen) and on test concepts.
`feature_fit` is a like fit with descriptors alone. Differences are paired by image; their intervals are over
runs and concept families.
Writes results/closing-fit.json, run by run; the same command resumes, also within a run in runs/closing-fit.
Run: python benchmarks/closing_fit.py [--seeds 3]
"""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from _common import HERE, options

import frugalclip
from frugalclip.comparison.paired import FoldOutcomes, holm, paired, verdict
from frugalclip.core.records import environment, read_json, write_json
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.baselines import Baselines, Scorer
from frugalclip.evaluation.classes import row_names
from frugalclip.evaluation.encoding import encode_texts, image_features
from frugalclip.evaluation.ranking import Scores
from frugalclip.evaluation.zeroshot import ZeroshotTask, pool_ranks, zeroshot_task
from frugalclip.sources.open import open_data
from frugalclip.verbs.train import train

STYLES = ("noto", "openmoji", "twemoji")
SPLITS = ("val", "test")
RUNS = HERE.parent / "runs" / "closing-fit"
RESULT = HERE.parent / "results" / "closing-fit.json"
ARM = "closing fit"
ARMS: dict[str, list[str]] = {
    ARM: [],
    "contrast alone": ["stages=null"],
    "fit, one step": ["samples=128"],  # one step of contrast, one of the fit: the tower has learned nothing
}


class HeldOutStyle:
    """The rows of one fold: two styles to train on, unseen concepts of the third to evaluate."""

    def __init__(self, everything: Manifest, style: str) -> None:
        self.style = style
        self.others = "|".join(other for other in STYLES if other != style)
        self.training = everything.where(f"split=train,style={self.others}")
        self.rows = {
            split: everything.where(f"split={split},style={style},is_flag=false") for split in SPLITS
        }
        self.tasks = {
            split: zeroshot_task(rows, label_field="name", group="family")
            for split, rows in self.rows.items()
        }

    def run(self, arm: str, seed: int, folder: Path) -> dict[str, Any]:
        """Train an arm and evaluate it on both splits."""
        words = [
            f"data.where=split=train,style={self.others}",
            f"data.validation=split=val,style={self.others},is_flag=false",
            "evaluation.points=1",
            "evaluation.baselines=false",  # measured once, beside the runs
            f"seed={seed}",
        ]
        out = folder / f"{arm}-{self.style}-{seed}"
        if not train("demo", [*words, *ARMS[arm]], out=out, resume=True).is_finished:
            raise SystemExit(f"the run in {out} was stopped; the same command goes on with it.")
        model = frugalclip.load(out)
        found: dict[str, Any] = {"arm": arm, "held_out": self.style, "seed": seed}
        for split, task in self.tasks.items():
            images, _, _ = image_features(model, self.rows[split], task.rows)
            found[split] = outcome(task, task.scores(images, encode_texts(model, task.texts)))
        return found

    def baselines(self) -> dict[str, Any]:
        """Split -> baseline -> outcome; a baseline has no seed."""
        baselines, (names, _) = Baselines(self.training), row_names(self.training, label_field="name")
        found: dict[str, Any] = {split: {} for split in SPLITS}
        for split, task in self.tasks.items():

            def measure(
                name: str, scorer: Scorer, rows: np.ndarray, split: str = split, task: ZeroshotTask = task
            ) -> dict[str, float]:
                scores = scorer(task.synonyms)
                found[split][name] = outcome(task, scores)
                return task.metrics_of_scores(scores, rows)

            baselines.measure(self.rows[split], names, measure)
        return found

    def block(self, split: str, hits: Mapping[int, Mapping[str, float]]) -> FoldOutcomes:
        """The outcomes of runs on the images of a split, in percent.

        Args:
            split: val or test.
            hits: seed -> id -> hit.
        """
        rows, ids = self.rows[split], self.tasks[split].ids
        values = [[100 * by.get(name, 0.0) for name in ids] for by in hits.values()]
        groups = np.array([str(family) for family in rows.field("family")])
        return FoldOutcomes(np.array(values), groups, np.ones(len(ids)), np.array(ids), tuple(hits))


def outcome(task: ZeroshotTask, scores: Scores) -> dict[str, Any]:
    """Accuracies on the restricted pool, and id -> hit of the images that are named right.

    Args:
        task: the evaluation.
        scores: gives (rows, classes); equal scores share a hit.
    """
    ranks = pool_ranks(scores, task.labels, classes=len(task.names))[""]
    first = ranks.hits(1).tolist()
    return {
        "top1": round(100 * float(ranks.hits(1).mean()), 6),
        "top5": round(100 * float(ranks.hits(5).mean()), 6),
        "hits": {name: round(hit, 9) for name, hit in zip(task.ids, first, strict=True) if hit},
    }


def summary(record: Mapping[str, Any], folds: list[HeldOutStyle]) -> dict[str, Any]:
    """Means over folds and seeds, and the paired differences of the closing fit to all others.

    Returns:
        split -> `top1`, `top5`: name -> percent, and `tests`: name -> difference in points, its interval, p
        after Holm, and the verdict.
    """
    names = list(next(iter(record["baselines"].values()))["test"])
    found: dict[str, Any] = {}
    for split in SPLITS:
        blocks = {name: _blocks(record, folds, split, name) for name in (*ARMS, *names)}
        differences = {name: paired(blocks[ARM], block) for name, block in blocks.items() if name != ARM}
        ps = holm([difference.p for difference in differences.values()])
        tests = {
            name: {**difference.as_json(), "p_holm": p, "verdict": verdict(difference, p)}
            for (name, difference), p in zip(differences.items(), ps, strict=True)
        }
        means = {metric: _means(record, split, metric, names) for metric in ("top1", "top5")}
        found[split] = {**means, "tests": tests}
    return found


def _blocks(
    record: Mapping[str, Any], folds: list[HeldOutStyle], split: str, name: str
) -> dict[str, FoldOutcomes]:
    """Style -> outcomes of an arm, or of a baseline beside every seed."""
    found = {}
    for fold in folds:
        runs = _runs(record, fold.style, name if name in ARMS else ARM)
        hits = {
            seed: (run[split] if name in ARMS else record["baselines"][fold.style][split][name])["hits"]
            for seed, run in runs.items()
        }
        found[fold.style] = fold.block(split, hits)
    return found


def _runs(record: Mapping[str, Any], style: str, arm: str) -> dict[int, dict[str, Any]]:
    """Seed -> run, in the order of the seeds."""
    runs = [run for run in record["runs"] if (run["held_out"], run["arm"]) == (style, arm)]
    return {run["seed"]: run for run in sorted(runs, key=lambda run: run["seed"])}


def _means(record: Mapping[str, Any], split: str, metric: str, baselines: list[str]) -> dict[str, float]:
    means = {arm: fmean(run[split][metric] for run in record["runs"] if run["arm"] == arm) for arm in ARMS}
    return means | {
        name: fmean(record["baselines"][style][split][name][metric] for style in STYLES) for name in baselines
    }


def show(found: Mapping[str, Any]) -> None:
    """Print the means and the differences."""
    for split, by in found.items():
        print(f"{split}: top 1 of unseen concepts in the style held out, mean over {', '.join(STYLES)}")
        for name, value in by["top1"].items():
            test = by["tests"].get(name)
            against = ""
            if test and test["interval"]:
                low, high = test["interval"]
                against = f"   closing fit {test['value']:+.1f} ({low:.1f} to {high:.1f}), {test['verdict']}"
            print(f"  {name:15} {value:5.1f}{against}")


def main() -> None:
    chosen = options(__doc__ or "", "closing-fit", seeds=3)
    record = read_json(RESULT) if RESULT.is_file() else {"runs": [], "baselines": {}}
    everything = open_data("sample").where("pack=emoji")
    folds = [HeldOutStyle(everything, style) for style in STYLES]
    done = {(run["arm"], run["held_out"], run["seed"]) for run in record["runs"]}
    for seed in range(chosen.seeds):
        for fold in folds:
            if fold.style not in record["baselines"]:
                record["baselines"][fold.style] = fold.baselines()
            for arm in ARMS:
                if (arm, fold.style, seed) not in done:
                    record["runs"].append(fold.run(arm, seed, RUNS))
                    record["environment"] = environment()
                    write_json(RESULT, record)
    record["summary"] = summary(record, folds)
    write_json(RESULT, record)
    show(record["summary"])


if __name__ == "__main__":
    main()
