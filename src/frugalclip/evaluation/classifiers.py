"""Classifiers on frozen features: fit on one split, tune on another, score a third.

Sources: the linear probe of CLIP, arXiv 2103.00020, A.3 (logistic regression by L-BFGS; its strength is found
    on a
coarse grid of seven powers of ten, refined around the best until there are eight steps a decade; the final
fit is on training and validation rows together). Weighted nearest neighbours of Wu et al. 2018, arXiv
1805.01978, section 3.4; their number and temperature are chosen on the validation rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from frugalclip.core.numerics import softmax_regression, top_k
from frugalclip.evaluation.labelled import LabelledRows, RowSplit
from frugalclip.functional import unit

COARSE = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)  # powers of ten
FINEST = 1 / 8  # of a decade
NEIGHBOURS = (1, 3, 5, 10, 20, 50, 100, 200)
TEMPERATURES = (0.01, 0.03, 0.07, 0.2, 1.0)


@dataclass(frozen=True)
class Examples:
    """Features with their classes."""

    features: Tensor  # (samples, width)
    labels: Tensor  # (samples,) int64

    def __len__(self) -> int:
        return len(self.labels)

    def __add__(self, other: "Examples") -> "Examples":
        return Examples(torch.cat([self.features, other.features]), torch.cat([self.labels, other.labels]))


@dataclass(frozen=True)
class ClassifierScores:
    """Scores of a classifier for rows it was not fitted to."""

    scores: Tensor  # (samples, classes)
    settings: dict[str, Any]  # what was chosen, and how well it did on the validation rows


class Classifier(Protocol):
    """Fits to `train`, chooses its settings on `validation`, fits again to both, and scores `features`."""

    def __call__(
        self, train: Examples, validation: Examples, features: Tensor, *, classes: int
    ) -> ClassifierScores:
        """Score `features` (samples, width); an empty `validation` leaves the settings at their defaults."""
        ...


def linear_probe(
    train: Examples, validation: Examples, features: Tensor, *, classes: int
) -> ClassifierScores:
    """Softmax regression, its strength chosen on the validation rows.

    Args:
        train: rows to fit to.
        validation: rows to tune on; empty leaves the strength at 1.
        features: (samples, width) to score.
        classes: how many there are.
    """
    strength = choose_strength([(train, validation)], classes=classes)
    both = train + validation
    fit = softmax_regression(
        both.features, both.labels, strength=strength, classes=classes, steps=1000, tolerance=1e-6
    )
    return ClassifierScores(
        fit.logits(features), {"strength": strength, "gradient": fit.gradient, "training_samples": len(both)}
    )


def choose_strength(
    splits: Sequence[tuple[Examples, Examples]], *, classes: int, finest: float = FINEST
) -> float:
    """C of the linear probe by its accuracy on validation rows; of equally good ones the most regularised.

    Args:
        splits: training and validation rows; several pairs are fitted apart and their right answers added up.
        classes: how many there are.
        finest: last step of the search, in decades.

    Returns:
        C; 1 where there is nothing to validate on.
    """
    if not any(len(validation) for _, validation in splits):
        return 1.0

    def right(power: float) -> int:
        return sum(_right_answers(train, validation, 10**power, classes) for train, validation in splits)

    return 10 ** search(right, coarse=COARSE, finest=finest)


def _right_answers(train: Examples, validation: Examples, strength: float, classes: int) -> int:
    # only the order of the counts matters here, not the last digit of a fit
    fit = softmax_regression(
        train.features, train.labels, strength=strength, classes=classes, steps=100, tolerance=1e-4
    )
    return int((fit.logits(validation.features).argmax(1) == validation.labels).sum())


def search(score: Callable[[float], float], *, coarse: Sequence[float], finest: float) -> float:
    """The best place of an evenly spaced grid, then of ever finer ones around the best so far.

    Args:
        score: larger is better.
        coarse: places to begin with, ascending.
        finest: the step at which to stop.

    Returns:
        The place; of equally good ones the smallest.
    """
    found = {place: score(place) for place in coarse}

    def best() -> float:
        return max(found, key=lambda place: (found[place], -place))

    step = (coarse[1] - coarse[0]) / 2
    while step >= finest:
        middle = best()
        found |= {
            place: score(place)
            for place in (middle - step, middle + step)
            if place not in found and coarse[0] <= place <= coarse[-1]
        }
        step /= 2
    return best()


def neighbours(train: Examples, validation: Examples, features: Tensor, *, classes: int) -> ClassifierScores:
    """Votes of the nearest training rows by cosine.

    Args:
        train: rows that vote.
        validation: rows that their number and temperature are chosen on; then these vote too. Empty leaves
            them at 20 and 0.07.
        features: (samples, width) to score, any length.
        classes: how many there are.
    """
    train = Examples(unit(train.features), train.labels)
    validation = Examples(unit(validation.features), validation.labels)
    k, temperature = 20, 0.07
    if len(validation):
        cosines, places = top_k(validation.features @ train.features.T, max(NEIGHBOURS))
        grid = [
            (k, t)
            for k in NEIGHBOURS
            if k <= len(train)
            for t in (TEMPERATURES if k > 1 else TEMPERATURES[:1])
        ]

        def right(setting: tuple[int, float]) -> int:
            votes = _votes(
                cosines[:, : setting[0]],
                train.labels[places[:, : setting[0]]],
                classes=classes,
                temperature=setting[1],
            )
            return int((votes.argmax(1) == validation.labels).sum())

        k, temperature = max(grid, key=right)  # of equally good ones the first: fewest neighbours
    both = train + validation
    k = min(k, len(both))
    votes = knn_votes(
        unit(features), both.features, both.labels, classes=classes, k=k, temperature=temperature
    )
    return ClassifierScores(
        votes, {"neighbours": k, "temperature": temperature, "training_samples": len(both)}
    )


def nearest(train: Examples, validation: Examples, features: Tensor, *, classes: int) -> ClassifierScores:
    """The class of the nearest training or validation row by Euclidean distance: a baseline without settings.

    Args:
        train: rows to copy from.
        validation: likewise.
        features: (samples, width) to score, any length.
        classes: how many there are.
    """
    both = train + validation
    lengths = both.features.square().sum(1)  # (training,)
    places = [top_k(2 * part @ both.features.T - lengths, 1)[1][:, 0] for part in features.split(1024)]
    labels = both.labels[torch.cat(places)]
    return ClassifierScores(
        torch.nn.functional.one_hot(labels, classes).double(), {"training_samples": len(both)}
    )


def knn_votes(
    features: Tensor, training: Tensor, labels: Tensor, *, classes: int, k: int, temperature: float = 0.07
) -> Tensor:
    """Votes of the nearest training rows, weighted by exp(cosine / temperature).

    Args:
        features: (samples, dim) unit vectors.
        training: (training, dim) unit vectors.
        labels: (training,) int64.
        classes: how many there are.
        k: neighbours.
        temperature: divides cosines.

    Returns:
        (samples, classes).
    """
    votes = []
    for part in features.split(1024):
        cosines, places = top_k(part @ training.T, k)
        votes.append(_votes(cosines, labels[places], classes=classes, temperature=temperature))
    return torch.cat(votes) if votes else torch.zeros(0, classes)


def _votes(cosines: Tensor, labels: Tensor, *, classes: int, temperature: float) -> Tensor:
    weights = ((cosines - 1) / temperature).exp()  # at most 1, so that nothing overflows
    return torch.zeros(len(cosines), classes, dtype=weights.dtype).scatter_add_(1, labels, weights)


def examples(features: Tensor, labelled: LabelledRows, fold: RowSplit) -> tuple[Examples, Examples]:
    """Training and validation rows of a fold.

    Args:
        features: (rows, width) of all labelled rows.
        labelled: their classes.
        fold: one of its divisions.
    """
    places = (torch.from_numpy(fold.train), torch.from_numpy(fold.validation))
    train, validation = (Examples(features[rows], labelled.labels[rows]) for rows in places)
    return train, validation


def classify(
    classifier: Classifier, features: Tensor, labelled: LabelledRows
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Scores of every test row, fold after fold.

    Args:
        classifier: fitted once a fold.
        features: (rows, width) of all labelled rows.
        labelled: their classes and splits.

    Returns:
        (test, classes) in the order of `labelled.test`, and the settings chosen in each fold.
    """
    found = [
        classifier(
            *examples(features, labelled, fold),
            features[torch.from_numpy(fold.test)],
            classes=len(labelled.names),
        )
        for fold in labelled.folds
    ]
    return torch.cat([one.scores.double() for one in found]), [one.settings for one in found]
