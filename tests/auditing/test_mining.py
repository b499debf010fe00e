"""Concepts mined from captions."""

from frugalclip.auditing.mining import mined_concepts
from frugalclip.auditing.words import WordForms

CAPTIONS = [
    ["a red traffic light on a street"],
    ["the traffic light is green"],
    ["two dogs sitting on the street"],
    ["a dog and a traffic light"],
    ["a green street with a dog running"],
    ["a red dog"],
]


def names(least: int = 2, most: int | None = None) -> list[str]:
    return [one.name for one in mined_concepts(CAPTIONS, WordForms(), least=least, most=most)]


def test_nouns_and_pairs_are_found_and_other_words_are_not():
    assert names() == ["dog", "light", "street", "traffic light"]
    assert not {"red", "sit", "sitting", "running", "two", "traffic"} & set(names())


def test_rare_words_need_a_lower_limit_and_most_cuts():
    assert names(least=4) == ["dog"]
    assert names(most=1) == ["dog"]
    assert mined_concepts([], WordForms()) == []
