"""Planted noise keeps a mask of what it changed."""

import numpy as np

from frugalclip.data.planted_noise import (
    asymmetric_labels,
    swapped_captions,
    uniform_labels,
    uniform_other_labels,
)

LABELS = np.arange(1000) % 5


def test_uniform_draws_hit_the_true_class_one_time_in_as_many():
    found = uniform_labels(LABELS, classes=5, ratio=0.4, seed=3)
    assert found.is_planted.sum() == 400
    changed = found.labels != LABELS
    assert (changed <= found.is_planted).all()
    assert abs(changed.mean() - 0.4 * (1 - 1 / 5)) < 0.03


def test_uniform_other_never_hits_it():
    found = uniform_other_labels(LABELS, classes=5, ratio=0.4, seed=3)
    np.testing.assert_array_equal(found.labels != LABELS, found.is_planted)
    assert found.is_planted.sum() == 400
    assert set(found.labels.tolist()) == set(range(5))


def test_asymmetric_noise_follows_its_map_and_leaves_fixed_classes_clean():
    found = asymmetric_labels(LABELS, targets=[1, 2, 0, 3, 4], ratio=0.5, seed=3)
    assert found.is_planted.sum() == 300
    assert set(LABELS[found.is_planted].tolist()) == {0, 1, 2}
    np.testing.assert_array_equal(found.labels[found.is_planted], (LABELS[found.is_planted] + 1) % 3)


def test_swapped_captions_never_come_back_and_keep_the_captions_as_a_whole():
    source, mask = swapped_captions(101, ratio=0.3, seed=3)
    assert mask.sum() == 30
    assert (source != np.arange(101))[mask].all()
    assert sorted(source.tolist()) == list(range(101))
    assert not swapped_captions(10, ratio=0.1, seed=0)[1].any()  # one alone has nobody to swap with
    assert not np.array_equal(source, swapped_captions(101, ratio=0.3, seed=4)[0])
