"""How a batch becomes gradients: at once, or part by part."""

from typing import Protocol

from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from frugalclip.core import distributed
from frugalclip.core.types import Batch
from frugalclip.training.gradient_cache import GradientCache
from frugalclip.training.step import Step, StepResult


class Engine(Protocol):
    """Turns a batch into a loss and gradients, the same on every process."""

    def __call__(self, batch: Batch) -> StepResult: ...
    def backward(self, loss: Tensor) -> None:
        """Fill the gradients from the loss (), possibly multiplied."""
        ...


class Direct:
    """The whole batch at once; between processes, gradients are averaged while they are still being computed."""

    def __init__(self, step: Step) -> None:
        self.module: Step | DistributedDataParallel = step
        if distributed.is_active():
            comes_and_goes = any(objective.config.during != (0, 1) for objective in step.objectives.values())  # pyright: ignore
            # buffers are the same on every process by construction, and a queue is too large to send every step
            self.module = DistributedDataParallel(
                step, broadcast_buffers=False, find_unused_parameters=comes_and_goes
            )

    def __call__(self, batch: Batch) -> StepResult:
        """Encode and score."""
        return self.module(batch)

    def backward(self, loss: Tensor) -> None:
        """Fill the gradients from the loss ()."""
        loss.backward()


def build_engine(step: Step, *, batch: int, micro_batch: int | None) -> Engine:
    """The engine that a recipe asks for.

    Args:
        step: the training computation.
        batch: samples of one step over all processes.
        micro_batch: rows that a tower of one process encodes at a time; None, or a process's whole share: all at once.

    Raises:
        RecipeError: where parts cannot give the gradient of the whole.
    """
    if micro_batch is None or micro_batch * distributed.world_size() >= batch:
        return Direct(step)
    return GradientCache(step, micro_batch=micro_batch)
