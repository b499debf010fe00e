"""Rows whose image looks like target images, such as those of the classes that a model is for.

Source: DataComp's `image_based` filter. Clusters of the data's images are formed, and a row stays if target
images fall into its cluster. DataComp assigns by the dot product with means of k-means; here vectors and
centroids have length one, so that long centroids attract no more than their share. `rule: nearest` needs no
clusters: the cosine with the nearest target image decides, by fraction or threshold.

Targets are training images. With the test set as target, a test measures what was chosen for it.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal, Self, final

import numpy as np
from pydantic import Field, model_validator

from frugalclip.core.errors import DataError
from frugalclip.curation.base import CurationStage, CurationStageConfig, StageRows, Texts, Verdict, plan_path
from frugalclip.curation.clusters import nearest_by_product
from frugalclip.curation.image_clusters import READ, assign_images, cluster_images
from frugalclip.curation.image_vectors import ImageVectors, ImageVectorSource, VectorSettings, image_store
from frugalclip.curation.thresholds import highest_rows
from frugalclip.data.manifest import Manifest
from frugalclip.features.store import Store
from frugalclip.sources.open import read_sources

_ROWS_A_CLUSTER, _LEAST_CLUSTERS = 100, 8
_TARGETS = 16_384  # compared at once

Targets = list[tuple[str, ImageVectors]]  # vectors of each set of targets, with its name


class Config(CurationStageConfig, VectorSettings):
    targets: Texts = Field((), description="data sets of target images, which the model encodes")
    target_store: str | None = Field(None, description="with store: a store of the target images")
    where: str | None = Field(None, description="condition over fields of the targets, such as split=train")
    rule: Literal["clusters", "nearest"] = Field(
        "clusters", description="targets fall into the row's cluster (DataComp), or one is near it"
    )
    clusters: int | None = Field(
        None, ge=1, description="none: one in 100 rows, at least 8. DataComp: 100,000 of 128M rows and less"
    )
    min_targets: int = Field(1, ge=1, description="targets in a cluster whose rows stay; DataComp: 1")
    fraction: float | None = Field(None, gt=0, le=1, description="rule: nearest: share of rows that stays")
    threshold: float | None = Field(None, ge=-1, le=1, description="rule: nearest: cosine of rows that stay")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.model is None) != (not self.targets) or (self.store is None) != (self.target_store is None):
            raise ValueError("give model and targets, or store and target_store")
        if self.where is not None and not self.targets:
            raise ValueError("where chooses among targets; a target_store is taken whole")
        bounds = (self.fraction is not None) + (self.threshold is not None)
        if self.rule == "nearest" and bounds != 1:
            raise ValueError("rule: nearest takes a fraction or a threshold; give one")
        if self.rule == "clusters" and bounds:
            raise ValueError("fraction and threshold belong to rule: nearest")
        return self


@final
class ImageTarget(CurationStage):
    Config = Config
    value = "cosine with the nearest target image, or target images in the row's cluster"
    gives = ("target_cosine", "nearest_target", "target_cluster", "targets_in_cluster")
    reasons: ClassVar = {
        "unreadable": "its image cannot be read",
        "no-target": "too few target images look like the images of its cluster",
        "far-from-targets": "its image is less like its nearest target image than those of rows that stay",
    }

    @cached_property
    def _source(self) -> ImageVectorSource:
        return ImageVectorSource(self.config, self.folder)

    @cached_property
    def _manifests(self) -> list[Manifest]:
        paths = [plan_path(path, self.folder) for path in self.config.targets]
        return [read_sources(path).manifest.where(self.config.where) for path in paths]

    @cached_property
    def _target_store(self) -> Store:
        return Store.open(plan_path(str(self.config.target_store), self.folder))

    def describe(self) -> Mapping[str, Any]:
        if self.config.store is not None:
            content: list[str] = [self._target_store.fingerprint()]
        else:
            content = [manifest.digest() for manifest in self._manifests]
        return {**self._source.describe(), "target_content": content}

    def decide(self, rows: StageRows) -> Verdict:
        verdict = Verdict(len(rows))
        vectors, targets = self._source.vectors(rows), self._targets(rows)
        count = sum(int(part.is_known.sum()) for _, part in targets)
        verdict.drop(~vectors.is_known, "unreadable")
        if vectors.is_known.any():
            by_rule = self._by_clusters if self.config.rule == "clusters" else self._by_distance
            by_rule(verdict, rows, vectors, targets)
        verdict.notes = [f"target images: {count:,}", *verdict.notes, *self._source.notes(rows)]
        return verdict

    def _targets(self, rows: StageRows) -> Targets:
        if self.config.store is not None:
            store = self._target_store
            if store.head.encoder.identity() != self._source.store.head.encoder.identity():
                raise DataError(
                    f"{store.path} and {self._source.store.path} are of two encoders, so their vectors "
                    "cannot be compared; embed both with one MODEL: frugalclip embed MODEL PATH --out STORE."
                )
            found = [(str(self.config.target_store), ImageVectors(store, store.ids))]
        else:
            found = []
            for number, (path, one) in enumerate(zip(self.config.targets, self._manifests, strict=True)):
                store = image_store(self._source.model, one, rows.services, name=f"targets-{number}")
                found.append((path, ImageVectors(store, one.ids)))
        return found

    def _by_clusters(
        self, verdict: Verdict, rows: StageRows, vectors: ImageVectors, targets: Targets
    ) -> None:
        """Drop the rows of clusters into which too few targets fall."""
        least, known = self.config.min_targets, np.flatnonzero(vectors.is_known)
        wanted = self.config.clusters or max(_LEAST_CLUSTERS, round(len(known) / _ROWS_A_CLUSTER))
        draws = rows.draws("image-target")
        found = cluster_images(vectors, known, draws, clusters=wanted, seed=rows.seed)
        counts = np.zeros(len(found.centroids), dtype=np.int64)
        for _, part in targets:
            labels, _ = assign_images(part, np.flatnonzero(part.is_known), found.centroids)
            counts += np.bincount(labels, minlength=len(counts))
        labels, values = np.full((2, len(rows)), np.nan)
        labels[known], values[known] = found.labels, counts[found.labels]
        verdict.scores = {"target_cluster": labels, "targets_in_cluster": values}
        verdict.values[:] = values
        verdict.drop(values < least, "no-target", values=values, threshold=least)
        verdict.notes = [found.note, f"{(counts >= least).sum():,} clusters hold enough target images"]

    def _by_distance(
        self, verdict: Verdict, rows: StageRows, vectors: ImageVectors, targets: Targets
    ) -> None:
        """Drop the rows that are far from every target."""
        config, known = self.config, np.flatnonzero(vectors.is_known)
        cosines, names = np.full(len(rows), np.nan), np.full(len(rows), None, dtype=object)
        for start in range(0, len(known), READ):
            piece = known[start : start + READ]
            cosines[piece], names[piece] = nearest_targets(vectors.read(piece), targets)
        verdict.scores = {"target_cosine": cosines, "nearest_target": names}
        verdict.values[:] = cosines
        threshold, stays = config.threshold, cosines >= (config.threshold or 0)
        if config.fraction is not None:
            stays, threshold = highest_rows(cosines, config.fraction, draws=rows.draws("image-target"))
        verdict.drop(~stays, "far-from-targets", values=cosines, threshold=threshold)


def nearest_targets(values: np.ndarray, targets: Targets) -> tuple[np.ndarray, np.ndarray]:
    """The target image that each image is most like.

    Args:
        values: (rows, dim) float32 unit vectors.
        targets: sets of target images, with their names.

    Returns:
        (rows,) float64 cosines, and (rows,) `NAME:ID`.
    """
    best, names = np.full(len(values), -np.inf), np.full(len(values), None, dtype=object)
    for name, part in targets:
        places = np.flatnonzero(part.is_known)
        for start in range(0, len(places), _TARGETS):
            piece = places[start : start + _TARGETS]
            read = part.read(piece)
            nearest = nearest_by_product(values, read)
            cosines = np.einsum("rd,rd->r", values, read[nearest]).round(6)
            better = cosines > best
            best[better] = cosines[better]
            ids = [f"{name}:{part.ids[place]}" for place in piece[nearest[better]]]
            names[better] = np.array(ids, dtype=object)
    return best, names
