import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from frugalclip.core.records import RunDirectory, write_json
from frugalclip.data.manifest import Manifest, image_places, make_manifest

HOSTILE = [
    "<script>document.title='owned'</script>",
    "\"'><img src=x onerror=\"document.title='owned'\">",
    "قطة سوداء على سجادة",
    "👩‍👩‍👧 family 🇩🇪",
    "a very long caption that goes on and on, " * 40,
    "turned \u202e round \x00 and broken \ud800",
]


@pytest.fixture
def evaluation() -> dict[str, Any]:
    """A zero-shot result as `evaluate_zeroshot` writes it."""
    names = ["red", "green", "blue", "black", "white", "grey"]
    return {
        "task": "zeroshot",
        "metrics": {"top1": 50.0, "top5": 100.0, "generalised_top1": 40.0},
        "interval": {"top1": [30.0, 70.0], "top5": [100.0, 100.0]},
        "chance": {"top1": 16.7, "top5": 83.3},
        "baselines": {"pixel_nn_1": {"top1": 20.0, "top5": 90.0}, "pixel_nn_10": {"top1": 25.0}},
        "samples": 6,
        "split_hash": "0123456789abcdef",
        "prompts": {"set": "plain", "templates": ["{}"]},
        "preprocess": {"size": 32, "resize": "squash"},
        "names": "first caption",
        "data": "colours/",
        "where": "split=test",
        "classes": {"restricted": 6, "generalised": 9},
        "bootstrap": {"draws": 100, "seed": 0, "level": 95, "groups": 6},
        "per_class": [
            {"name": n, "samples": 1, "top1": 100.0 if i < 3 else 0.0}
            | ({"mistaken_for": "red"} if i > 2 else {})
            for i, n in enumerate(names)
        ],
    }


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Forty steps of 32 samples with two evaluation points."""
    made: list[dict[str, Any]] = [
        {
            "step": s,
            "samples_seen": 32 * s,
            "seconds": 0.1 * s,
            "loss": 3.4 - 0.05 * s,
            "lr": 1e-3,
            "scale": 14.0 + s,
        }
        for s in range(1, 41)
    ]
    made[19]["evaluation"] = {
        "zeroshot/top1": 30.0,
        "retrieval/t2i_r1": 20.0,
        "retrieval/t2i_median_rank": 4.0,
    }
    made[39]["evaluation"] = {
        "zeroshot/top1": 50.0,
        "retrieval/t2i_r1": 40.0,
        "retrieval/t2i_median_rank": 2.0,
    }
    return made


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunDirectory]:
    """Writes a run directory; a part that is None is not written."""

    def make(
        *,
        rows: list[dict[str, Any]] | None,
        evaluations: list[dict[str, Any]] | None,
        name: str = "first",
        recipe: str | None = None,
        training: dict[str, Any] | None = None,
    ) -> RunDirectory:
        run = RunDirectory(tmp_path / name)
        run.path.mkdir()
        run.recipe.write_text(
            recipe
            or "name: clip\ndata: {path: colours/}\nobjectives: {contrastive: {weight: 1.0}}\n"
            "batch: 32\nsteps: 40\n"
        )
        if rows is not None:
            run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
        if evaluations is not None:
            metrics = {"steps": 40, "samples_seen": 1280, "seconds": 4.0, "parameters": 1_500_000}
            write_json(run.summary, {"evaluations": evaluations, "training": metrics | (training or {})})
        write_json(
            run.environment,
            {"python": "3.11", "versions": {"torch": "2.6"}, "command": "frugalclip train clip --out first"},
        )
        return run

    return make


COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 30),
    "blue": (30, 30, 220),
    "black": (0, 0, 0),
    "white": (250, 250, 250),
    "grey": (128, 128, 128),
}


@pytest.fixture
def colours(tmp_path: Path) -> Manifest:
    """Six images of one colour, each named by it."""
    for name, colour in COLOURS.items():
        Image.new("RGB", (160, 120), colour).save(tmp_path / f"{name}.png")
    places = image_places([f"{name}.png" for name in COLOURS])
    return make_manifest(
        ids=list(COLOURS),
        images=places,
        captions=[[name] for name in COLOURS],
        root=tmp_path,
        name="colours/",
    )


class Oracle:
    """Encodes an image as its caption; `blur` adds a vector to all, and `blur=inf` makes them equal."""

    def __init__(self, *, blur: float = 0.0) -> None:
        self.blur = blur

    def _unit(self, texts: list[str]) -> torch.Tensor:
        own = torch.nn.functional.one_hot(
            torch.tensor([list(COLOURS).index(t) for t in texts]), len(COLOURS)
        ).float()
        rows = torch.ones_like(own) if self.blur == float("inf") else own + self.blur
        return torch.nn.functional.normalize(rows, dim=-1)

    def encode_text(self, texts: list[str], /) -> torch.Tensor:
        return self._unit(texts)

    def image_features(self, manifest: Manifest, /) -> Any:
        readable = np.array(
            [i for i, name in enumerate(manifest.ids) if (manifest.root / f"{name}.png").stat().st_size > 20],
            dtype=np.int64,
        )
        return SimpleNamespace(features=self._unit([manifest.ids[i] for i in readable]), rows=readable)


@pytest.fixture
def oracle() -> type[Oracle]:
    return Oracle


@pytest.fixture
def hostile() -> list[str]:
    """Captions that want to break the page."""
    return HOSTILE
