"""Captions that many rows share although the rows' own names say different things.

A crawl takes the title of a collection ("Lemon SVG theme") as the caption of every picture in it. Scores of
pairs do not find that: the caption comes with every kind of picture, and often enough to look usual. The
names of the files do: `mouse.svg`, `trophy.svg` and `folder.svg` under one caption. Names of numbers and
codes say nothing, and neither do words that most rows of the caption have in common.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAST_ROWS = 5  # that share a caption
LEAST_NAMED = 0.6  # share of the rows whose names have words of their own
_COMMON = 0.5  # a word that more of the rows have is the collection's
_LETTERS = 3  # of a word; shorter ones are codes
_SHOWN = 3


@dataclass(frozen=True)
class SharedCaption:
    """A caption that may name a collection and not what is seen."""

    caption: str
    rows: np.ndarray  # (rows,) int64, that have it
    words: tuple[str, ...]  # what some of their names say

    @property
    def reason(self) -> str:
        """Why a row of it is suspicious."""
        return f"{len(self.rows):,} rows share its caption, and their names differ: {', '.join(self.words)}"


def shared_captions(
    captions: Sequence[str], names: Sequence[str], *, least_rows: int = LEAST_ROWS
) -> list[SharedCaption]:
    """Captions that may name a collection, those of most rows first.

    Args:
        captions: (rows,) as one text each.
        names: (rows,) ids, or paths of the files.
        least_rows: that share a caption.
    """
    rows: dict[str, list[int]] = {}
    for row, caption in enumerate(captions):
        rows.setdefault(caption, []).append(row)
    found = []
    for caption, own in rows.items():
        if len(own) >= least_rows and caption and (words := _different([names[row] for row in own])):
            found.append(SharedCaption(caption, np.array(own, dtype=np.int64), words))
    return sorted(found, key=lambda one: -len(one.rows))


def _different(names: Sequence[str]) -> tuple[str, ...]:
    """Words by which so many names differ that they cannot all mean the same; empty where they may."""
    words = [set(re.findall(rf"[^\W\d_]{{{_LETTERS},}}", name.lower())) for name in names]
    counts = Counter(word for own in words for word in own)
    common = {word for word, count in counts.items() if count > _COMMON * len(names)}
    own = Counter(tuple(sorted(each - common)) for each in words)
    unnamed = own.pop((), 0)
    shares = np.array(list(own.values())) / max(1, own.total())
    kinds = math.exp(-float((shares * np.log(shares)).sum()))  # effective number of names: copies count once
    if unnamed > (1 - LEAST_NAMED) * len(names) or kinds < max(LEAST_ROWS, math.sqrt(len(names))):
        return ()
    return tuple(" ".join(one) for one in list(own)[:_SHOWN])
