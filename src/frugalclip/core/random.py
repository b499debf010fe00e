"""Randomness that does not depend on the process that draws it.

Augmentation parameters come from a counter-based generator: the value is a function of (seed, stream, row,
epoch) alone, so the number of processes, workers and restarts cannot change it, and nothing has to be saved.
The mixing function is SplitMix64 (Steele et al., OOPSLA 2014). Modules that must draw in sequence (dropout,
initialisation) use one torch generator per purpose, seeded by `stream_seed`.
"""

import hashlib

import numpy as np
import torch

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def stream_seed(seed: int, stream: str) -> int:
    """A 63-bit seed for one named purpose; different names give unrelated seeds."""
    digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, stream: str) -> torch.Generator:
    """A CPU generator for one named purpose."""
    return torch.Generator().manual_seed(stream_seed(seed, stream))


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(seed: int, stream: str, counters: np.ndarray, draws: int) -> np.ndarray:
    """Uniform numbers keyed by counters.

    Args:
        seed: of the run.
        stream: the purpose, such as `view/main`.
        counters: (rows,) or (rows, keys) non-negative integers, such as (dataset row, epoch).
        draws: numbers for each row.

    Returns:
        (rows, draws) float64 in [0, 1).
    """
    keys = np.asarray(counters, dtype=np.uint64)
    keys = keys[:, None] if keys.ndim == 1 else keys
    with np.errstate(over="ignore"):  # the generator relies on wrapping
        state = np.full(len(keys), stream_seed(seed, stream), dtype=np.uint64)
        for column in keys.T:
            state = _mix((state + _GOLDEN) ^ _mix(column + _GOLDEN))
        steps = (np.arange(1, draws + 1, dtype=np.uint64) * _GOLDEN)[None, :]
        bits = _mix(state[:, None] + steps)  # (rows, draws)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
