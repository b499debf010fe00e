"""How a run is spread over processes: wrapping the step, clipping gradients, collecting weights.

Training is data parallel (DDP): every process holds all weights. Sharding (FSDP2) would replace these three
functions.
"""

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from frugalclip.core import distributed
from frugalclip.training.step import Step


def wrap(step: Step) -> Step | DistributedDataParallel:
    """The step with gradients averaged over processes during backward; on one process the step itself."""
    if not distributed.is_active():
        return step
    # an objective that counts for a share of the stage only leaves parameters without a gradient
    # buffers are the same on every process by construction, and a queue is too large to send every step
    return DistributedDataParallel(step, broadcast_buffers=False, find_unused_parameters=step.has_pauses())


def clip_gradients(module: nn.Module, largest: float) -> None:
    """Scale all gradients down together, so that their joint norm is at most `largest`."""
    nn.utils.clip_grad_norm_(module.parameters(), largest)


def full_state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, whole and on the CPU, as a checkpoint holds them."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
