"""What can be known of a class before training: counts, mentions, words, images, and two rehearsals."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frugalclip.auditing.class_rows import ClassRows
from frugalclip.auditing.rehearsal import (
    Rehearsal,
    Texts,
    by_images,
    by_words,
    folds_of_groups,
    rehearse,
    whitened,
)
from frugalclip.auditing.words import WordForms
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.descriptors import descriptors

MOST_ROWS = 8000  # that are rehearsed; of more, rows of classes first, thinned evenly


@dataclass(frozen=True)
class ClassFeatures:
    """What is known of each class."""

    count: np.ndarray  # (classes,) rows that show it
    groups: np.ndarray  # (classes,) distinct groups among them
    mentioned: np.ndarray  # (classes,) rows that show it and whose captions name it
    keyworded: np.ndarray  # (classes,) rows that show it and whose keywords name it
    elsewhere: np.ndarray  # (classes,) rows whose captions name it and that do not show it
    name_similarity: np.ndarray  # (classes,) of the most similar other name
    nearest_name: np.ndarray  # (classes,) int64 class with that name
    spread: np.ndarray  # (classes,) 1 - mean cosine of its images with their mean
    words: Rehearsal
    images: Rehearsal
    domains: np.ndarray  # (classes,) effective number of styles among its rows
    all_domains: float  # the same of all rows
    rows: int  # of the training data

    def __len__(self) -> int:
        return len(self.count)


def measure(manifest: Manifest, classes: ClassRows, *, seed: int = 0) -> ClassFeatures:
    """Measure every class.

    Args:
        manifest: the training data.
        classes: their rows.
        seed: of the folds.
    """
    chosen = _rehearsed_rows(classes.labels)
    vectors, kept = descriptors(manifest.take(chosen))
    rows = chosen[kept]
    labels = classes.labels[rows]
    texts = Texts(*([own[row] for row in rows.tolist()] for own in (classes.captions, classes.keywords)))
    folds = folds_of_groups(classes.groups[rows], seed=seed)
    directions = whitened(vectors)
    mentions = classes.mentions
    nearest, similarity = _names(classes.names)
    whole = classes.labels
    styles = classes.domains if classes.domains is not None else np.zeros(len(whole), dtype=np.int64)
    return ClassFeatures(
        count=whole.sum(axis=0),
        groups=np.array([len(np.unique(classes.groups[own])) for own in whole.T]),
        mentioned=(mentions & whole).sum(axis=0),
        keyworded=(classes.keyworded & whole).sum(axis=0),
        elsewhere=(mentions & ~whole).sum(axis=0),
        name_similarity=similarity,
        nearest_name=nearest,
        spread=_spread(vectors.numpy(), labels),
        words=rehearse(labels, folds, by_words(directions, texts, classes.names)),
        images=rehearse(labels, folds, by_images(directions, labels)),
        domains=np.array([_effective(styles[own]) for own in whole.T]),
        all_domains=_effective(styles),
        rows=len(manifest),
    )


def _rehearsed_rows(labels: np.ndarray) -> np.ndarray:
    named, others = np.flatnonzero(labels.any(axis=1)), np.flatnonzero(~labels.any(axis=1))
    named = named[:: -(-len(named) // MOST_ROWS) or 1]
    room = MOST_ROWS - len(named)
    others = others[:: -(-len(others) // room)] if room and len(others) else others[:0]
    return np.sort(np.concatenate([named, others]))


def _names(names: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """The most similar other name of each class, and the similarity, by words and pieces of three letters."""
    every = [Counter(piece for name in own for piece in _pieces(name)) for own in names]
    columns = {
        piece: column for column, piece in enumerate(sorted({piece for one in every for piece in one}))
    }
    vectors = np.zeros((len(names), max(len(columns), 1)))
    for row, counts in enumerate(every):
        for piece, count in counts.items():
            vectors[row, columns[piece]] = count
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    nearest = cosines.argmax(axis=1)
    return nearest, np.maximum(cosines[np.arange(len(names)), nearest], 0)


def _pieces(name: str) -> list[str]:
    words = WordForms()(name)
    return [f" {word} "[i : i + 3] for word in words for i in range(max(len(word), 1))] + words


def _spread(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(classes,) 1 - mean cosine of a class's images with their mean; 1 for a class of one or none."""
    found = np.ones(labels.shape[1])
    for column, own in enumerate(labels.T):
        if own.sum() > 1:
            total = vectors[own].sum(axis=0)
            apart = total - vectors[own]  # of the others, so that a row is not compared with itself
            cosines = (vectors[own] * apart).sum(axis=1) / np.maximum(np.linalg.norm(apart, axis=1), 1e-9)
            found[column] = 1 - cosines.mean()
    return found


def _effective(values: np.ndarray) -> float:
    """How many equally frequent values would be as diverse (exponential of the entropy); 0 without any."""
    if not len(values):
        return 0.0
    shares = np.unique(values, return_counts=True)[1] / len(values)
    return float(np.exp(-(shares * np.log(shares)).sum()))
