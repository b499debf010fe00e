"""The rank of the right candidate, where several may be right and several may tie.

Every metric here is built on three counts for a query: how many candidates score above its best positive, how
many tie with it, and how many of those are positives. Ties are broken at random, and the expectation over
that is exact, so a collapsed model gets exactly chance. The usual rules give it 100 % (a tie counts as a
hit), 0 % (a tie counts as a miss), or a value that depends on the order of the files.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from frugalclip.core.finite import refuse_scores

TIE_RULE = (
    "expected value under random tie-breaking; cosines within 1e-6 tie; "
    "the best placed of several positives counts"
)
TIE = 1e-6  # the same text encoded in another batch differs by about this much in float32

Scores = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Ranks:
    """The place of each query's best positive."""

    above: Tensor  # (queries,) int64 candidates that score higher
    tied: Tensor  # (queries,) int64 candidates that score the same, itself included
    positives: Tensor  # (queries,) int64 positives among the tied, at least 1

    def __len__(self) -> int:
        return len(self.above)

    def hits(self, k: int) -> Tensor:
        """(queries,) float64 probability that a positive is among the first k."""
        open_places = (k - self.above).clamp(min=0)  # (queries,) places left for the tied ones
        wrong = (self.tied - self.positives).double()
        miss = torch.ones(len(self.above), dtype=torch.float64)
        for i in range(min(k, int(self.tied.max()) if len(self) else 0)):
            left = (self.tied - i).double().clamp(min=1)
            miss = torch.where(i < open_places, miss * (wrong - i).clamp(min=0) / left, miss)
        return 1 - miss

    def expected(self) -> Tensor:
        """(queries,) float64 expected rank of the first positive, from 1."""
        return self.above + (self.tied + 1).double() / (self.positives + 1).double()


def padded(positives: Sequence[Sequence[int]]) -> Tensor:
    """Lists of unequal length as one tensor.

    Returns:
        (queries, most) int64, -1 where a list has ended.
    """
    most = max((len(p) for p in positives), default=0)
    result = torch.full((len(positives), max(most, 1)), -1, dtype=torch.int64)
    for row, places in zip(result, positives, strict=True):
        row[: len(places)] = torch.as_tensor(places, dtype=torch.int64)
    return result


def cosine_scores(queries: Tensor, candidates: Tensor) -> Scores:
    """Scores by dot product.

    Args:
        queries: (queries, dim) unit vectors.
        candidates: (candidates, dim) unit vectors.
    """
    return lambda rows: queries[rows] @ candidates.T


@torch.no_grad()
def rank_positives(scores: Scores, positives: Tensor, *, chunk: int = 1024) -> Ranks:
    """Place the best positive of every query among the candidates.

    Args:
        scores: gives (rows, candidates) for an int64 tensor of query rows; called for `chunk` rows at a time,
            so the whole matrix never exists.
        positives: (queries, most) int64 candidates that are right, -1 for none; each query has at least one.
        chunk: queries at a time.

    Raises:
        DataError: if a score is not finite.
    """
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for rows in torch.arange(len(positives)).split(chunk):
        matrix = scores(rows).cpu()  # (rows, candidates)
        refuse_scores(matrix)
        right = positives[rows]  # (rows, most)
        own = matrix.gather(1, right.clamp(min=0)).masked_fill(right < 0, float("-inf"))  # (rows, most)
        best = own.max(dim=1, keepdim=True).values  # (rows, 1)
        above, tied = matrix > best + TIE, (matrix - best).abs() <= TIE
        parts.append((above.sum(1), tied.sum(1), (own >= best - TIE).sum(1)))
    if not parts:
        empty = torch.zeros(0, dtype=torch.int64)
        return Ranks(empty, empty, empty)
    above, tied, found = (torch.cat(column) for column in zip(*parts, strict=True))
    return Ranks(above, tied, found)


def chance_ranks(positives: Tensor, candidates: int) -> Ranks:
    """The ranks of a model for which everything ties: with them `hits` and `expected` are exactly chance.

    Args:
        positives: (queries, most) int64, -1 for none.
        candidates: how many there are.
    """
    count = (positives >= 0).sum(1)
    return Ranks(torch.zeros_like(count), torch.full_like(count, candidates), count)
