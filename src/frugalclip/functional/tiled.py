"""The contrastive losses with memory that grows with the batch, not with its square."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from frugalclip.functional.losses import SamePolicy, same_rows

TILE = 2**22  # logits computed at a time; larger matrices are computed in tiles


class Contrast(NamedTuple):
    """A contrastive loss, and counts that would need the logits again."""

    loss: Tensor  # () both directions added
    hits: Tensor  # (batch,) bool: the image's own caption has the highest logit
    same: Tensor  # () share of further positives among all pairs


def needs_tiles(batch: int, candidates: int) -> bool:
    """Whether a matrix of (batch, candidates) logits is too large to be held."""
    return batch * candidates > TILE


def tiled_info_nce_loss(
    images: Tensor,
    texts: Tensor,
    scale: Tensor,
    *,
    image_candidates: Tensor | None = None,
    text_candidates: Tensor | None = None,
    own: Tensor | None = None,
    codes: Tensor | None = None,
    candidate_codes: Tensor | None = None,
    policy: SamePolicy = "drop",
    smoothing: float = 0.0,
    tile: int | None = None,
) -> Contrast:
    """The sum of both directions of `info_nce_loss`, in memory that grows with the batch, not its square.

    A tile is a block of rows against all candidates. Its logits are computed, turned into their own gradient
    and dropped, so the backward pass only scales what is stored: (batch + candidates) x dim numbers. On one
    process both directions share each block, which is computed twice: once for the columns' sums, once for
    the gradient. Not differentiable twice.

    Args:
        images: (batch, dim) unit vectors; with `texts`, `scale`, the candidates, `own`, `policy`, `smoothing`
            as in `info_nce_loss`.
        texts: (batch, dim) unit vectors.
        scale: () multiplies cosines.
        image_candidates: (candidates, dim) unit vectors of all processes; default the own ones.
        text_candidates: likewise.
        own: (batch,) int64 position of the own rows among the candidates.
        codes: (batch,) or (batch, fields) int64; rows that agree in one are further positives, see
            `same_rows`.
        candidate_codes: likewise for the candidates; default `codes`.
        policy: treatment of further positives.
        smoothing: share of the target spread over all candidates.
        tile: rows of a block; default as many as keep a block at `TILE` logits.

    Returns:
        The loss over both directions, the rows whose own partner ranks first, and the share of further
        positives.
    """
    whole = text_candidates is None and image_candidates is None
    own = torch.arange(len(images), device=images.device) if own is None else own
    candidate_codes = codes if candidate_codes is None else candidate_codes
    text_candidates = texts if text_candidates is None else text_candidates
    image_candidates = images if image_candidates is None else image_candidates
    tile = max(1, TILE // len(text_candidates)) if tile is None else tile
    plan = _Tiles(own, codes, candidate_codes, policy, smoothing, tile, both=whole)
    by_image = _TiledInfoNCE.apply(images, text_candidates, scale, plan)
    loss, hits, same = by_image  # pyright: ignore[reportGeneralTypeIssues]
    if not whole:
        by_text = _TiledInfoNCE.apply(texts, image_candidates, scale, plan)
        loss = loss + by_text[0]  # pyright: ignore[reportIndexIssue, reportOptionalSubscript]
    return Contrast(loss, hits, same)


@dataclass(frozen=True)
class _Tiles:
    """The targets of a matrix of logits that is computed in tiles."""

    own: Tensor  # (batch,)
    codes: Tensor | None
    candidate_codes: Tensor | None
    policy: SamePolicy
    smoothing: float
    rows: int
    both: bool  # columns have losses too: rows and columns are the same samples

    def blocks(self, batch: int) -> Iterator[slice]:
        return (slice(start, min(start + self.rows, batch)) for start in range(0, batch, self.rows))

    def same(self, block: slice) -> Tensor | None:
        """(rows, candidates) bool of a block's further positives."""
        if self.codes is None or self.candidate_codes is None:
            return None
        return same_rows(self.codes[block], self.candidate_codes, self.own[block])


@dataclass
class _Sums:
    """Sums of a row (or column); own partners are kept apart, which keeps losses near zero precise."""

    others: Tensor  # (rows,) sum of exponentials without the partner's
    # (rows,) of the further positives: the part of `others` (inside), or the sum of logits (outside)
    positives: Tensor | None
    count: Tensor | None  # (rows,) further positives

    def __add__(self, more: "_Sums") -> "_Sums":
        if self.positives is None or self.count is None or more.positives is None or more.count is None:
            return _Sums(self.others + more.others, None, None)
        return _Sums(self.others + more.others, self.positives + more.positives, self.count + more.count)

    def loss(self, own: Tensor, *, policy: SamePolicy) -> Tensor:
        """(rows,) losses, before smoothing; `own` (rows,) is the partner's exponential."""
        if self.positives is None or self.count is None:
            return torch.log1p(self.others / own)
        if policy == "inside":
            return ((self.others + own) / (self.positives + own)).log() + (self.count + 1).log()
        return (self.others + own).log() - (self.positives + own.log()) / (self.count + 1)

    def target(self, own: Tensor, *, policy: SamePolicy) -> Tensor:
        """(rows,) reduction of a further positive's probability: a factor (inside), or a share (outside)."""
        assert self.positives is not None and self.count is not None, "only with several positives"
        return 1 / (self.positives + own) if policy == "inside" else 1 / (self.count + 1)


class _TiledInfoNCE(torch.autograd.Function):
    """Row (and column) losses of `scale * rows @ columns.T`; the forward pass computes the gradient.

    All exponentials have one shift, so that a block serves rows and columns. The largest and the smallest
    logit differ by two scales at most, which float32 represents up to a scale of 80. If a sum is too small
    above that, float64 computes it, and if it is too small for that too, logarithms do.
    """

    HEADROOM = 75.0  # exp(75) times 10^5 candidates is still a float32

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, columns: Tensor, scale: Tensor, plan: _Tiles
    ) -> tuple[Tensor, Tensor, Tensor]:
        found = _TiledPass(rows, columns, scale, plan)
        if not found.is_safe:
            found = _TiledPass(rows.double(), columns.double(), scale.double(), plan)
        if not found.is_safe:
            found = _StablePass(rows, columns, scale, plan)
        kinds = (rows.dtype, columns.dtype, scale.dtype)
        ctx.save_for_backward(
            *(
                g.to(kind)
                for g, kind in zip(
                    (found.result.rows, found.result.columns, found.result.scale), kinds, strict=True
                )
            )
        )
        ctx.mark_non_differentiable(found.hits, found.same)
        return found.result.loss.to(scale.dtype), found.hits, found.same

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        rows, columns, scale = ctx.saved_tensors
        return rows * gradients[0], columns * gradients[0], scale * gradients[0], None


class _TiledPass:
    """One pass over the matrix."""

    def __init__(self, rows: Tensor, columns: Tensor, scale: Tensor, plan: _Tiles) -> None:
        self.rows, self.columns, self.plan = rows, columns, plan
        self.scaled, self.shift = rows * scale, -(scale.detach() - _TiledInfoNCE.HEADROOM)
        batch, candidates = len(rows), len(columns)
        self.row_gradient, self.column_gradient = torch.empty_like(rows), torch.zeros_like(columns)
        self.hits = torch.empty(batch, dtype=torch.bool, device=rows.device)
        self.same = torch.zeros((), device=rows.device)
        self.own = torch.empty(batch, dtype=rows.dtype, device=rows.device)  # exponentials of the partners
        loss, smallest = rows.new_zeros(()), rows.new_full((), float("inf"))
        sums: list[_Sums] = []
        by_column: _Sums | None = None
        for block in plan.blocks(batch):
            exponentials, same = self._block(block)
            self.hits[block] = exponentials.amax(dim=1) < self.own[block]
            sums.append(self._sums(exponentials, same, dim=1))
            loss = loss + sums[-1].loss(self.own[block], policy=plan.policy).sum()
            smallest = torch.minimum(smallest, (sums[-1].others + self.own[block]).min())
            if same is not None:
                self.same += same.sum()
            if plan.both:
                found = self._sums(exponentials, same, dim=0)
                by_column = found if by_column is None else by_column + found
            else:
                self._differentiate(block, exponentials, same, sums[-1], None)
        if by_column is not None:
            loss = loss + by_column.loss(self.own, policy=plan.policy).sum()
            smallest = torch.minimum(smallest, (by_column.others + self.own).min())
            for number, block in enumerate(plan.blocks(batch)):
                self._differentiate(block, *self._block(block), sums[number], by_column)
        self.result = _finished(
            _Gradients(loss, self.row_gradient, self.column_gradient, scale), rows, columns, plan
        )
        self.same = self.same / (batch * candidates)
        self.is_safe = self._is_safe(loss, float(torch.minimum(smallest, self.own.min())), float(scale))

    def _is_safe(self, loss: Tensor, smallest: float, scale: float) -> bool:
        """Whether the number format holds every exponential that the loss reads to its full precision."""
        is_double = self.rows.dtype == torch.float64
        # where logarithms of further positives are added up, the smallest of them counts too
        reads_all = self.plan.policy == "outside" and self.plan.codes is not None
        holds = 2 * scale - _TiledInfoNCE.HEADROOM < (690 if is_double else 85)
        return bool(torch.isfinite(loss)) and (
            holds if reads_all else holds or smallest > (1e-290 if is_double else 1e-30)
        )

    def _block(self, block: slice) -> tuple[Tensor, Tensor | None]:
        """(tile, candidates) exponentials, 0 at partners (kept in `own`) and dropped ones; further positives.

        Further positives are (tile, candidates) bool, or None.
        """
        exponentials = torch.addmm(self.shift, self.scaled[block], self.columns.T).exp_()
        places = torch.arange(len(exponentials), device=exponentials.device), self.plan.own[block]
        self.own[block] = exponentials[places]
        exponentials[places] = 0
        same = self.plan.same(block)
        if same is not None and self.plan.policy == "drop":
            exponentials.masked_fill_(same, 0)
        return exponentials, same

    def _sums(self, exponentials: Tensor, same: Tensor | None, *, dim: int) -> _Sums:
        if same is None or self.plan.policy == "drop":
            return _Sums(exponentials.sum(dim=dim), None, None)
        of_positives = (exponentials if self.plan.policy == "inside" else exponentials.log()).masked_fill(
            ~same, 0
        )
        return _Sums(
            exponentials.sum(dim=dim), of_positives.sum(dim=dim), same.sum(dim=dim).to(exponentials.dtype)
        )

    def _differentiate(
        self, block: slice, exponentials: Tensor, same: Tensor | None, by_row: _Sums, by_column: _Sums | None
    ) -> None:
        """Turn a block of exponentials into the gradient at its logits, and multiply it out."""
        own, policy = self.own[block], self.plan.policy
        weight = (1 / (by_row.others + own))[:, None]  # (tile, 1)
        at_own = -by_row.others / (by_row.others + own)  # (tile,) probability of the partner less 1
        target = by_row.target(own, policy=policy)[:, None] if by_row.count is not None else None
        if by_column is not None:
            total = by_column.others + self.own
            weight = weight + 1 / total  # (tile, candidates)
            at_own = at_own - (by_column.others / total)[block]
            target = target + by_column.target(self.own, policy=policy) if target is not None else None
        if target is not None and same is not None:
            partner = own[:, None] if policy == "inside" else torch.ones_like(own[:, None])
            places = self.plan.own[block][:, None]
            at_own = (
                own[:, None] * weight.expand_as(exponentials).gather(1, places)
                - partner * target.expand_as(exponentials).gather(1, places)
            )[:, 0]
            if policy == "inside":
                weight = weight - target * same
        gradient = exponentials.mul_(weight)
        if target is not None and same is not None and policy == "outside":
            gradient -= target * same
        gradient[torch.arange(len(own), device=own.device), self.plan.own[block]] = at_own
        self.row_gradient[block] = gradient @ self.columns
        self.column_gradient.addmm_(gradient.T, self.rows[block])


class _StablePass:
    """One pass over the matrix in logarithms: for scales at which one shift fits no number format.

    Every row has a shift of its own, and every column one that follows its largest logit from block to block.
    """

    def __init__(self, rows: Tensor, columns: Tensor, scale: Tensor, plan: _Tiles) -> None:
        self.scaled, self.columns, self.plan = rows * scale.detach(), columns, plan
        batch = len(rows)
        self.hits = torch.empty(batch, dtype=torch.bool, device=rows.device)
        loss, same = rows.new_zeros(()), torch.zeros((), device=rows.device)
        by_row: list[_LogSums] = []
        by_column: _LogSums | None = None
        for block in plan.blocks(batch):
            logits, positives = self._block(block)
            partners = logits.gather(1, plan.own[block][:, None])  # (tile, 1)
            self.hits[block] = (logits >= partners).sum(dim=1) == 1
            by_row.append(_LogSums.of(logits, positives, dim=1))
            loss = loss + by_row[-1].loss(plan.policy).sum()
            further = plan.same(block)
            same = same if further is None else same + further.sum()
            if plan.both:
                found = _LogSums.of(logits, positives, dim=0)
                by_column = found if by_column is None else by_column + found
        loss = loss if by_column is None else loss + by_column.loss(plan.policy).sum()
        gradients = _Gradients(loss, torch.empty_like(rows), torch.zeros_like(columns), scale)
        for number, block in enumerate(plan.blocks(batch)):
            logits, positives = self._block(block)
            gradient = by_row[number].gradient(logits, positives, dim=1, policy=plan.policy)
            if by_column is not None:
                gradient += by_column.gradient(logits, positives, dim=0, policy=plan.policy)
            gradients.rows[block] = gradient @ columns
            gradients.columns.addmm_(gradient.T, rows[block])
        self.result = _finished(gradients, rows, columns, plan)
        self.same = same / (batch * len(columns))

    def _block(self, block: slice) -> tuple[Tensor, Tensor]:
        """(tile, candidates) logits, without dropped positives, and bool of the positives that count."""
        logits, same = self.scaled[block] @ self.columns.T, self.plan.same(block)
        positives = torch.zeros_like(logits, dtype=torch.bool)
        if same is not None and self.plan.policy == "drop":
            logits.masked_fill_(same, float("-inf"))
        elif same is not None:
            positives |= same
        return logits, positives.scatter_(1, self.plan.own[block][:, None], True)


@dataclass
class _LogSums:
    """Logarithms of the sums of a row (or column)."""

    total: Tensor  # (rows,) over all candidates
    positive: Tensor  # (rows,) over the positives
    logits: Tensor  # (rows,) sum of the positives' logits themselves
    count: Tensor  # (rows,) positives

    @classmethod
    def of(cls, logits: Tensor, positives: Tensor, *, dim: int) -> "_LogSums":
        return cls(
            logits.logsumexp(dim),
            logits.masked_fill(~positives, float("-inf")).logsumexp(dim),
            logits.masked_fill(~positives, 0).sum(dim),
            positives.sum(dim).to(logits.dtype),
        )

    def __add__(self, more: "_LogSums") -> "_LogSums":
        return _LogSums(
            torch.logaddexp(self.total, more.total),
            torch.logaddexp(self.positive, more.positive),
            self.logits + more.logits,
            self.count + more.count,
        )

    def loss(self, policy: SamePolicy) -> Tensor:
        """(rows,) losses, before smoothing."""
        if policy == "outside":
            return self.total - self.logits / self.count
        return self.total - self.positive + self.count.log()

    def gradient(self, logits: Tensor, positives: Tensor, *, dim: int, policy: SamePolicy) -> Tensor:
        """(tile, candidates) of the losses at the logits of a block."""
        total, positive, count = (one.unsqueeze(dim) for one in (self.total, self.positive, self.count))
        if policy == "outside":
            return (logits - total).exp() - positives / count
        return (logits - total).exp() - (logits - positive).masked_fill(~positives, float("-inf")).exp()


@dataclass(frozen=True)
class _Gradients:
    """A loss and its gradients."""

    loss: Tensor
    rows: Tensor
    columns: Tensor
    scale: Tensor  # the scale itself, before `_finished`


def _finished(found: _Gradients, rows: Tensor, columns: Tensor, plan: _Tiles) -> _Gradients:
    """Means over rows, from the sum of losses and the gradients at the products of rows and columns."""
    scale, loss, batch = found.scale, found.loss, len(rows)
    if plan.smoothing:
        loss = loss + _smooth(found, rows, columns, plan)
    by_scale = (found.rows * rows).sum() / batch
    return _Gradients(
        loss / batch, found.rows.mul_(scale / batch), found.columns.mul_(scale / batch), by_scale
    )


def _smooth(found: _Gradients, rows: Tensor, columns: Tensor, plan: _Tiles) -> Tensor:
    """Move a share of the target from the partners to all candidates, in closed form.

    Returns the increase of the loss.
    """
    share, partners = plan.smoothing, columns[plan.own]  # (batch, dim)
    times = 2 if plan.both else 1
    mean_column, sum_row = columns.mean(dim=0), rows.sum(dim=0)  # (dim,) both
    grown = times * share * found.scale * ((rows * partners).sum() - (rows @ mean_column).sum())
    found.rows.add_(times * share * (partners - mean_column))
    found.columns.index_add_(0, plan.own, times * share * rows)
    found.columns.sub_(times * share * sum_row / len(columns))
    return grown


def tiled_sigmoid_loss(
    images: Tensor,
    texts: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    text_candidates: Tensor | None = None,
    own: Tensor | None = None,
    codes: Tensor | None = None,
    candidate_codes: Tensor | None = None,
    same_is_positive: bool = False,
    tile: int | None = None,
) -> Tensor:
    """`sigmoid_loss` in tiles, as `tiled_info_nce_loss`; pairs are independent, so one pass is enough.

    Args:
        images: (batch, dim) unit vectors; the other arguments as in `sigmoid_loss` and `tiled_info_nce_loss`.
        texts: (batch, dim) unit vectors.
        scale: () multiplies cosines.
        bias: () added to the logits.
        text_candidates: (candidates, dim) unit vectors of all processes; default the own ones.
        own: (batch,) int64 position of the own rows among the candidates.
        codes: (batch,) or (batch, fields) int64.
        candidate_codes: likewise for the candidates; default `codes`.
        same_is_positive: further positives count as matches; otherwise they are left out.
        tile: rows of a block.

    Returns:
        () in nats.
    """
    own = torch.arange(len(images), device=images.device) if own is None else own
    text_candidates = texts if text_candidates is None else text_candidates
    tile = max(1, TILE // len(text_candidates)) if tile is None else tile
    plan = _Tiles(
        own, codes, codes if candidate_codes is None else candidate_codes, "drop", 0.0, tile, both=False
    )
    return _TiledSigmoid.apply(  # pyright: ignore[reportReturnType]
        images, text_candidates, scale, bias, plan, same_is_positive
    )


class _TiledSigmoid(torch.autograd.Function):
    """Pairwise losses of `scale * rows @ columns.T + bias`; the forward pass computes the gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        columns: Tensor,
        scale: Tensor,
        bias: Tensor,
        plan: _Tiles,
        same_is_positive: bool,
    ) -> Tensor:
        row_gradient, column_gradient = torch.empty_like(rows), torch.zeros_like(columns)
        scale_gradient, bias_gradient, loss = (
            torch.zeros_like(scale),
            torch.zeros_like(bias),
            torch.zeros_like(scale),
        )
        for block in plan.blocks(len(rows)):
            signed = ((rows[block] * scale) @ columns.T).add_(bias)  # (tile, candidates)
            sign, same = torch.full_like(signed, -1.0), plan.same(block)
            sign[torch.arange(len(signed), device=rows.device), plan.own[block]] = 1.0
            if same is not None and same_is_positive:
                sign.masked_fill_(same, 1.0)
            signed *= sign
            each, gradient = (
                F.softplus(-signed),
                torch.sigmoid(-signed).mul_(sign).neg_(),
            )  # (tile, candidates) both
            if same is not None and not same_is_positive:
                each.masked_fill_(same, 0.0)
                gradient.masked_fill_(same, 0.0)
            loss = loss + each.sum()
            bias_gradient = bias_gradient + gradient.sum()
            row_gradient[block] = gradient @ columns
            column_gradient.addmm_(gradient.T, rows[block])
            scale_gradient = scale_gradient + (row_gradient[block] * rows[block]).sum()
        batch, factor = len(rows), scale / len(rows)
        ctx.save_for_backward(
            row_gradient.mul_(factor),
            column_gradient.mul_(factor),
            scale_gradient / batch,
            bias_gradient / batch,
        )
        return loss / batch

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        return (*(saved * gradients[0] for saved in ctx.saved_tensors), None, None)
