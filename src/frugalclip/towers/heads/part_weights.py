"""How much each kind of image features counts: weights chosen by cross-validation in closed form.

A fifth of the captions is left out in turn. Ridge regression from the others' texts predicts features of each
kind for them, and images of the captions left out are ranked against these predictions. Products of
predictions and images are computed once per kind; a choice of weights is then a weighted sum, so that trying
hundreds takes seconds (multiple kernel learning, Gönen & Alpaydın, JMLR 2011, with weights on a grid).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from frugalclip.core.numerics import evenly_spaced
from frugalclip.core.random import generator

FOLDS = 5
GRID = (0.0, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
ROUNDS = 2  # over all kinds
LEAST_CAPTIONS = 4 * FOLDS  # with fewer, all weights are 1
MOST_CAPTIONS = 3000  # evenly spaced ones; solved at once
LEAST_GAIN = 1e-4  # of the mean reciprocal rank


@dataclass(frozen=True)
class _Fold:
    """Captions left out, and what the others predict for them."""

    products: Tensor  # (parts, images, captions) of images and predictions
    lengths: Tensor  # (parts, captions) squared, of the predictions
    right: Tensor  # (images,) int64 the caption of each image


def chosen_weights(parts: Sequence[Tensor], caption: Tensor, texts: Tensor, *, fixed: Tensor) -> Tensor:
    """Weights of several kinds of features.

    Args:
        parts: of each kind (images, width), centred.
        caption: (images,) int64 place of an image's caption in `texts`.
        texts: (captions, text width) features.
        fixed: (parts,) weights that are given; NaN where one is to be chosen.

    Returns:
        (parts,) weights. Chosen ones have a mean square of 1; given ones stay.
    """
    is_chosen = fixed.isnan()
    weights = torch.where(is_chosen, 1.0, fixed)
    wanted = is_chosen.nonzero().flatten().tolist()
    if len(wanted) < 2 or len(texts) < LEAST_CAPTIONS:
        return weights
    folds = _folds([parts[i] for i in wanted], caption, texts)
    best = torch.ones(len(wanted), dtype=torch.float64)
    rank = _mean_reciprocal_rank(folds, best)
    for _ in range(ROUNDS):
        for place in range(len(wanted)):
            for value in GRID:
                tried = best.clone()
                tried[place] = value
                found = _mean_reciprocal_rank(folds, tried) if tried.any() else 0.0
                if found > rank + LEAST_GAIN:
                    best, rank = tried, found
    weights[is_chosen] = (best / best.square().mean().sqrt()).to(weights)
    return weights


def _folds(parts: list[Tensor], caption: Tensor, texts: Tensor) -> list[_Fold]:
    chosen = torch.from_numpy(evenly_spaced(torch.arange(len(texts)).numpy(), MOST_CAPTIONS))
    place = torch.full((len(texts),), -1, dtype=torch.int64)
    place[chosen] = torch.arange(len(chosen))
    is_used = place[caption] >= 0
    owner = place[caption[is_used]]  # (images,)
    counts = torch.bincount(owner, minlength=len(chosen)).double()
    images = [part[is_used].double() for part in parts]
    means = [
        torch.zeros(len(chosen), one.shape[1], dtype=one.dtype).index_add_(0, owner, one) / counts[:, None]
        for one in images
    ]
    kernel = texts[chosen].double() @ texts[chosen].double().T
    fold_of = torch.randint(FOLDS, (len(chosen),), generator=generator(0, "part weights"))
    found = []
    for fold in range(FOLDS):
        out = (fold_of == fold).nonzero().flatten()
        others = (fold_of != fold).nonzero().flatten()
        among = kernel[others][:, others] + torch.diag(1 / counts[others])
        solved = torch.linalg.solve(among, kernel[others][:, out]).T  # (out, others)
        shown = (fold_of[owner] == fold).nonzero().flatten()
        predicted = [solved @ mean[others] for mean in means]
        found.append(
            _Fold(
                torch.stack([one[shown] @ p.T for one, p in zip(images, predicted, strict=True)]),
                torch.stack([p.square().sum(dim=1) for p in predicted]),
                torch.searchsorted(out, owner[shown]),
            )
        )
    return found


def _mean_reciprocal_rank(folds: list[_Fold], weights: Tensor) -> float:
    """Of the right caption of each image; equal scores share a rank."""
    found = []
    for fold in folds:
        squares = weights.square()
        lengths = (squares @ fold.lengths).sqrt().clamp_min(1e-9)
        scores = torch.einsum("p,pic->ic", squares, fold.products) / lengths
        right = scores.gather(1, fold.right[:, None])
        rank = (scores > right).sum(dim=1) + ((scores == right).sum(dim=1) + 1) / 2
        found.append(1 / rank)
    return float(torch.cat(found).mean())
