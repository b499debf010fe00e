"""Claim: half of a CLIP's parameters encode at least 1.8 times as many pictures and texts a second on a core.

The teacher of compress.py and its students are measured with weights as drawn, since their sizes decide:
students by rule, and half of the teacher as learned gates left it in a run of need_for_data.py, with other
sizes in each layer. Times are CPU time on one thread in float32, medians of models that take turns; texts
have 30 tokens. Bytes are those of the file of weights, token embedding included. Memory is what encoding 256
images adds at its peak, in a process of its own.
Run: python benchmarks/compress_speed.py
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from subprocess import run
from typing import Any

import torch
from _common import HERE, in_turn, medians, options, peak_growth, record
from compress_arms import SETTINGS, TOWERS, Arm, inherited
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from frugalclip.core.records import read_json
from frugalclip.core.types import Tokens
from frugalclip.towers.dual import DualEncoder, ModelConfig
from frugalclip.training.recipe import read_recipe

WORDS = 30  # tokens of a caption, roughly
ROWS = 256
KEPT = (0.5, 0.25, 0.089)
GATES = HERE.parent / "results" / "need-for-data"
FASTER = 1.8


def teacher() -> DualEncoder:
    """The whole model, with weights as drawn."""
    content = {**read_recipe("clip")["model"], **TOWERS["model"]}
    return DualEncoder(ModelConfig.model_validate(content), vocabulary=2048, context=32, seed=0)


def networks() -> dict[str, DualEncoder]:
    """The teacher, and its students by name."""
    whole = teacher()
    found = {"teacher": whole} | {f"{100 * keep:g} %, by rule": inherited(whole, keep) for keep in KEPT}
    for path in sorted(GATES.glob("pruned-*-0.json"))[:1]:
        found["50 %, by learned gates"] = of_sizes(whole, read_json(path)["size"]["layers"])
    return found


def of_sizes(whole: DualEncoder, layers: Mapping[str, Mapping[str, Any]]) -> DualEncoder:
    """A network like another, with sizes layer by layer as a record has them."""
    content = whole.config.model_dump(mode="json", by_alias=True)
    for side, one in layers.items():
        content[side] |= {"size": None, "depth": len(one["heads"])} | dict(one)
    config = ModelConfig.model_validate(content)
    return DualEncoder(config, vocabulary=whole.vocabulary, context=whole.context, seed=0)


def measured(models: Mapping[str, DualEncoder]) -> dict[str, dict[str, float]]:
    """Model -> images and texts a second, bytes of the file of weights, and bytes of memory."""
    side = models["teacher"].config.image.resolution
    images = torch.randn(ROWS, 3, side, side)
    texts = Tokens(torch.randint(4, 2000, (ROWS, WORDS)), torch.full((ROWS,), WORDS))
    with torch.inference_mode():
        by_kind = {
            "images": medians(in_turn({n: _of(one.image, images) for n, one in models.items()}, repeats=15)),
            "texts": medians(in_turn({n: _of(one.text, texts) for n, one in models.items()}, repeats=15)),
        }
    return {
        name: {
            **{f"{kind} a second": ROWS / seconds[name] for kind, seconds in by_kind.items()},
            "bytes": len(save(dict(network.state_dict()))),
            "memory": _memory(name),
        }
        for name, network in models.items()
    }


def _of(tower: Callable[[Any], object], inputs: object) -> Callable[[], object]:
    return lambda: tower(inputs)


def _memory(name: str) -> int:
    """Bytes that encoding adds in a process that has encoded nothing else."""
    done = run([sys.executable, __file__, "--memory-of", name], capture_output=True, text=True, check=True)
    return int(json.loads(done.stdout))


def print_memory(name: str) -> None:
    """What `_memory` reads."""
    torch.set_num_threads(1)
    network = networks()[name]
    side = network.config.image.resolution
    with torch.inference_mode():
        network.image(torch.randn(1, 3, side, side))
        images = torch.randn(ROWS, 3, side, side)
        print(peak_growth(lambda: network.image(images)))


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__ or "", "compress-speed")
    torch.set_num_threads(1)
    found = measured(networks())
    kinds = ("images a second", "texts a second")
    times = {
        name: {kind: one[kind] / found["teacher"][kind] for kind in kinds}
        for name, one in found.items()
        if name != "teacher"
    }
    for name, one in found.items():
        faster = ", ".join(f"{times[name][kind]:.2f} x" for kind in kinds) if name in times else ""
        rates = ", ".join(f"{one[kind]:.0f} {kind}" for kind in kinds)
        print(f"{name:22} {rates} {faster}; {one['bytes'] / 1e6:.2f} MB, memory {one['memory'] / 1e6:.0f} MB")
    goals = [
        (f"{name}: {kind}, over the teacher's", value, FASTER, "at least")
        for name, one in times.items()
        if name.startswith("50 %")
        for kind, value in one.items()
    ]
    record(chosen.json, {"models": found, "times the teacher": times}, goals)


class Costs:
    """Seconds of a sample, measured on towers that nobody has trained."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        whole = teacher()
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


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory-of"]:
        print_memory(sys.argv[2])
    else:
        main()
