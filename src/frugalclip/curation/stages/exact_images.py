"""One row of each image: files of equal bytes, and images of equal pixels in other files.

Captions play no part: an image that stands twice with two captions is a duplicate as well.
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


class Config(CurationStageConfig):
    keep: str = Field(
        "first",
        description="row that stays: first (smallest id), largest (most pixels), or the name of a score",
    )


@final
class ExactImages(CurationStage):
    Config = Config
    compares_rows = True
    value = "similarity"
    reasons: ClassVar = {
        "same-bytes": "its image file equals that of a row that stays, byte for byte",
        "same-pixels": "its image has the pixels of a row that stays",
    }

    def needs(self) -> StageNeeds:
        return StageNeeds(images=True, scores=keep_needs(self.config.keep).scores)

    def decide(self, rows: StageRows) -> Verdict:
        verdict, order = Verdict(len(rows)), keep_order(rows, self.config.keep)
        ids, ones = np.array(rows.manifest.ids, dtype=object), np.ones(len(rows))
        files, pixels = (rows.images.digests(name) for name in ("digest", "pixels"))
        keepers = first_of_equal(pixels, order)
        is_other = keepers != np.arange(len(rows))
        for mask, reason in ((files == files[keepers], "same-bytes"), (ones.astype(bool), "same-pixels")):
            verdict.drop(is_other & mask, reason, values=ones, threshold=1.0, keepers=ids[keepers])
        return verdict


def first_of_equal(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(rows,) for each row the row of an equal value that comes first in an order.

    Args:
        values: (rows,) anything that sorts.
        order: (rows,) every row once, preferred ones first.
    """
    _, first, groups = np.unique(values[order], return_index=True, return_inverse=True)
    result = np.empty(len(values), dtype=np.int64)
    result[order] = order[first[groups.reshape(-1)]]
    return result
