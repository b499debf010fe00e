"""A rehearsal names images that its fit has not seen, and counts what it mistook."""

import numpy as np
import torch

from frugalclip.auditing.rehearsal import Texts, by_images, by_words, folds_of_groups, rehearse

NAMES = [["red thing"], ["blue thing"], ["green thing"]]


def rows(of_each: int = 12, apart: float = 4.0) -> tuple[torch.Tensor, np.ndarray, Texts]:
    """Images around one direction for each class, with captions that name it."""
    random = torch.Generator().manual_seed(0)
    own = np.repeat(np.arange(3), of_each)
    vectors = torch.randn(len(own), 16, generator=random)
    vectors[torch.arange(len(own)), torch.from_numpy(own)] += apart
    captions = [[f"a {NAMES[kind][0]} number {row}"] for row, kind in enumerate(own)]
    return (
        torch.nn.functional.normalize(vectors, dim=1),
        np.eye(3, dtype=bool)[own],
        Texts(captions, [[]] * len(own)),
    )


def test_classes_that_are_apart_are_named_and_a_random_one_is_not():
    vectors, labels, texts = rows(apart=8.0)
    folds = folds_of_groups(np.arange(len(labels)))
    for score in (by_words(vectors, texts, NAMES), by_images(vectors, labels)):
        found = rehearse(labels, folds, score)
        assert found.rows.tolist() == [12, 12, 12]
        assert found.hits.min() >= 11
        assert found.confusions.sum() == labels.sum() - found.hits.sum()


def test_a_class_that_no_caption_names_fails_by_words_only():
    vectors, labels, texts = rows(apart=8.0)
    silent = [["something"] if labels[row, 1] else own for row, own in enumerate(texts.captions)]
    folds = folds_of_groups(np.arange(len(labels)))
    by_name = rehearse(labels, folds, by_words(vectors, Texts(silent, texts.keywords), NAMES))
    assert by_name.hits[1] < by_name.hits[[0, 2]].min() / 2
    assert rehearse(labels, folds, by_images(vectors, labels)).hits[1] >= 11


def test_keywords_count_where_captions_are_silent():
    vectors, labels, texts = rows(apart=8.0)
    silent = [["something"] if labels[row, 1] else own for row, own in enumerate(texts.captions)]
    words = [["blue thing"] if labels[row, 1] else [] for row in range(len(labels))]
    folds = folds_of_groups(np.arange(len(labels)))
    assert rehearse(labels, folds, by_words(vectors, Texts(silent, words), NAMES)).hits[1] >= 10


def test_folds_keep_groups_whole_and_a_row_is_never_fitted_to_itself():
    groups = np.repeat(np.arange(10), 3)
    folds = folds_of_groups(groups)
    assert all(len(set(folds[groups == group])) == 1 for group in range(10))
    seen: list[set[int]] = []

    def score(fitted: np.ndarray, scored: np.ndarray) -> torch.Tensor:
        seen.append(set(fitted.tolist()) & set(scored.tolist()))
        return torch.zeros(len(scored), 2)

    rehearse(np.ones((30, 2), dtype=bool), folds, score)
    assert seen == [set()] * len(seen)
    assert len(seen) == 4


def test_equal_scores_give_chance_shares():
    labels = np.eye(4, dtype=bool)[np.arange(8) % 4]
    found = rehearse(labels, np.arange(8) % 4, lambda fitted, scored: torch.zeros(len(scored), 4))
    assert found.shares.sum() == 2.0  # a quarter of each of eight rows
    assert found.ranks.sum() == 0.0
