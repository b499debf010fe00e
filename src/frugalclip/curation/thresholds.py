"""Rows with the highest scores: a share of them, or those above a threshold."""

import numpy as np


def highest_rows(scores: np.ndarray, fraction: float, *, draws: np.ndarray) -> tuple[np.ndarray, float]:
    """Exactly `round(fraction * rows)` rows with the highest scores.

    DataComp keeps one row more, and all that tie with it (`datacomp_threshold`).

    Args:
        scores: (rows,); NaN is below every number.
        fraction: of the rows.
        draws: (rows,) uniform numbers that order equal scores.

    Returns:
        (rows,) bool, and the lowest score that is kept, NaN without any.
    """
    known = np.nan_to_num(scores, nan=-np.inf)
    order = np.lexsort((draws, -known))
    kept = order[: round(fraction * len(scores))]
    mask = np.zeros(len(scores), dtype=bool)
    mask[kept] = True
    return mask, float(scores[kept[-1]]) if len(kept) else float("nan")


def datacomp_threshold(scores: np.ndarray, fraction: float) -> float:
    """The threshold of DataComp's `clip_score` filter: the score at place `int(rows * fraction)`, from 0.

    Rows with at least this score stay: one more than the fraction, and all that tie.
    """
    return float(np.sort(scores)[::-1][min(int(len(scores) * fraction), len(scores) - 1)])
