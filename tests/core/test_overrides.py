"""Overrides: text as it stands, other values as YAML, and the types that decide."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BeforeValidator, Field

from frugalclip.core.config import Settings, shorthand
from frugalclip.core.errors import RecipeError
from frugalclip.core.overrides import Schema, as_pairs, parse_overrides


class Files(Settings):
    path: str | None = None
    place: Path | None = None
    where: str = ""
    columns: dict[str, str] = Field(default_factory=dict)
    rows: int | None = None


class Outer(Settings):
    data: Annotated[Files, BeforeValidator(shorthand("path"))] = Field(default_factory=Files)
    kind: Literal["one", "null", "007"] = "one"
    names: tuple[str, ...] = ()
    choice: Literal["all"] | tuple[str, ...] = "all"
    bias: float | Literal["batch"] = 0.0
    rate: float = 0.0
    flag: bool = False
    numbers: tuple[int, ...] = ()
    files: dict[str, Files] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)


SCHEMA = Schema(Outer, {("data",): "path"})
AS_THEY_STAND = [
    "photos #1",
    "name=part #2",
    "007",
    "null",
    "{x}",
    "{a,b}",
    "[x]",
    "a: b",
    "true",
    "1e3",
    "'q'",
]
AS_THEY_STAND += ['"q', "*a", "!x", "- x", "~", "a=b=c", "x\ny", "%", "@x", " x", "0x10", "1" * 5000, "é’"]


@pytest.mark.parametrize("words", AS_THEY_STAND)
@pytest.mark.parametrize(
    "name", ["data", "data.path", "data.place", "data.where", "data.columns.image", "kind", "files.a.where"]
)
def test_text_takes_the_words_as_they_stand(name: str, words: str):
    place = ["data", "path"] if name == "data" else name.split(".")
    found: Any = parse_overrides([f"{name}={words}"], schema=SCHEMA)
    for part in place:
        found = found[part]
    assert found == words


@pytest.mark.parametrize("words", [w for w in AS_THEY_STAND if not w.startswith("[")])
@pytest.mark.parametrize("name", ["names", "choice"])
def test_a_list_of_text_takes_a_word_as_it_stands(name: str, words: str):
    assert parse_overrides([f"{name}={words}"], schema=SCHEMA) == {name: words}


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("names=[a, 'b #2', 007]", ["a", "b #2", 7]),
        ("choice=[a]", ["a"]),
        ("rate=1e-5", 1e-5),
        ("rate=010", 10),
        ("rate=2 #x", "2 #x"),
        ("flag=true", True),
        ("flag=no", "no"),
        ("numbers=[1, 2]", [1, 2]),
        ("bias=batch", "batch"),
        ("bias=-5", -5),
        ("data={path: x, rows: 3}", {"path": "x", "rows": 3}),
        ("data=", None),
        ("data.path=", {"path": None}),
        ("data.where=", {"where": ""}),
        ("data.rows=", {"rows": None}),
        ("data.rows=null", {"rows": None}),
        ("rate=", ""),
        ("files.a=null", {"a": None}),
        ("files.a=", {"a": None}),
        ("options.depth=010", {"depth": 10}),
        ("options.file=a #1", {"file": "a #1"}),
        ("options.file='007'", {"file": "007"}),
        ("nothing.known=[1]", {"known": [1]}),
    ],
)
def test_other_values_are_yaml_and_nothing_unsets(pair: str, value: object):
    found = parse_overrides([pair], schema=SCHEMA)
    assert next(iter(found.values())) == value


def test_names_of_one_section_add_up_in_any_order():
    pairs = ["data.rows=2", "data=x", "data.where=a=b"]
    assert parse_overrides(pairs, schema=SCHEMA) == {"data": {"rows": 2, "path": "x", "where": "a=b"}}


def test_the_content_decides_what_is_known_at_a_place():
    def own(place: tuple[str, ...], content: Any) -> type[Settings] | None:
        kind = content.get("options", {}).get("kind")
        return {"files": Files, "outer": Outer}.get(kind) if place == ("options",) else None

    schema = Schema(Outer, own=own)
    pairs = ["options.path=007", "options.kind=files"]  # the kind stands behind what it decides
    assert parse_overrides(pairs, schema=schema)["options"]["path"] == "007"
    assert parse_overrides(["options.path=x"], schema=schema, content={"options": {"kind": "outer"}})


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        ("batch", "'batch' is not an override; write key=value"),
        (".x=1", "'.x=1' is not an override"),
        ("numbers=[1", "override numbers line 1 is not YAML"),
        ("numbers=" + "[" * 10**6, "nested more than 50 levels deep"),
        ("rate=.inf", "override rate: .inf is not a finite number"),
        ("rate=" + "9" * 5000, "override rate: a number has 5,000 digits"),
        ("options={1: !!timestamp x}", "override options line 1: the tag !!timestamp is not understood"),
    ],
)
def test_what_does_not_parse_is_a_sentence(pair: str, sentence: str):
    with pytest.raises(RecipeError) as error:
        parse_overrides([pair], schema=SCHEMA)
    assert sentence in str(error.value)


def test_keywords_of_python_mean_what_pairs_mean():
    settings = {
        "data": Path("photos #1"),
        "data__rows": 3,
        "rate": 1e-5,
        "flag": True,
        "numbers": (1, 2),
        "files": {"a": {"where": "x=[y]"}, "b": {}},
        "names": ["a #1", "b"],
        "bias": "batch",
    }
    found = parse_overrides(as_pairs(settings), schema=SCHEMA)
    outer = Outer.model_validate(found)
    assert outer.data == Files(path="photos #1", rows=3) and outer.rate == 1e-5 and outer.flag
    assert outer.files["a"].where == "x=[y]" and outer.files["b"] == Files() and outer.names == ("a #1", "b")
    assert outer.numbers == (1, 2) and outer.bias == "batch"
    assert parse_overrides(as_pairs({"data__rows": None}), schema=SCHEMA) == {"data": {"rows": None}}
