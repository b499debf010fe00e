"""Random recipes, and what must hold of each: a property test of sums of objectives.

Of a recipe that `plan` accepts: it trains; terms of weight 0 are absent, bit for bit; micro-batches give the
gradients of the batch; two processes give those of one; a resumed run is the run that was not stopped. A
recipe that is refused is refused in a sentence, by the plan as by training, and so is a mistake put into it.

    python tests/training/random_sums.py --number 300 --seed 0 --two 50 --json random_sums.json

It needs about two seconds of a core for a recipe, and five for one on two processes.
"""

import argparse
import copy
import json
import multiprocessing as mp
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor

from frugalclip.core.errors import FrugalclipError
from frugalclip.core.records import RunDirectory
from frugalclip.core.types import Batch
from frugalclip.sources.open import open_data
from frugalclip.training.engine import build_engine
from frugalclip.training.loop import train_run
from frugalclip.training.planning import plan_recipe
from frugalclip.training.recipe import Recipe, validate_recipe
from frugalclip.training.run import open_run

WORDS = ["red", "green", "blue", "small", "large", "round", "old", "new", "house", "tree", "river", "stone"]
TURNS = 2  # batches whose gradients are compared
ODD: list[Any] = [[], {}, -1, 0, 3, 0.5, 1.5, "x", "", True, None, [1, "x"], {"kind": "x"}, "main", "caption"]


@dataclass(frozen=True)
class Verdict:
    """What came of one recipe."""

    seed: int
    verdict: str  # ok, refused, crash, difference
    objectives: list[str]
    detail: str = ""
    seconds: float = 0.0


class Difference(Exception):
    """Two ways to the same thing do not give the same."""


def write_pairs(folder: Path, rows: int = 40) -> Path:
    """Small images with one to three captions of one to fourteen words, and keywords on some."""
    draw = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for row in range(rows):
        image = Image.new("RGB", (20, 20), tuple(draw.randrange(256) for _ in range(3)))
        image.paste(tuple(draw.randrange(256) for _ in range(3)), (draw.randrange(4, 16), 0, 20, 20))
        image.save(folder / f"{row:03}.png")
        captions = [" ".join(draw.choices(WORDS, k=draw.randint(1, 14))) for _ in range(draw.randint(1, 3))]
        entry = {"id": f"s{row:03}", "image": f"{row:03}.png", "caption": captions}
        lines.append(entry | ({"keywords": draw.sample(WORDS, 2)} if draw.random() < 0.6 else {}))
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder / "pairs.jsonl"


class Drawn:
    """A random recipe, built up part by part."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.images, self.texts = ["main", "second"], ["caption"]
        self.kept: list[str] = []
        self.objectives: dict[str, dict[str, Any]] = {}

    def one(self, *options: Any) -> Any:
        return self.draw.choice(options)

    def some(self, options: list[str], most: int = 2) -> list[str]:
        return self.draw.sample(options, min(len(options), self.draw.randint(1, most)))

    def recipe(self) -> dict[str, Any]:
        """The mappings of the recipe."""
        texts = self._texts()
        self._makers()
        for name in self.draw.sample(list(_SETTINGS), self.draw.choice([1, 1, 2, 2, 3, 4])):
            self.objectives[name] = _SETTINGS[name](self) | self._common()
        if not any(one.get("weight", 1) for one in self.objectives.values()):
            self.objectives["contrastive"] = {}
        steps = self.one(3, 3, 4)
        return {
            "tokenizer": {"kind": "captions", "vocabulary": 600, "context": self.one(6, 12)},
            "model": self._model(),
            "views": self._views(),
            "texts": texts,
            "teachers": {"slow": {"from": "ema", "momentum": [0.9, 1]}},
            "objectives": self.objectives,
            "episode": {"samples": self.one(8, 16, 24)},
            "batch": self.one(6, 8, 10),
            "steps": steps,
            "precision": "fp32",
            "data": {"validation": "none"},
            "optimizer": {"lr": 0.003, **self.one({}, {"clip": 1.0}, {"weight_decay": 0.0})},
            "checkpoints": {"every": 2, "keep": 9},
            "evaluation": {"points": 1},
            "seed": self.draw.randrange(1000),
            **({"stages": [{"share": 0.5}, {"share": 0.5}]} if self.draw.random() < 0.1 else {}),
        }

    def _texts(self) -> dict[str, Any]:
        texts: dict[str, Any] = {"caption": {"pick": self.one("random", "first")}}
        if self.draw.random() < 0.6:
            texts["augmented"] = {"of": "caption", "augment": {"operations": [self.one("swap", "delete")]}}
        if self.draw.random() < 0.3:
            texts["keywords"] = {"fields": ["keywords"], "lists": self.one("joined", "each")}
        self.texts = list(texts)
        return texts

    def _makers(self) -> None:
        """Objectives that make views, which the others may read."""
        if self.draw.random() < 0.25:
            views = self.some(self.images)
            self.objectives["attentive_mask"] = {
                "views": views,
                "keep": self.one(0.5, 0.75),
                "block": self.one(1, 2),
                "choose": self.one("attentive", "random", "block"),
                "teacher": self.one("ema", "slow"),
            }
            self.kept = [f"{view}@kept" for view in views]
            self.images = self.images + self.kept
        if self.draw.random() < 0.25:
            text = self.one("caption", *self.texts)
            self.objectives["masked_text"] = {"text": text, "probability": self.one(0.2, 0.5)}
            self.texts = [*self.texts, f"{text}@masked"]

    def _common(self) -> dict[str, Any]:
        common: dict[str, Any] = {}
        if self.draw.random() < 0.3:
            common["weight"] = self.one(0, 0.2, 2)
        if self.draw.random() < 0.15:
            common["during"] = self.one([0, 0.5], [0.5, 1], [0.25, 0.75])
        return common

    def _views(self) -> dict[str, Any]:
        crop = {"crop_scale": self.one([0.5, 1], [1, 1]), "flip": self.one(0, 0.5)}
        second = self.one("clip", "simclr", {"preset": "simclr", "size": 16})
        return {"main": crop, "second": second, "around": {"contains": ["main", "second"], "size": 16}}

    def _model(self) -> dict[str, Any]:
        size = {"width": 32, "depth": self.one(1, 2), "head_dim": 16}
        vit = {**size, "patch": 4, "resolution": 16, "pool": self.one("cls", "cls", "mean", "attention")}
        resnet = {"kind": "resnet", "width": 128, "blocks": [1, 1, 1, 1], "resolution": 32}
        transformer = {
            **size,
            "attention": self.one("causal", "bidirectional", "bidirectional"),
            **self.one({"pool": "end"}, {"pool": "mean"}, {"pool": "last", "fill": 0}),
        }
        return {
            "image": vit if self.draw.random() < 0.9 else resnet,
            "text": transformer if self.draw.random() < 0.9 else {"kind": "bag", "width": 32},
            "dim": self.one(12, 16),
            "learn_scale": self.draw.random() < 0.9,
        }


def _pair(drawn: Drawn) -> dict[str, str]:
    return {"image": drawn.one(*drawn.images), "text": drawn.one(*drawn.texts)}


def _two(drawn: Drawn) -> dict[str, str]:
    first, second = drawn.draw.sample(drawn.images, 2)
    return {"first": first, "second": second}


def _positives(drawn: Drawn) -> dict[str, Any]:
    return drawn.one({}, {"positives": "caption", "same": "drop"}, {"positives": ["caption"]})


def _plain(drawn: Drawn) -> dict[str, str]:
    return {"image": drawn.one("main", "second"), "text": "caption"}


_HEAD = {"hidden": 24, "out": 12}
_SETTINGS: dict[str, Callable[[Drawn], dict[str, Any]]] = {
    "contrastive": lambda d: {
        **_pair(d),
        **d.one(_positives(d), {"smoothing": 0.1}),
        "reduction": d.one("mean", "sum"),
    },
    "sigmoid": lambda d: {**_pair(d), **_positives(d), "bias": d.one(-5, "batch"), "same": "drop"},
    "multiview": lambda d: {"images": d.some(d.images), "texts": d.some(d.texts), **_positives(d)},
    "simclr": lambda d: {
        **_two(d),
        **_HEAD,
        "input": d.one("pooled", "embedding"),
        "views": d.one("apart", "together"),
    },
    "simsiam": lambda d: {**_two(d), "hidden": 24, "bottleneck": 8, "input": d.one("pooled", "embedding")},
    "byol": lambda d: {
        "images": d.some(d.images),
        "target": d.one("main", "second", "around"),
        "teacher": d.one("ema", "slow"),
        **_HEAD,
    },
    "neighbours": lambda d: {
        "images": d.some(d.images),
        "texts": d.some(d.texts),
        "size": d.one(7, 30),
        "symmetric": d.one(True, False),
    },
    "prototypes": lambda d: {
        **_plain(d),
        **_HEAD,
        "number": d.one(3, 5),
        "steps": 3,
        "features": d.one("exact", "reuse"),
    },
    "token_wise": lambda d: {**_pair(d), "out": 12, "chunk": d.one(3, 16)},
    "masked_distillation": lambda d: {"view": d.one("main", "second"), "codes": 20, "hidden": 0.5},
    "facets": lambda d: {**_pair(d), "loss": d.one("sigmoid", "contrastive")},
    "lexical": lambda d: {**_pair(d), "penalty": {"kind": d.one("overuse", "flops", "none"), "ramp": 2}},
    "affinity": lambda d: {
        "teachers": d.one("ema", ["ema", "slow"]),
        "image": d.one("main", "second"),
        "texts": "caption",
        "alpha": d.one(1.0, 0.5),
    },
    "feature_matching": lambda d: {**_plain(d), "teacher": d.one("ema", "slow")},
}


def random_recipe(seed: int) -> dict[str, Any]:
    """The mappings of a random recipe, without data."""
    return Drawn(seed).recipe()


def check(seed: int, pairs: Path, folder: Path) -> Verdict:
    """Try one recipe on one process.

    Args:
        seed: of the recipe.
        pairs: what `write_pairs` wrote.
        folder: for runs.
    """
    begun, content = time.monotonic(), random_recipe(seed)
    names = list(content["objectives"])
    try:
        detail = _check(seed, content, pairs, folder)
        verdict = "refused" if detail else "ok"
    except Difference as error:
        verdict, detail = "difference", str(error)
    except Exception:
        verdict, detail = "crash", traceback.format_exc()[-3000:]
    return Verdict(seed, verdict, names, detail, round(time.monotonic() - begun, 2))


def _check(seed: int, content: dict[str, Any], pairs: Path, folder: Path) -> str:
    """The sentence that refuses a recipe; nothing if it is accepted and everything holds."""
    shutil.rmtree(folder, ignore_errors=True)
    _check_mistakes(content, seed)
    data = open_data(pairs)
    try:
        recipe = validate_recipe(content)
        plan_recipe(recipe)
    except FrugalclipError as error:
        _check_refused(content, data, folder)
        return str(error)
    run = RunDirectory(folder / "run")
    train_run(recipe, data, run)
    _check_zero(content, run, data, folder)
    _check_resumed(recipe, run, data)
    _check_parts(recipe, data, folder, micro_batch=1 + seed % 3)
    return ""


def _check_refused(content: dict[str, Any], data: Any, folder: Path) -> None:
    try:
        train_run(validate_recipe(content), data, RunDirectory(folder / "refused"))
    except FrugalclipError:
        return
    raise Difference("the plan refuses what trains")


def _check_mistakes(content: dict[str, Any], seed: int) -> None:
    """A value somewhere in the recipe replaced by an odd one: a plan, or a sentence."""
    draw = random.Random(f"mistakes/{seed}")
    places = list(_places(content))
    for _ in range(4):
        changed, (*path, last) = copy.deepcopy(content), draw.choice(places)
        inner: Any = changed
        for part in path:
            inner = inner[part]
        if isinstance(inner, dict) and draw.random() < 0.3:
            inner[f"{last}x"] = inner.pop(last)
        else:
            inner[last] = draw.choice(ODD)
        try:
            plan_recipe(validate_recipe(changed))
        except FrugalclipError as error:
            if not str(error).strip():
                raise Difference("a mistake is refused without a sentence") from error


def _places(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    for key, value in inner:
        yield (*place, key)
        yield from _places(value, (*place, key))


def _check_zero(content: dict[str, Any], run: RunDirectory, data: Any, folder: Path) -> None:
    silent = {
        name: _SETTINGS[name](Drawn(len(name))) | {"weight": 0}
        for name in _SETTINGS
        if name not in content["objectives"]
    }
    other = RunDirectory(folder / "zero")
    changed = {"objectives": content["objectives"] | silent, "checkpoints": {"every": 99}}
    train_run(validate_recipe(content | changed), data, other)
    _same_rows(run, other, "with terms of weight 0")
    _same_files(run, other, "with terms of weight 0")


def _check_resumed(recipe: Recipe, run: RunDirectory, data: Any) -> None:
    whole = RunDirectory(run.path.with_name("whole"))
    shutil.copytree(run.path, whole.path)
    for step in run.steps_saved()[1:]:
        shutil.rmtree(run.checkpoint(step))
    train_run(recipe, data, run, resume=True)
    _same_rows(whole, run, "resumed")
    _same_files(whole, run, "resumed")


def _rows(run: RunDirectory) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if "seconds" not in key} for row in run.rows()]


def _same_rows(one: RunDirectory, other: RunDirectory, how: str) -> None:
    for first, second in zip(_rows(one), _rows(other), strict=True):
        if first != second:
            keys = [key for key in first if first[key] != second.get(key)]
            raise Difference(f"{how}: step {first['step']} differs in {keys}")


def _same_files(one: RunDirectory, other: RunDirectory, how: str) -> None:
    last = one.steps_saved()[-1]
    for path in sorted(one.checkpoint(last).glob("*.safetensors")):
        if path.read_bytes() != (other.checkpoint(last) / path.name).read_bytes():
            raise Difference(f"{how}: {path.name} of step {last} differs")


def _check_parts(recipe: Recipe, data: Any, folder: Path, *, micro_batch: int) -> None:
    whole = gradients(recipe, data, folder / "whole-batch")
    try:
        parts = gradients(recipe, data, folder / "parts", micro_batch=micro_batch)
    except FrugalclipError as error:
        if "batch norm" not in str(error):
            raise
        return
    _same_gradients(whole, parts, f"in micro-batches of {micro_batch}")


def _same_gradients(one: dict[str, Tensor], other: dict[str, Tensor], how: str) -> None:
    """Compare gradients and state; what is zero is left out on either side, and rounding is no difference."""
    for name in sorted(one.keys() | other.keys()):
        first, second = one.get(name), other.get(name)
        known = second if first is None else first
        assert known is not None, "one of the two has it"
        first, second = (torch.zeros_like(known) if x is None else x for x in (first, second))
        error = float((first - second).abs().max()) / (float(first.abs().max()) + 1e-6)
        if not error < 1e-5:
            raise Difference(f"{how}: {name} differs by {error:.2e} of its largest value")


def gradients(
    recipe: Recipe, data: Any, folder: Path, *, micro_batch: int | None = None
) -> dict[str, Tensor]:
    """Gradients of the first batches in float64, without an optimiser, and the state behind them.

    Args:
        recipe: of the run.
        data: of the run.
        folder: of a run that is not written.
        micro_batch: rows that a tower encodes at a time.
    """
    run = open_run(recipe, data, RunDirectory(folder))
    stage, module = run.stage, run.stage.module.double()
    engine = build_engine(module, batch=recipe.batch, micro_batch=micro_batch)
    loader = run.inputs.loader
    batches, found = loader.batches(0), {}
    for turn in range(min(TURNS, len(stage.span))):
        module.move_to(turn / len(stage.span), number=turn)
        if stage.episode and turn % stage.episode == 0:
            ahead = min(stage.episode, len(stage.span) - turn)
            module.begin_episode(lambda turn=turn, ahead=ahead: _first(loader, turn, ahead))
        module.train()
        module.zero_grad(set_to_none=True)
        result = engine(_double(next(batches)))
        engine.backward(result.loss)
        module.after_step(result.features)
        named = module.named_parameters()
        found |= {f"{turn}/{name}": p.grad.clone() for name, p in named if p.grad is not None}
    state = {f"buffer/{name}": x.clone() for name, x in module.named_buffers() if x.is_floating_point()}
    return {name: x.double() for name, x in (found | state).items() if x.any()}


def _first(loader: Any, start: int, count: int) -> Iterator[Batch]:
    batches = loader.batches(start, stream="episode/")
    return (_double(next(batches)) for _ in range(count))


def _double(batch: Batch) -> Batch:
    return replace(batch, images={name: x.double() for name, x in batch.images.items()})


def check_on_two(seeds: list[int], pairs: Path, folder: Path, *, seconds: float = 120) -> dict[int, str]:
    """What differs between one process and two, by seed; nothing where nothing does.

    Args:
        seeds: of recipes that are accepted.
        pairs: what `write_pairs` wrote.
        folder: for what processes give.
        seconds: that the processes may take for one recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[int, str] = {}
    while rest := [seed for seed in seeds if seed not in found]:
        meet = folder / f"meet-{len(found)}"
        context = mp.get_context("spawn")
        workers = [
            context.Process(target=_process, args=(rank, rest, str(pairs), str(folder), str(meet)))
            for rank in range(2)
        ]
        for worker in workers:
            worker.start()
        until = time.monotonic() + 60 + seconds * len(rest)
        while any(worker.is_alive() for worker in workers) and time.monotonic() < until:
            if any(worker.exitcode not in (None, 0) for worker in workers):
                break  # the other one waits for it
            time.sleep(0.1)
        for worker in workers:
            worker.kill()
            worker.join()
        done = {seed: (folder / f"two-{seed}.txt") for seed in rest}
        found |= {seed: path.read_text() for seed, path in done.items() if path.is_file()}
        if not any(seed in found for seed in rest):
            found[rest[0]] = "two processes ended without a word"
    return found


def _process(rank: int, seeds: list[int], pairs: str, folder: str, meet: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # torch's own, once for each recipe
    data, alone = open_data(pairs), {}
    recipes = {seed: validate_recipe(random_recipe(seed)) for seed in seeds}
    if rank == 0:
        alone = {seed: gradients(recipes[seed], data, Path(folder) / "alone") for seed in seeds}
    wait = timedelta(seconds=90 + 5 * len(seeds))
    dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=2, timeout=wait)
    for seed in seeds:
        report = Path(folder) / f"two-{seed}.txt"
        try:
            both = gradients(recipes[seed], data, Path(folder) / f"rank-{rank}")
            if rank == 0:
                _same_gradients(alone[seed], both, "on two processes")
                report.write_text("")
        except Difference as error:
            report.write_text(str(error))
        except Exception:
            report.write_text(traceback.format_exc()[-3000:])
            os._exit(1)
    dist.barrier()  # no thread of gloo may hold tensors when Python ends
    dist.destroy_process_group()


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that goes when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="random-sums-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def try_recipes(seeds: range, *, two: int, folder: Path, tell: Callable[[str], None]) -> list[Verdict]:
    """Try recipes one after another, and the first accepted ones on two processes too.

    Args:
        seeds: of the recipes.
        two: how many to try on two processes.
        folder: for runs.
        tell: called with a line for each.
    """
    pairs, verdicts = write_pairs(folder / "pairs"), []
    for seed in seeds:
        verdicts.append(check(seed, pairs, folder / "runs"))
        tell(f"{seed}: {verdicts[-1].verdict} ({', '.join(verdicts[-1].objectives)}) {verdicts[-1].detail}")
    accepted = [one.seed for one in verdicts if one.verdict == "ok"][:two]
    found = check_on_two(accepted, pairs, folder / "two") if accepted else {}
    for place, verdict in enumerate(verdicts):
        if found.get(verdict.seed):
            detail = found[verdict.seed]
            kind = "crash" if "Traceback" in detail else "difference"
            verdicts[place] = replace(verdict, verdict=kind, detail=detail)
            tell(f"{verdict.seed} on two processes: {detail}")
    return verdicts


def record(verdicts: list[Verdict], *, seed: int, two: int) -> dict[str, Any]:
    """What a run of the command writes."""
    kinds = ("ok", "refused", "crash", "difference")
    counts = {kind: sum(one.verdict == kind for one in verdicts) for kind in kinds}
    return {
        "seed": seed,
        "number": len(verdicts),
        "on_two": two,
        **counts,
        "recipes": list(map(asdict, verdicts)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--number", type=int, default=300, help="recipes to try")
    parser.add_argument("--seed", type=int, default=0, help="of the first recipe")
    parser.add_argument("--two", type=int, default=0, help="accepted recipes to try on two processes too")
    parser.add_argument("--json", type=Path, help="file of the record")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with scratch() as folder:
        seeds = range(given.seed, given.seed + given.number)
        verdicts = try_recipes(seeds, two=given.two, folder=folder, tell=lambda line: print(line, flush=True))
    content = record(verdicts, seed=given.seed, two=given.two)
    if given.json:
        given.json.write_text(json.dumps(content, indent=1))
    print({key: value for key, value in content.items() if key != "recipes"})
    return 1 if content["crash"] + content["difference"] else 0


if __name__ == "__main__":
    sys.exit(main())
