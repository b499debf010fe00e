"""Prompts as data, and the clean-up of captions."""

from pathlib import Path

import pytest

from frugalclip.core.config import validated
from frugalclip.core.errors import ModelError
from frugalclip.language_model.prompts import Prompt, clean_caption, fill_template, find_prompt, prompt_names


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("a dog", "a dog."),
        ("a dog.", "a dog."),
        ("a dog!", "a dog!."),
        ("is it?", "is it."),
        ('so "big"', "so 'big'"),
        ('why "me?"', "why 'me?'"),
        ("", ""),
        (" ", " ."),
        ("two\nlines", "two\nlines."),
    ],
)
def test_a_caption_ends_and_is_quoted_like_a_sentence(raw: str, clean: str):
    assert clean_caption(raw) == clean


def test_braces_and_underscores_of_a_caption_stay_what_they_are():
    assert fill_template("say {} now:", "a {} of_x") == "say a {} of_x. now:"


@pytest.mark.parametrize(("name", "facets"), [("single", 1), ("short", 3), ("long", 7), ("lexical", 1)])
def test_the_prompts_of_the_package_ask_for_one_word_after_a_caption_that_cannot_end_itself(
    name: str, facets: int
):
    prompt = find_prompt(name)
    assert len(prompt.facets) == len(set(prompt.facets)) == facets
    assert {facet[-1] for facet in prompt.facets} <= {'"', ":"}
    assert prompt.opening + "X." + prompt.closing + prompt.facets[0] == prompt.filled("X")[0]
    assert name in prompt_names()


def test_facets_of_a_shorter_prompt_are_those_of_the_longer_one():
    single, short, long = (find_prompt(name).facets for name in ("single", "short", "long"))
    assert long[:3] == short
    assert short[:1] == single


def test_a_file_is_a_prompt(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("template: 'Bild: {}.'\nfacets: [' Ein Wort:', ' Stimmung:']\n")
    assert find_prompt(file).filled("Hund") == ["Bild: Hund.. Ein Wort:", "Bild: Hund.. Stimmung:"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"template": "no slot", "facets": [" x:"]}, "0 slots, expected {} once"),
        ({"template": "{} {}", "facets": [" x:"]}, "2 slots"),
        ({"template": " {}", "facets": [" x:"]}, "begins with white space"),
        ({"template": "{}", "facets": [" x: "]}, "ends with white space"),
        ({"template": "{}", "facets": []}, "at least 1"),
        ({"template": "{}", "facet": [" x:"]}, "did you mean 'facets'"),
    ],
)
def test_a_prompt_that_cannot_work_says_why(content: dict[str, object], sentence: str):
    with pytest.raises(ModelError, match=sentence):
        validated(Prompt, content, where="mine.yaml", error=ModelError)


def test_an_unknown_prompt_names_the_known_ones():
    with pytest.raises(ModelError, match="did you mean 'single'"):
        find_prompt("singel")
