"""One row of images that hardly differ: re-encoded, resized, cropped a little. See `curation.near`.

Turned and mirrored images are two images here: they are for `decontaminate`.
"""

from typing import ClassVar, final

import numpy as np
from pydantic import Field

from frugalclip.curation.base import (
    CurationStage,
    CurationStageConfig,
    StageNeeds,
    StageRows,
    Verdict,
    keep_needs,
    keep_order,
)
from frugalclip.curation.near import near_keepers


class Config(CurationStageConfig):
    similarity: float = Field(
        0.95,
        gt=0,
        le=1,
        description="1 - difference of the patch that differs most / 255, one image laid over the other",
    )
    keep: str = Field(
        "first",
        description="row that stays: first (smallest id), largest (most pixels), or the name of a score",
    )


@final
class NearImages(CurationStage):
    Config = Config
    compares_rows = True
    value = "similarity to the row that stays"
    reasons: ClassVar = {"near-duplicate": "its image hardly differs from that of a row that stays"}

    def needs(self) -> StageNeeds:
        return StageNeeds(images=True, scores=keep_needs(self.config.keep).scores)

    def decide(self, rows: StageRows) -> Verdict:
        verdict, config = Verdict(len(rows)), self.config
        order = keep_order(rows, config.keep)
        keepers, similarity = near_keepers(rows.images.thumbnails(), order, least=config.similarity)
        ids = np.array(rows.manifest.ids, dtype=object)
        verdict.drop(
            keepers != np.arange(len(rows)),
            "near-duplicate",
            values=similarity,
            threshold=config.similarity,
            keepers=ids[keepers],
        )
        return verdict
