"""One row of each image: files of equal bytes, and images of equal pixels in other files.

Captions play no part: an image that stands twice with two captions is a duplicate as well.
"""

from typing import ClassVar, final

import numpy as np

from frugalclip.curation.base import StageRows, Verdict
from frugalclip.curation.duplicates import DuplicateConfig, DuplicateStage, first_of_equal


@final
class ExactImages(DuplicateStage):
    Config = DuplicateConfig
    value = "similarity"
    reasons: ClassVar = {
        "same-bytes": "its image file equals that of a row that stays, byte for byte",
        "same-pixels": "its image has the pixels of a row that stays",
    }

    def decide(self, rows: StageRows) -> Verdict:
        verdict, order = Verdict(len(rows)), self.order(rows)
        ids, ones = np.array(rows.manifest.ids, dtype=object), np.ones(len(rows))
        files, pixels = (rows.images.digests(name) for name in ("digest", "pixels"))
        keepers = first_of_equal(pixels, order)
        is_other = keepers != np.arange(len(rows))
        for mask, reason in ((files == files[keepers], "same-bytes"), (ones.astype(bool), "same-pixels")):
            verdict.drop(is_other & mask, reason, values=ones, threshold=1.0, keepers=ids[keepers])
        return verdict
