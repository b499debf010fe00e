"""Pure losses and similarities: tensors in, tensors out, no modules and no processes.

Functions take the rows a process owns and the candidates of all processes; `own` says where the rows stand among the candidates. On one
process the two are the same. Every loss is a mean over its own rows, so averaging over processes gives the loss of the whole batch.
"""

from frugalclip.functional.losses import (
    SamePolicy,
    class_weights,
    cross_entropy_rows,
    info_nce_loss,
    multi_positive_rows,
    negative_cosine,
    same_rows,
    sigmoid_loss,
    unit,
)
from frugalclip.functional.tiled import TILE, Contrast, needs_tiles, tiled_info_nce_loss, tiled_sigmoid_loss

__all__ = [
    "TILE",
    "Contrast",
    "SamePolicy",
    "class_weights",
    "cross_entropy_rows",
    "info_nce_loss",
    "multi_positive_rows",
    "needs_tiles",
    "negative_cosine",
    "same_rows",
    "sigmoid_loss",
    "tiled_info_nce_loss",
    "tiled_sigmoid_loss",
    "unit",
]
