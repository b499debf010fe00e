"""What frozen backbones encode once, before training: how much, how large, and how long it takes here."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from frugalclip.backbones.language_model import facets_of
from frugalclip.data.manifest import Manifest
from frugalclip.towers.dual import DualEncoder
from frugalclip.training.feature_cache import distinct_texts
from frugalclip.training.probing import probe_backbones
from frugalclip.training.recipe import Recipe
from frugalclip.training.speeds import PROBE, Speed, backbone_key, known_speed, remember_speed
from frugalclip.training.step import Step, read_views


@dataclass(frozen=True)
class Reading:
    """What a frozen backbone encodes once, before training; `None` if only the data can tell.

    Features that are stored already are not subtracted.
    """

    tower: str
    samples: int | None  # images times their views, or distinct texts
    gflops: (
        float | None
    )  # of all of them, as `gflops` of the tower says; None too where that is 0, which means unknown
    store_gb: float | None
    seconds: float | None = None  # of all of them on this machine, as a probe or an earlier run measured


def _readings(recipe: Recipe, step: Step, everything: Manifest | None) -> list[Reading]:
    """What frozen backbones encode of the data set before the first step, and the size of the features."""
    found = []
    for side, tower in step.network.pretrained_towers().items():
        config = tower.config
        if not config.is_frozen or (side == "image" and not recipe.store.images):
            continue
        if everything is None:
            found.append(Reading(side, None, None, None))
            continue
        if side == "image":
            samples = len(everything) * recipe.store.views
            vectors = recipe.model.image.tokens if config.head.reads == "tokens" else 1
        else:
            _, read = read_views(step.needs, images=recipe.views, texts=recipe.texts)
            samples = len(distinct_texts(everything, {name: recipe.texts[name] for name in read}))
            vectors = facets_of(config.backbones[0][1])
        size = (
            samples
            * vectors
            * (
                config.width * np.dtype(recipe.store.dtype).itemsize
                + (4 if recipe.store.dtype == "int8" else 0)
            )
        )  # with its scale
        found.append(Reading(side, samples, samples * config.gflops or None, size * 1e-9))
    return found


def timed_readings(
    recipe: Recipe, step: Step, everything: Manifest | None, device: torch.device
) -> list[Reading]:
    """What frozen backbones encode, with the time where it is known on this machine."""
    keys, found = _backbone_keys(recipe, step, device), []
    for one in _readings(recipe, step, everything):
        speed = known_speed(keys[one.tower])
        seconds = None if speed is None or one.samples is None else one.samples * speed.seconds
        found.append(replace(one, seconds=seconds))
    return found


def _backbone_keys(recipe: Recipe, step: Step, device: torch.device) -> dict[str, str]:
    """Side -> the key of its backbone's speed."""
    return {
        side: backbone_key(
            tower.config.model_dump(mode="json", by_alias=True), device, threads=recipe.threads
        )
        for side, tower in step.network.pretrained_towers().items()
    }


def probe_frozen_backbones(recipe: Recipe, step: Step, device: torch.device) -> list[str]:
    """Measure the frozen backbones and remember their speed; says which could not be measured, and why."""
    network, reasons = step.network, []
    fresh = DualEncoder(recipe.model, vocabulary=network.vocabulary, context=network.context, seed=None)
    keys = _backbone_keys(recipe, step, device)
    for side, found in probe_backbones(recipe, fresh, device).items():
        if isinstance(found, str):
            reasons.append(f"the {side} backbone is not probed: {found}")
        else:
            remember_speed(keys[side], Speed(found, PROBE))
    return reasons
