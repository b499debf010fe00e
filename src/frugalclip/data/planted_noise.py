"""Wrong labels and captions, planted with a mask of what is wrong, so that detectors can be scored.

Source of `uniform`: Noisy Model Learning, arXiv 2309.17002 (`datasets/common.py: sample_noise_data`). The
new class is drawn from all classes, so one in as many draws hits the true class again. `uniform_other` never
does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frugalclip.core.random import stream_seed


@dataclass(frozen=True)
class PlantedLabels:
    """Labels of which some were replaced."""

    labels: np.ndarray  # (samples,) int64
    is_planted: np.ndarray  # (samples,) bool: drawn to be replaced, also where the true class was drawn again


def uniform_labels(labels: np.ndarray, *, classes: int, ratio: float, seed: int) -> PlantedLabels:
    """Replace a share of the labels by classes drawn from all, bit for bit as the authors' code does.

    Args:
        labels: (samples,) int64.
        classes: how many there are.
        ratio: share of the samples, rounded up.
        seed: of numpy's legacy generator.
    """
    random = np.random.RandomState(seed)
    chosen = random.permutation(len(labels))[: int(np.ceil(ratio * len(labels)))]
    changed = labels.copy()
    for row in chosen.tolist():
        changed[row] = random.randint(0, classes)
    return PlantedLabels(changed, _mask(len(labels), chosen))


def uniform_other_labels(labels: np.ndarray, *, classes: int, ratio: float, seed: int) -> PlantedLabels:
    """Replace a share of the labels by one of the other classes.

    Args:
        labels: (samples,) int64.
        classes: how many there are, at least 2.
        ratio: share of the samples, rounded.
        seed: of the draws.
    """
    random, chosen = _chosen(len(labels), ratio, seed, "uniform_other")
    changed = labels.copy()
    changed[chosen] = (labels[chosen] + random.integers(1, classes, len(chosen))) % classes
    return PlantedLabels(changed, _mask(len(labels), chosen))


def asymmetric_labels(
    labels: np.ndarray, *, targets: Sequence[int] | np.ndarray, ratio: float, seed: int
) -> PlantedLabels:
    """Replace a share of the labels by the class that theirs is confused with.

    Args:
        labels: (samples,) int64.
        targets: (classes,) the class that replaces each; a class that maps to itself stays clean.
        ratio: share of the samples whose class maps elsewhere, rounded.
        seed: of the draws.
    """
    mapped = np.asarray(targets)[labels]
    movable = np.flatnonzero(mapped != labels)
    _, places = _chosen(len(movable), ratio, seed, "asymmetric")
    changed, chosen = labels.copy(), movable[places]
    changed[chosen] = mapped[chosen]
    return PlantedLabels(changed, _mask(len(labels), chosen))


def swapped_captions(samples: int, *, ratio: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Give some samples the captions of others of them; the captions as a whole stay what they are.

    Args:
        samples: how many there are.
        ratio: share of them, rounded; one alone cannot be swapped and stays.
        seed: of the draws.

    Returns:
        (samples,) int64 the sample whose captions each gets, and (samples,) bool where that is another one.
    """
    _, chosen = _chosen(samples, ratio, seed, "swap_captions")
    source = np.arange(samples)
    source[chosen] = np.roll(chosen, 1)  # a cycle through a random order: no sample gets its own
    return source, source != np.arange(samples)


def _chosen(samples: int, ratio: float, seed: int, kind: str) -> tuple[np.random.Generator, np.ndarray]:
    random = np.random.default_rng(stream_seed(seed, f"noise/{kind}"))
    return random, random.permutation(samples)[: round(ratio * samples)]


def _mask(samples: int, chosen: np.ndarray) -> np.ndarray:
    mask = np.zeros(samples, dtype=bool)
    mask[chosen] = True
    return mask
