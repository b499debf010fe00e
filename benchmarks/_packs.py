"""Noisy data for the benchmarks of curation: composed scenes with swapped captions, and a crawl of clip art.

Both have a training split, whose rows are chosen from, and a validation and a test split that stay clean.
"""

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from _common import HERE, emoji_data
from _runs import Metric
from compress_arms import SETTINGS, TOWERS

from frugalclip.core.config import merge
from frugalclip.core.random import uniform
from frugalclip.data.manifest import Manifest
from frugalclip.sources.open import open_data
from frugalclip.training.planning import plan_recipe
from frugalclip.training.recipe import read_recipe, validate_recipe
from frugalclip.verbs.data_compose import compose

Architecture = Literal["transformers", "convolutions"]
RUNS = HERE.parent / "runs" / "noisy-packs"
SCENES = 27_500  # 24,216 to train on, 1,076 to choose by, 2,208 to report
TRAIN = "split=train"
CONVOLUTIONS: dict[str, Any] = {"batch": 64}
RATES = (1e-3, 5e-4, 2e-3)


@dataclass(frozen=True)
class Pack:
    """A data set, what is measured on it, and how long a run is."""

    name: str
    samples: int  # that every run sees at equal samples
    architecture: Architecture
    metrics: Mapping[str, Metric]  # on test rows, the primary one first
    validation: Metric
    noise: float  # share of the training captions that are swapped

    @property
    def primary(self) -> str:
        """Name of the metric of the demands."""
        return next(iter(self.metrics))

    @property
    def data(self) -> str:
        """Everything, as it came."""
        return (
            str(RUNS / "scenes") if self.name == "scenes" else f"{os.environ['FRUGALCLIP_PACKS']}/clipart.tar"
        )


def _metrics(where: str, label_field: str, group: str | None) -> dict[str, Metric]:
    return {
        "retrieval": Metric(where, "retrieval"),
        "naming": Metric(where, "zeroshot", label_field, group),
    }


PACKS = {
    "scenes": Pack(
        "scenes",
        96_000,
        "transformers",
        _metrics("split=test", "background", None),
        Metric("split=val", "retrieval"),
        0.3,
    ),
    "clipart": Pack(
        "clipart",
        48_000,
        "convolutions",
        _metrics("split=test", "category", "component"),
        Metric("split=val", "retrieval"),
        0.0,
    ),
}


def prepare(pack: Pack) -> None:
    """Compose the scenes, if they are not there."""
    if pack.name == "scenes":
        plan = HERE / "protocols" / "compress_plan.yaml"
        compose(emoji_data(), plan=plan, out=RUNS / "scenes", scenes=SCENES)


def swapped(rows: Manifest, share: float, *, seed: int) -> Manifest:
    """Rows of which a share has the captions of another one of that share, and a field that tells which.

    A larger share swaps the captions of the same rows and more.

    Args:
        rows: of the training split.
        share: of the rows.
        seed: decides which.
    """
    draws = uniform(seed, "benchmarks/swap", rows.codes("id").view(np.uint64), 1)[:, 0]
    chosen = np.argsort(draws, kind="stable")[: round(share * len(rows))]
    source = np.arange(len(rows))
    source[chosen] = np.roll(chosen, 1)
    position = rows.table.column_names.index("captions")
    captions = rows.table["captions"].take(pa.array(source))
    table = rows.table.set_column(position, "captions", captions)
    is_swapped = pa.array(source != np.arange(len(rows)))
    return Manifest(table.append_column("swapped", is_swapped), rows.root, rows.name)


def training_rows(pack: Pack, folder: Path, *, noise: float | None = None) -> Path:
    """A manifest of the training rows with the pack's noise, or with another one."""
    share = pack.noise if noise is None else noise
    path = folder / "rows" / f"{pack.name}-{share:g}.parquet"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        swapped(open_data(pack.data).where(TRAIN), share, seed=0).write(path)
    return path


def random_rows(rows: Manifest, number: int, *, seed: int) -> Manifest:
    """So many rows drawn by id; those of a smaller number are among those of a larger one."""
    draws = uniform(seed, "benchmarks/rows", rows.codes("id").view(np.uint64), 1)[:, 0]
    return rows.take(np.sort(np.argsort(draws, kind="stable")[:number]))


def recipe(
    architecture: Architecture, *, samples: int, rate: float, objectives: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """CLIP of one of two architectures.

    Args:
        architecture: two small transformers, or convolutions beside a bag of words.
        samples: that a run sees.
        rate: peak learning rate.
        objectives: merged into the recipe's.
    """
    lengths = {"samples": samples, "epochs": None, "threads": 1, "optimizer": {"lr": rate}}
    name, changes = {
        "transformers": ("clip", merge(TOWERS, SETTINGS)),
        "convolutions": ("clip-small", CONVOLUTIONS),
    }[architecture]
    content = merge(merge(read_recipe(name), changes), lengths)
    return merge(content, {"objectives": dict(objectives or {})})


@cache
def seconds_of_a_sample(architecture: Architecture) -> float:
    """Measured on this machine with one thread, without reading images."""
    torch.set_num_threads(1)
    planned = validate_recipe(recipe(architecture, samples=1024, rate=1e-3))
    probe = plan_recipe(planned, probe=True).probe
    assert probe is not None, "it was requested"
    return 1 / probe["samples_per_second"]


def read_options(claim: str | None) -> argparse.Namespace:
    """The command line of a benchmark on packs.

    Args:
        claim: its docstring.
    """
    parser = argparse.ArgumentParser(description=claim, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each with one thread")
    parser.add_argument("--only", nargs="*", choices=list(PACKS), help="packs; default all")
    parser.add_argument("--predict", action="store_true", help="print the hours that it takes, and stop")
    return parser.parse_args()
