"""How unevenly concepts are spread: Gini coefficient, and what the most and the least frequent ones hold."""

import numpy as np

TOP = 0.01  # share of the concepts that count as the head
RARE = 1e-4  # of the samples: concepts below it count as the tail


def gini(counts: np.ndarray) -> float:
    """0 where all concepts are equally frequent, near 1 where one holds everything; 0 without any count.

    Args:
        counts: (concepts,) at least 0.
    """
    ascending = np.sort(np.asarray(counts, np.float64))
    number, total = len(ascending), ascending.sum()
    if not total:
        return 0.0
    return float((2 * np.arange(1, number + 1) - number - 1) @ ascending / (number * total))


def spread_of(counts: np.ndarray, *, samples: int) -> dict[str, float | int]:
    """The long tail in numbers.

    Args:
        counts: (concepts,) of distinct concepts.
        samples: of the data set.

    Returns:
        `concepts`, `zeros`, and as shares of one: `zero_share`, `gini`, `head_share` (of all hits, held by
        the most frequent hundredth), `tail_share` (of the concepts, in less than one of 10,000 samples).
    """
    counts = np.asarray(counts)
    head = np.sort(counts)[::-1][: max(1, round(TOP * len(counts)))]
    return {
        "concepts": len(counts),
        "zeros": int((counts == 0).sum()),
        "zero_share": float((counts == 0).mean()) if len(counts) else 0.0,
        "gini": gini(counts),
        "head_share": float(head.sum() / max(counts.sum(), 1)),
        "tail_share": float((counts < RARE * samples).mean()) if len(counts) else 0.0,
    }
