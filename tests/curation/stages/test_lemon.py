from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import frugalclip
from frugalclip.core.config import validated
from frugalclip.core.errors import RecipeError
from frugalclip.curation.stages.lemon import Config
from frugalclip.curation.trained_rows import who_scored
from frugalclip.data.manifest import Manifest

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 220), "yellow": (230, 220, 40)}
ROWS = 60


def test_swapped_captions_go_first(tmp_path: Path):
    (tmp_path / "data").mkdir()
    random = np.random.default_rng(0)
    names = list(COLOURS)
    for row in range(ROWS):
        name = names[row % 4]
        noise = random.integers(-25, 25, (32, 32, 3))
        pixels = np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"p{row:02d}.png")
        written = names[(row + 1) % 4] if row < 6 else name
        (tmp_path / "data" / f"p{row:02d}.txt").write_text(f"a {written} square")
    (tmp_path / "plan.yaml").write_text("stages: [{stage: lemon, fraction: 0.9}]")
    result = frugalclip.curate(tmp_path / "data", plan=tmp_path / "plan.yaml", out=tmp_path / "out")
    assert result.summary.kept == ROWS - 6
    ledger = pq.read_table(tmp_path / "out" / "ledger.parquet").to_pylist()
    gone = {row["id"]: row for row in ledger if row["fate"] == "dropped"}
    assert set(gone) == {f"p{row:02d}" for row in range(6)}
    assert all(row["value"] > row["threshold"] for row in gone.values())
    rows = Manifest.read(tmp_path / "out" / "rows.parquet")
    assert all(-1 <= value <= 1 for value in rows.field("pair_cosine"))


def test_one_bound_is_needed():
    with pytest.raises(RecipeError, match="give one"):
        validated(Config, {"stage": "lemon"}, where="")


def test_a_model_that_does_not_know_its_rows_is_said_to():
    assert "no row is scored" in who_scored([]) and "no row is scored" in who_scored([True, True])
    assert "nothing tells" in who_scored([True, False])
