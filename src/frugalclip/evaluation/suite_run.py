"""Run a suite of named tests on one model: the pictures of a pack are encoded once, whatever the number of tests that read them.

Every test is a linear probe on frozen features, judged by the mean over classes of the share named right. Beside it stand nearest neighbours,
chance, and what copying the nearest learned picture's class reaches without any model.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.errors import DataError
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.baselines import Look
from frugalclip.evaluation.classifiers import classify, linear_probe, nearest, neighbours
from frugalclip.evaluation.groups import find_groups
from frugalclip.evaluation.labelled import Labelled
from frugalclip.evaluation.probes import ProbeResult
from frugalclip.evaluation.protocol import Encoder, Layer, image_features, looked_at_by, looks, stated
from frugalclip.evaluation.statistics import bootstrap, group_codes, percentiles
from frugalclip.evaluation.suite import DEFAULT, Pack, Suite, load_suite, open_packs
from frugalclip.sources.open import open_data

METRIC = "mean_per_class"  # the primary one of every test
MEAN = "mean"  # over tests
Progress = Callable[[str], None]


@dataclass(frozen=True)
class TestResult:
    """One test of a suite."""

    entry: dict[str, Any]  # for the result's `tests`
    drawn: np.ndarray  # (draws,) bootstrap values of the primary metric, in percent


def evaluate_suite(
    model: Encoder,
    *,
    folder: Path | None = None,
    suite: str = DEFAULT,
    layer: Layer = "embedding",
    reference: Encoder | None = None,
    draws: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge a model by a suite of probes.

    Args:
        model: encodes pictures.
        folder: where the packs are; tests whose pack is missing are named in the result.
        suite: name of a suite or a test, or a YAML file; see `suite.load_suite`.
        layer: which features are probed.
        reference: frozen encoder of the feature floor; default shapes and colours.
        draws: bootstrap draws; 0 leaves intervals out.
        seed: of divisions and of the bootstrap.
        progress: called with what is being done.

    Returns:
        The result described in `docs/formats.md`: `metrics` has a figure for each test, and `mean`.

    Raises:
        DataError: unknown suite or folder, or no test can run.
    """
    wanted = load_suite(suite)
    packs, missing = open_packs(wanted, folder, seed=seed)
    if not packs:
        raise DataError(f"no test of suite {suite} can run: {next(iter(missing.values()))}.")
    results: dict[str, TestResult] = {}
    for number, pack in enumerate(packs):
        results |= _run_pack(
            model,
            pack,
            wanted,
            layer=layer,
            reference=reference,
            draws=draws,
            seed=seed + number,
            progress=progress,
        )
    results = {name: results[name] for name in wanted.tasks if name in results}
    return _result(
        model, wanted, packs, results, missing, layer=layer, reference=reference, draws=draws, seed=seed
    )


def _run_pack(
    model: Encoder,
    pack: Pack,
    suite: Suite,
    *,
    layer: Layer,
    reference: Encoder | None,
    draws: int,
    seed: int,
    progress: Progress | None,
) -> dict[str, TestResult]:
    rows = np.unique(np.concatenate([one.rows for one in pack.tasks.values()]))
    run_backbone = progress or (lambda text: None)
    run_backbone(f"{pack.name}: encoding {len(rows):,} pictures")
    seen: dict[str, Look] = {
        "model": lambda manifest: image_features(model, manifest, np.arange(len(manifest)), layer=layer)[:2],
        **looks(reference),
    }
    images = pack.data.take(rows)
    found = {
        name: look(images) for name, look in seen.items()
    }  # pictures are looked at once for all tests of the pack
    kept = np.array(
        sorted(set.intersection(*(set(places.tolist()) for _, places in found.values()))), dtype=np.int64
    )
    features = {
        name: values[torch.from_numpy(np.searchsorted(places, kept))]
        for name, (values, places) in found.items()
    }
    trained_on, codes = _trained_on(model, pack), _judged_groups(pack)
    results = {}
    for name, labelled in pack.tasks.items():
        run_backbone(f"{name}: {len(labelled.judged):,} pictures to judge")
        own = _readable(labelled, rows[kept])
        places = torch.from_numpy(np.searchsorted(rows[kept], own.rows))
        outcome = _judge({kind: values[places] for kind, values in features.items()}, own, pack.data)
        lost = {"unreadable": len(labelled.rows) - len(own.rows)}
        about = {"about": suite.tasks[name].about, "pack": pack.name, "where": suite.tasks[name].where}
        results[name] = _test_result(outcome, own, codes, about, lost, trained_on, draws=draws, seed=seed)
    return results


def _judged_groups(pack: Pack) -> np.ndarray:
    """(rows of the pack,) number of each judged row's group, -1 for the others: the tests of a pack share their bootstrap draws."""
    rows = np.unique(np.concatenate([one.rows[one.judged] for one in pack.tasks.values()]))
    codes = np.full(len(pack.data), -1)
    codes[rows] = group_codes(find_groups(pack.data).codes[rows], len(rows))
    return codes


def _readable(labelled: Labelled, rows: np.ndarray) -> Labelled:
    kept = np.flatnonzero(np.isin(labelled.rows, rows))
    return labelled if len(kept) == len(labelled.rows) else labelled.only(kept)


@dataclass(frozen=True)
class _Judged:
    probe: ProbeResult
    knn: ProbeResult
    baselines: dict[str, ProbeResult]
    settings: dict[str, Any]
    manifest: Manifest  # the judged rows


def _judge(features: dict[str, Tensor], labelled: Labelled, data: Manifest) -> _Judged:
    manifest = data.take(labelled.rows[labelled.judged])
    scores = {
        name: classify(one, features["model"], labelled)
        for name, one in (("probe", linear_probe), ("knn", neighbours))
    }
    baselines = {
        f"{kind}_nn_1": classify(nearest, features[kind], labelled)[0] for kind in features if kind != "model"
    }
    return _Judged(
        probe=ProbeResult.of(scores["probe"][0], labelled, manifest),
        knn=ProbeResult.of(scores["knn"][0], labelled, manifest),
        baselines={name: ProbeResult.of(values, labelled, manifest) for name, values in baselines.items()},
        settings={name: _listed(settings) for name, (_, settings) in scores.items()},
        manifest=manifest,
    )


def _listed(settings: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Settings of one fold, or lists over several."""
    return (
        dict(settings[0])
        if len(settings) == 1
        else {key: [one[key] for one in settings] for key in settings[0]}
    )


def _test_result(
    judged: _Judged,
    labelled: Labelled,
    codes: np.ndarray,
    about: dict[str, Any],
    lost: dict[str, int],
    trained_on: set[str],
    *,
    draws: int,
    seed: int,
) -> TestResult:
    own, count = codes[labelled.rows[labelled.judged]], int(codes.max()) + 1
    drawn = (
        bootstrap({METRIC: judged.probe.statistics(own)[METRIC]}, groups=count, draws=draws, seed=seed)[
            METRIC
        ]
        if draws
        else np.zeros(0)
    )
    entry = {
        **about,
        "classes": len(labelled.names),
        "samples": len(judged.probe.labels),
        "groups": judged.probe.group_count,
        "metrics": judged.probe.metrics(),
        "interval": {METRIC: percentiles(100 * drawn)} if draws else {},
        "chance": judged.probe.chance(),
        "baselines": {name: one.metrics() for name, one in judged.baselines.items()},
        "knn": judged.knn.metrics(),
        "settings": judged.settings,
        "parts": labelled.sizes(),
        "left_out": {**labelled.left_out, **lost},
        "trained_on": len(trained_on.intersection(judged.manifest.ids)),
        "interval_over": judged.probe.over,
        "split_hash": judged.manifest.fingerprint(),
        "per_class": judged.probe.result(draws=0, seed=0)["per_class"],
    }
    return TestResult(entry, 100 * drawn)


def _trained_on(model: Encoder, pack: Pack) -> set[str]:
    """Ids of the pack's rows that the model was trained on, as far as it says where its training data is."""
    recorded = getattr(model, "training_data", None) or {}
    path = recorded.get("path")
    if path is None or (
        path != pack.source
        and ("sample" in (path, pack.source) or Path(path).resolve() != Path(pack.source).resolve())
    ):
        return set()
    try:
        return set(open_data(path).where(recorded.get("where")).ids)
    except DataError:  # a condition that this version of the data cannot answer says nothing about the rows
        return set()


def _result(
    model: Encoder,
    suite: Suite,
    packs: Sequence[Pack],
    results: dict[str, TestResult],
    missing: dict[str, str],
    *,
    layer: Layer,
    reference: Encoder | None,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    entries = {name: one.entry for name, one in results.items()}

    def metrics(read: Callable[[dict[str, Any]], float]) -> dict[str, float]:
        values = {name: read(entry) for name, entry in entries.items()}
        return values | {MEAN: float(np.mean(list(values.values())))}

    baselines: dict[str, Any] = {
        baseline: metrics(lambda entry, baseline=baseline: entry["baselines"][baseline][METRIC])
        for baseline in next(iter(entries.values()))["baselines"]
    }
    baselines["about"] = {
        "features": looked_at_by(reference),
        "copied from": "the rows that the probe learns from",
    }
    drawn = np.nanmean(np.stack([one.drawn for one in results.values()]), axis=0) if draws else None
    result = {
        "metrics": metrics(lambda entry: entry["metrics"][METRIC]),
        "interval": {name: entry["interval"][METRIC] for name, entry in entries.items()}
        | {MEAN: percentiles(drawn)}
        if drawn is not None
        else {},
        "chance": metrics(lambda entry: entry["chance"][METRIC]),
        "samples": sum(entry["samples"] for entry in entries.values()),
        "prompts": None,
        "suite": {
            "name": suite.name,
            "features": layer,
            "classifier": "linear probe",
            "metric": METRIC,
            "tests": len(suite.tasks),
            "mean_of": len(entries),
        },
        "knn": metrics(lambda entry: entry["knn"][METRIC]),
        "interval_over": " and ".join(dict.fromkeys(entry["interval_over"] for entry in entries.values())),
        "interval_groups": "found in the data",
        "bootstrap": {"draws": draws, "seed": seed, "level": 95},
        "missing": missing,
        "left_out": {},
        "tests": entries,
    }
    digest = hashlib.blake2b(
        "".join(f"{name}={entry['split_hash']};" for name, entry in entries.items()).encode(), digest_size=8
    ).hexdigest()
    return stated(
        "suite",
        result,
        baselines,
        model,
        data=", ".join(pack.name for pack in packs),
        split_hash=digest,
        where=None,
    )
