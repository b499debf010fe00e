import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import frugalclip
from frugalclip.core.config import validated
from frugalclip.core.errors import RecipeError
from frugalclip.curation.base import Verdict
from frugalclip.curation.stages.semantic import Config, Semantic
from frugalclip.data.manifest import Manifest

from ...verbs.test_curate import drawing
from ..conftest import MakeRows, unit, vector_store

Decide = Callable[..., Verdict]


@pytest.fixture
def decide(make_rows: MakeRows, tmp_path: Path) -> Decide:
    """What the stage decides about rows of given vectors."""

    def decided(vectors: np.ndarray, *, seed: int = 0, columns: dict | None = None, **settings: object):
        rows = make_rows(["a"] * len(vectors), seed=seed, **(columns or {}))
        shutil.rmtree(tmp_path / "store", ignore_errors=True)
        vector_store(tmp_path / "store", rows.manifest.ids, vectors)
        content = {"stage": "semantic", "store": "store", **settings}
        return Semantic(validated(Config, content, where=""), tmp_path).decide(rows)

    return decided


def fan(*degrees: float) -> np.ndarray:
    """Unit vectors of two numbers at some angles."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def groups(count: int, copies: int, *, noise: float, seed: int = 0) -> np.ndarray:
    """Unit vectors of which each is there so often, with noise."""
    draw = np.random.default_rng(seed)
    centres = unit(draw.standard_normal((count, 32)))
    return unit(np.repeat(centres, copies, axis=0) + noise * draw.standard_normal((count * copies, 32)))


def test_one_row_of_each_group_stays_and_the_ledger_names_it(decide: Decide):
    verdict = decide(groups(20, 3, noise=0.01), similarity=0.9, keep="first")
    assert verdict.is_kept.tolist() == [True, False, False] * 20
    assert verdict.keepers[1::3].tolist() == [f"r{row:04d}" for row in range(0, 60, 3)]
    assert set(verdict.reasons[~verdict.is_kept]) == {"semantic-duplicate"}
    vectors = groups(20, 3, noise=0.01)
    weakest = min(verdict.values[~verdict.is_kept])
    assert verdict.notes[1] == (
        f"groups: 20 of up to 3 rows; the weakest cosine with the row that stays is {weakest:.4f}"
    )
    assert verdict.values[1] == pytest.approx(vectors[0] @ vectors[1], abs=2e-6)
    assert (verdict.thresholds[~verdict.is_kept] == 0.9).all()


def test_a_chain_is_split_by_the_paper_s_rule_and_dropped_by_the_code_s(decide: Decide):
    """Angles of 0, 10, 20 and 30 degrees, of which neighbours are alike."""
    chain, least = fan(0, 10, 20, 30), float(np.cos(np.radians(11)))
    paper = decide(chain, similarity=least, keep="first")
    assert paper.is_kept.tolist() == [True, False, True, False]
    assert paper.keepers.tolist() == [None, "r0000", None, "r0002"]
    code = decide(chain, similarity=least, keep="first", rule="code")
    assert f"{np.cos(np.radians(30)):.4f}" in code.notes[1]
    assert code.reasons.tolist() == [None, "semantic-duplicate", "semantic-chain", "semantic-chain"]
    assert code.keepers[1:].tolist() == ["r0000"] * 3
    assert code.values[3] == pytest.approx(np.cos(np.radians(30)), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_code_s_rule_is_that_of_the_authors(seed: int, decide: Decide):
    """A row goes where its largest cosine with a row farther from the centroid exceeds 1 - epsilon."""
    draw = np.random.default_rng(seed)
    vectors = unit(draw.standard_normal((60, 3)) + np.array([1.5, 0, 0]))
    verdict = decide(vectors, similarity=0.97, rule="code", clusters=1)
    cosines = verdict.scores["centroid_cosine"]
    order = np.argsort(cosines, kind="stable")
    upper = np.triu(vectors[order] @ vectors[order].T, 1)
    assert verdict.is_kept[order].tolist() == (upper.max(axis=0) < 0.97).tolist()
    paper = decide(vectors, similarity=0.97, clusters=1)
    assert paper.is_kept.sum() >= verdict.is_kept.sum()


def test_which_row_stays_is_a_setting(decide: Decide):
    vectors = fan(0, 2, 5, 40, 41)
    columns = {"width": [8, 8, 9, 5, 6], "height": [8] * 5, "scores": {"clip_score": [0, 1, 0.5, 2, np.nan]}}
    settings = {"similarity": 0.99, "columns": columns}
    kept = {
        keep: decide(vectors, keep=keep, **settings).is_kept.tolist()
        for keep in ("first", "largest", "clip_score", "farthest", "nearest")
    }
    assert kept["first"] == [True, False, False, True, False]
    assert kept["largest"] == [False, False, True, False, True]
    assert kept["clip_score"] == [False, True, False, True, False]
    assert kept["farthest"] == [True, False, False, False, True]  # the centroid is near 18 degrees
    assert kept["nearest"] == [False, False, True, True, False]


def test_what_stays_is_unlike_each_other_and_a_second_call_drops_nothing(decide: Decide):
    vectors = groups(150, 4, noise=0.03)
    first = decide(vectors, similarity=0.93, clusters=9)
    again = decide(vectors[first.is_kept], similarity=0.93, clusters=9)
    assert again.is_kept.all() and 150 <= first.is_kept.sum() < 600
    ids = {f"r{row:04d}": row for row in range(600)}
    for row in np.flatnonzero(~first.is_kept):
        keeper = ids[first.keepers[row]]
        assert first.is_kept[keeper]
        assert first.values[row] == pytest.approx(vectors[row] @ vectors[keeper], abs=2e-6)
        assert first.values[row] >= 0.93


def test_only_rows_of_one_cluster_are_compared(decide: Decide):
    """Two thousand rows in two clusters of opposite directions: groups are found in both."""
    vectors = groups(400, 5, noise=0.01)
    verdict = decide(vectors, similarity=0.9)
    assert verdict.scores["semantic_cluster"].max() == 1
    assert "2 clusters of" in verdict.notes[0]
    assert verdict.is_kept.sum() == 400


def test_a_row_far_from_all_others_changes_nothing_else(decide: Decide):
    vectors = groups(20, 3, noise=0.02)
    far = unit(np.random.default_rng(9).standard_normal((1, 32)))
    before = decide(vectors, similarity=0.9, keep="first")
    after = decide(np.concatenate([vectors, far]), similarity=0.9, keep="first")
    assert after.is_kept[:-1].tolist() == before.is_kept.tolist() and after.is_kept[-1]
    assert after.keepers[:-1].tolist() == before.keepers.tolist()


def test_rows_without_an_image_go_and_no_rows_are_no_trouble(
    decide: Decide, make_rows: MakeRows, tmp_path: Path
):
    vectors = fan(0, 0, 90)
    vectors[0] = np.nan
    verdict = decide(vectors)
    assert verdict.reasons.tolist() == ["unreadable", None, None]
    config = validated(Config, {"stage": "semantic", "model": "none"}, where="")
    assert len(Semantic(config, tmp_path).decide(make_rows([])).reasons) == 0


def test_a_plan_gives_one_source_of_vectors():
    for source in ({}, {"model": "x", "store": "y"}):
        with pytest.raises(RecipeError, match="model and store are both"):
            validated(Config, {"stage": "semantic", **source}, where="")


def test_a_model_encodes_the_images_once_and_a_killed_run_equals_a_whole_one(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
):
    data = tmp_path / "data"
    data.mkdir()
    for row in range(12):
        drawing(row % 8).save(data / f"p{row:02d}.png")
        (data / f"p{row:02d}.txt").write_text(f"boxes {row}")
    stages = "\n".join(
        f"  - {{stage: semantic, model: {tiny_model}, similarity: {least}, keep: first}}"
        for least in (0.99999, 0.9999)
    )
    (tmp_path / "plan.yaml").write_text(f"stages:\n{stages}\n")
    frugalclip.curate(data, plan=tmp_path / "plan.yaml", out=tmp_path / "whole")
    rows = {row["id"]: row for row in pq.read_table(tmp_path / "whole" / "ledger.parquet").to_pylist()}
    assert [rows[f"p{row:02d}"]["keeper"] for row in range(8, 12)] == [f"p{row:02d}" for row in range(4)]
    assert len(list((tmp_path / "whole" / "stores").iterdir())) == 1
    assert Manifest.read(tmp_path / "whole" / "manifest.parquet").ids[:1] == ["p00"]
    with monkeypatch.context() as patch:
        patch.setattr(Semantic, "_drop", _stop)
        with pytest.raises(KeyboardInterrupt):
            frugalclip.curate(data, plan=tmp_path / "plan.yaml", out=tmp_path / "stopped")
    frugalclip.curate(data, plan=tmp_path / "plan.yaml", out=tmp_path / "stopped", resume=True)
    for name in ("manifest.parquet", "ledger.parquet", "rows.parquet"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes(), name


def _stop(*arguments: object) -> None:
    raise KeyboardInterrupt
