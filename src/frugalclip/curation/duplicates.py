"""What stages share that keep one row of each group: which row is preferred, and what that needs.

`keep` is `first` for the smallest id, `largest` for the most pixels, a rule of the stage itself, or the name
of a score of an earlier stage, whose highest value is preferred.
"""

from typing import ClassVar

import numpy as np
from pydantic import Field

from frugalclip.curation.base import CurationStage, CurationStageConfig, StageNeeds, StageRows


class DuplicateConfig(CurationStageConfig):
    """Settings of stages that keep one row of each group."""

    keep: str = Field(
        "first",
        description="row that stays: first (smallest id), largest (most pixels), or the name of a score",
    )


class DuplicateStage(CurationStage):
    """Base class of stages that keep one row of each group; every subclass is final."""

    compares_rows = True
    reads_images: ClassVar[bool] = True  # whether it compares measures of images
    rules: ClassVar[tuple[str, ...]] = ()  # values of `keep` that it orders rows by itself

    def needs(self) -> StageNeeds:
        keep = self.config.keep
        scores = frozenset({keep} - {"first", "largest", *self.rules})
        return StageNeeds(images=self.reads_images or keep == "largest", scores=scores)

    def order(self, rows: StageRows) -> np.ndarray:
        """(rows,) every row once, preferred ones first; equal ones by id.

        Args:
            rows: sorted by id.
        """
        keep = self.config.keep
        if keep == "first":
            return np.arange(len(rows))
        if keep == "largest":
            preference = rows.images.widths.astype(np.int64) * rows.images.heights
        else:
            preference = np.nan_to_num(rows.scores[keep], nan=-np.inf)
        return np.argsort(-preference, kind="stable")


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
