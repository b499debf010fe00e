"""Losses and similarities that compute all their logits at once."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

SamePolicy = Literal["drop", "outside", "inside"]


def unit(x: Tensor) -> Tensor:
    """Scale rows to unit length, in float32 or better whatever the precision of the towers.

    Args:
        x: (..., dim) of any float type.

    Returns:
        (..., dim) float32 (float64 stays float64); a row of zeros stays zero.
    """
    return F.normalize(x if x.dtype == torch.float64 else x.float(), dim=-1)


def unit_or_nan(x: Tensor) -> Tensor:
    """Scale features that will be stored or ranked to unit length.

    Args:
        x: (..., dim) of any float type.

    Returns:
        (..., dim) as `unit` gives it, but NaN for a row that is too long for its type: as a row of zeros it
        would rank without a trace.
    """
    rows = unit(x)
    is_lost = ~rows.isfinite().all(dim=-1) | ((rows == 0).all(dim=-1) & (x != 0).any(dim=-1))
    return rows.masked_fill(is_lost[..., None], torch.nan)


def negative_cosine(predicted: Tensor, target: Tensor) -> Tensor:
    """Minus the mean cosine of rows, with the target held fixed (SimSiam, arXiv 2011.10566, eq. 1).

    Args:
        predicted: (batch, dim).
        target: (batch, dim); no gradient flows into it.

    Returns:
        () in [-1, 1].
    """
    return -F.cosine_similarity(predicted, target.detach(), dim=-1).mean()


def cross_entropy_rows(logits: Tensor, own: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Softmax cross-entropy of each row against its own candidate.

    Args:
        logits: (batch, candidates).
        own: (batch,) int64 candidate of each row.
        smoothing: share of the target spread evenly over all candidates (ALIGN, arXiv 2102.05918: 0.1).

    Returns:
        () mean over rows, in nats.
    """
    return F.cross_entropy(logits, own, label_smoothing=smoothing)


def same_rows(codes: Tensor, candidate_codes: Tensor, own: Tensor) -> Tensor:
    """Candidates that are further positives of a row: equal code, and not the row's own partner.

    Args:
        codes: (batch,) or (batch, fields) int64 of the rows; agreeing in one field is enough.
        candidate_codes: (candidates,) or (candidates, fields) int64.
        own: (batch,) int64 position of each row among the candidates.

    Returns:
        (batch, candidates) bool.
    """
    equal = codes[:, None] == candidate_codes[None, :]  # (batch, candidates [, fields])
    same = equal if codes.ndim == 1 else equal.any(dim=2)  # (batch, candidates)
    same[torch.arange(len(own), device=own.device), own] = False
    return same


def multi_positive_rows(logits: Tensor, own: Tensor, same: Tensor, *, policy: SamePolicy) -> Tensor:
    """Softmax cross-entropy of rows with several positives.

    Args:
        logits: (batch, candidates).
        own: (batch,) int64 position of the partner.
        same: (batch, candidates) bool, the other positives.
        policy: `drop` removes the other positives from the denominator, so that they neither attract nor
            repel; `outside` and `inside` are the supervised-contrastive forms (Khosla et al. 2020, arXiv
            2004.11362, eq. 2 and 3): mean of the log-probabilities of all positives, or log of their mean
            probability.

    Returns:
        () mean over rows, in nats.
    """
    if policy == "drop":
        return F.cross_entropy(logits.masked_fill(same, float("-inf")), own)
    positives = same.clone()
    positives[torch.arange(len(own), device=own.device), own] = True
    log_probability = torch.log_softmax(logits, dim=1)  # (batch, candidates)
    count = positives.sum(dim=1)  # (batch,)
    if policy == "outside":
        return -(log_probability.masked_fill(~positives, 0).sum(dim=1) / count).mean()
    inside = (
        torch.logsumexp(log_probability.masked_fill(~positives, float("-inf")), dim=1)
        - count.to(logits.dtype).log()
    )
    return -inside.mean()


def info_nce_loss(
    images: Tensor,
    texts: Tensor,
    scale: Tensor,
    *,
    image_candidates: Tensor | None = None,
    text_candidates: Tensor | None = None,
    own: Tensor | None = None,
    same: Tensor | None = None,
    policy: SamePolicy = "drop",
    smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Contrast images with captions in both directions (CLIP, arXiv 2103.00020, figure 3).

    CLIP takes half the sum of the two directions, ALIGN the sum. Soft targets over equal captions do not
    change the image-to-text direction, since equal captions have equal embeddings and logits. Removing them
    from the denominator (`policy="drop"`) does.

    Args:
        images: (batch, dim) unit vectors.
        texts: (batch, dim) unit vectors, row i belongs to image i.
        scale: () multiplies cosines.
        image_candidates: (candidates, dim) unit vectors of all processes; default the own ones.
        text_candidates: likewise.
        own: (batch,) int64 position of the own rows among the candidates; default 0, 1, 2, …
        same: (batch, candidates) bool, further positives of each row in either direction.
        policy: treatment of further positives, see `multi_positive_rows`.
        smoothing: label smoothing; not together with `same`.

    Returns:
        (image-to-text, text-to-image), each (), mean over rows in nats; both are ln(candidates) when all
        embeddings are equal.
    """
    image_candidates = images if image_candidates is None else image_candidates
    text_candidates = texts if text_candidates is None else text_candidates
    own = torch.arange(len(images), device=images.device) if own is None else own
    to_text = scale * images @ text_candidates.T  # (batch, candidates)
    to_image = scale * texts @ image_candidates.T  # (batch, candidates)
    if same is None:
        return cross_entropy_rows(to_text, own, smoothing=smoothing), cross_entropy_rows(
            to_image, own, smoothing=smoothing
        )
    assert smoothing == 0, "smoothing and further positives are exclusive; the configuration refuses both"
    return multi_positive_rows(to_text, own, same, policy=policy), multi_positive_rows(
        to_image, own, same, policy=policy
    )


def sigmoid_loss(
    images: Tensor,
    texts: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    text_candidates: Tensor | None = None,
    own: Tensor | None = None,
    same: Tensor | None = None,
    same_is_positive: bool = False,
) -> Tensor:
    """Classify every pair (SigLIP, arXiv 2303.15343, eq. 1): sum over pairs divided by the number of rows.

    Args:
        images: (batch, dim) unit vectors.
        texts: (batch, dim) unit vectors, row i belongs to image i.
        scale: () multiplies cosines.
        bias: () added to the logits.
        text_candidates: (candidates, dim) unit vectors of all processes; default the own ones.
        own: (batch,) int64 position of the own rows among the candidates; default 0, 1, 2, …
        same: (batch, candidates) bool, further positives of each row.
        same_is_positive: they count as positives; otherwise they are left out.

    Returns:
        () in nats. At cosine zero: softplus(-bias) + (candidates - 1) * softplus(bias).
    """
    text_candidates = texts if text_candidates is None else text_candidates
    own = torch.arange(len(images), device=images.device) if own is None else own
    logits = scale * images @ text_candidates.T + bias  # (batch, candidates)
    sign = torch.full_like(logits, -1.0)
    sign[torch.arange(len(own), device=own.device), own] = 1.0
    if same is not None and same_is_positive:
        sign = sign.masked_fill(same, 1.0)
    each = F.softplus(-sign * logits)  # (batch, candidates)
    if same is not None and not same_is_positive:
        each = each.masked_fill(same, 0.0)
    return each.sum() / len(images)


def class_weights(prompt_features: Tensor, classes: Tensor, *, count: int) -> Tensor:
    """Average the prompts of each class into one direction (CLIP, section 3.1.4): normalise, mean, normalise.

    Args:
        prompt_features: (prompts, dim), any length.
        classes: (prompts,) int64 class of each prompt.
        count: number of classes; each has at least one prompt.

    Returns:
        (classes, dim) unit vectors.
    """
    rows = unit(prompt_features)
    total = torch.zeros(count, rows.shape[1], dtype=rows.dtype, device=rows.device).index_add_(
        0, classes, rows
    )
    number = torch.bincount(classes, minlength=count).to(rows.dtype)[:, None]  # (classes, 1)
    return unit(total / number)
