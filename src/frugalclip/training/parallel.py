"""How a run is spread over processes: scoring with averaged gradients, clipping, collecting weights.

Training is data parallel (DDP): every process holds all weights. Sharding (FSDP2) would replace what is here.
"""

import warnings
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from frugalclip.core import distributed
from frugalclip.core.types import Batch
from frugalclip.training.step import Step, StepResult


class ParallelStep:
    """The step, with gradients averaged over processes while the loss goes backward.

    A parameter that no objective reads in this step has no gradient, as on one process, whether that is a
    tower, the scale, or the head of an objective that pauses. Data parallelism finds these by following the
    graph from what the module returns, so the module returns the loss alone: the features would reach more.
    """

    def __init__(self, step: Step) -> None:
        self._scoring = _Scoring(step)
        with warnings.catch_warnings():  # the argument's new name is not known to the oldest torch we support
            warnings.filterwarnings("ignore", message=".*broadcast_buffers.* is deprecated")
            # buffers are the same on every process by construction, and a queue is too large to send
            self._parallel = DistributedDataParallel(
                self._scoring, broadcast_buffers=False, find_unused_parameters=True
            )

    def __call__(self, batch: Batch) -> StepResult:
        """Encode and score."""
        loss = self._parallel(batch)
        return replace(self._scoring.taken(), loss=loss)


class _Scoring(nn.Module):
    """A step as a module that returns its loss and keeps the rest until it is taken."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step
        # torch warns every process where it finds no parameter that nothing reads
        self.unread = nn.Parameter(torch.zeros((), device=next(step.parameters()).device))
        self._result: StepResult | None = None

    def forward(self, batch: Batch) -> Tensor:
        self._result = cast("StepResult", self.step(batch))
        return self._result.loss

    def taken(self) -> StepResult:
        """The result of the last call; not held any longer."""
        assert self._result is not None, "taken once after each call"
        result, self._result = self._result, None
        return result


def wrap(step: Step) -> Step | ParallelStep:
    """The step with gradients averaged over processes during backward; on one process the step itself."""
    return ParallelStep(step) if distributed.is_active() else step


def clip_gradients(module: nn.Module, largest: float) -> None:
    """Scale all gradients down together, so that their joint norm is at most `largest`."""
    nn.utils.clip_grad_norm_(module.parameters(), largest)


def full_state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, whole and on the CPU, as a checkpoint holds them."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
