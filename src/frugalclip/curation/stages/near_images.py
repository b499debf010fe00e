"""One row of images that hardly differ: re-encoded, resized, cropped a little. See `curation.near`.

Turned and mirrored images are two images here: they are for `decontaminate`.
"""

from typing import ClassVar, final

import numpy as np
from pydantic import Field

from frugalclip.curation.base import StageRows, Verdict
from frugalclip.curation.duplicates import DuplicateConfig, DuplicateStage
from frugalclip.curation.near import near_keepers


class Config(DuplicateConfig):
    similarity: float = Field(
        0.95,
        gt=0,
        le=1,
        description="1 - difference of the patch that differs most / 255, one image laid over the other",
    )


@final
class NearImages(DuplicateStage):
    Config = Config
    value = "similarity to the row that stays"
    reasons: ClassVar = {"near-duplicate": "its image hardly differs from that of a row that stays"}

    def decide(self, rows: StageRows) -> Verdict:
        verdict, least = Verdict(len(rows)), self.config.similarity
        keepers, similarity = near_keepers(rows.images.thumbnails(), self.order(rows), least=least)
        ids = np.array(rows.manifest.ids, dtype=object)
        verdict.drop(
            keepers != np.arange(len(rows)),
            "near-duplicate",
            values=similarity,
            threshold=least,
            keepers=ids[keepers],
        )
        return verdict
