"""Validation rows are apart from training rows; subsets are nested; both are the same on every machine."""

import dataclasses
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from frugalclip.core.config import validated
from frugalclip.core.errors import DataError, RecipeError
from frugalclip.data.manifest import Manifest, image_places, make_manifest
from frugalclip.data.splits import LEAST_ROWS, SubsetConfig, divide, parse_fractions, subset_rows


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
def test_parts_are_nested_and_of_about_the_wanted_size(config, manifest):
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


def divided(manifest, **options) -> tuple[set[str], set[str] | None, str | None]:
    found = divide(manifest, **({"where": None, "validation": "auto"} | options))
    validation = None if found.validation is None else set(found.validation.ids)
    return set(found.train.ids), validation, found.where


@pytest.fixture
def with_splits(manifest):
    """The same rows: styles a and b train, c validates under its own name."""
    styles = manifest.field("style")
    table = manifest.table.append_column(
        "split", [["valid" if style == "c" else "train" for style in styles]]
    )
    return dataclasses.replace(manifest, table=table)


def test_the_split_of_the_data_is_used(with_splits):
    styles = dict(zip(with_splits.ids, with_splits.field("style"), strict=True))
    train, validation, where = divided(with_splits)
    assert where == "split=train"
    assert {styles[id] for id in train} == {"a", "b"} and {styles[id] for id in validation or ()} == {"c"}
    train, validation, _ = divided(with_splits, where="split=train,concept=3|4")
    assert (len(train), len(validation or ())) == (4, 2)  # the same concepts on both sides
    assert divided(with_splits, validation="none")[1:] == (None, None)
    assert len(divided(with_splits, where="style=a", validation="style=b")[1] or ()) == 60


def test_without_a_split_whole_captions_are_held_out(manifest):
    train, validation, where = divided(manifest)
    assert where is None and validation and not train & validation
    captions = {id: texts[0] for id, texts in zip(manifest.ids, manifest.captions(), strict=True)}
    assert not {captions[id] for id in train} & {captions[id] for id in validation}
    order = np.random.default_rng(0).permutation(len(manifest))
    assert divided(manifest.take(order)) == (train, validation, where)
    few = manifest.take(np.arange(LEAST_ROWS - 1))
    assert divided(few)[1] is None
    assert "too few" in divide(few, where=None, validation="auto").notes[0]


def described(captions: list[str], **fields: list) -> Manifest:
    ids = [f"{row:05}" for row in range(len(captions))]
    return make_manifest(
        ids=ids,
        images=image_places(ids),
        captions=[[caption] for caption in captions],
        fields=fields,
        root=Path(),
        name="m",
    )


def test_a_caption_of_many_rows_does_not_fill_the_validation_set():
    captions = [f"caption {row}" for row in range(1469)] + ["the same"] * 31
    for repeated in ("the same", "blank", "a picture", "x"):  # whatever its hash
        manifest = described([repeated if text == "the same" else text for text in captions])
        found = divide(manifest, where=None, validation="auto")
        assert found.validation is not None
        assert 45 < len(found.validation) < 110
        assert repeated not in {texts[0] for texts in found.validation.captions()}
        assert "31 rows of groups of more than 8 stay in training" in found.notes[0]


def test_class_names_are_held_out_row_by_row():
    manifest = described([f"class {row % 10}" for row in range(1000)])
    found = divide(manifest, where=None, validation="auto")
    assert found.validation is not None
    counts = Counter(texts[0] for texts in found.validation.captions())
    assert len(counts) == 10 and max(counts.values()) <= 3 * len(found.validation) / 10
    assert 25 < len(found.validation) < 80
    assert "row by row, since captions repeat as class names do" in found.notes[0]


def test_families_are_held_out_whole():
    family = [f"f{row // 4}" for row in range(800)]
    manifest = described([f"caption {row}" for row in range(800)], family=family)
    found = divide(manifest, where=None, validation="auto")
    assert found.validation is not None and len(found.validation) % 4 == 0
    assert not set(found.validation.field("family")) & set(found.train.field("family"))
    assert "held out by family" in found.notes[0]


def test_shared_rows_are_refused(manifest):
    with pytest.raises(DataError, match="names 60 rows that are trained on too"):
        divide(manifest, where=None, validation="style=b")
