"""What a score means: how many pairs of a random query and a random image score as high."""

import math
from collections.abc import Mapping

import numpy as np

from frugalclip.core.errors import DataError
from frugalclip.serving.layout import Calibration, QueryKind

QUERIES, IMAGES = 256, 2048  # random pairs are all of these with each other
_STEPS = 4  # shares of a factor of ten
_MANY = (1.0, 0.95, 0.9, 0.8, 0.7)  # shares before those: a factor of ten is too coarse there
_LEAST = 10  # pairs above the smallest share: fewer would be luck


def measured(scores: Mapping[QueryKind, np.ndarray]) -> Calibration:
    """The calibration of the scores of random pairs.

    Args:
        scores: kind of query -> (pairs,) scores.
    """
    counts = {kind: len(own) for kind, own in scores.items()}
    smallest = _LEAST / max(min(counts.values(), default=0), _LEAST)
    steps = math.floor(-_STEPS * math.log10(smallest) + 1e-9)
    shares = [*(_MANY if steps else _MANY[:1]), *(10 ** (-step / _STEPS) for step in range(1, steps + 1))]
    ordered = {kind: -np.sort(-own.astype(np.float64)) for kind, own in scores.items()}
    return Calibration(
        pairs={str(kind): count for kind, count in counts.items()},
        shares=[float(f"{share:.6g}") for share in shares],
        scores={
            str(kind): [round(float(own[_place(share, len(own))]), 7) for share in shares]
            for kind, own in ordered.items()
            if len(own)
        },
    )


def _place(share: float, count: int) -> int:
    return max(min(round(share * count), count) - 1, 0)


def false_hits(calibration: Calibration, kind: QueryKind, score: float) -> float | None:
    """The share of random pairs that score at least as high.

    Returns:
        At least the smallest share that was measured; None where nothing was.
    """
    if not (scores := calibration.scores.get(kind)):
        return None
    log = np.interp(score, scores, np.log(calibration.shares))  # scores rise while shares fall
    return float(f"{math.exp(float(log)):.3g}")


def standing(calibration: Calibration | None, kind: QueryKind, scores: np.ndarray) -> np.ndarray:
    """Scores of different indexes on one scale: 0 is the median of random pairs, 1 what 1 in 100 reach.

    Args:
        calibration: of the index; without one the scores stay as they are.
        kind: of the query.
        scores: (n,).
    """
    if calibration is None or not (known := calibration.scores.get(kind)):
        return scores
    logs = -np.log(calibration.shares)  # rise
    middle, high = (float(np.interp(-math.log(share), logs, known)) for share in (0.5, 0.01))
    return (scores - middle) / max(high - middle, 1e-6)


def check_share(calibration: Calibration | None, share: float) -> None:
    """Refuse a share that was not measured; 1 leaves nothing out, so any index has it.

    Raises:
        DataError: saying which ones were.
    """
    if not 0 < share <= 1:
        raise DataError(f"max-false-hits is {share:g}, expected a share of pairs such as 0.001.")
    if share == 1:
        return
    if calibration is None or not calibration.scores:
        raise DataError("this index is too small to know false hits; leave --max-false-hits out.")
    if share < calibration.shares[-1]:
        pairs = min(calibration.pairs.values())
        raise DataError(
            f"max-false-hits is {share:g}, and {pairs:,} measured pairs tell shares down to "
            f"{calibration.shares[-1]:g}; give at least that."
        )
