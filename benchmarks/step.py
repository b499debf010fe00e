"""Claim: a training step is faster than open_clip's own model and loss at equal arithmetic, and grouping captions by length is exact.

Both models have the same widths, depths, patches, vocabulary and parameters, and see the same pictures and captions (COCO-like lengths, mean
13 of 32 tokens). Arms run in turn in one process; the figure is the median CPU time of a step on one thread, so other work on the machine
changes it little. Run: python benchmarks/step.py [--px 32|64] [--json FILE]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import open_clip
import torch
from open_clip.model import CLIP
from torch import Tensor, nn

from frugalclip.core.records import environment, write_json
from frugalclip.core.types import Batch, Tokens
from frugalclip.objectives.contrastive import Config, Contrastive
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.training.optim import OptimizerConfig, build_optimizer, set_learning_rate
from frugalclip.training.step import Precision, Step

WIDTH, IMAGE_DEPTH, TEXT_DEPTH, PATCH, HEAD, VOCABULARY, CONTEXT = 192, 6, 4, 8, 32, 8192, 32
GOALS = [("ours bf16", "peer fp32", 1.7), ("ours bf16", "peer bf16", 1.3), ("ours bf16, length groups", "peer fp32", 2.3)]


def inputs(batch: int, px: int) -> Batch:
    """Noise pictures and captions of random length; the last real token has the highest id, where open_clip reads the text."""
    draw = torch.Generator().manual_seed(0)
    lengths = (13 + 4 * torch.randn(batch, generator=draw)).round().clamp(4, CONTEXT).long()
    ids = torch.randint(1, VOCABULARY - 1, (batch, CONTEXT), generator=draw)
    places = torch.arange(CONTEXT)[None]
    ids = torch.where(places < lengths[:, None] - 1, ids, torch.where(places == lengths[:, None] - 1, VOCABULARY - 1, 0))
    return Batch(torch.arange(batch), {"main": torch.randn(batch, 3, px, px, generator=draw)}, {"caption": Tokens(ids, lengths)})


def ours(px: int, batch: int, *, precision: Precision, groups: int) -> Step:
    """Our towers and objective; `groups=1` computes every caption at the length of the longest."""
    sizes = {"width": WIDTH, "head_dim": HEAD}
    image = {**sizes, "depth": IMAGE_DEPTH, "patch": PATCH, "resolution": px}
    config = ModelConfig.model_validate({"image": image, "text": {**sizes, "depth": TEXT_DEPTH, "length_groups": groups}, "dim": WIDTH})
    network = DualEncoder(config, vocabulary=VOCABULARY, context=CONTEXT)
    return Step(network, {"contrastive": Contrastive(Config(), network.dims(batch=batch))}, precision=precision)


def peer(px: int) -> nn.Module:
    """open_clip's model of the same size."""
    vision = {"image_size": px, "patch_size": PATCH, "width": WIDTH, "layers": IMAGE_DEPTH, "head_width": HEAD}
    text = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": WIDTH, "heads": WIDTH // HEAD, "layers": TEXT_DEPTH}
    return CLIP(embed_dim=WIDTH, vision_cfg=vision, text_cfg=text)  # pyright: ignore


def our_arm(px: int, batch: Batch, *, precision: Precision, groups: int, padded: bool) -> Callable[[], None]:
    """One training step of ours; `padded` makes the longest caption fill the context, so that arithmetic equals the peer's."""
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
    # keys' biases have no influence: their gradient is rounding in both, so it is measured against the whole gradient's size
    whole = torch.stack([g.norm() for g in gradients[0]]).norm()
    return max(float((a - b).norm() / torch.maximum(a.norm(), 1e-3 * whole)) for a, b in zip(*gradients, strict=True))


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--px", type=int, default=32)
    options.add_argument("--batch", type=int, default=128)
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
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
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(chosen.repeats + 1):
        for name, run in arms.items():
            begun = time.process_time()
            run()
            seconds[name].append(time.process_time() - begun)
    median = {name: statistics.median(values[1:]) for name, values in seconds.items()}  # the first one allocates
    for name, value in median.items():
        ratios = ", ".join(f"{median[other] / value:.2f} x {other}" for other in ("peer fp32", "peer bf16"))
        print(f"{name:26} {chosen.batch / value:7.0f} samples/s  {ratios}")
    print(f"parameters: ours {sum(p.numel() for p in ours(chosen.px, 2, precision='fp32', groups=1).parameters()):,}, ", end="")
    print(f"peer {sum(p.numel() for p in peer(chosen.px).parameters()):,}")
    difference = gradient_difference(chosen.px, batch)
    print(f"gradients with length groups against without, float32: largest relative difference {difference:.1e} (goal 1e-5)")
    for name, other, goal in GOALS:
        reached = median[other] / median[name]
        print(f"goal: {name} at least {goal} x {other}: {reached:.2f} {'reached' if reached >= goal else 'NOT reached'}")
    if chosen.json:
        record = {"px": chosen.px, "batch": chosen.batch, "seconds": median, "all_seconds": seconds, "gradient_difference": difference}
        write_json(chosen.json, record | {"environment": environment()})


if __name__ == "__main__":
    main()
