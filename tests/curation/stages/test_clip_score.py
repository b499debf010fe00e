from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import frugalclip
from frugalclip.core.config import validated
from frugalclip.core.errors import DataError, RecipeError
from frugalclip.curation.stages.clip_score import Config
from frugalclip.curation.trained_rows import trained_ids
from frugalclip.data.manifest import Manifest

from ...verbs.test_curate import drawing

ROWS = 24


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, and a run that was trained on half of it."""
    folder = tmp_path_factory.mktemp("scored")
    for seed in range(ROWS):
        (folder / "data").mkdir(exist_ok=True)
        drawing(seed).save(folder / "data" / f"p{seed:02d}.png")
        (folder / "data" / f"p{seed:02d}.txt").write_text(f"boxes number {seed}\nboxes of seed {seed}")
    rows = frugalclip.curate(folder / "data", plan=_plan(folder, "rules, min_words: 1"), out=folder / "all")
    assert rows.summary.kept == ROWS
    whole = Manifest.read(folder / "all" / "manifest.parquet")
    whole.take(range(ROWS // 2)).write(folder / "half.parquet")
    words = [f"data={folder / 'half.parquet'}", "epochs=null", "steps=2", "batch=8", "threads=1"]
    frugalclip.train("clip-small", words, out=folder / "run")
    return folder


def _plan(folder: Path, stage: str) -> Path:
    path = folder / f"{abs(hash(stage))}.yaml"
    path.write_text(f"stages: [{{stage: {stage}}}]")
    return path


def ledger(out: Path) -> dict[str, dict]:
    return {row["id"]: row for row in pq.read_table(out / "ledger.parquet").to_pylist()}


def test_scores_are_cosines_and_exactly_the_fraction_stays(place: Path, tmp_path: Path):
    plan = _plan(place, "clip_score, model: run, fraction: 0.3, trained: score")
    result = frugalclip.curate(place / "data", plan=plan, out=tmp_path / "out")
    assert result.summary.kept == round(0.3 * ROWS)
    model = frugalclip.load(place / "run")
    scores = {}
    for seed in range(ROWS):
        image = model.encode_image(str(place / "data" / f"p{seed:02d}.png"))
        texts = model.encode_text([f"boxes number {seed}", f"boxes of seed {seed}"])
        scores[f"p{seed:02d}"] = float((image @ texts.T).max())
    rows = Manifest.read(tmp_path / "out" / "rows.parquet")
    found = dict(zip(rows.ids, rows.field("clip_score"), strict=True))
    assert {id: pytest.approx(score, abs=1e-5) for id, score in scores.items()} == found
    dropped = {id for id, row in ledger(tmp_path / "out").items() if row["fate"] == "dropped"}
    assert dropped == set(sorted(scores, key=scores.__getitem__)[: ROWS - result.summary.kept])


def test_rows_that_the_model_was_trained_on_are_refused_or_kept_without_a_score(place: Path, tmp_path: Path):
    assert trained_ids(str(place / "run")) == {f"p{seed:02d}" for seed in range(ROWS // 2)}
    refused = _plan(place, "clip_score, model: run, fraction: 0.5")
    with pytest.raises(DataError, match=r"12 of 24 rows were trained on .* trained: keep"):
        frugalclip.curate(place / "data", plan=refused, out=tmp_path / "refused")
    kept = _plan(place, "clip_score, model: run, fraction: 0.5, trained: keep")
    result = frugalclip.curate(place / "data", plan=kept, out=tmp_path / "kept")
    assert result.summary.kept == ROWS // 2 + ROWS // 4
    rows = Manifest.read(tmp_path / "kept" / "rows.parquet")
    unscored = {id for id, score in zip(rows.ids, rows.field("clip_score"), strict=True) if score is None}
    assert unscored == trained_ids(str(place / "run"))


def test_a_threshold_keeps_what_reaches_it(place: Path, tmp_path: Path):
    plan = _plan(place, "clip_score, model: run, threshold: 0.0, trained: score, captions: mean")
    frugalclip.curate(place / "data", plan=plan, out=tmp_path / "out")
    for row in ledger(tmp_path / "out").values():
        assert (row["fate"] == "kept") == (row["value"] is None or np.isnan(row["value"]))
        assert row["fate"] == "kept" or row["value"] < row["threshold"] == 0


def test_one_bound_is_needed():
    with pytest.raises(RecipeError, match="give one"):
        validated(Config, {"stage": "clip_score", "model": "x"}, where="")
