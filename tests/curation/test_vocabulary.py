import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugalclip.core.random import uniform
from frugalclip.curation.vocabulary import (
    PhraseMatcher,
    drawn_rows,
    entry_counts,
    entry_probabilities,
    keep_probabilities,
    limit_of_share,
    tail_share,
)


def spaced(text: str) -> str:
    """The authors' spacing, as they write it."""
    result = f" {text} "
    for mark in ",.;:?!`":
        result = result.replace(mark, f" {mark} ")
    return result.replace("\t", " ").replace("\n", " ").replace("\r", " ")


@given(
    st.lists(st.text("ab ,.(", min_size=1, max_size=4), min_size=1, max_size=8, unique=True),
    st.text("ab ,.(\t", max_size=12),
)
def test_matches_are_those_of_a_search_for_the_spaced_entry(entries: list[str], text: str):
    naive = [number for number, entry in enumerate(entries) if f" {entry} " in spaced(text)]
    assert PhraseMatcher(entries).matches(text) == naive


def test_case_counts_unless_it_is_folded():
    assert PhraseMatcher(["Cat"]).matches("a cat") == []
    assert PhraseMatcher(["Cat"], fold_case=True).matches("A CAT.") == [0]


def test_an_entry_counts_once_a_row():
    index = PhraseMatcher(["dog", "cat"]).index([["dog dog", "a dog"], ["cat and dog"]])
    assert index.tolist() == [[0, 0], [0, 1], [1, 1]]


def test_all_rows_with_an_entry_stay_where_the_limit_is_the_largest_count():
    index = np.array([[0, 0], [0, 1], [1, 1], [0, 3]])
    probabilities = entry_probabilities(entry_counts(index, 2), 3)
    draws = np.full(4, 1 - 2**-53)
    assert drawn_rows(index, probabilities, draws).tolist() == [0, 1, 3]
    assert keep_probabilities(index, probabilities, 4).tolist() == [1, 1, 0, 1]


def test_the_mean_of_kept_rows_is_the_sum_of_their_probabilities():
    random = np.random.default_rng(0)
    index = np.stack([random.zipf(1.5, 600).clip(1, 40) - 1, random.integers(0, 200, 600)], axis=1)
    index = np.unique(index, axis=0)
    probabilities = entry_probabilities(entry_counts(index, 40), 10)
    expected = keep_probabilities(index, probabilities, 200)
    kept = [len(drawn_rows(index, probabilities, uniform(s, "x", index, 1)[:, 0])) for s in range(500)]
    error = np.sqrt((expected * (1 - expected)).sum() / 500)
    assert np.mean(kept) == pytest.approx(expected.sum(), abs=4 * error)


def test_the_limit_of_a_share_gives_the_share_back():
    counts = np.array([1, 2, 3, 4, 90])
    limit = limit_of_share(counts, 0.1)
    assert limit == 4
    assert tail_share(counts, limit + 1) == pytest.approx(0.1)
