"""Claim: a step is faster than open_clip's at equal arithmetic, and grouping captions by length is exact.

Both models have the same widths, depths, patches, vocabulary and parameters, and see the same pictures and
captions (COCO-like lengths, mean 13 of 32 tokens). Arms run in turn in one process; the metric is the median
CPU time of a step on one thread, which other programs hardly change.
Run: python benchmarks/step.py [--px 32|64]
"""

from collections.abc import Callable
from contextlib import nullcontext

import open_clip
import torch
from _common import gemm_rate, in_turn, medians, options, record
from open_clip.model import CLIP
from torch import Tensor, nn

from frugalclip.core.types import Batch, Tokens
from frugalclip.objectives.contrastive import Config, Contrastive
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.training.optim import OptimizerConfig, build_optimizer, set_learning_rate
from frugalclip.training.step import Precision, Step

WIDTH, IMAGE_DEPTH, TEXT_DEPTH, PATCH, HEAD, VOCABULARY, CONTEXT = (192, 6, 4, 8, 32, 8192, 32)
GOALS = [
    ("ours bf16", "peer fp32", 1.7),
    ("ours bf16", "peer bf16", 1.3),
    ("ours bf16, length groups", "peer fp32", 2.3),
]


def inputs(batch: int, px: int) -> Batch:
    """Noise pictures and captions of random length.

    The last real token has the highest id, where open_clip reads the text.
    """
    draw = torch.Generator().manual_seed(0)
    lengths = (13 + 4 * torch.randn(batch, generator=draw)).round().clamp(4, CONTEXT).long()
    ids = torch.randint(1, VOCABULARY - 1, (batch, CONTEXT), generator=draw)
    places = torch.arange(CONTEXT)[None]
    ids = torch.where(
        places < lengths[:, None] - 1, ids, torch.where(places == lengths[:, None] - 1, VOCABULARY - 1, 0)
    )
    return Batch(
        torch.arange(batch),
        {"main": torch.randn(batch, 3, px, px, generator=draw)},
        {"caption": Tokens(ids, lengths)},
    )


def ours(px: int, batch: int, *, precision: Precision, groups: int) -> Step:
    """Our towers and objective; `groups=1` computes every caption at the length of the longest."""
    sizes = {"width": WIDTH, "head_dim": HEAD}
    image = {**sizes, "depth": IMAGE_DEPTH, "patch": PATCH, "resolution": px}
    config = ModelConfig.model_validate(
        {"image": image, "text": {**sizes, "depth": TEXT_DEPTH, "length_groups": groups}, "dim": WIDTH}
    )
    network = DualEncoder(config, vocabulary=VOCABULARY, context=CONTEXT)
    return Step(
        network, {"contrastive": Contrastive(Config(), network.dims(batch=batch))}, precision=precision
    )


def peer(px: int) -> nn.Module:
    """open_clip's model of the same size."""
    vision = {
        "image_size": px,
        "patch_size": PATCH,
        "width": WIDTH,
        "layers": IMAGE_DEPTH,
        "head_width": HEAD,
    }
    text = {
        "context_length": CONTEXT,
        "vocab_size": VOCABULARY,
        "width": WIDTH,
        "heads": WIDTH // HEAD,
        "layers": TEXT_DEPTH,
    }
    return CLIP(embed_dim=WIDTH, vision_cfg=vision, text_cfg=text)  # pyright: ignore


def our_arm(px: int, batch: Batch, *, precision: Precision, groups: int, padded: bool) -> Callable[[], None]:
    """One training step of ours.

    `padded` makes the longest caption fill the context, so that arithmetic equals the peer's.
    """
    step = ours(px, len(batch), precision=precision, groups=groups)
    optimizer = build_optimizer(step.named_parameters(), OptimizerConfig())
    set_learning_rate(optimizer, 1e-4)
    if padded:
        texts = batch.texts["caption"]
        lengths = texts.lengths.clone()
        lengths[0] = CONTEXT
        batch = Batch(batch.rows, batch.images, {"caption": Tokens(texts.ids, lengths)})

    def run() -> None:
        step(batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return run


def peer_arm(px: int, batch: Batch, *, half: bool) -> Callable[[], None]:
    """One training step of open_clip's model and loss, with AdamW as its trainer builds it."""
    model, loss = peer(px), open_clip.ClipLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2)
    images, ids = batch.images["main"], batch.texts["caption"].ids

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
            value = loss(*model(images, ids))
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return run


def gradient_difference(px: int, batch: Batch) -> float:
    """Largest relative difference of any weight's float32 gradient with 4 length groups against 1."""
    gradients: list[list[Tensor]] = []
    for groups in (1, 4):
        step = ours(px, len(batch), precision="fp32", groups=groups)
        step(batch).loss.backward()
        gradients.append([p.grad for p in step.parameters() if p.grad is not None])
    # keys' biases have no influence: their gradient is rounding in both, so it is measured against the whole
    # gradient's size
    whole = torch.stack([g.norm() for g in gradients[0]]).norm()
    return max(
        float((a - b).norm() / torch.maximum(a.norm(), 1e-3 * whole)) for a, b in zip(*gradients, strict=True)
    )


def share_of_limit(px: int, batch: Batch, seconds: float, limit: float) -> float:
    """Operations of our padded step, as `frugalclip plan` counts them, over those of matrix products."""
    step = ours(px, len(batch), precision="fp32", groups=1)
    image, text = step.network.image.config, step.network.text.config
    forward = image.forward_gflops(tokens=image.tokens) + text.forward_gflops(tokens=CONTEXT)
    return 3e9 * forward * len(batch) / seconds / limit


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__ or "", "step-32px", px=32, batch=128, repeats=7)
    torch.set_num_threads(1)
    batch = inputs(chosen.batch, chosen.px)
    arms = {
        "peer fp32": peer_arm(chosen.px, batch, half=False),
        "peer bf16": peer_arm(chosen.px, batch, half=True),
        "ours fp32": our_arm(chosen.px, batch, precision="fp32", groups=1, padded=True),
        "ours bf16": our_arm(chosen.px, batch, precision="bf16", groups=1, padded=True),
        "ours fp32, length groups": our_arm(chosen.px, batch, precision="fp32", groups=4, padded=False),
        "ours bf16, length groups": our_arm(chosen.px, batch, precision="bf16", groups=4, padded=False),
    }
    seconds = in_turn(arms, repeats=chosen.repeats)
    median = medians(seconds)
    for name, value in median.items():
        ratios = ", ".join(f"{median[other] / value:.2f} x {other}" for other in ("peer fp32", "peer bf16"))
        print(f"{name:26} {chosen.batch / value:7.0f} samples/s  {ratios}")
    limits = {"fp32": gemm_rate(torch.float32), "bf16": gemm_rate(torch.bfloat16)}
    shares = {
        kind: share_of_limit(chosen.px, batch, median[f"ours {kind}"], limit)
        for kind, limit in limits.items()
    }
    print(
        ", ".join(
            f"ours {kind} does {share:.0%} of the products that the machine could"
            for kind, share in shares.items()
        )
    )
    parameters = {"ours": ours(chosen.px, 2, precision="fp32", groups=1), "peer": peer(chosen.px)}
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in parameters.items()}
    print(f"parameters: ours {counts['ours']:,}, peer {counts['peer']:,}")
    difference = gradient_difference(chosen.px, batch)
    goals = [
        (f"{name}, speed over {other}", median[other] / median[name], goal, "at least")
        for name, other, goal in GOALS
    ]
    goals.append(
        ("largest relative difference of a float32 gradient with length groups", difference, 1e-5, "at most")
    )
    content = {
        "px": chosen.px,
        "batch": chosen.batch,
        "seconds": median,
        "all_seconds": seconds,
        "gradient_difference": difference,
    }
    record(chosen.json, content | {"limits": limits, "share_of_limit": shares, "parameters": counts}, goals)


if __name__ == "__main__":
    main()
