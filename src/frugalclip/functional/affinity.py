"""Affinity mimicking: a student reproduces which images and captions of a batch its teachers hold together.

Sources: TinyCLIP, arXiv 2309.12314, section 3.1 (one teacher); MobileCLIP, arXiv 2311.17049, section 3.1
(several teachers, averaged after the softmax). Only affinities meet, so widths may differ.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from frugalclip.functional.tiled import TILE, needs_tiles

Average = Literal["after_softmax", "before_softmax"]


@dataclass(frozen=True)
class Affinity:
    """Rows and candidates of one direction, and the scale of their cosines."""

    rows: Tensor  # (batch, dim) unit vectors
    candidates: Tensor  # (candidates, dim) unit vectors of all processes
    scale: Tensor  # () multiplies cosines

    def detach(self) -> "Affinity":
        """The same, without gradient."""
        return Affinity(self.rows.detach(), self.candidates.detach(), self.scale.detach())

    def logits(self, part: slice) -> Tensor:
        """(batch, candidates) scaled cosines, of a part of the batch."""
        return self.scale * self.rows[part] @ self.candidates.T


def log_targets(teachers: Sequence[Affinity], part: slice, *, average: Average) -> Tensor:
    """Logarithms of the distribution that the teachers agree on.

    Args:
        teachers: one or several, of the same rows and candidates.
        part: rows to compute.
        average: of the teachers' probabilities (`after_softmax`, as MobileCLIP), or of their logits.

    Returns:
        (batch, candidates) of a part of the batch.
    """
    if average == "before_softmax":
        return torch.log_softmax(torch.stack([one.logits(part) for one in teachers]).mean(dim=0), dim=1)
    every = torch.stack([torch.log_softmax(one.logits(part), dim=1) for one in teachers])
    return torch.logsumexp(every, dim=0) - torch.tensor(float(len(teachers)), device=every.device).log()


def affinity_loss(
    student: Affinity, teachers: Sequence[Affinity], *, average: Average = "after_softmax"
) -> tuple[Tensor, Tensor]:
    """Soft cross-entropy of the student's affinities against the teachers', in one direction.

    Large batches are computed a block of rows at a time, and again in the backward pass, so that memory grows
    with the candidates and not with their square.

    Args:
        student: with gradient.
        teachers: no gradient flows into them.
        average: see `log_targets`.

    Returns:
        () mean over rows in nats, and () the teachers' entropy, which the loss reaches where the student's
        affinities equal theirs.
    """
    batch = len(student.rows)
    teachers = [one.detach() for one in teachers]

    def block(rows: Tensor, candidates: Tensor, scale: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            log_target = log_targets(teachers, part, average=average)
            target = log_target.exp()
            entropy = -(target * log_target).sum()
        log_student = torch.log_softmax(scale * rows[part] @ candidates.T, dim=1)
        return -(target * log_student).sum(), entropy

    if not needs_tiles(batch, len(student.candidates)):
        loss, entropy = block(student.rows, student.candidates, student.scale, slice(0, batch))
        return loss / batch, entropy / batch
    return _by_blocks(block, student, batch)


def _by_blocks(
    block: Callable[[Tensor, Tensor, Tensor, slice], tuple[Tensor, Tensor]], student: Affinity, batch: int
) -> tuple[Tensor, Tensor]:
    total, entropy = student.rows.new_zeros(()), student.rows.new_zeros(())
    rows = max(1, TILE // len(student.candidates))
    for first in range(0, batch, rows):
        part = slice(first, min(first + rows, batch))
        loss, own_entropy = checkpoint(
            block, student.rows, student.candidates, student.scale, part, use_reentrant=False
        )
        total, entropy = total + loss, entropy + own_entropy
    return total / batch, entropy / batch
