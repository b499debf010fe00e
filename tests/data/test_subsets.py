"""Parts of a data set are nested, whole where they must be, and the same on every machine."""

import itertools

import numpy as np
import pytest

from frugalclip.core.config import validated
from frugalclip.core.errors import DataError, RecipeError
from frugalclip.data.manifest import image_places, make_manifest
from frugalclip.data.subsets import SubsetConfig, parse_fractions, subset_rows


@pytest.fixture
def manifest(tmp_path):
    """60 concepts in three styles; concept 0 has thirty more pictures."""
    rows = [(c, s) for c in range(60) for s in "abc"] + [(0, "a")] * 30
    return make_manifest(
        ids=[f"r{i}" for i in range(len(rows))],
        images=image_places([f"{i}.png" for i in range(len(rows))]),
        captions=[[f"concept {c}"] for c, _ in rows],
        fields={"concept": [c for c, _ in rows], "style": [s for _, s in rows]},
        root=tmp_path,
        name="rows",
    )


@pytest.mark.parametrize("config", [{}, {"by": "concept"}, {"within": "concept"}, {"within": "style"}])
def test_parts_are_nested_and_of_about_the_asked_size(config, manifest):
    config = SubsetConfig.model_validate(config)
    parts = [set(subset_rows(manifest, f, config, seed=1).tolist()) for f in (0.1, 0.25, 0.5, 0.75, 1.0)]
    assert all(small <= large for small, large in itertools.pairwise(parts))
    assert [len(p) for p in parts] == pytest.approx(
        [21, 52.5, 105, 157.5, 210], abs=33 if not config.within else 9
    )
    assert len(parts[-1]) == len(manifest)
    other = set(subset_rows(manifest, 0.5, config, seed=2).tolist())
    assert other != parts[2]


def test_by_keeps_whole_concepts_and_within_keeps_all_of_them(manifest):
    concept = np.array(manifest.field("concept"))
    whole = subset_rows(manifest, 0.5, SubsetConfig(by="concept"), seed=3)
    assert not set(concept[whole]) & set(np.delete(concept, whole))
    shared = subset_rows(manifest, 0.5, SubsetConfig(within="concept"), seed=3)
    counts = np.bincount(concept[shared], minlength=60)
    assert set(counts[1:]) <= {1, 2}
    assert counts[0] in (16, 17)
    style = np.array(manifest.field("style"))
    thirds = subset_rows(manifest, 1 / 3, SubsetConfig(by="style"), seed=0)
    assert len(set(style[thirds])) == 1


def test_the_order_of_rows_does_not_matter(manifest):
    backwards = manifest.take(np.arange(len(manifest))[::-1])
    for config in (SubsetConfig(by="concept"), SubsetConfig(within="concept")):
        ids = {manifest.ids[i] for i in subset_rows(manifest, 0.3, config, seed=5)}
        assert ids == {backwards.ids[i] for i in subset_rows(backwards, 0.3, config, seed=5)}


def test_faults_are_sentences(manifest):
    with pytest.raises(DataError, match="no field 'concpet'; did you mean 'concept'"):
        subset_rows(manifest, 0.5, SubsetConfig(by="concpet"))
    with pytest.raises(RecipeError, match="both given; keep one"):
        validated(SubsetConfig, {"by": "a", "within": "b"}, where="subset")


def test_fractions():
    assert parse_fractions("1/4, 1/8") == [0.125, 0.25, 1.0]
    assert parse_fractions("0.5,1") == [0.5, 1.0]
    for text in ("1/0", "half", "2", "0"):
        with pytest.raises(DataError, match="write fractions such as"):
            parse_fractions(text)
