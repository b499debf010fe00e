"""Representative rows: a share of every cluster of images that are described by discrete codes.

Source: TL;DR (arXiv 2305.20087, `datacentric.vlp`): codes of patches, whitened vectors of codes, k-means, a
share of each cluster, and the half of the rows whose image and caption belong together best. The codebook is
that of a captioner that was trained on the data (recipe `tldr-captioner`), or centres of k-means over patch
features of any MODEL or of descriptors that need none.

The share is exact, and rows of too low an alignment are replaced from their cluster. `every_nth` does what
the authors' code does: each cluster gives every N-th row, at least one, and of these the aligned ones stay.
"""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal, Self, final

import numpy as np
import torch
from pydantic import Field, model_validator

from frugalclip.core.numerics import kmeans, nearest_centres
from frugalclip.core.random import generator
from frugalclip.curation.base import (
    CurationStage,
    CurationStageConfig,
    StageNeeds,
    StageRows,
    Verdict,
    plan_path,
)
from frugalclip.curation.clusters import every_nth, whitened
from frugalclip.curation.codes import STEPS, ImageCodes, Representation, code_rows, code_vectors, fit_codebook
from frugalclip.curation.patches import PatchSource, patch_source
from frugalclip.curation.selection import Order, Quota, cluster_places, cluster_quotas, selection_keys
from frugalclip.curation.thresholds import highest_rows
from frugalclip.functional import code_perplexity

_MOST_CLUSTERS = 1000  # the authors' number
_POINTS_A_CLUSTER = 256  # rows that centres are fitted to, for each cluster


class Config(CurationStageConfig):
    keep: float = Field(0.25, gt=0, lt=1, description="share of the rows that stays; paper: 0.16 to 0.25")
    model: str | None = Field(
        None,
        description="a run of tldr-captioner, whose codes are taken, or any MODEL with patches; none: "
        "descriptors that need no model",
    )
    codes: int = Field(1024, ge=2, description="in a codebook that is fitted here; the authors' code: 1,024")
    features: Representation = Field("code_embedding_mean", description="vector of an image, from its codes")
    components: int = Field(256, ge=1, description="principal axes that are kept, at most; paper: 256")
    clusters: int | None = Field(
        None, ge=1, description="none: one for each row that stays, at most 1,000 as in the authors' code"
    )
    strategy: Order | Literal["every_nth"] = Field(
        "nearest", description="rows of a cluster that stay: nearest or farthest, at random, or every N-th"
    )
    quota: Quota = Field(
        "proportional", description="rows of each cluster: by its size, the root of it, or equally many"
    )
    step: int | None = Field(
        None, ge=1, description="N of every_nth; none: from keep and keep_aligned. The authors' code: 5"
    )
    alignment: str | None = Field(
        None, description="a score that an earlier stage gives, such as clip_score; none: no row is unaligned"
    )
    keep_aligned: float = Field(
        0.5, gt=0, le=1, description="share of the rows, those of the highest alignment, that may stay"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.alignment is not None and self.keep > self.keep_aligned:
            raise ValueError(
                f"keep is {self.keep:g} of the rows, and keep_aligned leaves {self.keep_aligned:g} of them; "
                "raise keep_aligned"
            )
        if self.step is not None and self.strategy != "every_nth":
            raise ValueError(f"step belongs to strategy: every_nth, and strategy is {self.strategy}")
        return self


@final
class Tldr(CurationStage):
    Config = Config
    gives = ("tldr_cluster", "tldr_distance")
    value = "alignment, or the place in its cluster by the number of places"
    reasons: ClassVar = {
        "unreadable": "its image cannot be read",
        "unaligned": "its image and caption belong together less than those of the rows that may stay",
        "no-place": "its cluster is too small to have a place",
        "not-chosen": "other rows of its cluster stay in its place",
    }

    def needs(self) -> StageNeeds:
        c = self.config
        return StageNeeds(images=c.model is None, scores=frozenset({c.alignment} - {None}))

    def describe(self) -> Mapping[str, Any]:
        return self._source.describe()

    @cached_property
    def _source(self) -> PatchSource:
        name = self.config.model
        return patch_source(None if name is None else plan_path(name, self.folder))

    def decide(self, rows: StageRows) -> Verdict:
        verdict, source = Verdict(len(rows)), self._source
        codebook = (
            source.codebook if source.codebook is not None else fit_codebook(source, rows, self.config.codes)
        )
        codes = code_rows(source, rows, codebook)
        verdict.drop(~codes.is_known, "unreadable")
        known = np.flatnonzero(codes.is_known)
        if not len(known):
            return verdict
        labels, distances = self._clusters(codes, known, rows)
        is_aligned = self._aligned(verdict, rows)
        if self.config.strategy == "every_nth":
            self._every_nth(verdict, known, labels)
        else:
            keys = selection_keys(self.config.strategy, distances, rows.draws("tldr")[known])
            candidates = is_aligned[known]
            self._by_quota(verdict, known[candidates], labels[candidates], keys[candidates])
        verdict.scores = {
            "tldr_cluster": _whole(labels, known, len(rows)),
            "tldr_distance": _whole(distances, known, len(rows)),
        }
        verdict.notes = self._notes(codes, labels, verdict)
        return verdict

    def _clusters(
        self, codes: ImageCodes, known: np.ndarray, rows: StageRows
    ) -> tuple[np.ndarray, np.ndarray]:
        """(known,) cluster of each row that can be read, and (known,) its distance to the centre."""
        config = self.config
        vectors = code_vectors(codes.values[known], codes.codebook, config.features)
        components = min(config.components, vectors.shape[1], max(len(vectors) - 1, 1))
        points = torch.from_numpy(whitened(vectors, components)).float()
        number = min(config.clusters or min(self._target(rows), _MOST_CLUSTERS), len(points))
        ids = np.sort(np.argsort(rows.draws("clusters")[known], kind="stable")[: number * _POINTS_A_CLUSTER])
        steps = generator(rows.seed, "curate/clusters")
        centres = kmeans(points[torch.from_numpy(ids)], number, steps=STEPS, generator=steps).centres
        labels = nearest_centres(points, centres)
        return labels.numpy(), (points - centres[labels]).norm(dim=1).double().numpy()

    def _target(self, rows: StageRows) -> int:
        return max(1, round(self.config.keep * len(rows)))

    def _aligned(self, verdict: Verdict, rows: StageRows) -> np.ndarray:
        """(rows,) whether a row may stay, by its alignment; the others are dropped."""
        config, count = self.config, len(rows)
        if config.alignment is None:
            return np.ones(count, dtype=bool)
        scores = np.asarray(rows.scores[config.alignment], dtype=np.float64)
        share = math.floor(config.keep_aligned * count + 1e-9) / max(count, 1)  # floor(n / 2) of the card
        is_aligned, threshold = highest_rows(scores, share, draws=rows.draws("alignment"))
        verdict.drop(~is_aligned, "unaligned", values=scores, threshold=threshold)
        return is_aligned

    def _every_nth(self, verdict: Verdict, known: np.ndarray, labels: np.ndarray) -> None:
        """Drop all but every N-th row of each cluster, aligned or not."""
        config = self.config
        share = config.keep / (1.0 if config.alignment is None else config.keep_aligned)
        step = config.step or max(1, round(1 / share))
        stays = np.ones(len(verdict.reasons), dtype=bool)
        stays[known] = False
        stays[known[every_nth(labels, step)]] = True
        verdict.drop(~stays, "not-chosen")

    def _by_quota(self, verdict: Verdict, rows: np.ndarray, labels: np.ndarray, keys: np.ndarray) -> None:
        """Drop the rows behind the places of their cluster, of those that are aligned."""
        total = len(verdict.reasons)
        sizes = np.bincount(labels) if len(labels) else np.zeros(1, dtype=np.int64)
        quotas = cluster_quotas(sizes, max(1, round(self.config.keep * total)), self.config.quota)[labels]
        values, has_place = np.full(total, np.nan), np.ones(total, dtype=bool)
        has_place[rows] = quotas > 0
        values[rows] = (cluster_places(labels, keys) + 1) / np.maximum(quotas, 1)
        verdict.drop(~has_place, "no-place")
        verdict.drop(values > 1, "not-chosen", values=values, threshold=1.0)

    def _notes(self, codes: ImageCodes, labels: np.ndarray, verdict: Verdict) -> list[str]:
        values, count = codes.values[codes.is_known], len(codes.codebook)
        sizes = np.sort(np.bincount(labels)) if len(labels) else np.zeros(1, dtype=np.int64)
        perplexity = float(code_perplexity(torch.from_numpy(values).long(), count)) if len(values) else 1.0
        return [
            f"codes: {len(np.unique(values)):,} of {count:,} are used, perplexity {perplexity:,.0f}",
            f"{len(sizes):,} clusters of {sizes[0]:,} to {sizes[-1]:,} rows, half of them with at most "
            f"{int(np.median(sizes)):,}",
            f"{verdict.is_kept.mean():.1%} of the rows stay, {self.config.keep:.1%} were wanted",
        ]


def _whole(values: np.ndarray, known: np.ndarray, count: int) -> np.ndarray:
    """(count,) float64, NaN where nothing is known."""
    result = np.full(count, np.nan)
    result[known] = values
    return result
