"""Smaller data sets inside a data set: whole concepts, or a share of every concept.

Subsets of one seed are nested: the half holds the quarter. The order is a hash of the value, so it does not depend on the order of rows.
"""

from fractions import Fraction
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from frugalclip.core.config import Settings
from frugalclip.core.errors import DataError
from frugalclip.core.random import uniform
from frugalclip.data.manifest import Manifest


class SubsetConfig(Settings):
    """How a part of the training pairs is chosen; give one of the two."""

    by: str | None = Field(
        None,
        description="field whose values stay or go as a whole, such as concept, family or style; default the captions",
    )
    within: str | None = Field(
        None,
        description="field of which every value keeps the same share of its pairs, such as concept or style",
    )

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Self:
        if self.by and self.within:
            raise ValueError(f"by: {self.by} and within: {self.within} are both given; keep one")
        return self


def subset_rows(
    manifest: Manifest, fraction: float, config: SubsetConfig | None = None, *, seed: int = 0
) -> np.ndarray:
    """Rows of a part of a data set.

    Args:
        manifest: the data set.
        fraction: share of the pairs, above 0 up to 1; whole values come as close to it as they can.
        config: see `SubsetConfig`; default whole captions.
        seed: equal seeds give nested parts, other seeds other parts.

    Returns:
        (kept,) int64, ascending, at least one.

    Raises:
        DataError: for a field that is not there.
    """
    config = config or SubsetConfig()
    rows = np.arange(len(manifest))
    if fraction >= 1:
        return rows
    if config.within is not None:
        return _of_every_value(manifest, config.within, fraction, seed)
    codes = manifest.codes(config.by or "captions").view(np.uint64)
    values, inverse, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    order = np.argsort(uniform(seed, "subset", values, 1)[:, 0], kind="stable")
    reached = np.cumsum(sizes[order])
    kept = order[: 1 + int(np.argmin(np.abs(reached - fraction * len(manifest))))]
    return rows[np.isin(inverse.reshape(-1), kept)]


def _of_every_value(manifest: Manifest, field: str, fraction: float, seed: int) -> np.ndarray:
    """The first of each value's rows in the order of a hash of their ids: `round(share)` of them, with a coin of the value's for the rest."""
    codes, own = manifest.codes(field).view(np.uint64), manifest.codes("id").view(np.uint64)
    values, inverse, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    wanted = np.floor(fraction * sizes + uniform(seed, "subset/coin", values, 1)[:, 0]).astype(
        np.int64
    )  # (values,), grows with the fraction
    order = np.lexsort((uniform(seed, "subset/row", own, 1)[:, 0], inverse))
    starts = np.cumsum(sizes) - sizes
    place = np.arange(len(order)) - np.repeat(starts, sizes)  # of each row among those of its value
    chosen = order[place < np.repeat(wanted, sizes)]
    return np.sort(chosen if len(chosen) else order[:1])


def parse_fractions(text: str) -> list[float]:
    """`1/8,1/4,1` as numbers, ascending; 1 is added where it is missing, since every factor is against all pairs.

    Raises:
        DataError: for what is not a number above 0 up to 1.
    """
    found = {1.0}
    for part in text.split(","):
        try:
            value = float(Fraction(part.strip()))
        except (ValueError, ZeroDivisionError):
            raise DataError(
                f"'{part.strip()}' in --fractions {text} is not a number; write fractions such as 1/8,1/4,1."
            ) from None
        if not 0 < value <= 1:
            raise DataError(
                f"{part.strip()} in --fractions {text} is not above 0 and at most 1; write fractions such as 1/8,1/4,1."
            )
        found.add(value)
    return sorted(found)
