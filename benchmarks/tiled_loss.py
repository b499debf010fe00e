"""Claim: tiled losses need a fraction of the memory, take no longer, and give the same gradients.

Peers are the shortest ways to write the losses in PyTorch: for InfoNCE one product and its transpose (two
cross-entropies), for the sigmoid one `logsigmoid` over all pairs. Each arm runs in a process of its own,
where the growth of the peak memory during loss and backward counts.
Run: python benchmarks/tiled_loss.py [--rows 8192] [--dim 512]
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from _common import gemm_rate, options, peak_growth, record, relative
from torch import Tensor
from torch.nn import functional as F

from frugalclip.functional import tiled_info_nce_loss, tiled_sigmoid_loss, unit

Leaves = tuple[Tensor, Tensor, Tensor]
BIAS = torch.tensor(-10.0)


def peer_info_nce(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    logits, own = scale * images @ texts.T, torch.arange(len(images))
    return F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)


def peer_sigmoid(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    logits = scale * images @ texts.T + BIAS.to(images.dtype)
    return -F.logsigmoid((2 * torch.eye(len(images), dtype=images.dtype) - 1) * logits).sum() / len(images)


ARMS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "contrastive, plain": peer_info_nce,
    "contrastive, tiled": lambda images, texts, scale: tiled_info_nce_loss(images, texts, scale).loss,
    "sigmoid, plain": peer_sigmoid,
    "sigmoid, tiled": lambda images, texts, scale: tiled_sigmoid_loss(
        images, texts, scale, BIAS.to(images.dtype)
    ),
}


def leaves(rows: int, dim: int, kind: torch.dtype = torch.float32) -> Leaves:
    """Half-trained features: pairs are near each other, the loss is well above zero."""
    draw = torch.Generator().manual_seed(0)
    images = unit(torch.randn(rows, dim, generator=draw))
    texts = unit(images + 0.3 * torch.randn(rows, dim, generator=draw))
    return (
        images.to(kind).requires_grad_(),
        texts.to(kind).requires_grad_(),
        torch.tensor(30.0, dtype=kind, requires_grad=True),
    )


def gradients(arm: str, rows: int, dim: int, kind: torch.dtype) -> tuple[Tensor, ...]:
    given = leaves(rows, dim, kind)
    return torch.autograd.grad(ARMS[arm](*given), given)


def measure(arm: str, rows: int, dim: int) -> None:
    """In a process of its own: CPU seconds and memory growth of one loss with its backward pass, as JSON."""
    torch.set_num_threads(1)
    given = leaves(rows, dim)
    ARMS[arm](*leaves(64, dim)).backward()
    begun = time.process_time()
    growth = peak_growth(lambda: ARMS[arm](*given).backward())
    print(json.dumps({"seconds": time.process_time() - begun, "bytes": growth}))


def main() -> None:
    """Measure and print."""
    if len(sys.argv) == 4 and sys.argv[1] in ARMS:
        measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
        return
    chosen = options(__doc__ or "", "tiled-loss", rows=8192, dim=512, repeats=3)
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for _ in range(chosen.repeats):
        for arm in ARMS:
            line = subprocess.run(
                [sys.executable, __file__, arm, str(chosen.rows), str(chosen.dim)],
                check=True,
                capture_output=True,
                text=True,
            )
            found[arm].append(json.loads(line.stdout))
    seconds = {arm: statistics.median(one["seconds"] for one in many) for arm, many in found.items()}
    memory = {arm: statistics.median(one["bytes"] for one in many) for arm, many in found.items()}
    limit, differences, shares, goals = gemm_rate(torch.float32), {}, {}, []
    for kind, products in (("contrastive", 4), ("sigmoid", 3)):
        plain, tiled = f"{kind}, plain", f"{kind}, tiled"
        truth, ours = (
            gradients(plain, chosen.rows, chosen.dim, torch.float64),
            gradients(tiled, chosen.rows, chosen.dim, torch.float32),
        )
        differences[kind] = max(relative(a, b) for a, b in zip(ours, truth, strict=True))
        shares[kind] = products * 2 * chosen.rows**2 * chosen.dim / seconds[tiled] / limit
        for arm in (plain, tiled):
            print(f"{arm}: {seconds[arm]:.2f} s, {memory[arm] / 1e6:,.0f} MB")
        print(f"  {shares[kind]:.0%} of the measured rate of a matrix product")
        goals += [
            (
                f"{kind}: memory of the plain loss over that of the tiled one",
                memory[plain] / memory[tiled],
                4.0,
                "at least",
            ),
            (
                f"{kind}: speed of the tiled loss over the plain one",
                seconds[plain] / seconds[tiled],
                1.0,
                "at least",
            ),
            (
                f"{kind}: largest relative difference of a float32 gradient from float64",
                differences[kind],
                5e-6,
                "at most",
            ),
        ]
    content = {
        "rows": chosen.rows,
        "dim": chosen.dim,
        "seconds": seconds,
        "bytes": memory,
        "differences": differences,
        "share_of_limit": shares,
    }
    record(chosen.json, content | {"limit_flops": limit, "all": found}, goals)


if __name__ == "__main__":
    main()
