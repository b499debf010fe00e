"""The features of finished runs: eleven linear probes (DeCLIP's claim), and clusters of images (ProtoCLIP's).

Only probes are trained, on the packs in FRUGALCLIP_PACKS (suite `packs`). Clusters are k-means on emoji
against their subcategories (adjusted Rand index and mutual information, percent). Runs of signals.py are
clustered on the images of the held-out style. Runs of scenes_long.py saw emoji in scenes only and are
clustered on all. Expected before the runs: DeCLIP and SimCLR better on most probes than CLIP with their
views; ProtoCLIP with the tighter clusters. Runs without a model are left out.
Run: FRUGALCLIP_PACKS=... python benchmarks/representations.py [--seeds 3] [--probed 3], after signals.py or
scenes_long.py
"""

import os
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from _common import emoji_data, options
from torch import Tensor

from frugalclip.core.numerics import softmax_regression
from frugalclip.core.records import RunDirectory, environment, read_json, write_json
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.classifiers import ClassifierScores, Examples, choose_strength, classify
from frugalclip.evaluation.encoding import image_features
from frugalclip.evaluation.labelled import LabelledRows
from frugalclip.evaluation.probes import ClassifierPredictions
from frugalclip.evaluation.suite import load_suite, open_packs
from frugalclip.models import Model, load
from frugalclip.sources.open import open_data
from frugalclip.verbs.evaluate import evaluate

RUNS = Path(__file__).resolve().parents[1] / "runs"
PROBED: dict[str, dict[str, str]] = {  # folder of runs: arm, and what it is compared with
    "signals": {"declip": "clip-moco", "slip-two": "clip-two"},
    "scenes-long": {
        "declip": "clip-one",
        "clip-two": "clip-one",
        "slip": "clip-one",
        "protoclip": "clip-one",
    },
}
GROUPED: dict[str, dict[str, str]] = {
    "signals": {
        "protoclip": "clip-proto",
        "protoclip-plain": "clip-proto",
        "protoclip-teacher": "clip-proto",
    },
    "scenes-long": {"protoclip": "clip-one", "declip": "clip-one"},
}
DRAWS = 2_000
Measured = dict[tuple[str, int], dict[str, float]]  # (style, seed) -> metrics
Tests = list[
    tuple[Manifest, np.ndarray, dict[str, LabelledRows]]
]  # of each pack: the pictures, their rows, and its tests


def coarse_probe(
    train: Examples, validation: Examples, features: Tensor, *, classes: int
) -> ClassifierScores:
    """The linear probe of `frugalclip evaluate` with its strength to a decade, in a fifth of the time."""
    strength, both = (choose_strength([(train, validation)], classes=classes, finest=1), train + validation)
    fit = softmax_regression(
        both.features, both.labels, strength=strength, classes=classes, steps=200, tolerance=1e-4
    )
    return ClassifierScores(fit.logits(features), {"strength": strength})


def read_tests() -> Tests:
    """The eleven tests, opened once for all models."""
    packs, missing = open_packs(load_suite(), Path(os.environ["FRUGALCLIP_PACKS"]))
    assert not missing, missing
    rows = [np.unique(np.concatenate([one.rows for one in pack.tasks.values()])) for pack in packs]
    return [(pack.data.take(own), own, pack.tasks) for pack, own in zip(packs, rows, strict=True)]


def probes(model: Model, tests: Tests) -> dict[str, float]:
    """Mean over classes of the share named right in each test, percent."""
    found = {}
    for images, rows, tasks in tests:
        features, places = image_features(model, images, np.arange(len(images)), layer="pooled")[:2]
        assert len(places) == len(images), "packs hold no broken pictures"
        for name, labelled in tasks.items():
            own = features[torch.from_numpy(np.searchsorted(rows, labelled.rows))]
            scores = classify(coarse_probe, own, labelled)[0]
            evaluated = images.take(np.searchsorted(rows, labelled.rows[labelled.test]))
            found[name] = ClassifierPredictions.of(scores, labelled, evaluated).metrics()["mean_per_class"]
    return found


def groups(model: Model, style: str) -> dict[str, float]:
    """Agreement of k-means with the subcategories of a style's pictures, or of all styles', percent."""
    images = open_data(emoji_data()).where(
        "is_flag=false" if style == "all" else f"style={style},is_flag=false"
    )
    metrics = evaluate(model, data=images, task="grouping", label_field="subcategory")["metrics"]
    return {name: metrics[name] for name in ("ari", "ami")}


def kept(
    path: Path, measure: Callable[[Model, str], dict[str, float]], run: Path, style: str
) -> dict[str, float]:
    """What was measured, from its file where that was done before."""
    if not path.is_file():
        write_json(path, measure(load(run), style))
    print(
        path.relative_to(RUNS), {name: round(value, 1) for name, value in read_json(path).items()}, flush=True
    )
    return read_json(path)


def interval(differences: list[float], *, seed: int = 0) -> tuple[float, float]:
    """95 % of the mean by bootstrap over paired runs."""
    draws = np.random.default_rng(seed).choice(np.asarray(differences), size=(DRAWS, len(differences)))
    low, high = np.percentile(draws.mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def pairs(found: dict[str, Measured], requested: dict[str, str]) -> dict[str, Any]:
    """Arms beside their references, run by run of one seed and style."""
    rows: dict[str, Any] = {}
    for arm, reference in requested.items():
        keys = sorted(found[arm].keys() & found[reference].keys())
        if not keys:
            continue
        rows[arm] = {"reference": reference, "runs": len(keys), "metrics": {}}
        for name in found[arm][keys[0]]:
            values, others = ([found[one][key][name] for key in keys] for one in (arm, reference))
            differences = [a - b for a, b in zip(values, others, strict=True)]
            means = {"value": fmean(values), "reference": fmean(others), "difference": fmean(differences)}
            rows[arm]["metrics"][name] = means | {"interval": interval(differences)}
        better = sum(one["difference"] > 0 for one in rows[arm]["metrics"].values())
        rows[arm]["better_on"], rows[arm]["of"] = better, len(rows[arm]["metrics"])
        print(f"{arm}: better than {reference} on {better} of {rows[arm]['of']}")
    return rows


def measured(
    folder: str, arms: list[str], seeds: int, kind: str, measure: Callable[[Model, str], dict[str, float]]
) -> dict[str, Measured]:
    """What is measured of every finished run whose model is there."""
    found: dict[str, Measured] = {}
    for arm in arms:
        runs = {
            (run.parts[-3], int(run.name.removeprefix("seed-"))): run
            for run in sorted((RUNS / folder / "trials" / arm).glob("*/1/seed-*"))
        }
        there = {
            key: run
            for key, run in runs.items()
            if key[1] < seeds and (run / "trial.json").is_file() and RunDirectory(run).last_checkpoint()
        }
        found[arm] = {key: kept(run / f"{kind}.json", measure, run, key[0]) for key, run in there.items()}
    return found


def main() -> None:
    """Measure the runs and compare them in pairs."""
    chosen = options(__doc__ or "", "../representations", seeds=3, probed=3)
    torch.set_num_threads(1)  # small fits: a second thread costs more than it gives
    tests = read_tests()
    content: dict[str, Any] = {}
    for folder in PROBED:
        if not (RUNS / folder / "trials").is_dir():
            continue
        content[folder] = {}
        for kind, requested, seeds, measure in (
            ("groups", GROUPED[folder], chosen.seeds, groups),
            ("probes", PROBED[folder], chosen.probed, lambda model, _: probes(model, tests)),
        ):
            content[folder][kind] = pairs(
                measured(
                    folder, list(dict.fromkeys([*requested, *requested.values()])), seeds, kind, measure
                ),
                requested,
            )
    write_json(chosen.json, {**content, "environment": environment()})


if __name__ == "__main__":
    main()
