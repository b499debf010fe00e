"""Chance and nearest-neighbour baselines of every metric and fold, measured once for a data set."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from frugalclip.comparison.evaluators import metric_evaluator
from frugalclip.comparison.folds import Fold
from frugalclip.comparison.protocol import ProtocolConfig
from frugalclip.core.records import write_json
from frugalclip.core.stored import read_object
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.baselines import TrainingImages

Baselines = Mapping[str, Mapping[str, Any]]  # metric -> fold -> chance, baselines and, if tested, outcomes


def fold_baselines(
    folds: Sequence[Fold], everything: Manifest, protocol: ProtocolConfig, out: Path
) -> Baselines:
    """Measure chance and copying from the nearest training images.

    They depend on the data alone, so they are kept in `data/baselines.json`.

    Args:
        folds: of the data.
        everything: the data set.
        protocol: resolved.
        out: folder of the comparison.
    """
    path = out / "data" / "baselines.json"
    known: dict[str, Any] = read_object(path) if path.is_file() else {}
    found: dict[str, dict[str, Any]] = {}
    for fold in folds:
        neighbours: dict[
            tuple[str, str | None], dict[str, TrainingImages]
        ] = {}  # shared by metrics of one task
        for name, config in protocol.metrics.items():
            rows = f"{fold.train.fingerprint()} {fold.evaluated[name].fingerprint()}"
            key = f"{rows} {json.dumps(config.content(), sort_keys=True)}"
            is_tested = name == protocol.primary
            if key not in known or (is_tested and "outcomes" not in known[key]):
                known[key] = _measure(fold, name, everything, protocol, neighbours, is_tested)
            found.setdefault(name, {})[fold.name] = known[key]
    write_json(path, known)
    return found


def _measure(
    fold: Fold,
    name: str,
    everything: Manifest,
    protocol: ProtocolConfig,
    neighbours: dict[tuple[str, str | None], dict[str, TrainingImages]],
    is_tested: bool,
) -> dict[str, Any]:
    config = protocol.metrics[name]
    evaluator = metric_evaluator(config, fold.evaluated[name], everything if config.pool == "all" else None)
    kind = (config.task, config.label_field)
    if kind not in neighbours:
        neighbours[kind] = evaluator.neighbours(fold.train)
    baselines = evaluator.baselines(neighbours[kind])
    entry: dict[str, Any] = {
        "chance": round(evaluator.chance(), 6),
        "baselines": {kind: round(one.value, 6) for kind, one in baselines.items()},
    }
    if is_tested:
        entry["outcomes"] = {kind: one.outcome() for kind, one in baselines.items()}
    return entry


def baseline_outcomes(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Outcomes of the baselines of one metric: baseline -> fold -> outcome.

    Args:
        found: fold -> entry of `fold_baselines`.
    """
    outcomes: dict[str, dict[str, Any]] = {}
    for fold, entry in found.items():
        for baseline, outcome in entry["outcomes"].items():
            outcomes.setdefault(baseline, {})[fold] = outcome
    return outcomes


def mean_baselines(found: Mapping[str, Any]) -> dict[str, Any]:
    """Chance and baselines of one metric, averaged over folds.

    Args:
        found: fold -> entry of `fold_baselines`.
    """
    entries = list(found.values())
    names = entries[0]["baselines"]
    means = {name: _mean([entry["baselines"].get(name) for entry in entries]) for name in names}
    return {"chance": _mean([entry["chance"] for entry in entries]), "baselines": means}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return round(sum(known) / len(known), 6) if known else None
