"""N processes that compute what one process would.

The rule: an objective scores its own rows against the gathered candidates and returns the mean over its own
rows; the gather passes gradients back (its backward sums over processes), and averaging parameter gradients
over processes then gives exactly the gradient of one process on the whole batch. Without a process group
everything here is the identity.
"""

import hashlib
import os
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from frugalclip.core.processes import end_with_parent, launched_processes, launched_rank


def is_active() -> bool:
    """True in a process group of more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """Rank of this process, 0 if there is one process."""
    return dist.get_rank() if is_active() else 0


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if is_active() else 1


def is_main() -> bool:
    """True in the one process that prints and writes, also before the process group starts."""
    return (rank() if is_active() else launched_rank()) == 0


def is_first_to_print(text: str) -> bool:
    """True in the first of the processes that torchrun started to print a text, so that it appears once.

    They agree through torchrun's own store, since a text may come before their group starts.
    """
    if launched_processes() == 1 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return True
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    key = f"frugalclip/{attempt}/{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"
    try:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=10))
        return store.add(key, 1) == 1
    except (KeyError, ValueError, RuntimeError):  # rather twice than never
        return True


def start(device: torch.device) -> None:
    """Select the GPU of this process, and join the process group of torchrun if it started this process."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if launched_processes() > 1 and not dist.is_initialized():
        end_with_parent()  # torchrun does not stop what it started when it is killed
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def stop() -> None:
    """Leave the process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    """Wait for every process."""
    if is_active():
        dist.barrier()


class _Gather(torch.autograd.Function):
    """Concatenate over processes.

    The backward pass sums gradients over processes and returns the own rows.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor) for _ in range(world_size())]
        dist.all_gather(parts, tensor.contiguous())
        ctx.rows = len(tensor)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total[rank() * ctx.rows : (rank() + 1) * ctx.rows]


def gather(tensor: Tensor) -> Tensor:
    """Rows of all processes in rank order, differentiable.

    Processes pad captions to their own longest, so tokens and masks may differ in length. They are padded
    with zeros (False), as towers pad.

    Args:
        tensor: (batch, ...), the same batch on every process.

    Returns:
        (candidates, ...), candidates = batch * processes.
    """
    if not is_active():
        return tensor
    tensor = _padded_to_largest(tensor)
    if tensor.requires_grad and torch.is_grad_enabled():
        return _Gather.apply(tensor)  # pyright: ignore[reportReturnType]
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def _padded_to_largest(tensor: Tensor) -> Tensor:
    """A tensor (batch, ...) whose sizes after the first are the largest of all processes."""
    own = torch.tensor(tensor.shape[1:], dtype=torch.int64, device=tensor.device)
    largest = own.clone()
    if len(own):
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    missing = (largest - own).tolist()  # waits for the device, as the check of the loss does soon after
    if not any(missing):
        return tensor
    return nn.functional.pad(tensor, [size for more in reversed(missing) for size in (0, more)])


def from_main(tensor: Tensor) -> Tensor:
    """The main process's tensor, such as (prototypes, dim), on every process; without gradient."""
    if is_active():
        tensor = tensor.contiguous()
        dist.broadcast(tensor, src=0)
    return tensor


def own_rows(batch: int, *, device: torch.device | None = None) -> Tensor:
    """(batch,) positions of this process's rows among the gathered candidates."""
    return torch.arange(batch, device=device) + rank() * batch


def mean_over_processes(tensor: Tensor) -> Tensor:
    """Mean over processes of a tensor such as () or (batch, dim), of one shape on all; without gradient."""
    if not is_active():
        return tensor
    tensor = tensor.detach().clone()
    dist.all_reduce(tensor)
    return tensor / world_size()


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by its mean over processes; a process without one counts as zero.

    Args:
        parameters: the same on every process, in the same order; of any shape, such as (width, dim).
    """
    if not is_active():
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    has_gradient = torch.tensor(
        [parameter.grad is not None for parameter in trained], dtype=torch.float32, device=trained[0].device
    )
    dist.all_reduce(has_gradient)
    by_kind: dict[torch.dtype, list[Tensor]] = {}
    for parameter, somewhere in zip(trained, (has_gradient > 0).tolist(), strict=True):
        if somewhere:  # without a gradient on any process the optimiser skips it, as on one process
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            by_kind.setdefault(parameter.dtype, []).append(parameter.grad)
    for gradients in by_kind.values():
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= world_size()
        for gradient, part in zip(
            gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True
        ):
            gradient.copy_(part.view_as(gradient))


def any_of(is_true: bool, *, device: torch.device) -> bool:
    """True on every process if it is true on any."""
    if not is_active():
        return is_true
    flag = torch.tensor(float(is_true), device=device)
    dist.all_reduce(flag)
    return bool(flag > 0)


def share_of_rows(rows: int) -> range:
    """This process's share of a list: contiguous, in rank order."""
    return range(rows * rank() // world_size(), rows * (rank() + 1) // world_size())


def all_parts(part: Any) -> list[Any]:
    """A picklable value of every process, in rank order; tensors on the CPU."""
    if not is_active():
        return [part]
    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, part)
    return parts


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error means that another process was lost during a collective operation."""
    return isinstance(error, dist.DistError) or any(
        word in str(error) for word in ("gloo", "NCCL", "onnection closed", "onnection reset")
    )
