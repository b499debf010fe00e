"""Codes of images: a codebook of patch features, the codes of every image, and vectors made of codes.

Source: TL;DR (arXiv 2305.20087). Its clustering takes code numbers for magnitudes (`fast_cluster.py`), which
`official_indices` does too. The others are ours: the mean vector of an image's codes, or how often it has
each code. Every choice is made by id and seed, in evaluation mode; the authors' codes change from run to run.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.numerics import kmeans
from frugalclip.core.random import generator, uniform
from frugalclip.curation.base import StageRows
from frugalclip.curation.patches import PatchSource
from frugalclip.functional import nearest_codes

Representation = Literal["code_embedding_mean", "code_histogram", "official_indices"]
POINTS_A_CODE = 64  # patches that a codebook is fitted to, for each code
PATCHES_AN_IMAGE = 16  # of these, from one image at most
STEPS = 20  # of k-means


class ImageCodes(NamedTuple):
    """The codes of the patches of some rows."""

    values: np.ndarray  # (rows, patches) int32; -1 where the image cannot be read
    codebook: Tensor  # (codes, width)

    @property
    def is_known(self) -> np.ndarray:
        """(rows,) bool."""
        return self.values[:, 0] >= 0


def fit_codebook(source: PatchSource, rows: StageRows, codes: int) -> Tensor:
    """Centres of k-means over patches of rows that are drawn by id.

    Args:
        source: of the patch features.
        rows: of a stage.
        codes: in the codebook; fewer where there are fewer patches.

    Returns:
        (codes, width).
    """
    images = math.ceil(codes * POINTS_A_CODE / PATCHES_AN_IMAGE)
    drawn = np.sort(np.argsort(rows.draws("codebook"), kind="stable")[:images])
    points = [
        _some_patches(features, rows.codes[places], seed=rows.seed)
        for places, features in source.batches(rows, drawn)
    ]
    if not points:
        return torch.zeros(0, 1)
    every = torch.cat(points)
    steps = generator(rows.seed, "curate/codebook")
    return kmeans(every, min(codes, len(every)), steps=STEPS, generator=steps).centres


def _some_patches(features: Tensor, ids: np.ndarray, *, seed: int) -> Tensor:
    """(points, width) patches of each image, drawn by its id, from (images, patches, width)."""
    length = features.shape[1]
    draws = torch.from_numpy(uniform(seed, "curate/patches", ids, length))
    chosen = draws.argsort(dim=1, stable=True)[:, :PATCHES_AN_IMAGE]  # (images, some)
    return features.gather(1, chosen[:, :, None].expand(-1, -1, features.shape[2])).flatten(0, 1)


def code_rows(source: PatchSource, rows: StageRows, codebook: Tensor) -> ImageCodes:
    """The codes of all rows.

    Args:
        source: of the patch features.
        rows: of a stage.
        codebook: (codes, width).
    """
    values: np.ndarray | None = None
    for places, features in source.batches(rows, np.arange(len(rows))):
        found = nearest_codes(features, codebook).numpy()  # (batch, patches)
        if values is None:
            values = np.full((len(rows), found.shape[1]), -1, dtype=np.int32)
        values[places] = found
    return ImageCodes(np.full((len(rows), 1), -1, np.int32) if values is None else values, codebook)


def code_vectors(values: np.ndarray, codebook: Tensor, representation: Representation) -> np.ndarray:
    """A vector for each image.

    Args:
        values: (rows, patches) codes.
        codebook: (codes, width).
        representation: `code_embedding_mean` is the mean of the codes' vectors; `code_histogram` the roots of
            the codes' shares; `official_indices` the code numbers themselves.

    Returns:
        (rows, dim) float32; dim is the width, the number of codes or that of patches.
    """
    if representation == "official_indices":
        return values.astype(np.float32)
    vectors = codebook.float().cpu().numpy()
    pieces = [
        _roots(part, len(vectors)) if representation == "code_histogram" else vectors[part].mean(axis=1)
        for part in np.array_split(values, max(1, math.ceil(len(values) / 1024)))
    ]
    return np.concatenate(pieces)


def _roots(values: np.ndarray, codes: int) -> np.ndarray:
    """(rows, codes) float32 roots of the shares of each code."""
    places = np.arange(len(values))[:, None] * codes + values
    counts = np.bincount(places.ravel(), minlength=len(values) * codes).reshape(len(values), codes)
    return np.sqrt(counts / values.shape[1]).astype(np.float32)
