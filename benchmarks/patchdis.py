"""PatchDis: patches are classified by the lexical vectors of class names and compared with masks.

Source: PatchDis of LexVLA, arXiv 2407.17827, whose protocol is not public; this one is ours. A class is its
    bare name,
vectors are compared by cosine, and intersections and unions are summed over the whole set before they are
divided. Nothing is trained on masks. `words.py` reports it; the parity arrays are in tests/parity.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from frugalclip.core.errors import DataError
from frugalclip.core.finite import refuse_scores
from frugalclip.functional import unit

IGNORED = -1  # label of a patch that does not count


@dataclass(frozen=True)
class PatchDis:
    """How well patches name their class."""

    predicted: Tensor  # (images, patches) int64 class, also where the label is ignored
    iou: Tensor  # (classes,) float64 of the whole set; NaN for a class that is neither present nor predicted
    mean_iou: float  # over the classes that have one
    accuracy: float  # share of the labelled patches that are right
    chance: float  # accuracy of a guess among the candidates


def patch_scores(patches: Tensor, classes: Tensor) -> Tensor:
    """Cosines of patches with classes.

    Args:
        patches: (images, patches, vocab) lexical vectors.
        classes: (classes, vocab) lexical vectors of their names.

    Returns:
        (images, patches, classes); 0 for a vector of zeros.
    """
    return unit(patches) @ unit(classes).T


def patch_discrimination(
    scores: Tensor, labels: Tensor, *, candidates: Literal["open", "present"] = "open"
) -> PatchDis:
    """Compare the best class of each patch with its label.

    Args:
        scores: (images, patches, classes), such as `patch_scores`.
        labels: (images, patches) int64 class, -1 where a patch does not count.
        candidates: all classes compete (open), or those in the labels of the same image (present).

    Returns:
        Predictions, of equal scores the lower class; intersection over union of the whole set, and accuracy
        with its chance.

    Raises:
        DataError: if a score is not finite, a label is no class, or every patch is ignored.
    """
    refuse_scores(scores.flatten(0, 1))
    number, counts = scores.shape[2], labels != IGNORED
    if int(labels.max()) >= number or int(labels.min()) < IGNORED:
        raise DataError(
            f"patch labels run from {int(labels.min())} to {int(labels.max())}, "
            f"expected {IGNORED} (ignored) to {number - 1}; "
            "number the classes anew."
        )
    if not counts.any():
        raise DataError("every patch is ignored (label -1); expected labels of 0 and more.")
    is_label = torch.nn.functional.one_hot(labels.masked_fill(~counts, number), number + 1)[:, :, :number]
    is_label = is_label.bool()  # (images, patches, classes)
    competes = _competing(is_label, candidates)  # (images, classes)
    predicted = scores.masked_fill(~competes[:, None], float("-inf")).argmax(dim=2)  # (images, patches)
    is_predicted = torch.nn.functional.one_hot(predicted, number).bool() & counts[:, :, None]
    union = (is_label | is_predicted).sum(dim=(0, 1)).double()  # (classes,)
    iou = (is_label & is_predicted).sum(dim=(0, 1)) / union  # 0 / 0 is NaN
    guesses = (1 / competes.sum(dim=1).double())[:, None].expand_as(labels)[counts]
    right = (predicted == labels)[counts].double()
    return PatchDis(predicted, iou, float(iou.nanmean()), float(right.mean()), float(guesses.mean()))


def _competing(is_label: Tensor, candidates: Literal["open", "present"]) -> Tensor:
    """(images, classes) bool; all classes where an image has no label."""
    if candidates == "open":
        return torch.ones_like(is_label[:, 0])
    present = is_label.any(dim=1)
    return present | ~present.any(dim=1, keepdim=True)
