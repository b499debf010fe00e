"""A training in closed form, asked to name images that it has not seen: the best hint at what will fail.

Rows are divided into folds, groups such as near duplicates whole. On the other folds words are mapped to
shapes and colours (as in `evaluation.descriptor_fit`, a row being one text), and the images of a fold are
named among the classes. A second rehearsal names them by the nearest mean image of a class, and so needs
no captions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.random import stream_seed
from frugalclip.evaluation.descriptor_fit import DIM, MOST_WORDS, POWER, RIDGE
from frugalclip.evaluation.word_similarity import WordSimilarity
from frugalclip.functional import unit
from frugalclip.towers.heads.ridge import RidgeConfig
from frugalclip.towers.heads.whitening import WhiteningConfig

FOLDS = 4
KEYWORDS = 0.15  # share of the texts of a row with keywords, as in the small recipes
_SHARPNESS = 3.0  # of standard deviations over classes, where scores become shares
Scorer = Callable[[np.ndarray, np.ndarray], Tensor]  # rows to fit to, rows to score -> (scored, classes)


@dataclass(frozen=True)
class Rehearsal:
    """How each class fared."""

    rows: np.ndarray  # (classes,) int64 that were named
    hits: np.ndarray  # (classes,) rows whose first class was right
    shares: np.ndarray  # (classes,) sum over rows of the weight of the right classes
    ranks: np.ndarray  # (classes,) sum over rows of the share of wrong classes below the right one
    confusions: np.ndarray  # (classes, classes) rows of one that were wrongly named another


def folds_of_groups(groups: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """(rows,) int64 fold of each row; a group is whole in one."""
    distinct, places = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(stream_seed(seed, "rehearsal/folds")).permutation(len(distinct))
    return order[places] % FOLDS


def rehearse(labels: np.ndarray, folds: np.ndarray, score: Scorer) -> Rehearsal:
    """Name the rows of each fold by what was fitted to the others.

    Args:
        labels: (rows, classes) bool.
        folds: (rows,) int64.
        score: fits and scores.
    """
    scores = np.zeros(labels.shape, dtype=np.float32)
    named = labels.any(axis=1)
    for fold in np.unique(folds[named]):
        rows = np.flatnonzero(named & (folds == fold))
        others = np.flatnonzero(folds != fold)
        if len(others):
            scores[rows] = score(others, rows).numpy()
    return _counted(labels[named], scores[named])


def _counted(labels: np.ndarray, scores: np.ndarray) -> Rehearsal:
    spread = scores.std(axis=1, keepdims=True)
    weights = np.exp(_SHARPNESS * (scores - scores.max(axis=1, keepdims=True)) / np.maximum(spread, 1e-6))
    weights /= weights.sum(axis=1, keepdims=True)
    first = scores.argmax(axis=1)
    right = labels[np.arange(len(labels)), first]
    best = np.where(labels, scores, -np.inf).max(axis=1, initial=-np.inf)
    below = ((scores < best[:, None]) & ~labels).sum(axis=1) / np.maximum((~labels).sum(axis=1), 1)
    wrong = np.zeros((labels.shape[1], labels.shape[1]), dtype=np.int64)
    for row in np.flatnonzero(~right):
        wrong[labels[row], first[row]] += 1
    per_row = {"hits": right, "shares": (weights * labels).sum(axis=1), "ranks": below}
    sums = {name: labels.T.astype(np.float64) @ values for name, values in per_row.items()}
    return Rehearsal(rows=labels.sum(axis=0), confusions=wrong, **sums)


def whitened(vectors: Tensor) -> Tensor:
    """(rows, dim) unit vectors of images; over all folds at once, as captions and classes have no part."""
    head = WhiteningConfig(kind="whitening", power=POWER).build(width=vectors.shape[1], dim=DIM)
    head.fit_to(vectors)
    return unit(head(vectors))


@dataclass(frozen=True)
class Texts:
    """What is written about each row."""

    captions: Sequence[Sequence[str]]  # (rows,)
    keywords: Sequence[Sequence[str]]  # (rows,)


def by_words(vectors: Tensor, texts: Texts, names: Sequence[Sequence[str]]) -> Scorer:
    """Ridge regression of words to images, and cosines of images with names.

    Args:
        vectors: (rows, dim) whitened descriptors.
        texts: of the rows.
        names: (classes,) names of each.
    """
    naming, wanted = _word_vectors(texts, names)

    def score(fitted: np.ndarray, scored: np.ndarray) -> Tensor:
        rows = torch.from_numpy(fitted)
        head = RidgeConfig(ridge=RIDGE).build(width=naming.shape[1], dim=vectors.shape[1])
        head.fit_to(naming[rows], vectors[rows], torch.ones(len(rows)))
        return vectors[torch.from_numpy(scored)] @ unit(head(wanted)).T

    return score


def _word_vectors(texts: Texts, names: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
    """(rows, words) and (classes, words) weighted counts, keywords with their share of the training.

    Words stay as they are written: to a small model without other texts, `swords` is no `sword`.
    """
    parts = (texts.captions, texts.keywords, names)
    similarity = WordSimilarity(text for part in parts[:2] for own in part for text in own)
    frequent = [word for word, _ in similarity.found_in.most_common(MOST_WORDS)]
    columns = {word: column for column, word in enumerate(sorted(frequent))}
    captions, keywords, wanted = (_mean_vectors(part, similarity, columns) for part in parts)
    has_keywords = torch.tensor([bool(own) for own in texts.keywords])[:, None]
    share = torch.where(has_keywords, torch.tensor(KEYWORDS), torch.tensor(0.0))
    return (1 - share) * captions + share * keywords, wanted


def _mean_vectors(
    texts: Sequence[Sequence[str]], similarity: WordSimilarity, columns: dict[str, int]
) -> Tensor:
    """(rows, words) means over the texts of a row."""
    owners = torch.tensor([row for row, own in enumerate(texts) for _ in own], dtype=torch.int64)
    sums = torch.zeros(len(texts), max(len(columns), 1))
    if len(columns) and len(owners):
        every = similarity.vectors([text for own in texts for text in own], columns)
        places = every.indices()
        sums.view(-1).index_add_(0, owners[places[0]] * sums.shape[1] + places[1], every.values())
    return sums / owners.bincount(minlength=len(texts)).clamp(min=1)[:, None]


def by_images(vectors: Tensor, labels: np.ndarray) -> Scorer:
    """Cosines of images with the mean of each class; a class without rows is last.

    Args:
        vectors: (rows, dim) whitened descriptors.
        labels: (rows, classes) bool.
    """

    def score(fitted: np.ndarray, scored: np.ndarray) -> Tensor:
        known, seen = vectors[torch.from_numpy(fitted)], torch.from_numpy(labels[fitted]).float()
        scores = vectors[torch.from_numpy(scored)] @ unit(seen.T @ known).T
        return torch.where(seen.any(dim=0), scores, torch.tensor(-1.0))

    return score
