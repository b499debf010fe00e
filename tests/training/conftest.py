"""A data set of coloured squares and a recipe that trains on it in a second."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from frugalclip.core.yaml_text import dump_yaml

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (40, 50, 220),
    "grey": (128, 128, 128),
    "white": (250, 250, 250),
    "black": (5, 5, 5),
}

RECIPE: dict[str, Any] = {
    "tokenizer": {"kind": "captions", "vocabulary": 600, "context": 8},
    "model": {
        "image": {"width": 32, "depth": 1, "head_dim": 16, "patch": 8, "resolution": 16},
        "text": {"width": 32, "depth": 1, "head_dim": 16},
        "dim": 16,
    },
    "views": {"main": {"crop_scale": [0.5, 1], "flip": 0.5}},
    "objectives": {"contrastive": {"positives": "caption"}},
    "batch": 16,
    "steps": 12,
    "precision": "fp32",
    "evaluation": {"points": 3},
    "optimizer": {"lr": 0.003},
}


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 pictures: two halves of two colours, captioned by them, with an id and a split."""
    folder = tmp_path_factory.mktemp("squares")
    rows = []
    for i in range(96):
        left, right = list(COLOURS)[i % 6], list(COLOURS)[(i // 6) % 6]
        image = Image.new("RGB", (20, 20), COLOURS[left])
        image.paste(COLOURS[right], (10, 0, 20, 20))
        image.save(folder / f"{i:03}.png")
        split = "val" if i >= 80 else "train"
        rows.append(
            {"id": f"s{i:03}", "image": f"{i:03}.png", "caption": f"{left} beside {right}", "split": split}
        )
    (folder / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder / "pairs.jsonl"


@pytest.fixture(scope="session")
def small_recipe() -> dict[str, Any]:
    """The recipe as mappings, without its data."""
    return RECIPE


@pytest.fixture
def recipe_file(tmp_path: Path, squares: Path) -> Callable[..., str]:
    """Write the small recipe, with changes, and give its path."""

    def write(**changes: Any) -> str:
        path = tmp_path / "small.yaml"
        path.write_text(dump_yaml(RECIPE | {"data": {"path": str(squares)}} | changes))
        return str(path)

    return write
