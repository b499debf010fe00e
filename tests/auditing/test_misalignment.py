"""Misalignment counts samples with disjoint concepts."""

import numpy as np

from frugalclip.auditing.misalignment import misalignment


def test_only_samples_with_a_concept_on_both_sides_can_be_misaligned():
    texts, images = np.array([1, 1, 0, 2, 0]), np.array([1, 0, 1, 1, 0])
    found = misalignment(texts, images, np.array([0, 0, 0, 1, 0]), samples=10)
    assert (found.texts, found.images, found.both, found.misaligned) == (3, 3, 2, 1)
    assert (found.of_extracted, found.of_all, found.of_both) == (1 / 3, 1 / 10, 1 / 2)


def test_a_data_set_without_concepts_has_no_misalignment():
    nothing = np.zeros(4)
    assert misalignment(nothing, nothing, nothing, samples=4).of_both == 0
