"""How a batch becomes gradients: at once, or in micro-batches."""

from typing import Protocol

from torch import Tensor

from frugalclip.core import distributed
from frugalclip.core.types import Batch
from frugalclip.training.gradient_cache import GradientCache
from frugalclip.training.parallel import wrap
from frugalclip.training.step import Step, StepResult


class Engine(Protocol):
    """Turns a batch into a loss and gradients, the same on every process."""

    def __call__(self, batch: Batch) -> StepResult: ...
    def backward(self, loss: Tensor) -> None:
        """Fill the gradients from the loss (), possibly multiplied."""
        ...


class Direct:
    """The whole batch at once; gradients are averaged over processes while they are computed."""

    def __init__(self, step: Step) -> None:
        self.module = wrap(step)

    def __call__(self, batch: Batch) -> StepResult:
        """Encode and score."""
        return self.module(batch)

    def backward(self, loss: Tensor) -> None:
        """Fill the gradients from the loss ()."""
        loss.backward()


def build_engine(step: Step, *, batch: int, micro_batch: int | None) -> Engine:
    """The engine for a batch size and a micro-batch.

    Args:
        step: the training computation.
        batch: samples of one step over all processes.
        micro_batch: rows that a tower of one process encodes at a time; None or a process's whole share: all
            at once.

    Raises:
        RecipeError: if a tower does not allow micro-batches.
    """
    if micro_batch is None or micro_batch * distributed.world_size() >= batch:
        return Direct(step)
    return GradientCache(step, micro_batch=micro_batch)
