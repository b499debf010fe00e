"""One row of images that mean the same: near each other in the space of a MODEL. See `curation.semantic`.

Source: SemDeDup (arXiv 2303.09540). `rule: paper` keeps one row of each group; every row that goes is like
one that stays. `rule: code` does what the authors' code does, which also drops chains.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal, final

import numpy as np
from pydantic import Field

from frugalclip.curation.base import StageRows, Verdict
from frugalclip.curation.duplicates import DuplicateConfig, DuplicateStage
from frugalclip.curation.image_clusters import Clustering
from frugalclip.curation.image_vectors import ImageVectorSource, VectorSettings
from frugalclip.curation.semantic import SemanticSearch


class Config(DuplicateConfig, VectorSettings):
    similarity: float = Field(
        0.95, gt=-1, le=1, description="cosine of two images of which one goes; paper: 1 - epsilon"
    )
    rule: Literal["paper", "code"] = Field(
        "paper",
        description="whether a row goes that is like rows which go themselves, and like none that stays",
    )
    clusters: int | None = Field(
        None, ge=1, description="rows are compared within a cluster; none: one in 1,000 rows. Paper: 50,000"
    )
    keep: str = Field(
        "farthest",
        description="row that stays: farthest from or nearest to the centroid (paper: farthest), first "
        "(smallest id), largest (most pixels), or the name of a score",
    )


@final
class Semantic(DuplicateStage):
    Config = Config
    reads_images = False
    rules = ("farthest", "nearest")
    gives = ("semantic_cluster", "centroid_cosine")
    value = "cosine with the image that stays"
    reasons: ClassVar = {
        "semantic-duplicate": "its image means the same as that of a row that stays",
        "semantic-chain": "its image is like that of a row that goes, and like none that stays",
        "unreadable": "its image cannot be read",
    }

    @cached_property
    def _source(self) -> ImageVectorSource:
        return ImageVectorSource(self.config, self.folder)

    def describe(self) -> Mapping[str, Any]:
        return self._source.describe()

    def decide(self, rows: StageRows) -> Verdict:
        verdict, config = Verdict(len(rows)), self.config
        if not len(rows):
            return verdict
        vectors = self._source.vectors(rows)
        verdict.drop(~vectors.is_known, "unreadable")
        known = np.flatnonzero(vectors.is_known)
        if not len(known):
            return verdict
        search = SemanticSearch(
            vectors, rows.codes, least=config.similarity, clusters=config.clusters, seed=rows.seed
        )
        found = search.clustering(known)
        order = self._order(rows, known, found)
        if config.rule == "paper":
            keepers, values = search.keepers(known, order, found)
        else:
            keepers, values = search.repeats(known, order, found.labels, is_chained=True)
        self._drop(verdict, rows, known, keepers, values)
        for name, column in zip(self.gives, (found.labels, found.cosines), strict=True):
            verdict.scores[name] = np.full(len(rows), np.nan)
            verdict.scores[name][known] = column
        verdict.notes = [
            found.note,
            *_groups(keepers, values),
            *self._source.notes(rows),
        ]
        return verdict

    def _order(self, rows: StageRows, known: np.ndarray, found: Clustering) -> np.ndarray:
        """(known,) places among the known rows, preferred ones first."""
        if self.config.keep in self.rules:
            return np.argsort(
                found.cosines if self.config.keep == "farthest" else -found.cosines, kind="stable"
            )
        order = self.order(rows)
        return np.searchsorted(known, order[np.isin(order, known)])

    def _drop(
        self, verdict: Verdict, rows: StageRows, known: np.ndarray, keepers: np.ndarray, values: np.ndarray
    ) -> None:
        least, ids = self.config.similarity, np.array(rows.manifest.ids, dtype=object)
        whole, every = np.arange(len(rows)), np.full(len(rows), np.nan)
        whole[known], every[known] = known[keepers], values
        gone = whole != np.arange(len(rows))
        for mask, reason in ((every >= least, "semantic-duplicate"), (every < least, "semantic-chain")):
            verdict.drop(gone & mask, reason, values=every, threshold=least, keepers=ids[whole])


def _groups(keepers: np.ndarray, values: np.ndarray) -> list[str]:
    """How many rows stay for others, and how unlike a row is to the one that stays for it at most."""
    gone = np.isfinite(values)
    if not gone.any():
        return []
    sizes = np.unique(keepers[gone], return_counts=True)[1] + 1
    return [
        f"groups: {len(sizes):,} of up to {sizes.max():,} rows; the weakest cosine with the row that stays "
        f"is {values[gone].min():.4f}"
    ]
