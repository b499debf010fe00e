"""Do the words of a patch name what is in the patch? Patches are classified by the lexical vectors of class names and held against masks.

Source: PatchDis of LexVLA, arXiv 2407.17827, whose protocol is not public; this one is ours. A patch has the class of most of its pixels, and none
where that is less than half of them; a class is its bare name; vectors are compared by cosine; intersections and unions are summed over the whole
set before they are divided. Nothing is trained on masks.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from frugalclip.core.errors import DataError
from frugalclip.functional import unit

IGNORED = -1  # label of a patch that does not count


@dataclass(frozen=True)
class PatchDis:
    """How well patches name their class."""

    predicted: Tensor  # (images, patches) int64 class, also where the label is ignored
    iou: Tensor  # (classes,) float64 intersection over union of the whole set; NaN for a class that is neither there nor named
    mean_iou: float  # over the classes that have one
    accuracy: float  # share of the judged patches that are right
    chance: float  # accuracy of a guess among the candidates


def patch_labels(pixels: Tensor, *, side: int, min_majority: float = 0.5) -> Tensor:
    """The class of each patch from the classes of its pixels.

    Args:
        pixels: (images, height, width of the picture) int64 classes, negative where there is none; sides are multiples of `side`.
        side: of a patch, in pixels.
        min_majority: share of its pixels that a class needs.

    Returns:
        (images, patches) int64, row by row; -1 where no class has the majority. Of two halves the lower class is taken.
    """
    images, height, width = pixels.shape
    pieces = (
        pixels.reshape(images, height // side, side, width // side, side)
        .permute(0, 1, 3, 2, 4)
        .reshape(images, -1, side * side)
    )
    classes = max(int(pixels.max()) + 1, 1)
    counts = torch.zeros(
        *pieces.shape[:2], classes + 1, dtype=torch.int64
    )  # the last place is for pixels without a class
    counts.scatter_add_(2, torch.where(pieces < 0, classes, pieces), torch.ones_like(pieces))
    most = counts[:, :, :classes].max(dim=2)
    return torch.where(most.values >= min_majority * side * side, most.indices, IGNORED).masked_fill(
        most.values == 0, IGNORED
    )


def patch_scores(patches: Tensor, classes: Tensor) -> Tensor:
    """Cosines of patches with classes, for as many pictures at a time as fit into memory.

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
    """Hold the best class of each patch against its label.

    Args:
        scores: (images, patches, classes), such as `patch_scores`.
        labels: (images, patches) int64 class, -1 where a patch does not count.
        candidates: all classes compete (open), or those that some patch of the same picture has (present).

    Returns:
        Predictions, of equal scores the lower class; intersection over union of the whole set, and accuracy with its chance.

    Raises:
        DataError: for labels that name no class, or when none counts.
    """
    number, judged = scores.shape[2], labels != IGNORED
    if int(labels.max()) >= number or int(labels.min()) < IGNORED:
        raise DataError(
            f"patch labels run from {int(labels.min())} to {int(labels.max())}, expected {IGNORED} (ignored) to {number - 1}; "
            "number the classes anew."
        )
    if not judged.any():
        raise DataError(
            "every patch is ignored, so there is nothing to judge; give labels of 0 and more, or lower min_majority."
        )
    is_label = torch.nn.functional.one_hot(labels.masked_fill(~judged, number), number + 1)[
        :, :, :number
    ].bool()  # (images, patches, classes)
    competes = _competing(is_label, candidates)  # (images, classes)
    predicted = scores.masked_fill(~competes[:, None], float("-inf")).argmax(dim=2)  # (images, patches)
    is_predicted = torch.nn.functional.one_hot(predicted, number).bool() & judged[:, :, None]
    union = (is_label | is_predicted).sum(dim=(0, 1)).double()  # (classes,)
    iou = (is_label & is_predicted).sum(dim=(0, 1)) / union  # 0 / 0 is NaN
    guesses = (1 / competes.sum(dim=1).double())[:, None].expand_as(labels)[judged]
    right = (predicted == labels)[judged].double()
    return PatchDis(predicted, iou, float(iou.nanmean()), float(right.mean()), float(guesses.mean()))


def _competing(is_label: Tensor, candidates: Literal["open", "present"]) -> Tensor:
    """(images, classes) bool; a picture without any label is not judged, and all classes stay."""
    if candidates == "open":
        return torch.ones_like(is_label[:, 0])
    present = is_label.any(dim=1)
    return present | ~present.any(dim=1, keepdim=True)
