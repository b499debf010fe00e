import pytest

from frugalclip.data.words import content_words, lemmatizer, normalise, split_words


def test_names_that_differ_in_case_spacing_or_underscores_are_one_name():
    assert normalise(" Dark_Blue\tsquare ") == normalise("dark blue  Square") == "dark blue square"


def test_words_are_runs_of_letters_and_digits():
    assert split_words("a 2nd cat-flap, здесь") == ["a", "2nd", "cat", "flap", "здесь"]


def test_words_of_an_unknown_language_stay_as_written():
    lemma, compared = lemmatizer("xx")
    assert lemma("houses") == "houses"
    assert compared == "as written: Unsupported language: xx"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Cats' house-boats, 2nd", {"cat", "house", "boat", "nd"}),
        ("pin\u0303ata of a", {"piñata"}),
        ("", set()),
        ("и кот", {"кот"}),
    ],
)
def test_content_words_are_letters_in_one_spelling_without_function_words(text, expected):
    assert content_words([text], lemmatizer("en")[0]) == expected


@pytest.mark.parametrize(
    ("word", "form"),
    [
        ("hamsas", "hamsa"),
        ("matryoshkas", "matryoshka"),
        ("fleurs", "fleur"),
        ("lises", "lis"),
        ("hamsa", "hamsa"),
        ("lens", "lens"),
        ("news", "news"),
        ("tennis", "tennis"),
        ("cars", "car"),
        ("m", "m"),
        ("s", "s"),
    ],
)
def test_words_that_no_dictionary_has_lose_a_plural_and_letters_stay(word: str, form: str):
    lemma, _ = lemmatizer("en")
    assert lemma(word) == form
