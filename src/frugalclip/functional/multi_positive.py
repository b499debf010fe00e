"""Contrastive losses with several texts for each image.

Source: FLAME, arXiv 2411.11927, as the authors' `open_clip/loss.py` computes it (`MultiPositiveSigmoidLoss`,
`MultiPositiveNCELoss`). With one text an image, the first is SigLIP's loss and the second CLIP's, to the last
bit: both are written with those, and like those they tile logits that do not fit into memory.
"""

import torch
from torch import Tensor

from frugalclip.functional.losses import info_nce_loss, same_rows, sigmoid_loss
from frugalclip.functional.tiled import Contrast, needs_tiles, tiled_info_nce_loss, tiled_sigmoid_loss


def multi_positive_sigmoid_loss(
    images: Tensor,
    texts: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    text_candidates: Tensor | None = None,
    own: Tensor | None = None,
) -> Tensor:
    """Classify every pair of an image and a text: sum over pairs divided by the number of own texts.

    Args:
        images: (batch, dim) unit vectors.
        texts: (batch, facets, dim) unit vectors, those of row i belong to image i.
        scale: () multiplies cosines.
        bias: () added to the logits.
        text_candidates: (candidates, facets, dim) unit vectors of all processes; default the own ones.
        own: (batch,) int64 position of the own rows among the candidates; default 0, 1, 2, …

    Returns:
        () in nats. At cosine zero: softplus(-bias) + (candidates - 1) * softplus(bias), whatever the number
        of texts.
    """
    candidates = texts if text_candidates is None else text_candidates
    rows, facets = candidates.shape[:2]
    own = torch.arange(len(images), device=images.device) if own is None else own
    flat, first = (
        candidates.flatten(0, 1),
        own * facets,
    )  # (candidates * facets, dim), (batch,) first text of each image
    rows = torch.arange(rows, device=images.device).repeat_interleave(
        facets
    )  # (candidates * facets,) image of each text
    if needs_tiles(len(images), len(flat)):
        total = tiled_sigmoid_loss(
            images,
            texts,
            scale,
            bias,
            text_candidates=flat,
            own=first,
            codes=own,
            candidate_codes=rows,
            same_is_positive=True,
        )
    else:
        same = same_rows(own, rows, first)
        total = sigmoid_loss(
            images, texts, scale, bias, text_candidates=flat, own=first, same=same, same_is_positive=True
        )
    return total / facets


def multi_positive_nce_loss(
    images: Tensor,
    texts: Tensor,
    scale: Tensor,
    *,
    image_candidates: Tensor | None = None,
    text_candidates: Tensor | None = None,
    own: Tensor | None = None,
) -> Contrast:
    """Contrast images with texts, facet by facet; an image's other facets are neither positive nor negative.

    Args:
        images: (batch, dim) unit vectors.
        texts: (batch, facets, dim) unit vectors, those of row i belong to image i.
        scale: () multiplies cosines.
        image_candidates: (candidates, dim) unit vectors of all processes; default the own ones.
        text_candidates: (candidates, facets, dim) unit vectors of all processes; default the own ones.
        own: (batch,) int64 position of the own rows among the candidates; default 0, 1, 2, …

    Returns:
        The sum of both directions, mean over facets, and hits (facets * batch,). Half the sum is the authors'
        loss; it is 2 ln(candidates) if all embeddings are equal.
    """
    own = torch.arange(len(images), device=images.device) if own is None else own
    others = [None] * texts.shape[1] if text_candidates is None else text_candidates.unbind(dim=1)
    found = [
        _of_one_facet(images, t, scale, image_candidates, others[m], own)
        for m, t in enumerate(texts.unbind(dim=1))
    ]
    loss = torch.stack([one.loss for one in found]).mean()
    return Contrast(loss, torch.cat([one.hits for one in found]), torch.zeros((), device=images.device))


def _of_one_facet(
    images: Tensor,
    texts: Tensor,
    scale: Tensor,
    image_candidates: Tensor | None,
    text_candidates: Tensor | None,
    own: Tensor,
) -> Contrast:
    """InfoNCE of images and one text each, both (batch, dim), in both directions; tiled if large."""
    everyone = texts if text_candidates is None else text_candidates
    if needs_tiles(len(images), len(everyone)):
        return tiled_info_nce_loss(
            images, texts, scale, image_candidates=image_candidates, text_candidates=text_candidates, own=own
        )
    directions = info_nce_loss(
        images, texts, scale, image_candidates=image_candidates, text_candidates=text_candidates, own=own
    )
    with torch.no_grad():
        hits = (images @ everyone.T).max(dim=1).indices == own
    return Contrast(directions[0] + directions[1], hits, torch.zeros((), device=images.device))
