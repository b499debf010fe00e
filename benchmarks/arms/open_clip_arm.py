"""open_clip as an arm of a comparison, with our data and evaluation.

`frugalclip compare` starts it with the path of a job (`docs/formats.md`, "A trial"). An arm file such as
benchmarks/arms/open_clip.yaml holds the settings. From open_clip are `CLIP`, `ClipLoss`, `image_transform`
for training, the BPE tokenizer, the optimiser groups of its trainer (no decay for gains, biases and the
scale) and `cosine_lr`. `loss: deduplicated` is the one change: pairs with equal captions leave the
denominator. Images are decoded once and kept, which favours open_clip. Seconds are those of steps and
transforms, without evaluations, as in our trainer.
Run by hand: python benchmarks/arms/open_clip_arm.py JOB.json
"""

import json
import math
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import open_clip
import torch
from open_clip.model import CLIP
from open_clip.transform import AugmentationCfg, image_transform
from open_clip_train.scheduler import cosine_lr
from PIL import Image
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from frugalclip.comparison.jobs import TrialJob, read_job
from frugalclip.comparison.trial import finish_trial, validation_metrics
from frugalclip.core.config import Settings, validated
from frugalclip.core.devices import pick_device
from frugalclip.core.preprocess import Preprocess
from frugalclip.core.random import generator, stream_seed
from frugalclip.core.records import RunDirectory, Stopwatch, environment, write_json
from frugalclip.data.manifest import Manifest
from frugalclip.functional import unit
from frugalclip.models import ManifestFeatures, readable_images
from frugalclip.sources.open import open_data
from frugalclip.training.loop import evaluation_points


class ArmSettings(Settings):
    """The `settings` of an arm file; defaults are those of open_clip's trainer where it has one."""

    image: dict[str, Any] = Field(description="vision_cfg of open_clip's CLIP")
    text: dict[str, Any] = Field(description="text_cfg")
    dim: int = Field(128, description="embed_dim")
    loss: Literal["clip", "deduplicated"] = "clip"
    crop_scale: tuple[float, float] = Field((0.9, 1.0), description="of the random crop; open_clip: 0.9 to 1")
    batch: int = 64
    lr: float = 5e-4
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = 0.2
    warmup: float = Field(
        0.1, description="share of the steps; open_clip's default is 10,000 steps, more than these runs have"
    )
    precision: Literal["fp32", "amp_bf16"] = "fp32"
    samples: int = Field(24_000, description="length of the run where the job gives none")


class OpenClipEncoder:
    """Encodes images and texts for our evaluation."""

    fingerprint = "open_clip"
    reads: Literal["both"] = "both"

    def __init__(self, model: nn.Module, settings: ArmSettings) -> None:
        self.device = pick_device("auto")
        self.model, self.tokenizer = (
            model.to(self.device),
            open_clip.SimpleTokenizer(context_length=settings.text["context_length"]),
        )
        size = settings.image["image_size"]
        self.transform: Any = image_transform(size, is_train=False)
        self.preprocess = Preprocess(size=size)

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> Tensor:
        """(texts, dim) unit vectors."""
        self.model.eval()
        return unit(self.model.encode_text(self.tokenizer(texts).to(self.device))).cpu()  # pyright: ignore

    @torch.no_grad()
    def encode_image(self, images: list[Image.Image]) -> Tensor:
        """(images, dim) unit vectors."""
        self.model.eval()
        pixels = torch.stack([self.transform(image) for image in images]).to(self.device)
        return unit(self.model.encode_image(pixels)).cpu()  # pyright: ignore

    @torch.no_grad()
    def image_features(self, manifest: Manifest, *, layer: str = "embedding") -> ManifestFeatures:
        """Unit vectors of every image that decodes."""
        kept: list[int] = []
        faults: list[tuple[int, str]] = []
        parts: list[Tensor] = []
        for rows, images in readable_images(manifest, batch=256, faults=faults):
            kept.extend(rows)
            parts.append(self.encode_image(images))
        return ManifestFeatures(torch.cat(parts), np.asarray(kept, dtype=np.int64), faults)


def deduplicated_loss(images: Tensor, texts: Tensor, scale: Tensor, same: Tensor) -> Tensor:
    """`ClipLoss` with pairs of equal captions out of the denominator.

    Args:
        images: (batch, dim) unit vectors.
        texts: (batch, dim) unit vectors.
        scale: () multiplies cosines.
        same: (batch, batch) bool, equal captions other than the own pair.
    """
    logits, own = (
        (scale * images @ texts.T).masked_fill(same, float("-inf")),
        torch.arange(len(images), device=images.device),
    )
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def optimizer_of(model: nn.Module, settings: ArmSettings) -> torch.optim.AdamW:
    """AdamW with the two groups of open_clip's trainer."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    plain = [
        p
        for name, p in named
        if p.ndim < 2 or any(word in name for word in ("bn", "ln", "bias", "logit_scale"))
    ]
    ids = {id(p) for p in plain}
    groups = [
        {"params": plain, "weight_decay": 0.0},
        {"params": [p for _, p in named if id(p) not in ids], "weight_decay": settings.weight_decay},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps)


def orders(rows: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Rows of each step: every epoch a shuffle, its remainder dropped, as open_clip's loader does."""
    draw = generator(seed, "open_clip/order")
    while True:
        yield from torch.randperm(rows, generator=draw).split(batch)[: rows // batch]


def decoded(manifest: Manifest) -> tuple[list[Image.Image], list[str]]:
    """Images and captions of the rows that decode."""
    captions, images, texts = manifest.captions(), [], []
    for rows, found in readable_images(manifest, batch=256, faults=[]):
        images += found
        texts += [captions[row][0] for row in rows]
    return images, texts


def train(job: TrialJob, settings: ArmSettings, run: RunDirectory) -> tuple[OpenClipEncoder, dict[str, Any]]:
    """Train, with a row of `metrics.jsonl` for each step."""
    torch.manual_seed(stream_seed(job.seed, "open_clip"))
    images, captions = decoded(open_data(job.data, where=job.train))
    model = CLIP(embed_dim=settings.dim, vision_cfg=settings.image, text_cfg=settings.text)  # pyright: ignore
    encoder, loss_of, stopwatch = (OpenClipEncoder(model, settings), open_clip.ClipLoss(), Stopwatch())
    transform: Any = image_transform(
        settings.image["image_size"], is_train=True, aug_cfg=AugmentationCfg(scale=settings.crop_scale)
    )
    device = encoder.device
    ids = encoder.tokenizer(captions).to(device)
    codes = torch.from_numpy(np.unique(captions, return_inverse=True)[1]).to(device)
    optimizer = optimizer_of(model, settings)
    steps = max(1, round((job.samples or settings.samples) / settings.batch))
    schedule = cosine_lr(optimizer, settings.lr, max(1, round(settings.warmup * steps)), steps)
    points, order = (evaluation_points(steps, job.points), orders(len(images), settings.batch, job.seed))
    with run.metrics.open("w", encoding="utf-8") as file:
        for step in range(steps):
            with stopwatch:
                model.train()
                schedule(step)
                rows = next(order)
                pixels = torch.stack([transform(images[row]) for row in rows.tolist()]).to(device)
                with (
                    torch.autocast(device.type, torch.bfloat16)
                    if settings.precision == "amp_bf16"
                    else nullcontext()
                ):
                    image, text, scale = model(pixels, ids[rows])
                    if settings.loss == "clip":
                        loss = loss_of(image, text, scale)
                    else:
                        same = (codes[rows][:, None] == codes[rows][None]) & ~torch.eye(
                            len(rows), dtype=torch.bool, device=device
                        )
                        loss = deduplicated_loss(image, text, scale, same)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                with torch.no_grad():
                    model.logit_scale.clamp_(0, math.log(100))  # pyright: ignore
                value = loss.item()  # a GPU has computed the step only when its loss is asked for
            row = {
                "step": step + 1,
                "samples_seen": (step + 1) * settings.batch,
                **stopwatch.reading(),
                "loss": value,
            }
            if step + 1 in points:
                row["evaluation"] = validation_metrics(job, encoder)
            file.write(json.dumps(row) + "\n")
            file.flush()
    parameters = sum(p.numel() for p in model.parameters())
    cost = {
        "steps": steps,
        "samples_seen": steps * settings.batch,
        "seconds": round(stopwatch.seconds, 3),
        "parameters": parameters,
    }
    return encoder, cost | {"training_rows": len(images)}


def main(path: str) -> None:
    """Run one job."""
    job, run = read_job(path), RunDirectory(Path(path).resolve().parent)
    settings = validated(ArmSettings, job.settings, where="settings")
    write_json(
        run.environment,
        environment() | {"precision": settings.precision, "processes": 1, "open_clip": open_clip.__version__},
    )
    encoder, cost = train(job, settings, run)
    finish_trial(path, encoder, training=cost)


if __name__ == "__main__":
    main(sys.argv[1])
