"""Several facets of one caption in one row of tokens: the row, its attention mask, and its positions.

Source: FLAME, arXiv 2411.11927 and its code. A row is `[opening][padding][caption and closing words][facet 1]
... [facet K]`. The prefix is causal, a facet sees the prefix and itself, and no facet sees another, so that
one pass gives what K prompts would give. Differences to the authors' code, each on purpose: padding is hidden
as keys (theirs only silences padded queries, so that a vector depends on the longest caption of its batch),
borders come from tokenising the parts one by one (theirs searches for token ids in the first row), and
positions can start again behind the prefix for every facet (theirs run on, which makes a facet depend on how
many come before it).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

PositionIds = Literal["reset", "sequential"]


def facet_visibility(is_token: Tensor, *, prefix: int, facets: Sequence[int]) -> Tensor:
    """Which keys each query sees.

    Args:
        is_token: (rows, length) bool, False where a row is padded; padding may stand anywhere in the prefix.
        prefix: columns of the prefix, padding included; the same for every row.
        facets: tokens of each facet, in the order in which they follow the prefix; together with the prefix
            they are `length`.

    Returns:
        (rows, length, length) bool, query by key. Padding sees nothing and is seen by nothing.
    """
    part = _parts(prefix, facets, device=is_token.device)  # (length,)
    assert len(part) == is_token.shape[1], (
        f"prefix {prefix} and facets {list(facets)} do not fill rows of {is_token.shape[1]}"
    )
    place = torch.arange(len(part), device=is_token.device)
    causal = place[:, None] >= place[None, :]
    same_or_prefix = (part[None, :] == 0) | (part[:, None] == part[None, :])
    return (causal & same_or_prefix) & is_token[:, :, None] & is_token[:, None, :]


def facet_positions(is_token: Tensor, *, prefix: int, facets: Sequence[int], mode: PositionIds) -> Tensor:
    """Where each token stands in its text, not counting padding.

    Args:
        is_token: (rows, length) bool as in `facet_visibility`.
        prefix: columns of the prefix, padding included.
        facets: tokens of each facet.
        mode: `reset` lets every facet start right behind the prefix, as if it were alone; `sequential` counts
            through, as published. The published positions count padding as well, which rotary models, seeing
            differences only, do not notice.

    Returns:
        (rows, length) int64; 0 for padding.
    """
    counted = is_token.long().cumsum(1) - 1  # (rows, length)
    if mode == "reset":
        before = [sum(facets[:i]) for i in range(len(facets))]
        shift = [0] * prefix + [
            offset for offset, facet in zip(before, facets, strict=True) for _ in range(facet)
        ]
        counted = counted - torch.tensor(shift, device=is_token.device)
    return counted.masked_fill(~is_token, 0)


def _parts(prefix: int, facets: Sequence[int], *, device: torch.device) -> Tensor:
    """(length,) int64: 0 in the prefix, k in the k-th facet, counted from 1."""
    lengths = torch.tensor([prefix, *facets], device=device)
    return torch.arange(len(lengths), device=device).repeat_interleave(lengths)


@dataclass(frozen=True)
class FacetRows:
    """Rows that share opening words and facets and differ in their middle."""

    ids: Tensor  # (rows, length) int64
    is_token: Tensor  # (rows, length) bool
    opening: int  # columns at the left that are the same in every row and never padded
    prefix: int  # columns of opening, padding and middle
    facets: tuple[int, ...]  # columns of each facet

    @property
    def ends(self) -> list[int]:
        """The column of each facet's last token, whose state is its vector."""
        return [self.prefix + sum(self.facets[: i + 1]) - 1 for i in range(len(self.facets))]

    def visible(self) -> Tensor:
        """(rows, length, length) bool as `facet_visibility`, but padding sees itself, against NaN."""
        padding = torch.diag_embed(~self.is_token)
        return facet_visibility(self.is_token, prefix=self.prefix, facets=self.facets) | padding

    def positions(self, mode: PositionIds) -> Tensor:
        """(rows, length) int64, see `facet_positions`."""
        return facet_positions(self.is_token, prefix=self.prefix, facets=self.facets, mode=mode)

    def to(self, device: torch.device) -> "FacetRows":
        """The same rows on a device."""
        return FacetRows(
            self.ids.to(device), self.is_token.to(device), self.opening, self.prefix, self.facets
        )


def pack(
    opening: Sequence[int], middles: Sequence[Sequence[int]], facets: Sequence[Sequence[int]], *, pad: int = 0
) -> FacetRows:
    """Rows of token ids, padded between opening and middle, so that facets have the same columns in all rows.

    Args:
        opening: ids before the caption, the same in every row.
        middles: ids of caption and closing words, one sequence a row.
        facets: ids of each facet, the same in every row.
        pad: id to fill with; any id will do, since nothing sees it.
    """
    longest = max(len(middle) for middle in middles)
    tail = [token for facet in facets for token in facet]
    rows = [[*opening, *[pad] * (longest - len(middle)), *middle, *tail] for middle in middles]
    is_token = torch.ones(len(rows), len(opening) + longest + len(tail), dtype=torch.bool)
    for row, middle in zip(is_token, middles, strict=True):
        row[len(opening) : len(opening) + longest - len(middle)] = False
    ids = torch.tensor(rows, dtype=torch.int64).reshape(is_token.shape)
    return FacetRows(
        ids, is_token, len(opening), len(opening) + longest, tuple(len(facet) for facet in facets)
    )


def batches(lengths: Sequence[int], *, tokens: int) -> Iterator[slice]:
    """Runs of neighbours that fill at most `tokens` once padded, and hold at least one.

    Args:
        lengths: of the rows, ascending.
        tokens: padded tokens of a batch.
    """
    start = 0
    for stop in range(1, len(lengths) + 1):
        if stop == len(lengths) or (stop + 1 - start) * lengths[stop] > tokens:
            yield slice(start, stop)
            start = stop
