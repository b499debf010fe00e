"""What a method must beat: naming an image by the captions of the most similar training images.

A baseline finds the nearest training images; their captions vote for the candidate with the most similar
words. For a name seen in training this copies a label; for an unseen name it is a guess by shared words.
Baselines differ in how they describe images: 16x16 RGB thumbnails (pixel), or shapes and colours (see
`descriptors`) or the features of a frozen encoder (feature). A last one does not copy: `feature_fit` maps
words to the same features in closed form, see `descriptor_fit`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.numerics import top_k
from frugalclip.core.progress import counter
from frugalclip.data.duplicates import NEAR_DUPLICATE, thumbnails
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.descriptor_fit import DescriptorFit
from frugalclip.evaluation.descriptors import descriptors
from frugalclip.evaluation.encoding import DataEncoder, image_features
from frugalclip.evaluation.ranking import Scores
from frugalclip.evaluation.word_similarity import WordSimilarity
from frugalclip.functional import unit

VOTERS = (1, 10)
MOST_ROWS = 100_000  # training images to compare with; more are thinned evenly, and the number is reported
MOST_DESCRIBED = 20_000  # likewise by shape and colour or a frozen encoder, which is slower

Scorer = Callable[[Sequence[Sequence[str]]], Scores]  # texts of candidates -> scores of images
Describer = Callable[[Manifest], tuple[Tensor, np.ndarray]]  # (kept, width) comparable by distance, rows kept


@dataclass(frozen=True)
class TrainingImages:
    """Descriptions of training images, and their names."""

    features: Tensor  # (training, width) float32
    names: list[list[str]]  # (training,) texts of each
    of: int  # training images before thinning

    @cached_property
    def fit(self) -> DescriptorFit:
        """The regression from their words to their features, solved when it is first used."""
        return DescriptorFit(self.features, self.names)

    def nearest(self, features: Tensor, *, k: int = max(VOTERS), chunk: int = 256) -> tuple[Tensor, Tensor]:
        """The training images nearest to each image, by Euclidean distance.

        Args:
            features: (images, width).
            k: how many, nearest first; of equally near ones the first in the training data.
            chunk: images at a time.

        Returns:
            (images, k) int64 places, and (images,) mean absolute difference of the features of an image and
            its nearest.
        """
        lengths = self.features.square().sum(1)  # (training,)
        parts = []
        for part in features.split(chunk):
            # (chunk, training) squared distances, up to a constant of the row; exact for thumbnails
            distances = lengths - 2 * part @ self.features.T
            parts.append(top_k(-distances, k)[1])
        places = torch.cat(parts) if parts else torch.zeros(0, min(k, len(self.names)), dtype=torch.int64)
        return places, (features - self.features[places[:, 0]]).abs().mean(1)

    def scores(self, places: Tensor, candidates: Sequence[Sequence[str]]) -> Scores:
        """Votes of the neighbours for candidates: the mean similarity of their words.

        Args:
            places: (images, k) int64 training images, from `nearest`.
            candidates: texts of each candidate.

        Returns:
            A function that gives (rows, candidates) in [0, 1] for some of the images.
        """
        similarity = WordSimilarity(text for row in self.names for text in row)

        def scores(rows: Tensor) -> Tensor:
            voters, inverse = places[rows].unique(return_inverse=True)  # (voters,), (rows, k)
            votes = similarity([self.names[i] for i in voters.tolist()], candidates)  # (voters, candidates)
            total = torch.zeros(len(rows), len(candidates))
            for column in inverse.T:  # one voter at a time, so that (rows, k, candidates) never exists
                total += votes[column]
            return total / places.shape[1]

        return scores


def describers(reference: DataEncoder | None = None) -> dict[str, Describer]:
    """How each kind of baseline describes images.

    Args:
        reference: frozen encoder of the kind `feature`; default shapes and colours.

    Returns:
        kind -> describer, for `pixel` and `feature`.
    """

    def pixels(manifest: Manifest) -> tuple[Tensor, np.ndarray]:
        count = counter("reading images for the pixel baseline", len(manifest))
        return thumbnails(manifest, progress=count)

    def encoded(manifest: Manifest) -> tuple[Tensor, np.ndarray]:
        assert reference is not None
        features, kept, _ = image_features(reference, manifest, np.arange(len(manifest)))
        return unit(features), kept

    return {"pixel": pixels, "feature": descriptors if reference is None else encoded}


def feature_source(reference: DataEncoder | None) -> str:
    """Where the features of the feature baseline come from, in words."""
    if reference is None:
        return "shape and colour: oriented gradients and a colour histogram"
    return f"frozen encoder {reference.fingerprint}"


def find_neighbours(
    training: Manifest, names: Sequence[Sequence[str]], describe: Describer, *, most: int
) -> TrainingImages:
    """Describe the training images that have a name.

    Args:
        training: what the model was trained on.
        names: (rows,) texts of each row; rows without any are left out.
        describe: from `describers`.
        most: images at most; more are thinned evenly.
    """
    named = [row for row, texts in enumerate(names) if texts]
    step = max(1, math.ceil(len(named) / most))
    chosen = np.array(named[::step], dtype=np.int64)
    features, kept = describe(training.take(chosen))
    rows: list[int] = chosen[kept].tolist()
    return TrainingImages(features, [list(names[row]) for row in rows], len(named))


class Baselines:
    """The baselines of one training set, for any number of evaluations.

    Training images are described, and words fitted to them, once for the same names: two tasks, two sets of
    rows or two models share the work.

    Args:
        training: what the model was trained on.
        reference: frozen encoder of the feature baselines; default shapes and colours.
    """

    def __init__(self, training: Manifest, reference: DataEncoder | None = None) -> None:
        self.training, self.reference = training, reference
        self._neighbours: dict[tuple[str, tuple[tuple[str, ...], ...]], TrainingImages] = {}

    def neighbours(self, kind: str, names: Sequence[Sequence[str]]) -> TrainingImages:
        """The described training images.

        Args:
            kind: pixel or feature.
            names: (training,) texts of each training row.
        """
        key = (kind, tuple(map(tuple, names)))
        if key not in self._neighbours:
            most = MOST_ROWS if kind == "pixel" else MOST_DESCRIBED
            describe = describers(self.reference)[kind]
            self._neighbours[key] = find_neighbours(self.training, names, describe, most=most)
        return self._neighbours[key]

    def measure(
        self,
        rows: Manifest,
        names: Sequence[Sequence[str]],
        measure: Callable[[str, Scorer, np.ndarray], dict[str, float]],
    ) -> dict[str, Any]:
        """The metrics of every baseline.

        Args:
            rows: what the model is evaluated on.
            names: (training,) texts of each training row.
            measure: (name of the baseline, scores of candidates, (kept,) readable rows) -> metrics.

        Returns:
            `pixel_nn_1`, `feature_nn_10`, `feature_fit` and so on with their metrics, and `about`: the
            training images, and how many evaluated images are nearly among them. Nothing where no training
            row has a name.
        """
        if not any(names):
            return {}
        found: dict[str, Any] = {}
        about: dict[str, Any] = {
            "training": self.training.name,
            "training_hash": self.training.fingerprint(),
        }
        for kind, describe in describers(self.reference).items():
            neighbours = self.neighbours(kind, names)
            features, readable = describe(rows)
            places, differences = neighbours.nearest(features)
            for k in VOTERS:
                name, scorer = f"{kind}_nn_{k}", partial(neighbours.scores, places[:, :k])
                found[name] = measure(name, scorer, readable)
            if kind == "pixel":
                about |= {"training_rows": len(neighbours.names), "training_rows_named": neighbours.of}
                about["near_duplicates"] = int((differences < NEAR_DUPLICATE).sum())
            else:
                about |= {
                    "features": feature_source(self.reference),
                    "feature_rows": len(neighbours.names),
                }
                scorer = partial(neighbours.fit.scores, features)
                found[f"{kind}_fit"] = measure(f"{kind}_fit", scorer, readable)
        return found | {"about": about}
