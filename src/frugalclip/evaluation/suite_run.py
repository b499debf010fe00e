"""Runs a suite of named tests on one model; images of a pack are encoded once for all its tests.

Every test is a linear probe on frozen features; its metric is the mean over classes of the share named right.
Beside it stand nearest neighbours, chance, and the baselines that copy the class of the nearest training
image.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.errors import DataError
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.baselines import Describer, describers, feature_source
from frugalclip.evaluation.classifiers import classify, linear_probe, nearest, neighbours
from frugalclip.evaluation.encoding import DataEncoder, Layer, image_features
from frugalclip.evaluation.groups import find_groups
from frugalclip.evaluation.labelled import LabelledRows
from frugalclip.evaluation.probes import ClassifierPredictions
from frugalclip.evaluation.results import EvaluatedRows, with_provenance
from frugalclip.evaluation.statistics import bootstrap, group_codes, percentiles
from frugalclip.evaluation.suite import DEFAULT, Pack, Suite, load_suite, open_packs
from frugalclip.sources.open import open_data

METRIC = "mean_per_class"  # the primary one of every test
MEAN = "mean"  # over tests
Progress = Callable[[str], None]


@dataclass(frozen=True)
class SuiteOptions:
    """How a suite is run."""

    layer: Layer  # which features are probed
    reference: DataEncoder | None  # frozen encoder of the feature baseline
    draws: int  # of the bootstrap
    seed: int  # of divisions and of the bootstrap
    progress: Progress


@dataclass(frozen=True)
class SuiteTestResult:
    """One test of a suite."""

    entry: dict[str, Any]  # for the result's `tests`
    drawn: np.ndarray  # (draws,) bootstrap values of the primary metric, in percent


def evaluate_suite(
    model: DataEncoder,
    *,
    folder: Path | None = None,
    suite: str = DEFAULT,
    layer: Layer = "embedding",
    reference: DataEncoder | None = None,
    draws: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluate a model by a suite of probes.

    Args:
        model: encodes images.
        folder: where the packs are; tests whose pack is missing are named in the result.
        suite: name of a suite or a test, or a YAML file; see `suite.load_suite`.
        layer: which features are probed.
        reference: frozen encoder of the feature baseline; default shapes and colours.
        draws: bootstrap draws; 0 leaves intervals out.
        seed: of divisions and of the bootstrap.
        progress: called with what is being done.

    Returns:
        The result described in `docs/formats.md`: `metrics` has a value for each test, and `mean`.

    Raises:
        DataError: unknown suite or folder, or no test can run.
    """
    wanted = load_suite(suite)
    packs, missing = open_packs(wanted, folder, seed=seed)
    if not packs:
        raise DataError(f"no test of suite {suite} can run: {next(iter(missing.values()))}.")
    options = SuiteOptions(layer, reference, draws, seed, progress or (lambda text: None))
    results: dict[str, SuiteTestResult] = {}
    for number, pack in enumerate(packs):
        results |= _run_pack(model, pack, wanted, options, seed=seed + number)
    results = {name: results[name] for name in wanted.tasks if name in results}
    entries = {name: one.entry for name, one in results.items()}
    rows = EvaluatedRows(", ".join(pack.name for pack in packs), _split_hash(entries), None)
    return with_provenance(
        "suite",
        _result(wanted, results, missing, options),
        model,
        rows,
        baselines=_suite_baselines(entries, options),
    )


def _run_pack(
    model: DataEncoder, pack: Pack, suite: Suite, options: SuiteOptions, *, seed: int
) -> dict[str, SuiteTestResult]:
    rows = np.unique(np.concatenate([one.rows for one in pack.tasks.values()]))
    options.progress(f"{pack.name}: encoding {len(rows):,} images")
    features, kept = _pack_features(model, pack.data.take(rows), options)
    trained_on, codes = _trained_on(model, pack), _test_groups(pack)
    results = {}
    for name, labelled in pack.tasks.items():
        options.progress(f"{name}: {len(labelled.test):,} test images")
        own = _readable(labelled, rows[kept])
        places = torch.from_numpy(np.searchsorted(rows[kept], own.rows))
        run = _fit({kind: values[places] for kind, values in features.items()}, own, pack.data)
        about = {"about": suite.tasks[name].about, "pack": pack.name, "where": suite.tasks[name].where}
        lost = {**own.left_out, "unreadable": len(labelled.rows) - len(own.rows)}
        entry = (
            about
            | run.entry()
            | {
                "left_out": lost,
                "trained_on": len(trained_on.intersection(run.tested.ids)),
            }
        )
        results[name] = run.test_result(entry, codes, draws=options.draws, seed=seed)
    return results


def _pack_features(
    model: DataEncoder, images: Manifest, options: SuiteOptions
) -> tuple[dict[str, Tensor], np.ndarray]:
    """Features of the model and of each kind of baseline, and (kept,) images that all of them could read."""
    kinds: dict[str, Describer] = {
        "model": lambda rows: image_features(model, rows, np.arange(len(rows)), layer=options.layer)[:2],
        **describers(options.reference),
    }
    found = {kind: describe(images) for kind, describe in kinds.items()}
    common = set.intersection(*(set(places.tolist()) for _, places in found.values()))
    kept = np.array(sorted(common), dtype=np.int64)
    features = {
        kind: values[torch.from_numpy(np.searchsorted(places, kept))]
        for kind, (values, places) in found.items()
    }
    return features, kept


def _test_groups(pack: Pack) -> np.ndarray:
    """(rows of the pack,) group of each test row, -1 for others: tests of a pack share bootstrap draws."""
    rows = np.unique(np.concatenate([one.rows[one.test] for one in pack.tasks.values()]))
    codes = np.full(len(pack.data), -1)
    codes[rows] = group_codes(find_groups(pack.data).codes[rows], len(rows))
    return codes


def _readable(labelled: LabelledRows, rows: np.ndarray) -> LabelledRows:
    kept = np.flatnonzero(np.isin(labelled.rows, rows))
    return labelled if len(kept) == len(labelled.rows) else labelled.only(kept)


@dataclass(frozen=True)
class _TestRun:
    """The classifiers of one test."""

    labelled: LabelledRows
    tested: Manifest  # the test rows
    probe: ClassifierPredictions
    knn: ClassifierPredictions
    baselines: dict[str, ClassifierPredictions]
    settings: dict[str, Any]

    def entry(self) -> dict[str, Any]:
        """For the result's `tests`."""
        return {
            "classes": len(self.labelled.names),
            "samples": len(self.probe.labels),
            "groups": self.probe.group_count,
            "metrics": self.probe.metrics(),
            "interval": {},
            "chance": self.probe.chance(),
            "baselines": {name: one.metrics() for name, one in self.baselines.items()},
            "knn": self.knn.metrics(),
            "settings": self.settings,
            "split": self.labelled.sizes(),
            "left_out": {},
            "trained_on": 0,
            "interval_over": self.probe.over,
            "split_hash": self.tested.fingerprint(),
            "per_class": self.probe.class_table(),
        }

    def test_result(
        self, entry: dict[str, Any], codes: np.ndarray, *, draws: int, seed: int
    ) -> SuiteTestResult:
        """The entry with its interval.

        Args:
            entry: of the test.
            codes: (rows of the pack,) groups that all tests of the pack draw from.
            draws: of the bootstrap.
            seed: of the bootstrap.
        """
        if not draws:
            return SuiteTestResult(entry, np.zeros(0))
        own = codes[self.labelled.rows[self.labelled.test]]
        statistics = {METRIC: self.probe.statistics(own)[METRIC]}
        drawn = 100 * bootstrap(statistics, groups=int(codes.max()) + 1, draws=draws, seed=seed)[METRIC]
        return SuiteTestResult(entry | {"interval": {METRIC: percentiles(drawn)}}, drawn)


def _fit(features: dict[str, Tensor], labelled: LabelledRows, data: Manifest) -> _TestRun:
    tested = labelled.test_rows(data)
    probe, probe_settings = classify(linear_probe, features["model"], labelled)
    knn, knn_settings = classify(neighbours, features["model"], labelled)
    copied = {
        f"{kind}_nn_1": classify(nearest, features[kind], labelled)[0] for kind in features if kind != "model"
    }
    return _TestRun(
        labelled,
        tested,
        probe=ClassifierPredictions.of(probe, labelled, tested),
        knn=ClassifierPredictions.of(knn, labelled, tested),
        baselines={name: ClassifierPredictions.of(one, labelled, tested) for name, one in copied.items()},
        settings={"probe": _listed(probe_settings), "knn": _listed(knn_settings)},
    )


def _listed(settings: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Settings of one fold, or lists over several."""
    if len(settings) == 1:
        return dict(settings[0])
    return {key: [one[key] for one in settings] for key in settings[0]}


def _trained_on(model: DataEncoder, pack: Pack) -> set[str]:
    """Ids of the pack's rows that the model was trained on, as far as its training data is recorded."""
    recorded = getattr(model, "training_data", None) or {}
    path = recorded.get("path")
    if path is None or not _is_same(path, pack.source):
        return set()
    try:
        return set(open_data(path).where(recorded.get("where")).ids)
    except DataError:  # a condition that this version of the data cannot answer tells nothing about the rows
        return set()


def _is_same(path: str, source: str) -> bool:
    """Whether two data paths are one data set."""
    if path == source or "sample" in (path, source):
        return path == source
    return Path(path).resolve() == Path(source).resolve()


def _over_tests(
    entries: Mapping[str, dict[str, Any]], read: Callable[[dict[str, Any]], float]
) -> dict[str, float]:
    """A value of each test, and their mean."""
    values = {name: read(entry) for name, entry in entries.items()}
    return values | {MEAN: float(np.mean(list(values.values())))}


def _suite_baselines(entries: Mapping[str, dict[str, Any]], options: SuiteOptions) -> dict[str, Any]:
    names = next(iter(entries.values()))["baselines"]
    found: dict[str, Any] = {
        name: _over_tests(entries, lambda entry, name=name: entry["baselines"][name][METRIC])
        for name in names
    }
    source = feature_source(options.reference)
    return found | {"about": {"features": source, "copied from": "the rows that the probe is fitted to"}}


def _result(
    suite: Suite, results: Mapping[str, SuiteTestResult], missing: dict[str, str], options: SuiteOptions
) -> dict[str, Any]:
    entries = {name: one.entry for name, one in results.items()}
    intervals = {}
    if options.draws:
        drawn = np.nanmean(np.stack([one.drawn for one in results.values()]), axis=0)
        intervals = {name: entry["interval"][METRIC] for name, entry in entries.items()}
        intervals[MEAN] = percentiles(drawn)
    return {
        "metrics": _over_tests(entries, lambda entry: entry["metrics"][METRIC]),
        "interval": intervals,
        "chance": _over_tests(entries, lambda entry: entry["chance"][METRIC]),
        "samples": sum(entry["samples"] for entry in entries.values()),
        "prompts": None,
        "suite": {
            "name": suite.name,
            "features": options.layer,
            "classifier": "linear probe",
            "metric": METRIC,
            "tests": len(suite.tasks),
            "mean_of": len(entries),
        },
        "knn": _over_tests(entries, lambda entry: entry["knn"][METRIC]),
        "interval_over": " and ".join(dict.fromkeys(entry["interval_over"] for entry in entries.values())),
        "interval_groups": "found in the data",
        "bootstrap": {"draws": options.draws, "seed": options.seed, "level": 95},
        "missing": missing,
        "left_out": {},
        "tests": entries,
    }


def _split_hash(entries: Mapping[str, dict[str, Any]]) -> str:
    text = "".join(f"{name}={entry['split_hash']};" for name, entry in entries.items())
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
