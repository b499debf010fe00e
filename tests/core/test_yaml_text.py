"""YAML of settings: the rules of version 1.2, bounds, and a sentence for everything else."""

import math
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugalclip.core.config import Settings
from frugalclip.core.errors import RecipeError
from frugalclip.core.yaml_text import dump_yaml, parse_yaml, read_yaml


class Shelf(Settings):
    name: str = ""
    names: tuple[str, ...] = ()
    number: int = 0
    share: float = 0.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("+5", 5),
        ("1e-3", 0.001),
        ("5.", 5.0),
        (".5", 0.5),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("yes", "yes"),
        ("off", "off"),
        ("2024-01-01", "2024-01-01"),
        ("=", "="),
        ("TRUE", True),
        ("~", None),
        ("", None),
        ("!!str 7", "7"),
        ("{1: a, null: b, true: c, 010: d}", {"1": "a", "null": "b", "true": "c", "010": "d"}),
        ("{a: &x [1], b: *x}", {"a": [1], "b": [1]}),
        ("<<: 1", {"<<": 1}),
    ],
)
def test_values_are_those_of_version_1_2_and_keys_are_text(text: str, value: object):
    found = parse_yaml(text, where="test")
    assert (found == value and type(found) is not str) or found == value


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: b\n[1, 2]: c", "test line 2: a key is a list or a mapping, expected a name."),
        ("a: 1\na: 2", "test line 2: the key 'a' is given twice."),
        (
            "a: " + "7" * 5000,
            "test line 1: a number has 5,000 digits; write 300 at most, or put text in quotes.",
        ),
        ("a: .inf", "test line 1: .inf is not a finite number"),
        ("a: -1e999", "test line 1: -1e999 is not a finite number"),
        ("a: .NaN", ".NaN is not a finite number"),
        ("!!timestamp x", "test line 1: the tag !!timestamp is not understood"),
        ("a: !!python/name:os.system", "the tag !!python/name:os.system is not understood"),
        ("a: !!int x", "'x' is tagged !!int, which it is not"),
        ("a: !!float x", "'x' is tagged !!float, which it is not"),
        ("a: &x [*x]", "*x stands inside of itself"),
        ("a: *x", "found undefined alias 'x'"),
        ('a: "\\ud800"', "text holds half a character"),
        ("a: \x07", "is not YAML: unacceptable character"),
        ("a: [1", "test line 1 is not YAML"),
    ],
)
def test_what_is_no_setting_is_a_sentence(text: str, sentence: str):
    with pytest.raises(RecipeError) as error:
        parse_yaml(text, where="test")
    assert sentence in str(error.value) and len(str(error.value)) < 200 and "\n" not in str(error.value)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("text", ["[" * 10**6, "{" * 10**6, "- " * 10**6, "? " * 10**6, BOMB])
def test_depth_and_size_are_bounded_before_anything_is_built(text: str):
    begun = time.monotonic()
    with pytest.raises(RecipeError, match=r"nested more than 50 levels deep|more than 50,000 values"):
        parse_yaml(text, where="test")
    assert time.monotonic() - begun < 10


def test_a_file_that_is_no_recipe_is_not_read(tmp_path: Path):
    (tmp_path / "video.yaml").write_bytes(b"\0" * (5 * 2**20))
    with pytest.raises(RecipeError, match=r"has 5,242,880 bytes.*is it the file you meant\?"):
        read_yaml(tmp_path / "video.yaml")


def test_a_number_for_a_text_is_what_was_written():
    shelf = Shelf.model_validate(parse_yaml("{name: 007, names: [1.50, 1e3, 0x10]}", where="test"))
    assert shelf.name == "007" and shelf.names == ("1.50", "1e3", "0x10")


def test_a_spelled_number_is_a_plain_one_in_a_number():
    shelf = Shelf.model_validate(parse_yaml("{number: 010, share: 1e-1}", where="test"))
    assert shelf.number == 10 and shelf.share == 0.1
    content = parse_yaml(dump_yaml(shelf.model_dump(mode="json")), where="test")
    assert content["number"] == 10 and content["share"] == 0.1
    assert dump_yaml(parse_yaml("[010, 1e-1]", where="test")) == "[10, 0.1]\n"


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_no_number_of_a_setting_is_infinite(value: float):
    with pytest.raises(ValueError, match="finite"):
        Shelf(share=value)


def test_a_number_that_no_tensor_holds_is_refused():
    with pytest.raises(ValueError, match="up to 9,223,372,036,854,775,807"):
        Shelf(number=2**63)


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), max_size=12))
def test_text_is_written_so_that_it_is_read_as_the_same_text(text: str):
    assert parse_yaml(dump_yaml({"key": text}), where="test") == {"key": text}


@pytest.mark.parametrize("text", ["010", "0o7", "1e5", "yes", "null", "~", "", "1:30", ".5", "a #b", "x: y"])
def test_text_that_looks_like_a_number_gets_quotes(text: str):
    assert parse_yaml(dump_yaml({"key": text, "list": [text]}), where="test") == {"key": text, "list": [text]}
