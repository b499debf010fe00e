"""Pairs of images that hardly differ, by their thumbnails."""

import numpy as np

from frugalclip.curation.keepers import Pairs
from frugalclip.curation.measures import ImageMeasures
from frugalclip.data.duplicates import NEAR_DUPLICATE, near_pairs


def near_image_pairs(images: ImageMeasures, *, least: float) -> Pairs:
    """Pairs of images whose similarity is at least so large."""
    small = images.thumbnails().reshape(-1, 3, 16, 2, 16, 2).mean(axis=(3, 5))
    first, second, distances = near_pairs(np.rint(small).astype(np.int16).reshape(len(images), -1))
    similarity = 1 - distances / (10 * NEAR_DUPLICATE)
    near = similarity >= least
    return Pairs(first[near], second[near], similarity[near])
