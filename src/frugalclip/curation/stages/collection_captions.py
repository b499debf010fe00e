"""Rows whose caption may name a collection and not the picture: many rows share it, and their names differ.

See `auditing.shared_captions`. In no ready plan: look at what `audit noise` lists first.
"""

from typing import ClassVar, final

import numpy as np
from pydantic import Field

from frugalclip.auditing.shared_captions import LEAST_ROWS, shared_captions
from frugalclip.curation.base import CurationStage, CurationStageConfig, StageRows, Verdict


class Config(CurationStageConfig):
    least_rows: int = Field(LEAST_ROWS, ge=2, description="rows that share a caption")


@final
class CollectionCaptions(CurationStage):
    Config = Config
    compares_rows = True
    value = "rows that share the caption"
    reasons: ClassVar = {"collection-caption": "its caption is that of many rows whose names differ"}

    def decide(self, rows: StageRows) -> Verdict:
        verdict = Verdict(len(rows))
        captions = [" | ".join(own) for own in rows.manifest.captions()]
        counts, least = np.zeros(len(rows)), self.config.least_rows
        for one in shared_captions(captions, rows.manifest.ids, least_rows=least):
            counts[one.rows] = len(one.rows)
        verdict.drop(counts > 0, "collection-caption", values=counts, threshold=least)
        return verdict
