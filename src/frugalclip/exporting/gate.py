"""The gate of int8: it is written only where retrieval and zero-shot on the user's rows stay as they were."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from frugalclip.core.errors import DataError, ModelError
from frugalclip.core.numerics import evenly_spaced
from frugalclip.data.manifest import Manifest
from frugalclip.evaluation.retrieval import evaluate_retrieval
from frugalclip.evaluation.zeroshot import evaluate_zeroshot
from frugalclip.models import Model

RETRIEVAL_LOSS = 0.005  # relative, of the mean recall
ZEROSHOT_LOSS = 1.0  # points of top-1
ROWS = 2000
RECALLS = ("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10")


@dataclass(frozen=True)
class Quality:
    """What the gate compares."""

    retrieval: float  # mean of the recalls, in percent
    zeroshot: float | None  # top-1 in percent; None where the rows name no classes

    def is_kept_by(self, other: "Quality") -> bool:
        """Whether another quality is as good, within the gate."""
        is_found = other.retrieval >= self.retrieval * (1 - RETRIEVAL_LOSS)
        if self.zeroshot is None or other.zeroshot is None:
            return is_found
        return is_found and other.zeroshot >= self.zeroshot - ZEROSHOT_LOSS

    def record(self) -> dict[str, float | None]:
        """As JSON."""
        return {"retrieval": round(self.retrieval, 3), "zeroshot": self.zeroshot}


def measured(model: Model, rows: Manifest) -> Quality:
    """Retrieval, and zero-shot where the rows have a label, of at most 2,000 evenly spaced rows."""
    chosen = rows.take(evenly_spaced(np.arange(len(rows)), ROWS))
    found = evaluate_retrieval(model, chosen)["metrics"]
    retrieval = sum(found[name] for name in RECALLS) / len(RECALLS)
    try:
        zeroshot = evaluate_zeroshot(model, chosen)["metrics"]["top1"]
    except DataError:
        zeroshot = None
    return Quality(retrieval, zeroshot)


def pass_gate(before: Quality, attempts: list[Callable[[], Quality]]) -> tuple[int, Quality]:
    """The first attempt whose quality is kept.

    Args:
        before: of the model.
        attempts: each makes a smaller model and measures it, the smallest first.

    Returns:
        Its number and its quality.

    Raises:
        ModelError: with the metrics, where none is.
    """
    qualities: list[Quality] = []
    for number, attempt in enumerate(attempts):
        qualities.append(attempt())
        if before.is_kept_by(qualities[-1]):
            return number, qualities[-1]
    raise ModelError(_refusal(before, max(qualities, key=lambda one: one.retrieval)))


def _refusal(before: Quality, best: Quality) -> str:
    shown: list[Any] = [f"retrieval {before.retrieval:.2f} to {best.retrieval:.2f}"]
    if before.zeroshot is not None and best.zeroshot is not None:
        shown.append(f"zero-shot {before.zeroshot:.2f} to {best.zeroshot:.2f}")
    return (
        f"int8 costs too much on these rows ({', '.join(shown)} percent; retrieval may fall by "
        f"{RETRIEVAL_LOSS:.1%} of itself and zero-shot by {ZEROSHOT_LOSS:g} point), also with the layers "
        "that lose most in fp32. Nothing was written; use --precision fp16, or give more rows with --data."
    )
