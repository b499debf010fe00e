"""Which images show each concept: by the scores of a tagger, or by those of a model of images and texts.

Source of the rule for taggers: arXiv 2404.04125, RAM++ with a tag where the score is above 0.7. Cosines of a
model have another range for each concept. So each concept has a threshold of its own: the median of its
scores plus so many standard deviations, which the median absolute deviation estimates. It presumes that fewer
than half of the images show the concept. Experimental.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from frugalclip.auditing.concepts import Concept
from frugalclip.core.errors import DataError
from frugalclip.core.finite import VectorOrigin, refuse_vectors
from frugalclip.core.guard import reading
from frugalclip.core.paths import user_path
from frugalclip.data.manifest import Manifest
from frugalclip.data.words import normalise
from frugalclip.evaluation.encoding import DataEncoder, encode_texts, image_features
from frugalclip.evaluation.prompts import fill, find_prompts
from frugalclip.functional import unit

TAGGER_THRESHOLD = 0.7
DEVIATIONS = 3.0
_CONCEPTS = 64  # scored at once
_TO_DEVIATION = 1.4826  # from the median absolute deviation of a normal distribution
_ADVICE = "save the arrays ids (samples,), concepts (concepts,) and scores (samples, concepts) with np.savez"


@dataclass(frozen=True)
class ImageConcepts:
    """Rows whose images show each concept, and what their scores were compared with."""

    rows: list[np.ndarray]  # (rows,) int32 ascending, for each concept
    thresholds: list[float | None]  # of each concept; None where it has no score
    unread: int  # rows without a score


def tagged(
    path: str | Path, manifest: Manifest, concepts: Sequence[Concept], *, threshold: float = TAGGER_THRESHOLD
) -> ImageConcepts:
    """Concepts by the scores of a tagger.

    Args:
        path: an .npz file with `ids`, `concepts` and `scores` (samples, concepts); docs/formats.md.
        manifest: the data set; rows without scores have no concept.
        concepts: what is looked for; those that the file lacks are nowhere.
        threshold: a score above it, not at it, shows the concept.

    Raises:
        DataError: when the file cannot be read, or knows no row or no concept.
    """
    path = user_path(path)
    if not path.is_file():
        raise DataError(f"there is no file {path} with the scores of a tagger; {_ADVICE}.")
    with reading(path, advice=_ADVICE):
        file = np.load(path, allow_pickle=False)
        ids, names, scores = (file[name] for name in ("ids", "concepts", "scores"))
        if scores.shape != (len(ids), len(names)):
            raise ValueError(f"scores have the shape {scores.shape}, expected ({len(ids)}, {len(names)})")
        scores = scores.astype(np.float32, casting="same_kind")
        columns = {normalise(name): column for column, name in enumerate(names.tolist())}
    origin = VectorOrigin(str(path), "tag", _ADVICE, DataError)
    refuse_vectors(scores, list(map(str, ids.tolist())), origin=origin)
    place = {id: row for row, id in enumerate(manifest.ids)}
    rows = np.array([place.get(id, -1) for id in ids.tolist()], dtype=np.int64)
    known = [next((columns[normalise(n)] for n in c.names if normalise(n) in columns), -1) for c in concepts]
    if not (rows >= 0).any() or max(known, default=-1) < 0:
        what = "concept" if (rows >= 0).any() else "row"
        raise DataError(
            f"{path} has no {what} of {manifest.name}; make it from this data set and these names."
        )
    found = [_above(scores[:, column], rows, threshold) if column >= 0 else _nowhere() for column in known]
    unread = len(manifest) - len(np.unique(rows[rows >= 0]))
    return ImageConcepts(found, [threshold if column >= 0 else None for column in known], unread)


def _above(scores: np.ndarray, rows: np.ndarray, threshold: float) -> np.ndarray:
    return np.unique(rows[(scores > threshold) & (rows >= 0)]).astype(np.int32)


def _nowhere() -> np.ndarray:
    return np.zeros(0, dtype=np.int32)


def scored(
    model: DataEncoder,
    manifest: Manifest,
    concepts: Sequence[Concept],
    *,
    prompts: str | Path = "plain",
    deviations: float = DEVIATIONS,
) -> ImageConcepts:
    """Concepts by the cosines of a model, each with a threshold from its own scores.

    Args:
        model: encodes images and texts.
        manifest: the data set.
        concepts: what is looked for.
        prompts: prompt set or file; the mean of a concept's prompts counts.
        deviations: how many standard deviations above the median a threshold lies.
    """
    images, kept, _ = image_features(model, manifest, np.arange(len(manifest)))
    images = unit(images)
    templates = find_prompts(prompts)
    found, thresholds = [], []
    for start in range(0, len(concepts), _CONCEPTS):
        block = concepts[start : start + _CONCEPTS]
        texts = [text for concept in block for name in concept.names for text in fill(templates, name)]
        sizes = [len(concept.names) * len(templates) for concept in block]
        features = unit(encode_texts(model, texts)).split(sizes)
        directions = unit(torch.stack([own.mean(dim=0) for own in features]))
        for scores in (images @ directions.T).T.numpy():
            thresholds.append(own_threshold(scores, deviations=deviations))
            found.append(np.asarray(kept)[scores > thresholds[-1]].astype(np.int32))
    return ImageConcepts(found, list(thresholds), len(manifest) - len(kept))


def own_threshold(scores: np.ndarray, *, deviations: float) -> float:
    """The threshold of a concept from the distribution of its scores (images,)."""
    middle = np.median(scores)
    spread = _TO_DEVIATION * np.median(np.abs(scores - middle))
    return float(middle + deviations * spread)
