"""Shared by the tests of benchmarks: imports of their files, a tiny teacher and its data."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import frugalclip
from frugalclip.verbs.train import train

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
TINY = {
    "tokenizer": {"kind": "captions", "vocabulary": 600, "context": 12},
    "model": {
        "image": {"size": None, "width": 32, "depth": 2, "head_dim": 8, "patch": 8, "resolution": 16},
        "text": {"size": None, "width": 32, "depth": 2, "head_dim": 8},
        "dim": 16,
    },
}


@pytest.fixture(scope="module")
def imported() -> Iterator[Callable[[str], Any]]:
    """Imports a file of benchmarks/ by its name."""
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def modules(imported: Callable[[str], Any]) -> Any:
    """The files of the compression benchmark."""
    names = ("compress", "compress_arms", "compress_page", "_runs")
    return SimpleNamespace(**{name: imported(name) for name in names})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with one caption each; every fifth is of the test split."""
    place = tmp_path_factory.mktemp("scenes")
    for i in range(40):
        noise = np.random.default_rng(i).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(place / f"{i:02}.png")
        (place / f"{i:02}.txt").write_text(f"thing {i} of kind {i % 9}")
        (place / f"{i:02}.json").write_text(json.dumps({"split": "train" if i % 5 else "test"}))
    return place


@pytest.fixture(scope="module")
def teacher(modules: Any, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A teacher of the benchmark's recipe in a tiny size."""
    patch = pytest.MonkeyPatch()
    patch.setattr(modules.compress_arms, "TOWERS", TINY)
    patch.setattr(modules.compress_arms, "SETTINGS", {"batch": 8, "epochs": None, "threads": 1})
    content = modules.compress_arms.teacher_recipe(samples=16, rate=1e-3, views={"main": "none"})
    folder = tmp_path_factory.mktemp("teacher") / "run"
    recipe = folder.parent / "teacher.yaml"
    recipe.write_text(json.dumps(content))
    train(str(recipe), [f"data={data}", "data.where=split=train", "data.validation=none"], out=folder)
    yield modules.compress_arms.Teacher(folder, "first", frugalclip.load(folder), folder, {"main": "none"})
    patch.undo()
