"""Vectors of the images of a stage's rows: of any MODEL, or from a store that `frugalclip embed` wrote.

A MODEL encodes an image once in a curation: rows only get fewer from stage to stage, so what the first stage
has stored serves the later ones. Vectors stay on disk and are read a piece at a time.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from pydantic import Field, model_validator

from frugalclip.core.config import Settings
from frugalclip.core.devices import pick_device
from frugalclip.curation.base import Services, StageRows, plan_path
from frugalclip.curation.trained_rows import trained_ids
from frugalclip.data.manifest import Manifest
from frugalclip.features.embed import embed_manifest
from frugalclip.features.format import read_head
from frugalclip.features.store import Store
from frugalclip.models import Model, load


class VectorSettings(Settings):
    """Settings of stages that compare images by vectors."""

    model: str | None = Field(None, description="a MODEL that encodes the images")
    store: str | None = Field(None, description="in its place, a store of the rows that `embed` wrote")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.model is None) == (self.store is None):
            raise ValueError("model and store are both given or both missing; give one")
        return self


@final
class ImageVectors:
    """Unit vectors of the images of some rows.

    Args:
        store: holds the vectors.
        ids: of the rows, all of which the store has.
    """

    def __init__(self, store: Store, ids: Sequence[str]) -> None:
        self.store, self.ids = store, ids
        self._places = store.rows_of(ids)

    def __len__(self) -> int:
        return len(self._places)

    @cached_property
    def is_known(self) -> np.ndarray:
        """(rows,) bool, False where the image cannot be read."""
        return ~self.store.missing("image")[self._places]

    def read(self, rows: np.ndarray) -> np.ndarray:
        """(some, dim) float32 unit vectors of some of the rows, in their order."""
        values = self.store.vectors("image", self._places[rows]).numpy()
        lengths = np.linalg.norm(values, axis=1, keepdims=True)
        return values / np.maximum(lengths, np.finfo(np.float32).tiny)


@final
class ImageVectorSource:
    """Where a stage has its image vectors from.

    Args:
        settings: of the stage.
        folder: where paths in the plan start.
    """

    def __init__(self, settings: VectorSettings, folder: Path) -> None:
        self.settings, self.folder = settings, folder

    def describe(self) -> Mapping[str, Any]:
        """What decides the vectors, as JSON values."""
        if self.settings.store is not None:
            return {"store_content": self.store.fingerprint()}
        return {"model_content": self.model.fingerprint}

    @cached_property
    def store(self) -> Store:
        """The store that the plan names."""
        return Store.open(plan_path(str(self.settings.store), self.folder))

    @cached_property
    def model(self) -> Model:
        """The MODEL that the plan names."""
        return load(plan_path(str(self.settings.model), self.folder), device=pick_device("auto"))

    def notes(self, rows: StageRows) -> list[str]:
        """How many of a stage's rows the model was trained on, for the report."""
        if self.settings.model is None:
            return []
        trained = trained_ids(plan_path(self.settings.model, self.folder))
        seen = sum(id in trained for id in rows.manifest.ids)
        return (
            [f"{seen:,} rows were trained on by the model, which tells them apart too well"] if seen else []
        )

    def vectors(self, rows: StageRows) -> ImageVectors:
        """The vectors of a stage's rows."""
        if self.settings.store is not None:
            return ImageVectors(self.store, rows.manifest.ids)
        return ImageVectors(image_store(self.model, rows.manifest, rows.services), rows.manifest.ids)


def image_store(model: Model, manifest: Manifest, services: Services, *, name: str = "images") -> Store:
    """The image vectors of rows in the folder of their curation, encoded by the first stage that reads them.

    Args:
        model: encodes the images.
        manifest: the rows of a stage, all of which earlier stages had.
        services: of the run.
        name: of the images; other ones than those of the data set have one of their own.
    """
    folder = services.store_folder(f"{name}-{model.fingerprint[:16]}")
    if (folder / "store.json").is_file() and read_head(folder).complete:
        return Store.open(folder)
    return embed_manifest(model, manifest, folder, what="images", dtype="float32").store
