"""The images of a data set, encoded once: their vectors in a store, as an encoder of images."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, final

import numpy as np

from frugalclip.core.errors import DataError
from frugalclip.data.manifest import Manifest
from frugalclip.features.store import Store

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class StoredFeatures:
    """Vectors of the rows that have one."""

    features: "Tensor"  # (kept, dim) float32
    rows: np.ndarray  # (kept,) int64 rows of the data set
    faults: list[tuple[int, str]] = field(default_factory=list)  # (row, cause)


@final
class StoredImages:
    """Image vectors of a store, found by the ids of a data set.

    Args:
        store: with one vector for each image.

    Raises:
        DataError: for a store without image vectors.
    """

    def __init__(self, store: Store) -> None:
        if len(store.shape("image")) > 1:
            raise DataError(f"{store.path} has several vectors for each image; a classifier takes one.")
        self.store = store

    def image_features(
        self, manifest: Manifest, *, layer: Literal["embedding", "pooled"] = "embedding"
    ) -> StoredFeatures:
        """The vectors of a data set's rows.

        Args:
            manifest: rows, all of which are in the store.
            layer: whatever was embedded is there, so this is not read.

        Raises:
            DataError: naming an id that is not in the store.
        """
        ids = manifest.ids
        places = self.store.rows_of(ids)
        absent, causes = self.store.missing("image")[places], self.store.causes()
        kept = np.flatnonzero(~absent)
        faults = [(int(row), causes.get(ids[row], "without a vector")) for row in np.flatnonzero(absent)]
        return StoredFeatures(self.store.vectors("image", places[kept]), kept, faults)
