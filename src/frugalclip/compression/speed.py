"""How fast a network encodes on one thread of this machine, and how much memory that takes."""

import copy
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from frugalclip.core.devices import kept_threads
from frugalclip.core.types import Tokens
from frugalclip.towers.base import Side
from frugalclip.towers.dual import DualEncoder

BATCH = 8  # images, or texts of full length
_SECONDS, _FEWEST = 0.5, 4  # of calls of each tower, the first of which does not count
_MOST_SECONDS = 5.0  # after which a large tower is not called again


@kept_threads()
@torch.inference_mode()
def network_speed(network: DualEncoder) -> dict[str, dict[Side, float]]:
    """Measure both towers on one thread of the CPU, in float32.

    A text tower that reads no token ids is left out.

    Returns:
        `per_second`: images, and texts of full length; `peak_bytes`: weights of a tower and the tensors that
        are alive at once while it encodes a batch of 8.
    """
    torch.set_num_threads(1)
    network = copy.deepcopy(network).cpu().float().eval()
    side, context = network.config.image.resolution, network.context
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randn(BATCH, 3, side, side, generator=draw)
    encoders: dict[Side, Callable[[], Any]] = {"image": lambda: network.image(pixels)}
    if network.text.token_embedding is not None:
        ids = torch.randint(network.vocabulary, (BATCH, context), generator=draw)
        texts = Tokens(ids, torch.full((BATCH,), context))
        encoders["text"] = lambda: network.text(texts)
    weights = {"image": network.image, "text": network.text}
    return {
        "per_second": {name: BATCH / _seconds(encode) for name, encode in encoders.items()},
        "peak_bytes": {
            name: float(_peak_bytes(encode, list(weights[name].state_dict().values())))
            for name, encode in encoders.items()
        },
    }


def _seconds(encode: Callable[[], Any]) -> float:
    """The shortest time of some calls, after one that does not count unless it was very long."""
    times: list[float] = []
    while sum(times) < _MOST_SECONDS and (len(times) < _FEWEST or sum(times) < _SECONDS):
        start = time.perf_counter()
        encode()
        times.append(time.perf_counter() - start)
    return min(times[1:] or times)


def _peak_bytes(encode: Callable[[], Any], weights: Sequence[Tensor]) -> int:
    with _Alive(weights) as alive:
        encode()
    return alive.peak


class _Alive(TorchDispatchMode):
    """Counts the bytes of tensors that are alive at once, from those of some weights on."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        super().__init__()
        self._seen: dict[int, weakref.ref[Any]] = {}
        self.now = self.peak = 0
        self._kept = list(weights)
        for weight in weights:
            self._count(weight)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        for one in tree_leaves(found):
            if isinstance(one, Tensor):
                self._count(one)
        return found

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen[key] = weakref.ref(storage, lambda _: self._forget(key, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _forget(self, key: int, size: int) -> None:
        del self._seen[key]
        self.now -= size
