"""One row of captions that are equal or nearly equal. In no ready plan: one caption suits many images.

The captions of a row are compared as one text, see `curation.near_texts`.
"""

from typing import ClassVar, final

import numpy as np
from pydantic import Field

from frugalclip.curation.base import StageRows, Verdict
from frugalclip.curation.duplicates import DuplicateConfig, DuplicateStage, first_of_equal
from frugalclip.curation.near_texts import near_text_keepers, plain


class Config(DuplicateConfig):
    similarity: float = Field(
        0.8, gt=0, le=1, description="Jaccard of 5-character shingles; 1 drops equal captions only"
    )


@final
class NearCaptions(DuplicateStage):
    Config = Config
    reads_images = False
    value = "similarity to the captions that stay"
    reasons: ClassVar = {
        "equal-captions": "its captions equal those of a row that stays, but for case and white space",
        "near-captions": "its captions are nearly those of a row that stays",
    }

    def decide(self, rows: StageRows) -> Verdict:
        verdict, least = Verdict(len(rows)), self.config.similarity
        texts = np.array([plain(captions) for captions in rows.manifest.captions()], dtype=object)
        order = self.order(rows)
        own = np.arange(len(rows))
        firsts = first_of_equal(texts, order) if len(rows) else own
        firsts = np.where(texts == "", own, firsts)  # rows without a caption are not alike
        keepers, values = firsts.copy(), np.ones(len(rows))
        if least < 1:
            some = np.flatnonzero((firsts == own) & (texts != ""))
            ranks = np.argsort(np.argsort(order)[some])
            found, similarity = near_text_keepers(texts[some].tolist(), ranks, least=least)
            keepers[some] = some[found]
            values[some] = np.nan_to_num(similarity, nan=1.0)
            keepers, values = keepers[firsts], values[firsts]
        ids = np.array(rows.manifest.ids, dtype=object)
        for reason, mask in (("equal-captions", keepers == firsts), ("near-captions", keepers != firsts)):
            gone = mask & (keepers != own)
            verdict.drop(gone, reason, values=values, threshold=least, keepers=ids[keepers])
        return verdict
