import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import frugalclip
from frugalclip.core.config import validated
from frugalclip.core.errors import DataError, RecipeError
from frugalclip.curation.base import Verdict
from frugalclip.curation.stages.image_target import Config, ImageTarget
from frugalclip.data.manifest import Manifest

from ...verbs.test_curate import drawing
from ..conftest import MakeRows, unit, vector_store

Decide = Callable[..., Verdict]
GROUPS, OF_GROUP = 6, 20


@pytest.fixture
def decide(make_rows: MakeRows, tmp_path: Path) -> Decide:
    """What the stage decides about rows of given vectors, for targets of given vectors."""

    def decided(vectors: np.ndarray, targets: np.ndarray, *, seed: int = 0, **settings: object) -> Verdict:
        rows = make_rows(["a"] * len(vectors), seed=seed)
        for name in ("store", "targets"):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
        vector_store(tmp_path / "store", rows.manifest.ids, vectors)
        vector_store(tmp_path / "targets", [f"t{row}" for row in range(len(targets))], targets)
        content = {"stage": "image_target", "store": "store", "target_store": "targets", **settings}
        return ImageTarget(validated(Config, content, where=""), tmp_path).decide(rows)

    return decided


def groups(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(groups, dim) centres and (rows, dim) unit vectors around them."""
    draw = np.random.default_rng(seed)
    centres = unit(draw.standard_normal((GROUPS, 32)))
    noise = 0.05 * draw.standard_normal((GROUPS * OF_GROUP, 32))
    return centres, unit(np.repeat(centres, OF_GROUP, axis=0) + noise)


@pytest.mark.parametrize("seed", range(3))
def test_rows_of_the_clusters_of_targets_stay(seed: int, decide: Decide):
    centres, vectors = groups(seed)
    verdict = decide(vectors, np.repeat(centres[[1, 4]], [2, 1], axis=0), seed=seed, clusters=GROUPS * 4)
    own = np.repeat(np.arange(GROUPS), OF_GROUP)
    assert not verdict.is_kept[~np.isin(own, [1, 4])].any()
    assert verdict.is_kept[own == 1].any() and verdict.is_kept[own == 4].any()
    clusters, counts = verdict.scores["target_cluster"], verdict.scores["targets_in_cluster"]
    assert counts[np.unique(clusters, return_index=True)[1]].sum() == 3  # every target is in one cluster
    assert verdict.is_kept.tolist() == (counts >= 1).tolist()
    assert set(verdict.reasons[~verdict.is_kept]) == {"no-target"}
    twice = decide(vectors, np.repeat(centres[[1, 4]], [2, 1], axis=0), clusters=GROUPS * 4, min_targets=2)
    assert set(own[twice.is_kept]) == {1}


def test_the_nearest_target_decides_by_threshold_and_by_exact_fraction(decide: Decide):
    centres, vectors = groups()
    targets = centres[[0, 3]]
    cosines = (vectors @ targets.T).max(axis=1)
    verdict = decide(vectors, targets, rule="nearest", threshold=0.8)
    assert verdict.is_kept.tolist() == (cosines >= 0.8).tolist()
    np.testing.assert_allclose(verdict.scores["target_cosine"], cosines, atol=2e-6)
    expected = [f"targets:t{row}" for row in (vectors @ targets.T).argmax(axis=1)]
    assert verdict.scores["nearest_target"].tolist() == expected
    share = decide(vectors, targets, rule="nearest", fraction=0.1)
    assert set(np.flatnonzero(share.is_kept)) == set(np.argsort(-cosines)[:12])
    dropped = ~share.is_kept
    assert (share.values[dropped] <= share.thresholds[dropped]).all()


def test_rows_and_targets_without_an_image_are_no_trouble(decide: Decide):
    centres, vectors = groups()
    vectors[5] = np.nan
    targets = np.concatenate([np.full((1, 32), np.nan), centres[:1]])
    verdict = decide(vectors, targets, rule="nearest", threshold=0.5)
    assert verdict.reasons[5] == "unreadable" and verdict.is_kept.sum() == OF_GROUP - 1
    assert verdict.notes[0] == "target images: 1"


def test_stores_of_two_encoders_are_not_compared(decide: Decide, tmp_path: Path):
    centres, vectors = groups()
    vector_store(tmp_path / "other", ["x"], centres[:1], model="other")
    with pytest.raises(DataError, match="two encoders"):
        decide(vectors, centres, target_store="other")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"model": "x"}, "model and targets"),
        ({"store": "x", "targets": "y"}, "store and target_store"),
        ({"store": "x", "target_store": "y", "where": "split=train"}, "taken whole"),
        ({"model": "x", "targets": "y", "rule": "nearest"}, "a fraction or a threshold"),
        ({"model": "x", "targets": "y", "fraction": 0.5}, "belong to rule: nearest"),
    ],
)
def test_a_wrong_setting_says_what_to_set(settings: dict, sentence: str):
    with pytest.raises(RecipeError, match=sentence):
        validated(Config, {"stage": "image_target", **settings}, where="")


def test_pictures_are_the_target_and_the_ledger_has_every_row(tmp_path: Path, tiny_model: Path):
    for folder, seeds in (("data", range(12)), ("like/train", (2, 7)), ("like/test", (3,))):
        (tmp_path / folder).mkdir(parents=True)
        for seed in seeds:
            drawing(seed).save(tmp_path / folder / f"p{seed:02d}.png")
            (tmp_path / folder / f"p{seed:02d}.txt").write_text(f"boxes {seed}")
    stage = f"{{stage: image_target, model: {tiny_model}, targets: like, where: split=train, rule: nearest"
    (tmp_path / "plan.yaml").write_text(f"stages:\n  - {stage}, threshold: 0.99999}}\n")
    frugalclip.curate(tmp_path / "data", plan=tmp_path / "plan.yaml", out=tmp_path / "out")
    kept = Manifest.read(tmp_path / "out" / "manifest.parquet")
    assert kept.ids == ["p02", "p07"]
    assert kept.field("nearest_target") == ["like:train/p02", "like:train/p07"]
    none = stage.replace("split=train", "split=other")
    (tmp_path / "none.yaml").write_text(f"stages:\n  - {none}, threshold: 0.5}}\n")
    with pytest.raises(DataError, match="split=other leaves none of the 3 samples"):
        frugalclip.curate(tmp_path / "data", plan=tmp_path / "none.yaml", out=tmp_path / "none")
