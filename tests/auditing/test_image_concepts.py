"""Concepts in images: a tagger's scores by id, and thresholds from a concept's own scores."""

from pathlib import Path

import numpy as np
import pytest

from frugalclip.auditing.concepts import Concept
from frugalclip.auditing.image_concepts import own_threshold, tagged
from frugalclip.core.errors import DataError

from .manifests import manifest_of

CONCEPTS = [Concept(["dog"]), Concept(["Great White"]), Concept(["missing"])]


def saved(folder: Path, **changes: np.ndarray) -> Path:
    arrays = {
        "ids": np.array(["0002", "0000", "other"]),
        "concepts": np.array(["great_white", "dog"]),
        "scores": np.array([[0.9, 0.7], [0.1, 0.8], [1.0, 1.0]], dtype=np.float16),
    }
    np.savez(folder / "tags.npz", **{**arrays, **changes})
    return folder / "tags.npz"


def test_scores_are_joined_by_id_and_by_name(tmp_path: Path):
    found = tagged(saved(tmp_path), manifest_of([["x"]] * 4), CONCEPTS, threshold=0.75)
    assert [rows.tolist() for rows in found.rows] == [[0], [2], []]
    assert found.thresholds == [0.75, 0.75, None]
    assert found.unread == 2


def test_a_higher_threshold_never_finds_more_and_the_threshold_itself_is_none(tmp_path: Path):
    manifest = manifest_of([["x"]] * 4)
    path = saved(tmp_path, scores=np.array([[0.5, 0.5], [0.25, 1.0], [1.0, 1.0]]))
    counts = [sum(map(len, tagged(path, manifest, CONCEPTS, threshold=t).rows)) for t in (0.1, 0.4, 0.5, 0.9)]
    assert counts == sorted(counts, reverse=True)
    assert counts[2] == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"scores": np.zeros((2, 2))}, r"expected \(3, 2\)"),
        (
            {"scores": np.full((3, 2), np.nan)},
            "not finite for '0002', and for 2 more of 3",
        ),
        ({"scores": np.full((3, 2), "0.9")}, r"tags\.npz cannot be read"),
        ({"concepts": np.zeros((2, 1))}, r"tags\.npz cannot be read"),
        ({"ids": np.array(["a", "b", "c"])}, "has no row of captions"),
        ({"concepts": np.array(["a", "b"])}, "has no concept of captions"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, changes: dict, sentence: str):
    with pytest.raises(DataError, match=sentence):
        tagged(saved(tmp_path, **changes), manifest_of([["x"]] * 4), CONCEPTS)


def test_a_missing_or_foreign_file_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="there is no file"):
        tagged(tmp_path / "none.npz", manifest_of([["x"]]), CONCEPTS)
    (tmp_path / "foreign.npz").write_text("not an archive")
    with pytest.raises(DataError, match=r"foreign\.npz"):
        tagged(tmp_path / "foreign.npz", manifest_of([["x"]]), CONCEPTS)


def test_a_threshold_follows_its_own_scores():
    random = np.random.default_rng(0)
    scores = np.concatenate([random.normal(0.2, 0.01, 950), random.normal(0.3, 0.01, 50)])
    threshold = own_threshold(scores, deviations=3)
    assert 0.22 < threshold < 0.26
    assert own_threshold(10 * scores + 5, deviations=3) == pytest.approx(10 * threshold + 5)
