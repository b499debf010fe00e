import random

import numpy as np
import pytest

from frugalclip.curation.near_texts import (
    candidates,
    jaccard,
    minima,
    near_text_keepers,
    plain,
    shingle_hashes,
)

from .conftest import MakeRows, decided

WORDS = ["red", "blue", "green", "old", "new", "small", "dog", "cat", "house", "river", "boat", "tree"]


def sentences(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=14)) + f" {number}" for number in range(count)]


def shingles(text: str) -> frozenset[str]:
    padded = f" {text} ".ljust(5)
    return frozenset(padded[i : i + 5] for i in range(len(padded) - 4))


def test_hashes_stand_for_the_shingles_of_each_text():
    texts = ["a", "abc", "the same the same", "größe 🙂"]
    hashes, ends = shingle_hashes(texts)
    sets = [frozenset(part.tolist()) for part in np.split(hashes, ends[:-1])]
    assert [len(one) for one in sets] == [len(shingles(text)) for text in texts]
    for one, text in zip(sets, texts, strict=True):
        for other, second in zip(sets, texts, strict=True):
            a, b = shingles(text), shingles(second)
            assert jaccard(one, other) == pytest.approx(len(a & b) / len(a | b))


def test_equal_minima_estimate_the_similarity():
    texts = sentences(60)
    texts += [text.replace("dog", "fox") for text in texts]
    hashes, ends = shingle_hashes(texts)
    signatures = minima(hashes, ends)
    for row in range(60):
        exact = len(shingles(texts[row]) & shingles(texts[row + 60]))
        exact /= len(shingles(texts[row]) | shingles(texts[row + 60]))
        share = float((signatures[row] == signatures[row + 60]).mean())
        assert share == pytest.approx(exact, abs=4 * 0.5 / np.sqrt(120))


def test_texts_with_a_changed_letter_are_found_and_others_are_not():
    texts = sentences(300)
    changed = [f"{text[:30]}x{text[31:]}" for text in texts]
    keepers, similarity = near_text_keepers([*texts, *changed], np.arange(600), least=0.8)
    assert (keepers[:300] == np.arange(300)).all()
    assert (keepers[300:] == np.arange(300)).mean() >= 0.99
    assert (similarity[300:][keepers[300:] < 300] >= 0.8).all()


def test_pairs_are_those_that_share_a_band():
    signatures = np.arange(4 * 120, dtype=np.uint32).reshape(4, 120)
    signatures[3, 6:12] = signatures[1, 6:12]
    assert [ends.tolist() for ends in candidates(signatures)] == [[1], [3]]
    assert [len(ends) for ends in candidates(signatures[:0])] == [0, 0]


def test_form_case_and_white_space_are_made_equal():
    assert plain(["A  Dog\t", "ｉn"]) == "a dog in"


def test_captions_as_a_stage(make_rows: MakeRows):
    long = "a small red dog runs along the river bank near the old stone house"
    rows = make_rows([long, long.upper(), long.replace("red", "big"), "a cat", "", "", ["a cat"]])
    near = [None, "equal-captions", "near-captions", None, None, None, "equal-captions"]
    assert decided(rows, "near_captions", similarity=0.7) == near
    assert decided(rows, "near_captions", similarity=1) == [one if one != near[2] else None for one in near]
