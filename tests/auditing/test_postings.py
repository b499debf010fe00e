"""Postings answer what a scan of the texts answers."""

from pathlib import Path

import numpy as np
import pytest

from frugalclip.auditing import postings
from frugalclip.auditing.postings import Postings, PostingsWriter
from frugalclip.auditing.words import GAP

WORDS = [GAP, *"abcdefgh"]


def random_texts(count: int) -> list[tuple[int, list[str]]]:
    random = np.random.default_rng(0)
    return [
        (i // 2, [WORDS[k] for k in np.minimum(random.geometric(0.3, random.integers(0, 7)), 9) - 1])
        for i in range(count)
    ]


def scan(texts: list[tuple[int, list[str]]], words: list[str], *, phrase: bool) -> list[int]:
    def holds(text: list[str]) -> bool:
        if phrase:
            return any(text[i : i + len(words)] == words for i in range(len(text) - len(words) + 1))
        return set(words) <= set(text)

    return sorted({row for row, text in texts if holds(text)})


@pytest.fixture(params=[7, 1000])
def built(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Postings:
    monkeypatch.setattr(postings, "BLOCK", request.param)
    return Postings.of(random_texts(300), tmp_path)


@pytest.mark.parametrize("words", [["a"], ["a", "b"], ["b", "a"], ["c", "d", "a"], ["h", "g"], ["z", "a"]])
def test_a_search_equals_a_scan(built: Postings, words: list[str]):
    texts = random_texts(300)
    assert built.rows_with(words).tolist() == scan(texts, words, phrase=False)
    assert built.rows_with_phrase(words).tolist() == scan(texts, words, phrase=True)


def test_no_words_find_nothing_and_a_word_twice_is_one(built: Postings):
    assert not len(built.rows_with([]))
    assert not len(built.rows_with_phrase([]))
    assert built.rows_with(["a", "a"]).tolist() == built.rows_with(["a"]).tolist()
    assert built.rows_with_phrase(["a", "a"]).tolist() == scan(random_texts(300), ["a", "a"], phrase=True)


def test_blocks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    contents = []
    for size in (3, 1000):
        folder = tmp_path / str(size)
        folder.mkdir()
        monkeypatch.setattr(postings, "BLOCK", size)
        Postings.of(random_texts(50), folder)
        contents.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert contents[0] == contents[1]


def test_texts_come_in_several_calls_and_none_is_fine(tmp_path: Path):
    writer = PostingsWriter(tmp_path)
    writer.add([(0, ["a"])])
    writer.add([(5, ["b", "a"])])
    found = writer.finish()
    assert found.rows_with(["a"]).tolist() == [0, 5]
    assert found.texts == 2
    (tmp_path / "empty").mkdir()
    empty = Postings.of([], tmp_path / "empty")
    assert not len(empty.rows_with(["a"]))
    assert not len(empty.rows_with_phrase(["a", "b"]))
