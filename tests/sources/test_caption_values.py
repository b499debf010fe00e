"""Structures in caption columns: texts, languages and answers are captions, nothing else is."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frugalclip.core.errors import DataError
from frugalclip.sources.caption_values import caption_value
from frugalclip.sources.open import open_data, read_source

TURNS = [
    {"from": "human", "value": "<image>\nWhat is it?"},
    {"from": "gpt", "value": "A red bus."},
    {"from": "human", "value": "How many?"},
    {"from": "gpt", "value": "One."},
]
MESSAGES = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "A red bus."}]},
]


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("a dog", ["a dog"]),
        ('["a dog", "a hound"]', ["a dog", "a hound"]),
        ("['a dog', \"a dog's bone\"]", ["a dog", "a dog's bone"]),
        ('[{"raw": "a dog", "tokens": ["a", "dog"]}]', ["a dog"]),
        ("[a sign] on the {wall}", ["[a sign] on the {wall}"]),
        ("[unclear]", ["[unclear]"]),
        (TURNS, ["A red bus."]),
        (json.dumps(TURNS), ["A red bus."]),
        (MESSAGES, ["A red bus."]),
        ([{"user": "What is it?", "assistant": "A red bus.", "source": "x"}], ["A red bus."]),
    ],
)
def test_captions_of_a_value(value: Any, texts: list[str]):
    assert caption_value(value).texts == texts
    assert not caption_value(value).is_structured


@pytest.mark.parametrize(
    "value", ["[[1, 2], [3, 4]]", '{"x": 1}', [{"box": [1, 2]}], {"x": {"y": 1}}, "[{'x': 1, 'y': 2}]", 7]
)
def test_other_structures_are_no_captions(value: Any):
    assert caption_value(value).is_structured
    assert not caption_value(value).texts


@pytest.mark.parametrize("form", ["json", "jsonl", "parquet", "csv"])
@pytest.mark.parametrize("turns", [TURNS, MESSAGES[:0] + TURNS[:2]])
def test_conversations_give_the_answer(tmp_path: Path, make: SimpleNamespace, form: str, turns: Any):
    make.images(tmp_path, "a.png", "b.png")
    rows = [{"id": f"row-{n}", "image": n, "conversations": turns} for n in ("a.png", "b.png")]
    path = tmp_path / f"llava.{form}"
    if form == "json":
        make.put(path, json.dumps([*rows, {"id": "text-only", "conversations": turns}]))
    elif form == "jsonl":
        make.put(path, make.json_lines(*rows))
    elif form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        quoted = json.dumps(turns).replace('"', '""')
        make.put(
            path, "id,image,conversations\n" + "".join(f'{r["id"]},{r["image"]},"{quoted}"\n' for r in rows)
        )
    source = read_source(path)
    assert source.manifest.captions() == [["A red bus."], ["A red bus."]]
    assert source.manifest.ids == ["row-0".replace("0", "a.png"), "row-b.png"]
    assert source.manifest.field_names == []
    assert source.ledger.counts() == ({"no-image": 1} if form == "json" else {})


def test_a_column_of_structures_is_refused_by_name(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png", "b.png")
    rows = [{"image": n, "objects": [{"box": [1, 2], "note": "a b c"}]} for n in ("a.png", "b.png")]
    for path in (
        make.put(tmp_path / "t.jsonl", make.json_lines(*rows)),
        make.put(
            tmp_path / "t.csv", 'image,objects\na.png,"[{""box"": 1, ""b c"": 2}]"\nb.png,"[{""x"": 1}]"\n'
        ),
    ):
        with pytest.raises(DataError, match="objects holds structures and not text"):
            open_data(path)
        with pytest.raises(
            DataError, match=r"'objects' of .* holds structures, such as \[\{.*columns.caption"
        ):
            open_data(path, columns={"caption": "objects"})


def test_single_structures_among_captions_are_dropped(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png", "b.png")
    path = make.put(tmp_path / "t.csv", 'image,caption\na.png,a dog\nb.png,"[1, 2]"\n')
    source = read_source(path)
    assert source.manifest.captions() == [["a dog"]]
    assert source.ledger.counts() == {"structured": 1}


def test_conversations_beside_an_image(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png")
    make.put(tmp_path / "a.json", json.dumps({"conversations": TURNS}))
    assert open_data(tmp_path).captions() == [["A red bus."]]
