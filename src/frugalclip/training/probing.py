"""Measure a recipe on this machine: seconds of a step on random input, and of a sample that is encoded."""

import resource
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from frugalclip.backbones.attach import attach_backbones, backbone_tokenizer
from frugalclip.core.errors import MissingExtra, ModelError
from frugalclip.core.random import generator
from frugalclip.core.types import Batch, ImageInput, Needs, Tokens
from frugalclip.features.backbone import BackboneEncoder
from frugalclip.interop.tokenizers import PassThroughTokenizer
from frugalclip.models import load
from frugalclip.towers.dual import DualEncoder
from frugalclip.training.build import pick_precision
from frugalclip.training.recipe import Recipe
from frugalclip.training.stage import Stage
from frugalclip.training.step import Step, read_views, to_device

BACKBONE_SAMPLES = 8  # that a frozen backbone encodes, after as many that are not counted
CAPTION = "a small red bicycle beside a wall"


def probe_step(recipe: Recipe, step: Step, device: torch.device, *, steps: int = 3) -> tuple[float, float]:
    """(seconds a step, gigabytes above the start) of one stage on random images and captions.

    Args:
        recipe: of the stage.
        step: its computation, with weights.
        device: where it computes.
        steps: that are measured, after one that allocates.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)  # an earlier peak of this process does not count
    step = step.to(device)
    step.precision = pick_precision(recipe.precision, device)
    batch = to_device(_random_batch(recipe, step.needs, step.network), device)
    stage = Stage(recipe, step, span=range(steps + 1))
    before = _peak_gb(device)
    seconds = []
    with threads_of(recipe):
        for number in stage.span:
            begun = time.perf_counter()
            stage.update(batch, step=number)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[1:]), _peak_gb(device) - before


def probe_backbones(recipe: Recipe, network: DualEncoder, device: torch.device) -> dict[str, float | str]:
    """Seconds of one image or text through each frozen backbone by side, or why they cannot be measured.

    Args:
        recipe: has the preprocessing.
        network: its backbones are loaded here.
        device: where they compute.
    """
    found: dict[str, float | str] = {}
    attach_backbones(network, load, device=device)
    for side, tower in network.pretrained_towers().items():
        if not tower.config.is_frozen:
            continue
        tokenizer = backbone_tokenizer(tower.config, load) if side == "text" else None
        encoder = BackboneEncoder(
            tower,
            preprocess=recipe.preprocess,
            tokenizer=tokenizer or PassThroughTokenizer(),
            device=device,
        )
        try:
            with threads_of(recipe):
                found[side] = _seconds_of_a_sample(encoder, recipe.preprocess.size)
        except (MissingExtra, ModelError) as error:
            found[side] = str(error)
    return found


def _seconds_of_a_sample(encoder: BackboneEncoder, size: int) -> float:
    images = torch.randn(BACKBONE_SAMPLES, 3, size, size, generator=torch.Generator().manual_seed(0))
    seconds = 0.0
    for turn in range(2):  # the first one allocates
        begun = time.perf_counter()
        if encoder.kind == "image":
            encoder.encode_image(images)
        else:
            encoder.encode_text([f"{CAPTION} {turn}{i}" for i in range(BACKBONE_SAMPLES)])
        seconds = time.perf_counter() - begun
    return seconds / BACKBONE_SAMPLES


@contextmanager
def threads_of(recipe: Recipe) -> Iterator[None]:
    """Compute with the threads of a recipe for the block, as its run will."""
    before = torch.get_num_threads()
    torch.set_num_threads(recipe.threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _peak_gb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) * 1e-9
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1e-9 if sys.platform == "darwin" else 1e-6)


def _random_batch(recipe: Recipe, needs: Needs, network: DualEncoder) -> Batch:
    """Images of noise, and captions of random length with a mean of 13 tokens, as in COCO."""
    draw = generator(recipe.seed, "probe")
    context = network.context
    views, texts = read_views(needs, images=recipe.views, texts=recipe.texts)
    sides = {name: recipe.views[name].size or recipe.model.image.resolution for name in sorted(views)}
    images: dict[str, ImageInput] = {
        name: torch.randn(recipe.batch, 3, side, side, generator=draw) for name, side in sides.items()
    }
    lengths = (13 + 4 * torch.randn(recipe.batch, generator=draw)).round().clamp(3, context).long()
    ids = torch.randint(0, network.vocabulary, (recipe.batch, context), generator=draw)
    rows = torch.arange(recipe.batch)
    boxes = {
        name: torch.tensor([0.0, 0.0, side, side]).expand(recipe.batch, 4) for name, side in sides.items()
    }
    return Batch(
        rows=rows,
        images=images,
        texts={name: Tokens(ids, lengths) for name in sorted(texts)},
        boxes=boxes,
        fields=dict.fromkeys(needs.fields, rows),
        turns=torch.zeros_like(rows),
    )
