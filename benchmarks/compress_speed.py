"""Speed, bytes and memory of a teacher and its students on one core, and the hours that compress.py takes.

Times are CPU time on one thread, medians of models that take turns, with real scenes and captions. Bytes are
those of the file of weights, token embedding included. Memory is what encoding 256 images adds at its peak.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import in_turn, medians, peak_growth
from _runs import Run, weights_file
from compress_arms import SETTINGS, TOWERS, Arm, inherited
from torch import Tensor
from torch.nn import functional as F

from frugalclip.core.types import Tokens
from frugalclip.models import Model, load
from frugalclip.sources.open import open_data
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.training.recipe import read_recipe

WORDS = 30  # tokens of a caption, roughly
ROWS = 256


def measured(data: Path, teacher: Path, runs: Sequence[Run]) -> dict[str, Any]:
    """Images and captions a second, bytes and memory of models.

    Args:
        data: whose test scenes are encoded.
        teacher: run directory.
        runs: finished runs of students; the first of each arm is measured.

    Returns:
        `models`: name -> numbers; `times the teacher`: name -> images and captions a second over its own.
    """
    torch.set_num_threads(1)
    folders = {"teacher": teacher}
    for run in runs:
        if run.folder.is_dir():
            folders.setdefault(run.arm, run.folder)
    models = {name: load(folder) for name, folder in folders.items()}
    rows = open_data(str(data)).where("split=test")
    rows = rows.take(np.arange(ROWS))
    captions = [texts[0] for texts in rows.captions()]
    pixels: dict[str, Tensor] = {}
    for name, model in models.items():
        ((_, inputs),) = model.image_inputs(rows, batch=ROWS, faults=[])
        assert isinstance(inputs, Tensor)
        pixels[name] = inputs
    seconds = {
        "images": medians(in_turn({n: _images(m, pixels[n]) for n, m in models.items()}, repeats=9)),
        "captions": medians(in_turn({n: _captions(m, captions) for n, m in models.items()}, repeats=9)),
    }
    numbers = {
        name: {
            **{f"{kind} a second": ROWS / by[name] for kind, by in seconds.items()},
            "bytes": weights_file(folders[name]).stat().st_size,
            "memory": peak_growth(_images(model, pixels[name])),
        }
        for name, model in models.items()
    }
    times = {
        name: {kind: by["teacher"] / by[name] for kind, by in seconds.items()}
        for name in models
        if name != "teacher"
    }
    return {"models": numbers, "times the teacher": times}


def _images(model: Model, pixels: Tensor) -> Callable[[], object]:
    return lambda: model.encode_image(pixels)


def _captions(model: Model, captions: list[str]) -> Callable[[], object]:
    return lambda: model.encode_text(captions)


class Costs:
    """Seconds of a sample, measured on towers that nobody has trained."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        content = {**read_recipe("clip")["model"], **TOWERS["model"]}
        whole = DualEncoder(ModelConfig.model_validate(content), vocabulary=2048, context=32, seed=0)
        self.batch: int = SETTINGS["batch"]
        side = whole.config.image.resolution
        images = torch.randn(self.batch, 3, side, side)
        texts = Tokens(torch.randint(4, 2000, (self.batch, WORDS)), torch.full((self.batch,), WORDS))
        networks = {1.0: whole} | {keep: inherited(whole, keep) for keep in (0.75, 0.5, 0.25, 0.089)}
        self.step = {
            keep: self._seconds(lambda n=n: _train(n, images, texts)) for keep, n in networks.items()
        }
        self.forward = self._seconds(lambda: _encode(whole, images, texts))

    def _seconds(self, work: Callable[[], object]) -> float:
        return medians(in_turn({"": work}, repeats=3))[""] / self.batch

    def of(self, arm: Arm) -> float:
        """Seconds of a sample that an arm sees, without its teacher."""
        by = self.step
        if arm.start == "auto":
            return 0.3 * by[1.0] + 0.7 * by[arm.keep]
        if arm.start == "staged":
            return (by[0.75] + by[0.5] + by[0.25]) / 3
        if arm.start == "staged-auto":
            return 0.1 * (by[1.0] + by[0.75] + by[0.5]) + 0.7 * (by[0.75] + by[0.5] + by[0.25]) / 3
        return by[arm.keep]


def _train(network: DualEncoder, images: Tensor, texts: Tokens) -> None:
    images, captions = network.image(images).embedding, network.text(texts).embedding
    F.cross_entropy(images @ captions.T, torch.arange(len(images))).backward()


@torch.no_grad()
def _encode(network: DualEncoder, images: Tensor, texts: Tokens) -> None:
    network.image(images)
    network.text(texts)


def predicted(
    arms: Mapping[str, Sequence[Arm]],
    samples: Mapping[str, Mapping[str, int]],
    *,
    tuned: Sequence[Arm],
    rates: int,
    seeds: int,
    jobs: int,
) -> str:
    """The hours of all runs, in words; points of evaluation and reading the data add a tenth."""
    costs = Costs()
    teachers = sum(one["teacher"] for one in samples.values()) * costs.step[1.0]
    tuning = sum(costs.of(arm) for arm in tuned) * samples["scenes"]["student"] / 2 * rates
    students = 0.0
    for name, listed in arms.items():
        taught = 0.0 if name == "scenes" else costs.forward  # stored for scenes
        each = sum(costs.of(arm) + taught * (arm.loss != "infonce") for arm in listed)
        students += each * samples[name]["student"] * seeds
    parts = {"teachers": teachers, "rates": tuning, "students": students}
    hours = {name: 1.1 * seconds / 3600 / jobs for name, seconds in parts.items()}
    listed = ", ".join(f"{name} {value:.2f}" for name, value in hours.items())
    return f"predicted hours, {jobs} runs at a time: {sum(hours.values()):.1f} ({listed})"
