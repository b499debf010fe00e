"""Heads of several arms on the same frozen features, over paired seeds, with the spectra before and after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frugalclip.adaptation.spectra import CENTRES, spectrum
from frugalclip.adaptation.tune import ARMS, Arm, TunedHead, TuneSettings, tuned
from frugalclip.core.progress import counter
from frugalclip.evaluation.classifiers import Examples
from frugalclip.evaluation.statistics import intervals, mean_of

MOST_SPECTRUM = 4096  # rows of a spectrum; more change it little and cost much


@dataclass(frozen=True)
class HeadData:
    """Frozen features to train heads on, and to test them on."""

    train: Examples
    tests: Mapping[str, Examples]  # name of a test set -> its rows; the first one is in domain
    names: Sequence[str]  # (classes,)


def compare_heads(
    data: HeadData, *, seeds: int, settings: TuneSettings | None = None, arms: Sequence[Arm] = ARMS
) -> dict[str, Any]:
    """Train every arm with every seed, and test it on every test set.

    Args:
        data: frozen features.
        seeds: how many; arms of one seed share initial weights where they can, and batches.
        settings: of the training.
        arms: the last ones are compared with `linear` and `mlp`.

    Returns:
        `arms`: arm -> test set -> accuracies of the seeds; `differences`: NMTune's less the others', with
        intervals over seeds; `spectra`: frozen and reshaped features of each test set.
    """
    count = counter("heads trained", seeds * len(arms))
    found: dict[str, dict[str, list[float]]] = {arm: {name: [] for name in data.tests} for arm in arms}
    spectra = {"frozen": _spectra(data, None)}
    for seed in range(seeds):
        for arm in arms:
            head = tuned(data.train, classes=len(data.names), arm=arm, seed=seed, settings=settings)
            for name, examples in data.tests.items():
                found[arm][name].append(head.accuracy(examples))
            if seed == 0 and arm != "linear":
                spectra[arm] = _spectra(data, head)
            count(1)
    return {"arms": found, "differences": _differences(found), "spectra": spectra}


def _differences(found: Mapping[str, Mapping[str, list[float]]]) -> list[dict[str, Any]]:
    """NMTune less each other arm, paired by seed."""
    rows = []
    for arm in (name for name in found if name.startswith("nmtune")):
        for other in (name for name in found if not name.startswith("nmtune")):
            for test, values in found[arm].items():
                apart = np.array(values) - np.array(found[other][test])
                rows.append({"arm": arm, "against": other, "test": test, **mean_with_interval(apart)})
    return rows


def mean_with_interval(values: np.ndarray) -> dict[str, Any]:
    """The mean of (seeds,) values, and its bootstrap interval; None for fewer than three."""
    interval = None
    if len(values) > 2:
        statistic = {"mean": mean_of(values, np.arange(len(values)))}
        interval = intervals(statistic, groups=len(values), draws=2000)["mean"]
    return {"mean": float(values.mean()), "interval": interval, "seeds": len(values)}


def _spectra(data: HeadData, head: TunedHead | None) -> dict[str, dict[str, dict[str, float]]]:
    """Test set -> centring -> SVE and LSVR, of rows of length one."""
    found = {}
    for name, examples in data.tests.items():
        features = examples.features[:MOST_SPECTRUM]
        found[name] = spectra_of(features if head is None else head.reshaped(features))
    return found


def spectra_of(features: Tensor) -> dict[str, dict[str, float]]:
    """SVE and LSVR of features (rows, width), rows of length one, for each centring."""
    spectra = {centre: spectrum(features, centre=centre) for centre in CENTRES}
    return {centre: {"sve": one.entropy, "lsvr": one.largest_ratio} for centre, one in spectra.items()}


def examples_of(features: np.ndarray | Tensor, labels: np.ndarray | Tensor) -> Examples:
    """Examples from (rows, width) features and (rows,) classes."""
    return Examples(torch.as_tensor(features).float(), torch.as_tensor(labels).long())
