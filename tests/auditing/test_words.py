"""One spelling for index and query: the published search's defects are absent."""

import pytest

from frugalclip.auditing.words import GAP, WordForms, content, tokens


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Two Red DISCS", ["two", "red", "disc"]),
        ("Airbus A300B4", ["airbus", "a300b4"]),
        ("alarm_clock", ["alarm", "clock"]),
        ("a dog's bone", ["a", "dog", "bone"]),
        ("children’s t-shirts", ["child", "t", "shirt"]),
        ("ﬁsh", ["fish"]),
        ("two people, merpeople and crosses", ["two", "person", GAP, "merperson", "and", "cross"]),
        ("cats, dogs", ["cat", GAP, "dog"]),
        ("leaves, loaves on shelves", ["leaf", GAP, "loaf", "on", "shelf"]),
        ("the scarves of two hamsas", ["the", "scarf", "of", "two", "hamsa"]),
        ("circled M", ["circle", "m"]),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]):
    assert WordForms()(text) == words


def test_a_class_name_and_a_caption_meet_in_one_form():
    forms = WordForms()
    assert content(forms("great_white_sharks")) == content(forms("Great White Shark"))


def test_function_words_count_only_where_there_is_nothing_else():
    assert content(["the", "state", "of", "the", "art", GAP]) == ["state", "art"]
    assert content(["the", "on"]) == ["the", "on"]
    assert content([GAP]) == []


def test_a_language_without_dictionary_leaves_words_as_they_are():
    forms = WordForms("xx")
    assert forms("Discs") == ["discs"]
    assert "as written" in forms.about


def test_tokens_keep_digits_and_marks():
    assert tokens("747-400 (old)") == ["747", "400", "(", "old", ")"]
