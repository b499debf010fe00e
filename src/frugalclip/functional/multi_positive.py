"""Contrastive losses with several texts for each picture.

Source: FLAME, arXiv 2411.11927, as the authors' `open_clip/loss.py` computes it (`MultiPositiveSigmoidLoss`, `MultiPositiveNCELoss`). With one
text a picture the first is SigLIP's loss and the second CLIP's, to the last bit: both are written with those, and like those go through the logits
in tiles where they do not fit into memory.
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
    """Judge every pair of a picture and a text on its own: sum over pairs divided by the number of own texts.

    Args:
        images: (batch, dim) unit vectors.
        texts: (batch, facets, dim) unit vectors, those of row i belong to picture i.
        scale: () multiplies cosines.
        bias: () added to the logits.
        text_candidates: (candidates, facets, dim) unit vectors of all processes; default the own ones.
        own: (batch,) int64 place of the own rows among the candidates; default 0, 1, 2, …

    Returns:
        () in nats. At cosine zero: softplus(-bias) + (candidates - 1) * softplus(bias), whatever the number of texts.
    """
    candidates = texts if text_candidates is None else text_candidates
    rows, facets = candidates.shape[:2]
    own = torch.arange(len(images), device=images.device) if own is None else own
    flat, first = (
        candidates.flatten(0, 1),
        own * facets,
    )  # (candidates * facets, dim), (batch,) each picture's first text
    rows = torch.arange(rows, device=images.device).repeat_interleave(
        facets
    )  # (candidates * facets,) whose text it is
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
    """Contrast pictures with the texts of one place after the other; a picture's other texts are neither positive nor negative there.

    Args:
        images: (batch, dim) unit vectors.
        texts: (batch, facets, dim) unit vectors, those of row i belong to picture i.
        scale: () multiplies cosines.
        image_candidates: (candidates, dim) unit vectors of all processes; default the own ones.
        text_candidates: (candidates, facets, dim) unit vectors of all processes; default the own ones.
        own: (batch,) int64 place of the own rows among the candidates; default 0, 1, 2, …

    Returns:
        Both directions added, mean over places, whose half is the authors' loss: 2 ln(candidates) where all embeddings are equal; and hits
        (facets * batch,), place by place.
    """
    own = torch.arange(len(images), device=images.device) if own is None else own
    others = [None] * texts.shape[1] if text_candidates is None else text_candidates.unbind(dim=1)
    found = [
        _at_one_place(images, t, scale, image_candidates, others[m], own)
        for m, t in enumerate(texts.unbind(dim=1))
    ]
    loss = torch.stack([one.loss for one in found]).mean()
    return Contrast(loss, torch.cat([one.hits for one in found]), torch.zeros((), device=images.device))


def _at_one_place(
    images: Tensor,
    texts: Tensor,
    scale: Tensor,
    image_candidates: Tensor | None,
    text_candidates: Tensor | None,
    own: Tensor,
) -> Contrast:
    """Both directions of InfoNCE between pictures (batch, dim) and one text (batch, dim) of each, by the route that fits into memory."""
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
