"""A process group of two, for tests that compare it with one process."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist


@contextmanager
def one_of_two(rank: int, meet: str | Path, *, timeout: timedelta | None = None) -> Iterator[None]:
    """Join the other process on one thread, and leave together with it.

    Without the barrier, a thread of gloo may still hold tensors of the last sum when Python ends, and aborts
    the process.

    Args:
        rank: 0 or 1.
        meet: a file that is not there yet, the same for both.
        timeout: of every sum.
    """
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=2, timeout=timeout)
    yield
    dist.barrier()
    dist.destroy_process_group()
