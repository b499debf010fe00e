"""Heads on frozen features at several numbers of examples of each class, in domain and out of domain.

Draws of the examples are those of `evaluate --task fewshot`, the same for every head, so that differences
are paired by draw and by test row.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frugalclip.adaptation.few_shot_heads import HEADS, FewShotHead, Problem, ZeroShotWeights
from frugalclip.core.progress import counter
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.classifiers import Examples
from frugalclip.evaluation.fewshot import SHOTS, ShotDraws, classes_with_fewer, hits_of
from frugalclip.evaluation.groups import Groups, find_groups
from frugalclip.evaluation.labelled import LabelledRows
from frugalclip.evaluation.statistics import group_codes, intervals, mean_over_draws

IN_DOMAIN = "in domain"


@dataclass(frozen=True)
class TestRows:
    """Features to test heads on."""

    __test__ = False  # no test of pytest's
    examples: Examples
    groups: Groups

    @property
    def codes(self) -> np.ndarray:
        """(samples,) int64 what the bootstrap draws."""
        return group_codes(self.groups.codes if self.groups.over else None, len(self.examples))


@dataclass(frozen=True)
class ShotData:
    """Frozen features to take examples from, and to test on."""

    features: Tensor  # (rows, width) of the labelled rows
    labelled: LabelledRows  # classes and splits; the first fold is used
    everything: Manifest  # that `labelled.rows` count
    zero_shot: ZeroShotWeights | None
    others: Mapping[str, TestRows]  # out of domain, by name

    @property
    def tests(self) -> dict[str, TestRows]:
        """Every test set; the first one is in domain."""
        places = torch.from_numpy(self.labelled.folds[0].test)
        examples = Examples(self.features[places], self.labelled.labels[places])
        groups = find_groups(self.everything.take(self.labelled.rows[places.numpy()]))
        return {IN_DOMAIN: TestRows(examples, groups), **self.others}


def compare_shots(
    data: ShotData,
    *,
    shots: Sequence[int] = SHOTS,
    draws: int = 5,
    seed: int = 0,
    heads: Sequence[FewShotHead] = HEADS,
) -> dict[str, Any]:
    """Fit every head on every draw, and test it on every test set.

    Args:
        data: frozen features.
        shots: examples of each class.
        draws: how often they are drawn.
        seed: of the draws and of the bootstrap.
        heads: those that need texts are left out where there are none.

    Returns:
        `rows`: head, test set, shots, top1 in percent and its interval; `differences`: of each head to those
        before it, paired; and what `docs/formats.md` names beside them.
    """
    taken, tests = usable(heads, data), data.tests
    rows, differences, fewer = [], [], {}
    for number, hits in shot_hits(data, shots=shots, draws=draws, seed=seed, heads=taken):
        for name, one in tests.items():
            found = {head: own[name] for head, own in hits.items()}
            about = {"test": name, "shots": number}
            rows += [{"head": head, **about, **_mean(own, one, seed)} for head, own in found.items()]
            differences += [about | entry for entry in _differences(found, one, seed)]
        fewer[str(number)] = len(classes_with_fewer(data.labelled, number))
    classes = len(data.labelled.names)
    return {
        "rows": rows,
        "differences": differences,
        "heads": {head.name: head.about for head in taken},
        "tests": {name: len(one.examples) for name, one in tests.items()},
        "interval_over": {name: f"{one.groups.over or 'samples'} and draws" for name, one in tests.items()},
        "classes": classes,
        "classes_with_fewer": fewer,
        "chance": 100 / classes,
        "shots": list(shots),
        "draws": draws,
        "split": data.labelled.sizes(),
    }


def usable(heads: Sequence[FewShotHead], data: ShotData) -> list[FewShotHead]:
    """The heads that the data has all inputs of."""
    return [head for head in heads if data.zero_shot is not None or not head.needs_texts]


def shot_hits(
    data: ShotData, *, shots: Sequence[int], draws: int, seed: int, heads: Sequence[FewShotHead]
) -> Iterator[tuple[int, dict[str, dict[str, np.ndarray]]]]:
    """Fit every head on every draw, and test it.

    Args:
        data: frozen features.
        shots: examples of each class.
        draws: how often they are drawn.
        seed: of the draws.
        heads: that the data has all inputs of.

    Yields:
        A number of shots, and head -> test set -> (draws, samples) 1 where the class is named right.
    """
    drawn = ShotDraws.of(data.labelled, data.everything, draws=draws, seed=seed)
    tests, count = data.tests, counter("fitting heads", len(heads) * len(shots))
    for number in shots:
        splits = drawn.splits(data.features, data.labelled, number)
        problem = Problem(len(data.labelled.names), splits, data.zero_shot)
        hits: dict[str, dict[str, np.ndarray]] = {}
        for head in heads:
            scorers = head.fit(problem)
            hits[head.name] = {name: _hits(scorers, one.examples) for name, one in tests.items()}
            count(1)
        yield number, hits


def _hits(scorers: Sequence[Any], examples: Examples) -> np.ndarray:
    """(draws, samples) 1 where the class is named right."""
    return np.stack([hits_of(score(examples.features), examples.labels) for score in scorers])


def _mean(hits: np.ndarray, test: TestRows, seed: int) -> dict[str, Any]:
    return {"top1": 100 * float(hits.mean()), "interval": _interval(hits, test, seed)}


def _differences(found: Mapping[str, np.ndarray], test: TestRows, seed: int) -> list[dict[str, Any]]:
    """Each head less the heads before it."""
    names = list(found)
    return [
        {
            "head": head,
            "against": other,
            "points": 100 * float((found[head] - found[other]).mean()),
            "interval": _interval(found[head] - found[other], test, seed),
        }
        for place, head in enumerate(names)
        for other in names[:place]
    ]


def _interval(values: np.ndarray, test: TestRows, seed: int) -> list[float]:
    """95 % of the mean of (draws, samples), in percent; both are drawn."""
    codes = test.codes
    statistic = {"mean": mean_over_draws(values, codes, np.ones(len(codes)), seed=seed)}
    low, high = intervals(statistic, groups=int(codes.max()) + 1, seed=seed)["mean"]
    return [100 * low, 100 * high]
