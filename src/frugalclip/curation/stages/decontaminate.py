"""No row whose image is in a test set: the same, re-encoded, resized, cropped a little, turned or mirrored.

A row goes whatever its caption is. The ledger names the test image in place of a keeper, as PATH:ID.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, final

import numpy as np
import pyarrow as pa
from pydantic import Field

from frugalclip.curation.base import (
    CurationStage,
    CurationStageConfig,
    StageNeeds,
    StageRows,
    Texts,
    Verdict,
    plan_path,
)
from frugalclip.curation.image_hashes import ImageHashes, image_hashes, pairs_between
from frugalclip.curation.near import orientations, similarities
from frugalclip.data.manifest import Manifest
from frugalclip.sources.open import read_sources


class Config(CurationStageConfig):
    against: Texts = Field(min_length=1, description="data sets that must not be trained on")
    where: str | None = Field(None, description="condition over their fields, such as split=test")
    similarity: float = Field(0.95, gt=0, le=1, description="as for near_images")
    turned: bool = Field(True, description="also quarter turns and mirrored images")


@final
class Decontaminate(CurationStage):
    Config = Config
    value = "similarity to the test image"
    reasons: ClassVar = {
        "test-image": "its image file or its pixels are in the test set",
        "near-test-image": "its image hardly differs from one of the test set",
        "turned-test-image": "its image is one of the test set, turned or mirrored",
    }

    def needs(self) -> StageNeeds:
        return StageNeeds(images=True)

    def describe(self) -> Mapping[str, Any]:
        return {"against_content": [manifest.digest() for manifest in self._tests]}

    @cached_property
    def _tests(self) -> list[Manifest]:
        found = [(path, read_sources(plan_path(path, self.folder))) for path in self.config.against]
        return [_named(source.manifest.where(self.config.where), path) for path, source in found]

    def decide(self, rows: StageRows) -> Verdict:
        verdict = Verdict(len(rows))
        own = rows.images.thumbnails()
        own_hashes = image_hashes(own)
        for number, manifest in enumerate(self._tests):
            found = rows.services.measures_of(manifest, name=f"test-{number}")
            readable = np.flatnonzero([fault is None for fault in found.faults])
            found, ids = found.take(readable), np.array(manifest.ids, dtype=object)[readable]
            for name in ("digest", "pixels"):
                self._drop_equal(verdict, rows.images.digests(name), found.digests(name), ids)
            self._drop_near(verdict, own, own_hashes, found.thumbnails(), ids)
        return verdict

    def _drop_equal(self, verdict: Verdict, own: np.ndarray, tests: np.ndarray, ids: np.ndarray) -> None:
        places = {digest: place for place, digest in enumerate(tests.tolist())}
        found = np.array([places.get(digest, -1) for digest in own.tolist()])
        ones = np.ones(len(own))
        keepers = np.array([*ids, None], dtype=object)[found]  # -1 is the last one
        verdict.drop(found >= 0, "test-image", values=ones, threshold=1.0, keepers=keepers)

    def _drop_near(
        self,
        verdict: Verdict,
        own: np.ndarray,
        own_hashes: ImageHashes,
        tests: np.ndarray,
        ids: np.ndarray,
    ) -> None:
        least = self.config.similarity
        for kind, turned in orientations(tests, turned=self.config.turned):
            first, second = pairs_between(own_hashes, image_hashes(turned))
            values = similarities(own, turned, first, second, least=least)
            best, keepers = np.full(len(own), -1.0), np.full(len(own), None, dtype=object)
            for place in np.argsort(values, kind="stable"):
                best[first[place]], keepers[first[place]] = values[place], ids[second[place]]
            reason = "near-test-image" if kind == "as_is" else "turned-test-image"
            verdict.drop(best >= least, reason, values=best, threshold=least, keepers=keepers)


def _named(manifest: Manifest, path: str) -> Manifest:
    """The test set with its path in front of each id, which rows of the data may have too."""
    ids = pa.array([f"{path}:{id}" for id in manifest.ids], pa.string())
    position = manifest.table.column_names.index("id")
    return Manifest(manifest.table.set_column(position, "id", ids), manifest.root, manifest.name)
