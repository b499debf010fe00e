"""Concepts in captions: equal to a scan, whatever the order of rows."""

from pathlib import Path

import numpy as np
import pytest

from frugalclip.auditing.concepts import (
    Concept,
    ConceptRows,
    TextSearch,
    caption_postings,
    concepts_of,
    field_concepts,
)
from frugalclip.auditing.words import WordForms
from frugalclip.core.errors import DataError

from .manifests import manifest_of

CAPTIONS = [
    ["Two red discs on a table"],
    ["a disc, red and large", "a red bus"],
    ["a red bus beside a disc"],
    ["Afghanistan seen from an Airbus A300B4"],
    ["a great white shark"],
    [],
]


@pytest.fixture
def search(tmp_path: Path) -> TextSearch:
    forms = WordForms()
    return TextSearch(caption_postings(manifest_of(CAPTIONS), forms, tmp_path), forms)


@pytest.mark.parametrize(
    ("name", "all_words", "phrase"),
    [
        ("red disc", [0, 1, 2], [0]),
        ("Red_Discs", [0, 1, 2], [0]),
        ("afghanistan", [3], [3]),
        ("a300b4", [3], [3]),
        ("great white shark", [4], [4]),
        ("white shark", [4], [4]),
        ("tiger shark", [], []),
        ("bus disc", [2], []),
        ("disc, red", [0, 1, 2], [1]),
        ("!", [], []),
    ],
)
def test_the_rows_of_a_concept(search: TextSearch, name: str, all_words: list[int], phrase: list[int]):
    concept = Concept([name])
    assert search.rows(concept).tolist() == all_words
    assert TextSearch(search.postings, search.forms, "phrase").rows(concept).tolist() == phrase


def test_words_of_a_concept_stand_in_one_caption(tmp_path: Path):
    forms = WordForms()
    manifest = manifest_of([["a red bus", "a blue disc"]])
    search = TextSearch(caption_postings(manifest, forms, tmp_path), forms)
    assert not len(search.rows(Concept(["red disc"])))


def test_synonyms_are_one_concept_and_absent_words_are_named(search: TextSearch):
    assert search.rows(Concept(["unicorn", "shark", "bus"])).tolist() == [1, 2, 4]
    assert search.absent_words(Concept(["tiger shark"])) == ["tiger"]
    assert search.absent_words(Concept(["shark"])) == []


def test_names_in_two_spellings_are_one_concept():
    assert [one.names for one in concepts_of([["Red Disc"], ["red_disc"], ["cat", "tabby"]])] == [
        ["red_disc"],
        ["cat", "tabby"],
    ]


def test_fields_give_concepts():
    manifest = manifest_of([["x"]] * 3, kind=["red_disc", None, "cat"], tags=[["a b"], [], ["c", "a b"]])
    assert [one.name for one in field_concepts(manifest, "kind")] == ["cat", "red disc"]
    assert [one.name for one in field_concepts(manifest, "tags")] == ["a b", "c"]
    with pytest.raises(DataError, match="has no field 'kin'"):
        field_concepts(manifest, "kin")
    with pytest.raises(DataError, match="is empty"):
        field_concepts(manifest_of([["x"]], kind=[""]), "kind")


def test_joint_counts_are_at_most_either_and_permuted_captions_keep_the_single_ones(tmp_path: Path):
    random = np.random.default_rng(0)
    words = ["dog", "cat", "bus"]
    seen = random.random((200, 3)) < [0.5, 0.2, 0.05]
    captions = [[" ".join(w for w, has in zip(words, row, strict=True) if has)] for row in seen]
    image = [np.flatnonzero(column).astype(np.int32) for column in seen.T]
    forms, found = WordForms(), {}
    for name, order in (("as is", np.arange(200)), ("permuted", random.permutation(200))):
        (tmp_path / name).mkdir()
        manifest = manifest_of([captions[i] for i in order])
        search = TextSearch(caption_postings(manifest, forms, tmp_path / name), forms)
        text = [search.rows(Concept([word])) for word in words]
        found[name] = ConceptRows([Concept([w]) for w in words], text, image, 200)
    same, mixed = found["as is"], found["permuted"]
    assert [len(rows) for rows in same.text] == [len(rows) for rows in mixed.text] == seen.sum(0).tolist()
    assert [len(rows) for rows in same.both() or []] == seen.sum(0).tolist()
    assert sum(len(rows) for rows in mixed.both() or []) < seen.sum()
    assert same.per_row(same.text).tolist() == seen.sum(1).tolist()
