"""The one place that refuses numbers that are not finite: vectors, weights, scores.

A NaN compares as neither larger nor smaller than anything, so it ranks first without an error and averages
without a trace. Whatever scores, fits, loads or stores vectors asks here first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.errors import DataError, FrugalclipError, ModelError, shortened

_NAMED = 3  # tensors that a message names
MODEL_ADVICE = "look at its weights, or run it in float32"
FILE_ADVICE = "copy the file again, or use an earlier checkpoint"


@dataclass(frozen=True)
class VectorOrigin:
    """Where vectors come from, for messages."""

    giver: str  # such as `the model`, or the folder of a store
    kind: str  # of the vectors, such as `image`
    advice: str = MODEL_ADVICE
    error: type[FrugalclipError] = ModelError


def finite_rows(values: Tensor | np.ndarray) -> Tensor:
    """(rows,) bool, True where a row of (rows, ...) holds neither NaN nor infinity."""
    tensor = torch.as_tensor(values)
    return torch.isfinite(tensor).flatten(1).all(dim=1)


def refuse_vectors(
    values: Tensor | np.ndarray,
    names: Sequence[str] = (),
    *,
    origin: VectorOrigin,
    may_be_zero: bool = True,
) -> None:
    """Refuse vectors that hold NaN or infinity, or that have no direction.

    Args:
        values: (rows, ...) vectors.
        names: (rows,) of what each belongs to; without names the number of the row stands for it.
        origin: where they come from.
        may_be_zero: False refuses vectors of zeros, which cannot be normalised.

    Raises:
        FrugalclipError: of the origin's class, with the first such row and their number.
    """
    _refuse_rows(~finite_rows(values), names, origin, what="not finite")
    if not may_be_zero and len(values):
        tensor = torch.as_tensor(values)
        is_zero = (tensor == 0).flatten(1).all(dim=1)
        _refuse_rows(is_zero, names, origin, what="zero and cannot be normalised")


def _refuse_rows(is_bad: Tensor, names: Sequence[str], origin: VectorOrigin, *, what: str) -> None:
    bad = is_bad.nonzero().flatten().tolist()
    if not bad:
        return
    first = f"'{shortened(names[bad[0]])}'" if len(names) else f"row {bad[0]}"
    more = f", and for {len(bad) - 1:,} more of {len(is_bad):,}" if len(bad) > 1 else ""
    article = "an" if origin.kind[0] in "aeiou" else "a"
    raise origin.error(
        f"{origin.giver} gives {article} {origin.kind} vector that is {what} for {first}{more}; "
        f"{origin.advice}."
    )


def refuse_weights(tensors: Mapping[str, Tensor], *, where: str, advice: str = FILE_ADVICE) -> None:
    """Refuse weights that hold NaN or infinity.

    Args:
        tensors: by name; those of integers, and those without values (of a plan), are finite.
        where: the file or the model that they come from.
        advice: what to do.

    Raises:
        ModelError: naming the first tensors.
    """
    bad = [
        name
        for name, one in tensors.items()
        if one.is_floating_point() and not one.is_meta and not bool(one.isfinite().all())
    ]
    if bad:
        named = ", ".join(map(shortened, bad[:_NAMED]))
        more = f" and {len(bad) - _NAMED:,} more" if len(bad) > _NAMED else ""
        raise ModelError(
            f"{where} holds weights that are not finite, in {named}{more} ({len(bad):,} of {len(tensors):,} "
            f"tensors); {advice}."
        )


def refuse_scores(scores: Tensor) -> None:
    """Refuse scores that hold NaN or infinity, which no ranking has a place for.

    Args:
        scores: (rows, candidates).

    Raises:
        DataError: with the number of such rows.
    """
    bad = len(scores) - int(finite_rows(scores).sum())
    if bad:
        raise DataError(
            f"{bad:,} of {len(scores):,} rows have scores that are not finite, so they have no ranking; "
            f"check the features that they come from for NaN and infinity."
        )
