"""Captions by language, by every route that data sets take."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frugalclip.data.manifest import Manifest
from frugalclip.data.tokens import train_tokenizer
from frugalclip.loading.loader import BatchSpec, Loader, LoaderConfig, LoaderData
from frugalclip.loading.texts import TextViewConfig
from frugalclip.sources.languages import is_code, languages_in
from frugalclip.sources.open import open_data

EXPECTED = [{"en": ["dog", "hound"], "de": ["Hund"]}, {"de": ["Meer"]}, {"en": ["cat"], "pt-BR": ["gato"]}]
PAIRS = [list(languages.items()) for languages in EXPECTED]
MIXED = [{"en": ["dog", "hound"], "de": "Hund"}, {"de": "Meer"}, {"en": "cat", "pt-BR": ["gato"]}]


def found(manifest: Manifest) -> list[dict[str, list[str]]]:
    return [dict(pairs or ()) for pairs in manifest.field("captions_by_language")]


def images(folder: Path, make: SimpleNamespace) -> Path:
    return make.images(folder, "a.png", "b.png", "c.png")


def checked(manifest: Manifest) -> Manifest:
    """What every route must give, however it was written."""
    assert found(manifest) == EXPECTED
    assert manifest.captions() == [["dog", "hound"], ["Meer"], ["cat"]]  # English, else the first by code
    assert manifest.captions(language="de") == [["Hund"], ["Meer"], []]
    assert manifest.languages == ["de", "en", "pt-BR"]
    return manifest


@pytest.mark.parametrize("key", ["captions", "caption", "captions_by_language", "translations"])
def test_json_beside_images(tmp_path: Path, make: SimpleNamespace, key: str):
    images(tmp_path, make)
    for name, languages in zip("abc", MIXED, strict=True):
        make.put(tmp_path / f"{name}.json", json.dumps({key: languages, "n": 1}))
    assert checked(open_data(tmp_path)).field_names == ["n"]


def test_json_in_tars_and_keys_of_a_language_each(tmp_path: Path, make: SimpleNamespace):
    members: dict[str, bytes | str] = {}
    for name, languages in zip("abc", EXPECTED, strict=True):
        record = {f"caption_{code}": texts for code, texts in languages.items()} | {
            "caption_id": 7,
            "title_url": "x",
        }
        members |= {f"{name}.png": make.encoded(), f"{name}.json": json.dumps(record)}
    manifest = checked(open_data(make.tar(tmp_path / "t.tar", members)))
    assert manifest.field_names == ["caption_id", "title_url"]


def test_text_beside_stays_what_training_reads(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png", "b.png")
    make.put(tmp_path / "a.txt", "mine")
    make.put(tmp_path / "a.json", json.dumps({"captions": {"en": "dog"}}))
    make.put(tmp_path / "b.json", json.dumps({"caption": "Hund", "language": "de"}))
    manifest = open_data(tmp_path)
    assert manifest.captions() == [["mine"], ["Hund"]]
    assert found(manifest) == [{"en": ["dog"]}, {"de": ["Hund"]}]


@pytest.mark.parametrize("key", ["captions", "caption", "text", "captions_by_language"])
def test_json_lines(tmp_path: Path, make: SimpleNamespace, key: str):
    images(tmp_path, make)
    rows = [{"image": f"{name}.png", key: languages} for name, languages in zip("abc", MIXED, strict=True)]
    checked(open_data(make.put(tmp_path / "t.jsonl", make.json_lines(*rows))))
    checked(open_data(make.put(tmp_path / "t.json", json.dumps(rows))))


def test_json_lines_that_are_read_in_parts(
    tmp_path: Path, make: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
):
    """Each part of a long file knows languages that the others lack, and some rows have plain captions."""
    monkeypatch.setattr("frugalclip.sources.json_rows._CHUNK", 1)
    images(tmp_path, make)
    rows: list[Any] = [
        {"image": f"{name}.png", "captions": languages} for name, languages in zip("abc", MIXED, strict=True)
    ]
    checked(open_data(make.put(tmp_path / "t.jsonl", make.json_lines(*rows))))
    make.images(tmp_path, "d.png", "e.png")
    rows += [{"image": "d.png", "captions": "plain {text}"}, {"image": "e.png", "captions": ["one", "two"]}]
    for size in (1, 50):
        monkeypatch.setattr("frugalclip.sources.json_rows._CHUNK", size)
        manifest = open_data(make.put(tmp_path / "t.jsonl", make.json_lines(*rows)))
        assert found(manifest) == [*EXPECTED, {}, {}]
        assert manifest.captions()[3:] == [["plain {text}"], ["one", "two"]]


@pytest.mark.parametrize("name", ["captions", "captions_by_language", "translations"])
def test_parquet_maps_and_structs(tmp_path: Path, make: SimpleNamespace, name: str):
    images = [make.encoded()] * 3
    kinds = {
        "map": pa.array(PAIRS, pa.map_(pa.string(), pa.list_(pa.string()))),
        "struct": pa.array(
            EXPECTED, pa.struct([(code, pa.list_(pa.string())) for code in ("en", "de", "pt-BR")])
        ),
        "variable": [
            {
                "language": [c for c, texts in pairs for _ in texts],
                "translation": [t for _, texts in pairs for t in texts],
            }
            for pairs in PAIRS
        ],
        "records": [
            [{"language": code, "text": text} for code, texts in pairs for text in texts] for pairs in PAIRS
        ],
        "json": [json.dumps(languages) for languages in EXPECTED],
    }
    for kind, values in kinds.items():
        pq.write_table(pa.table({"image": images, name: values}), tmp_path / f"{kind}.parquet")
        assert checked(open_data(tmp_path / f"{kind}.parquet")).field_names == [], kind


def test_parquet_with_captions_and_languages_beside(tmp_path: Path, make: SimpleNamespace):
    languages = pa.array([[("de", "Hund")], None], pa.map_(pa.string(), pa.string()))
    pq.write_table(
        pa.table(
            {"image": [make.encoded()] * 2, "caption": ["dog", "sea"], "captions_by_language": languages}
        ),
        tmp_path / "t.parquet",
    )
    manifest = open_data(tmp_path / "t.parquet")
    assert manifest.captions() == [["dog"], ["sea"]]
    assert found(manifest) == [{"de": ["Hund"]}, {}]


def test_csv_columns_of_a_language_each(tmp_path: Path, make: SimpleNamespace):
    images(tmp_path, make)
    header = "image,caption_en,caption_de,caption_pt-BR,caption_id,title_url"
    lines = ['a.png,"[""dog"", ""hound""]",Hund,,c_1,x', "b.png,,Meer,,c_2,y", "c.png,cat,,gato,c_3,z"]
    make.put(tmp_path / "t.csv", "\n".join([header, *lines]))
    manifest = checked(open_data(tmp_path / "t.csv"))
    assert manifest.field("caption_id") == ["c_1", "c_2", "c_3"]
    assert manifest.field("title_url") == ["x", "y", "z"]


def test_csv_of_indonesian_and_rare_languages(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png")
    make.put(
        tmp_path / "t.csv",
        "image,caption_en,caption_id,caption_fil,caption_raw,title_fr\na.png,dog,seekor "
        "anjing,aso,DOG,chien\n",
    )
    manifest = open_data(tmp_path / "t.csv")
    assert found(manifest) == [{"en": ["dog"], "id": ["seekor anjing"], "fil": ["aso"]}]
    assert manifest.field("title_fr") == ["chien"]  # of another stem than the captions
    assert manifest.field("caption_raw") == ["DOG"]


def test_csv_of_json_and_csv_with_a_column_of_codes(tmp_path: Path, make: SimpleNamespace):
    images(tmp_path, make)
    cells = [json.dumps(languages).replace('"', '""') for languages in EXPECTED]
    make.put(
        tmp_path / "t.csv",
        "image,caption\n"
        + "".join(f'{name}.png,"{cell}"\n' for name, cell in zip("abc", cells, strict=True)),
    )
    checked(open_data(tmp_path / "t.csv"))
    rows = [
        (name, code, text)
        for name, pairs in zip("abc", PAIRS, strict=True)
        for code, texts in pairs
        for text in texts
    ]
    make.put(
        tmp_path / "t.csv",
        "image,language,caption\n" + "".join(f"{name}.png,{code},{text}\n" for name, code, text in rows),
    )
    manifest = open_data(tmp_path / "t.csv")
    assert found(manifest) == EXPECTED
    assert manifest.captions()[0] == ["dog", "hound", "Hund"]  # rows of one image: training reads them all
    assert manifest.field("language") == ["en", "de", "en"]
    make.put(tmp_path / "t.csv", "image,language,caption\na.png,python,print\n")
    assert open_data(tmp_path / "t.csv").languages == []


@pytest.mark.parametrize(
    "value",
    [
        None,
        "en",
        {"raw": "a dog", "en": "x"},
        {"url": "x", "alt": "y"},
        {"width": 3},
        ["en", "de"],
        [{"text": "x"}],
        [("x", "y", "z")],
        {"en": ""},
    ],
)
def test_what_is_no_language_stays_what_it_is(value: Any):
    assert languages_in(value) == {}


def test_codes():
    assert all(map(is_code, ("en", "pt-BR", "zh_Hans", "EN")))
    assert not any(map(is_code, ("python", "xx", "e", "", "1", "en us")))


def test_a_text_view_reads_one_language(tmp_path: Path, make: SimpleNamespace):
    images(tmp_path, make)
    rows = [
        {"image": f"{name}.png", "captions": languages} for name, languages in zip("abc", MIXED, strict=True)
    ]
    manifest = open_data(make.put(tmp_path / "t.jsonl", make.json_lines(*rows)))
    tokenizer = train_tokenizer(["Hund Meer dog"], vocabulary=1024, context=8)
    loader = Loader(
        LoaderData(manifest, tokenizer),
        BatchSpec(views={}, texts={"caption": TextViewConfig(language="de")}, batch=2, size=8),
        LoaderConfig(seed=0),
    )
    assert [row for row, _ in loader.faults] == [2]
    batch = next(loader.batches())
    texts = {
        row: tokenizer.decode(ids)
        for row, ids in zip(batch.rows.tolist(), batch.texts["caption"].ids, strict=True)
    }
    assert {row: text.strip().lower() for row, text in texts.items()} == {0: "hund", 1: "meer"}
