"""Pure losses and similarities: tensors in, tensors out, no modules and no processes.

Functions take the rows of a process and the candidates of all processes; `own` holds the positions of the
rows among the candidates. On one process the two are the same. Every loss is a mean over its own rows, so
averaging over processes gives the loss of the whole batch.
"""

from frugalclip.functional.affinity import Affinity, Average, affinity_loss
from frugalclip.functional.codebook import (
    Convention,
    code_perplexity,
    codebook_loss,
    nearest_codes,
    quantised,
)
from frugalclip.functional.hard_concrete import (
    expected_kept,
    goal_at,
    highest,
    open_probability,
    sampled_gates,
    size_penalty,
    soft_gates,
)
from frugalclip.functional.lexical import (
    LexicalActivation,
    flops_loss,
    l1_loss,
    lexical_activation,
    lexical_usage,
    mean_non_zeros,
    overuse_loss,
    overuse_weights,
    quadratic_ramp,
)
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
from frugalclip.functional.multi_positive import multi_positive_nce_loss, multi_positive_sigmoid_loss
from frugalclip.functional.tiled import TILE, Contrast, needs_tiles, tiled_info_nce_loss, tiled_sigmoid_loss
from frugalclip.functional.word_scores import best_word_scores, word_scores

__all__ = [
    "TILE",
    "Affinity",
    "Average",
    "Contrast",
    "Convention",
    "LexicalActivation",
    "SamePolicy",
    "affinity_loss",
    "best_word_scores",
    "class_weights",
    "code_perplexity",
    "codebook_loss",
    "cross_entropy_rows",
    "expected_kept",
    "flops_loss",
    "goal_at",
    "highest",
    "info_nce_loss",
    "l1_loss",
    "lexical_activation",
    "lexical_usage",
    "mean_non_zeros",
    "multi_positive_nce_loss",
    "multi_positive_rows",
    "multi_positive_sigmoid_loss",
    "nearest_codes",
    "needs_tiles",
    "negative_cosine",
    "open_probability",
    "overuse_loss",
    "overuse_weights",
    "quadratic_ramp",
    "quantised",
    "same_rows",
    "sampled_gates",
    "sigmoid_loss",
    "size_penalty",
    "soft_gates",
    "tiled_info_nce_loss",
    "tiled_sigmoid_loss",
    "unit",
    "word_scores",
]
