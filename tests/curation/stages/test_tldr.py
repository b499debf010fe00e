from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frugalclip.core.config import validated
from frugalclip.core.errors import RecipeError
from frugalclip.curation.base import StageRows, Verdict
from frugalclip.curation.stages.tldr import Config, Tldr

from ..conftest import MakeRows, drawn_thumbnails

SMALL = {"codes": 16, "clusters": 6}


def verdict_of(rows: StageRows, **settings: Any) -> Verdict:
    return Tldr(Config(stage="tldr", **SMALL | settings), Path()).decide(rows)


@pytest.fixture
def rows(make_rows: MakeRows) -> StageRows:
    scores = {"clip_score": np.arange(41, dtype=float)[::-1]}
    return make_rows(["a"] * 41, thumbnail=drawn_thumbnails(41), scores=scores)


@pytest.mark.parametrize("features", ["code_embedding_mean", "code_histogram", "official_indices"])
@pytest.mark.parametrize("strategy", ["nearest", "farthest", "stratified"])
def test_exactly_the_share_stays_and_every_other_row_has_a_reason(
    rows: StageRows, features: str, strategy: str
):
    verdict = verdict_of(rows, features=features, strategy=strategy)
    assert verdict.is_kept.sum() == round(0.25 * 41)
    is_out = verdict.reasons == "not-chosen"
    assert (verdict.values[is_out] > verdict.thresholds[is_out]).all()
    assert not np.isnan(verdict.scores["tldr_distance"]).any()


def test_each_cluster_gives_its_nearest_rows(rows: StageRows):
    verdict = verdict_of(rows)
    labels, distances = verdict.scores["tldr_cluster"], verdict.scores["tldr_distance"]
    for label in np.unique(labels):
        kept, others = (distances[(labels == label) & m] for m in (verdict.is_kept, ~verdict.is_kept))
        assert not len(kept) or not len(others) or kept.max() <= others.min()
        assert len(kept) / max(len(kept) + len(others), 1) <= 0.5


def test_the_seed_decides_and_not_the_order_of_the_data(rows: StageRows, make_rows: MakeRows):
    assert verdict_of(rows).reasons.tolist() == verdict_of(rows).reasons.tolist()
    other = make_rows(["a"] * 41, thumbnail=drawn_thumbnails(41), seed=1)
    assert verdict_of(other).reasons.tolist() != verdict_of(rows).reasons.tolist()


def test_of_the_rows_the_better_aligned_half_may_stay(rows: StageRows):
    verdict = verdict_of(rows, alignment="clip_score")
    assert (verdict.reasons == "unaligned").sum() == 41 - 20
    assert verdict.reasons[:20].tolist().count("unaligned") == 0
    assert verdict.is_kept.sum() == round(0.25 * 41)
    assert verdict.values[40] == 0 and verdict.thresholds[40] == 21


def test_every_nth_gives_a_row_of_each_cluster_and_of_these_the_aligned_ones(rows: StageRows):
    alone = verdict_of(rows, strategy="every_nth", step=5)
    labels = alone.scores["tldr_cluster"]
    for label in np.unique(labels):
        assert alone.is_kept[labels == label].sum() == -(-(labels == label).sum() // 5)
    both = verdict_of(rows, strategy="every_nth", step=5, alignment="clip_score")
    assert both.is_kept.tolist() == [kept and i < 20 for i, kept in enumerate(alone.is_kept)]


def test_of_rows_that_are_there_five_times_nearly_all_are_covered(make_rows: MakeRows):
    thumbnails = drawn_thumbnails(40)
    rows = make_rows(["a"] * 200, thumbnail=[thumbnails[i % 40] for i in range(200)])
    verdict = verdict_of(rows, keep=0.2, codes=64, clusters=None)
    kept = np.flatnonzero(verdict.is_kept)
    assert len(kept) == 40
    assert len(set((kept % 40).tolist())) >= 36  # a random choice covers 67 %


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_rows_are_no_fault(make_rows: MakeRows, count: int):
    rows = make_rows(["a"] * count, thumbnail=drawn_thumbnails(count))
    assert verdict_of(rows).is_kept.sum() == min(count, 1)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"keep": 0.6, "alignment": "clip_score"}, "raise keep_aligned"),
        ({"step": 4}, "belongs to strategy: every_nth"),
        ({"features": "mean"}, "code_embedding_mean"),
    ],
)
def test_wrong_settings_name_what_to_set(settings: dict[str, Any], sentence: str):
    with pytest.raises(RecipeError, match=sentence):
        validated(Config, {"stage": "tldr", **settings}, where="stages.0")
