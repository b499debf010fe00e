"""Signs of what goes wrong in contrastive training, and advice about each.

They are common in public issue threads: a loss that stays at ln(batch), a scale at its clamp, features that
collapse, a batch of equal captions, a NaN of unknown origin.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from frugalclip.core.distributed import gather
from frugalclip.core.types import Batch, Features
from frugalclip.functional import unit
from frugalclip.training.step import Step

_FEW_CODES = 2  # perplexity below which most patches of a batch have the same code


@torch.no_grad()
def feature_monitors(features: Features) -> dict[str, float]:
    """Spread and gap of one batch's embeddings.

    Args:
        features: of one step; the rows of all processes are read, so every process calls this.

    Returns:
        For each modality the mean cosine between different rows (1 is collapse), and the distance of the
        modality means, `gap`.
    """
    monitors: dict[str, float] = {}
    means: dict[str, Tensor] = {}
    for kind, encoded in (("image", features.images), ("text", features.texts)):
        if not encoded:
            continue
        rows = unit(gather(next(iter(encoded.values())).embedding))  # (candidates, dim)
        means[kind] = rows.mean(dim=0)
        number = len(rows)
        off_diagonal = (rows.sum(dim=0).square().sum() - number) / max(number * (number - 1), 1)
        monitors[f"{kind}_similarity"] = float(off_diagonal)
    if len(means) == 2:
        monitors["gap"] = float((means["image"] - means["text"]).norm())
    return monitors


class Advisor:
    """Derives advice from the rows of a run, each sentence once."""

    def __init__(self, *, steps: int, scale_min: float, scale_max: float, window: int = 50) -> None:
        self.steps, self.scale_min, self.scale_max = steps, scale_min, scale_max
        self.recent: deque[Mapping[str, float]] = deque(maxlen=window)
        self.given: set[str] = set()

    def advise(self, row: Mapping[str, float]) -> list[str]:
        """New advice for the newest row, empty most of the time.

        Args:
            row: step, loss, scale, objective logs and, at evaluation points, feature monitors.
        """
        self.recent.append(row)
        found = {key: sentence for key, sentence in self._all(row) if key not in self.given}
        self.given |= found.keys()
        return list(found.values())

    def _all(self, row: Mapping[str, float]) -> Iterator[tuple[str, str]]:
        share = row["step"] / max(self.steps, 1)
        if share > 0.1:
            yield from self._flat_losses(row)
            yield from _collapses(row)
        if share > 0.2 and len(self.recent) == self.recent.maxlen:
            yield from self._scale_limits()
        for key, value in row.items():
            if key.endswith("/same_share") and value > 0.2:
                yield (
                    key,
                    f"{value:.0%} of the pairs in a batch agree in the positives field: few negatives are "
                    "left. More varied data helps.",
                )

    def _flat_losses(self, row: Mapping[str, float]) -> Iterator[tuple[str, str]]:
        """Losses that stayed at chance for a whole window of steps."""
        for name in [key.removesuffix("/chance") for key in row if key.endswith("/chance")]:
            gaps = [r[f"{name}/chance"] - r[f"{name}/loss"] for r in self.recent if f"{name}/chance" in r]
            if len(gaps) == self.recent.maxlen and sum(gaps) / len(gaps) < 0.05:
                chance = row[f"{name}/chance"]
                yield (
                    f"{name}/flat",
                    f"The loss of {name} sits at chance, ln({round(math.exp(chance))}) = {chance:.2f}: "
                    "nothing is learned yet. Check that images and captions belong together ('frugalclip "
                    "data check PATH'), then try optimizer.lr ten times smaller.",
                )

    def _scale_limits(self) -> Iterator[tuple[str, str]]:
        scales = [r["scale"] for r in self.recent]
        if min(scales) >= 0.999 * self.scale_max:
            yield (
                "scale/max",
                f"The scale has reached its limit {self.scale_max:g}: the model memorises. Stronger views, "
                "more data or fewer epochs help.",
            )
        if max(scales) <= 1.001 * self.scale_min and self.scale_min < self.scale_max:
            yield (
                "scale/min",
                f"The scale has fallen to its limit {self.scale_min:g}: the features carry no information "
                "yet. A smaller optimizer.lr usually helps.",
            )


def _collapses(row: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    for kind in ("image", "text"):
        if row.get(f"{kind}_similarity", 0.0) > 0.98:
            yield (
                f"{kind}/collapse",
                f"All {kind} embeddings point the same way (mean cosine {row[f'{kind}_similarity']:.3f}): "
                "a collapse. Lower optimizer.lr.",
            )
    for key, value in row.items():
        if key.endswith("/perplexity") and value < _FEW_CODES:
            yield (
                key,
                f"The codebook of {key.removesuffix('/perplexity')} has collapsed: the images of a batch are "
                f"told apart by {value:.1f} codes. Lower optimizer.lr, or set reseed_after of the objective "
                "to a smaller number of steps.",
            )
        if key.endswith("/spread") and value < 0.1:  # 1 for directions at random
            yield (
                key,
                f"The features of {key.removesuffix('/spread')} point the same way for all images (spread "
                f"{value:.2f}, 1 at random): a collapse. Lower optimizer.lr, or the weight of the objective.",
            )


def origin_of_bad_loss(step: Step, batch: Batch, ids: Sequence[str]) -> str:
    """Where the first value that is not finite comes from: a weight, or a module's output on some samples.

    Args:
        step: the training computation whose loss is not finite.
        batch: that it was given.
        ids: of the training rows.
    """
    bad = [name for name, p in step.named_parameters() if not bool(torch.isfinite(p).all())]
    if bad:
        return f"the weight {bad[0]} is not finite since the step before"
    with torch.no_grad(), first_bad_output(step) as found:
        step(batch)
    where = found.get("module", "an objective's arithmetic")
    # a text tower works in groups of like length, so only image modules tell rows of the batch
    rows = [int(row) for row in found.get("rows", "").split(", ") if row] if ".image" in where else []
    samples = ", ".join(ids[int(batch.rows[row])] for row in rows)
    if not samples:
        samples = ", ".join(ids[int(row)] for row in batch.rows[:8]) + ", … (the batch)"
    return f"the first value that is not finite came out of {where}, on samples {samples}"


@contextmanager
def first_bad_output(module: nn.Module) -> Iterator[dict[str, str]]:
    """Record the first submodule whose output is not finite, in order of execution.

    Yields:
        A mapping that afterwards holds `module` and `rows` (positions in the batch) if there was one.
    """
    found: dict[str, str] = {}

    def recorder(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: object, output: object) -> None:
            tensors = [t for t in _tensors(output) if t.is_floating_point()]
            bad = [t for t in tensors if not bool(torch.isfinite(t).all())]
            if bad and not found:
                found["module"] = name
                if bad[0].ndim > 1:
                    rows = (~torch.isfinite(bad[0])).flatten(1).any(dim=1).nonzero().flatten().tolist()
                    found["rows"] = ", ".join(map(str, rows[:8]))

        return hook

    handles = [child.register_forward_hook(recorder(name)) for name, child in module.named_modules() if name]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _tensors(output: object) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, tuple | list):
        return [t for item in output for t in _tensors(item)]
    return [t for t in vars(output).values() if isinstance(t, Tensor)] if hasattr(output, "__dict__") else []
