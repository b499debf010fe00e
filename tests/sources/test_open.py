import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frugalclip.core.errors import DataError
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.ledger import Ledger, read_ledger
from frugalclip.sources.base import Source
from frugalclip.sources.open import open_data, read_source
from frugalclip.sources.reading import READING


def reasons(source: Source) -> list[tuple[str, str]]:
    """What was not kept, by id; every reason is one that `data check` can explain."""
    assert all(fault.reason in READING.reasons for fault in source.ledger.entries)
    return [(fault.id, fault.reason) for fault in source.ledger.entries]


def opened(manifest: Any) -> None:
    """Every picture of a manifest can be read."""
    reader = ImageReader(manifest)
    for row in range(len(manifest)):
        assert reader.image(row).mode == "RGB"


# Folders


def test_a_folder_with_text_beside(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "b.jpg", "a.png", "in/c.webp", "in/d.GIF", "e.bmp", "f.jpeg")
    for name, text in {
        "b.txt": "bee",
        "a.txt": "one\n\ntwo\n",
        "in/c.txt": "\ufeffsea",
        "in/d.TXT": "dee",
        "e.bmp.txt": "ee",
        "f.txt": "ef",
    }.items():
        make.put(tmp_path / name, text)
    source = read_source(tmp_path)
    assert source.manifest.ids == [
        "a",
        "b",
        "e",
        "f",
        "in/c",
        "in/d",
    ]  # sorted, whatever the file system says
    assert source.manifest.captions() == [["one", "two"], ["bee"], ["ee"], ["ef"], ["sea"], ["dee"]]
    assert source.manifest.field_names == []
    assert source.kind == "a folder of images with text beside them"
    assert reasons(source) == []
    opened(source.manifest)


def test_json_beside_gives_fields(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png", "b.png", "c.png")
    make.put(tmp_path / "a.json", json.dumps({"caption": "from json", "n": 1, "ok": True}))
    make.put(tmp_path / "b.json", json.dumps({"captions": {"de": "Hund", "en": "dog"}, "n": 2.5}))
    make.put(tmp_path / "c.json", json.dumps({"title": "named", "tags": ["x"]}))
    make.put(tmp_path / "c.txt", "text wins")
    manifest = open_data(tmp_path)
    assert manifest.captions() == [["from json"], ["dog"], ["text wins"]]
    assert manifest.captions(language="de") == [[], ["Hund"], []]
    assert manifest.field("n") == [1.0, 2.5, None]
    assert manifest.field("ok") == [True, None, None]
    assert manifest.field("title") == [None, None, "named"]
    assert manifest.field("tags") == [None, None, ["x"]]


def test_class_folders(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "golden_retriever/1.jpg", "golden_retriever/2.jpg", "tabby-cat/1.png")
    source = read_source(tmp_path)
    assert source.kind == "class folders"
    assert source.manifest.captions() == [["golden retriever"], ["golden retriever"], ["tabby cat"]]
    assert source.manifest.field("label") == ["golden retriever", "golden retriever", "tabby cat"]
    assert source.manifest.ids == ["golden_retriever/1", "golden_retriever/2", "tabby-cat/1"]


def test_splits_above_class_folders(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "train/cat/1.png", "train/dog/2.png", "test/cat/3.png")
    manifest = open_data(tmp_path, where="split=train")
    assert manifest.field("label") == ["cat", "dog"]
    assert open_data(tmp_path).field("split") == ["test", "train", "train"]


def test_text_beside_and_class_folders_mix(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "cat/1.png", "cat/2.png", "3.png", "4.png")
    make.put(tmp_path / "cat/1.txt", "my cat")
    make.put(tmp_path / "3.txt", "the sea")
    source = read_source(tmp_path)
    assert source.kind.endswith("text beside them and class folders")
    assert dict(zip(source.manifest.ids, source.manifest.captions(), strict=True)) == {
        "3": ["the sea"],
        "cat/1": ["my cat"],
        "cat/2": ["cat"],
    }
    assert source.manifest.field("label") == [None, "cat", "cat"]
    assert reasons(source) == [("4", "no-caption")]


def test_equal_stems_are_told_apart(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.jpg", "a.png", "b.png")
    for name in ("a.txt", "b.txt"):
        make.put(tmp_path / name, "x")
    assert open_data(tmp_path).ids == ["a.jpg", "a.png", "b"]


def test_what_is_left_out_of_a_folder_is_reported(tmp_path: Path, make: SimpleNamespace):
    root = tmp_path / "data"
    make.images(
        root,
        "good.png",
        "mute.png",
        "blank.png",
        "bytes.png",
        "record.png",
        "._good.png",
        "__MACOSX/good.png",
        ".git/x.png",
    )
    for name, text in {
        "good.txt": "x",
        "blank.txt": "\n",
        "bytes.txt": b"caf\xe9",
        "record.json": "[1]",
        "alone.txt": "x",
        "README.txt": "x",
    }.items():
        make.put(root / name, text)
    make.put(root / "drawing.svg", "<svg/>")
    make.put(root / "notes.doc", "x")
    (root / "loop").symlink_to(root)
    (root / "again").symlink_to(root / "loop")
    (root / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (root / "folder.jpg").mkdir()
    source = read_source(root)
    assert source.manifest.ids == ["good"]
    assert sorted(reasons(source)) == sorted(
        [
            ("mute", "no-caption"),
            ("blank", "no-caption"),
            ("bytes", "not-utf8"),
            ("record", "not-json"),
            ("alone.txt", "no-image"),
            ("drawing.svg", "unsupported-format"),
            ("loop", "symlink-loop"),
            ("again", "symlink-loop"),
            ("gone.png", "missing-file"),
            ("folder.jpg", "not-a-file"),
        ]
    )
    assert source.notes == ["other files are not read: 1 .doc", "hidden files and folders are not read: 3"]
    assert source.seen == 1 + 10


def test_a_linked_folder_is_read_once(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path / "far", "a.png")
    make.put(tmp_path / "far/a.txt", "x")
    (tmp_path / "near").mkdir()
    (tmp_path / "near/one").symlink_to(tmp_path / "far")
    assert open_data(tmp_path / "near").ids == ["one/a"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_may_not_be_read_is_reported(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "b").chmod(0)
    assert ("b", "no-permission") in reasons(read_source(tmp_path))
    (tmp_path / "b").chmod(0o755)


def test_folders_without_samples_say_what_was_looked_for(tmp_path: Path, make: SimpleNamespace):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no image \(found: nothing; expected .jpg"):
        open_data(tmp_path / "empty")
    make.put(tmp_path / "docs/a.doc", "x")
    make.put(tmp_path / "docs/b.doc", "x")
    make.put(tmp_path / "docs/c.txt", "x")
    with pytest.raises(DataError, match=r"found: 2 .doc, 1 .txt"):
        open_data(tmp_path / "docs")
    make.images(tmp_path / "mute", "images/a.png", "images/b.png")
    with pytest.raises(
        DataError,
        match=r"2 images and no caption; expected NAME.txt beside NAME.jpg, a folder for each class",
    ):
        open_data(tmp_path / "mute")


def test_a_folder_with_one_table_is_that_table(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png", "b.png")
    make.put(tmp_path / "metadata.csv", "file_name,text\na.png,one\nb.png,two\n")
    source = read_source(tmp_path)
    assert source.kind == "a folder with a CSV table"
    assert source.manifest.captions() == [["one"], ["two"]]


def test_a_folder_with_several_tables_asks_which(tmp_path: Path, make: SimpleNamespace):
    make.put(tmp_path / "one.csv", "image,caption\n")
    make.put(tmp_path / "two.csv", "image,caption\n")
    with pytest.raises(DataError, match=r"2 tables \(one.csv, two.csv\); give the one meant"):
        open_data(tmp_path)


# CSV and TSV


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("begin", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_separators_marks_and_line_ends(
    tmp_path: Path, make: SimpleNamespace, separator: str, begin: str, end: str
):
    make.images(tmp_path, "a.png", "b.png")
    rows = [
        ["image", "caption", "n"],
        ["a.png", '"a dog, a cat; and | a ""bird"""', "1"],
        ["b.png", "the sea", "2"],
    ]
    make.put(tmp_path / "t.csv", begin + end.join(separator.join(row) for row in rows) + end)
    source = read_source(tmp_path / "t.csv")
    assert source.manifest.captions() == [['a dog, a cat; and | a "bird"'], ["the sea"]]
    assert source.manifest.field("n") == [1, 2]
    assert source.manifest.ids == ["a", "b"]
    assert reasons(source) == []
    opened(source.manifest)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(tmp_path: Path, make: SimpleNamespace, encoding: str):
    make.images(tmp_path, "é.png")
    (tmp_path / "t.tsv").write_text("filepath\ttitle\né.png\tein Bär 熊\n", encoding=encoding)
    assert open_data(tmp_path / "t.tsv").captions() == [["ein Bär 熊"]]


@pytest.mark.parametrize(
    "image",
    ["image", "filepath", "path", "file", "File Name", "img_path", "file_name", "IMAGE", "some_column"],
)
@pytest.mark.parametrize("caption", ["caption", "text", "title", "Sentence", "alt_text", "whatever"])
def test_columns_are_recognised(tmp_path: Path, make: SimpleNamespace, image: str, caption: str):
    make.images(tmp_path, "a.png", "b.png")
    make.put(
        tmp_path / "t.csv",
        f"url,{caption},{image},extra\nhttp://x.org/a.png,a small dog,a.png,q\nhttp://x.org/b.png,a big "
        "dog,b.png,r\n",
    )
    manifest = open_data(tmp_path / "t.csv")
    assert manifest.captions() == [["a small dog"], ["a big dog"]]
    assert manifest.ids == ["a", "b"]
    assert manifest.field_names == ["url", "extra"]


def test_columns_can_be_named(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png", "b.png")
    make.put(
        tmp_path / "t.csv",
        "image,photo,caption,long,short,code\nx.png,a.png,no,a long "
        "one,short,k1\nx.png,b.png,no,another,,k2\n",
    )
    manifest = open_data(
        tmp_path / "t.csv", columns={"image": "photo", "caption": "long, short", "id": "code"}
    )
    assert manifest.captions() == [["a long one", "short"], ["another"]]
    assert manifest.ids == ["k1", "k2"]
    assert manifest.field("caption") == ["no", "no"]
    for columns, words in [
        ({"image": "fotto"}, "no column 'fotto'; did you mean 'photo'"),
        ({"img": "photo"}, "columns.img is not a column"),
    ]:
        with pytest.raises(DataError, match=words):
            open_data(tmp_path / "t.csv", columns=columns)


def test_several_caption_columns_in_order_and_by_language(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png", "b.png")
    make.put(tmp_path / "t.csv", "image,caption_2,caption_1,caption_10\na.png,two,one,ten\nb.png,,only,\n")
    assert open_data(tmp_path / "t.csv").captions() == [["one", "two", "ten"], ["only"]]
    make.put(tmp_path / "l.csv", "image,caption_de,caption_en\na.png,Hund,dog\nb.png,Meer,\n")
    manifest = open_data(tmp_path / "l.csv")
    assert manifest.captions() == [["dog"], ["Meer"]]
    assert manifest.captions(language="de") == [["Hund"], ["Meer"]]
    assert manifest.field_names == []


def test_labels_serve_as_captions_and_stay_fields(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png", "b.png")
    make.put(tmp_path / "t.csv", "image,label\na.png,sea_gull\nb.png,dog\n")
    manifest = open_data(tmp_path / "t.csv")
    assert manifest.captions() == [["sea gull"], ["dog"]]
    assert manifest.field("label") == ["sea_gull", "dog"]


def test_fields_have_the_narrowest_type_that_loses_nothing(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png", "b.png", "c.png")
    columns = {
        "whole": (["1", "-2", ""], [1, -2, None]),
        "real": (["1", "2.5", "1e-3"], [1.0, 2.5, 0.001]),
        "truth": (["true", "False", ""], [True, False, None]),
        "code": (["007", "1", "2"], ["007", "1", "2"]),
        "big": (["12345678901234567890", "1", "2"], [1.2345678901234567e19, 1.0, 2.0]),
        "word": (["x", "", " y"], ["x", None, " y"]),
        "nothing": (["", "", ""], [None, None, None]),
    }
    lines = [
        ["image", "caption", *columns],
        *([f"{name}.png", "x", *(cells[i] for cells, _ in columns.values())] for i, name in enumerate("abc")),
    ]
    make.put(tmp_path / "t.csv", "\n".join(",".join(line) for line in lines))
    manifest = open_data(tmp_path / "t.csv")
    for name, (_, expected) in columns.items():
        assert manifest.field(name) == expected, name
    assert manifest.table.schema.field("whole").type == pa.int64()
    assert manifest.table.schema.field("truth").type == pa.bool_()


def test_a_table_without_header(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png", "b.png")
    make.put(tmp_path / "t.tsv", "a.png\ta small dog\nb.png\ta big dog\n")
    source = read_source(tmp_path / "t.tsv")
    assert source.manifest.captions() == [["a small dog"], ["a big dog"]]
    assert source.notes == ["separator TAB, no header: columns are numbered"]


def test_rows_that_share_an_image_are_one_sample(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png", "b.png")
    make.put(
        tmp_path / "t.csv",
        "image_name| comment_number| comment\na.png| 0| one\nb.png| 0| sea\na.png| 1| two\n./a.png| 2| one\n",
    )
    source = read_source(tmp_path / "t.csv")
    assert source.manifest.ids == ["a", "b"]
    assert source.manifest.captions() == [["one", "two"], ["sea"]]
    assert [fault.status for fault in source.ledger.entries] == ["merged", "merged"]
    assert source.seen == 4
    assert any("2; their captions are joined" in note for note in source.notes)


def test_what_is_left_out_of_a_table_is_reported(tmp_path: Path, make: SimpleNamespace):
    data = tmp_path / "data"
    make.images(tmp_path, "outside.png", "data/a.png", "data/sub/b.png")
    (data / "folder.png").mkdir()
    rows = [
        *[
            "image,caption",
            "a.png,good",
            "gone.png,x",
            "../outside.png,x",
            "sub/../../outside.png,x",
            "http://x.org/a.png,x",
            ",x",
        ],
        *[
            "sub/b.png,  ",
            "folder.png,x",
            "drawing.svg,x",
            "too,many,cells",
            "lonely",
            f"{tmp_path}/outside.png,absolute is meant",
            ".\\sub\\b.png,windows",
        ],
    ]
    make.put(data / "t.csv", "\n".join(rows).encode() + b"\na.png,caf\xe9\n")
    source = read_source(data / "t.csv")
    assert source.manifest.captions() == [["good"], ["absolute is meant"], ["windows"]]
    assert source.ledger.counts() == {
        "outside-folder": 2,
        "wrong-columns": 2,
        "is-url": 1,
        "missing-file": 1,
        "no-caption": 1,
        "no-image": 1,
        "not-a-file": 1,
        "not-utf8": 1,
        "unsupported-format": 1,
    }
    assert source.seen == len(rows)  # the header counts for the last row
    assert (
        next(fault.detail for fault in source.ledger.entries if fault.reason == "missing-file")
        == "line 3: gone.png"
    )
    opened(source.manifest)


def test_paths_may_start_elsewhere_and_it_is_reported(
    tmp_path: Path, make: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
):
    make.images(tmp_path / "set", "Images/a.png", "Images/b.png")
    make.put(tmp_path / "set/t.csv", "image,caption\na.png,one\nb.png,two\n")
    source = read_source(tmp_path / "set/t.csv")
    assert len(source.manifest) == 2
    assert f"image paths start from {tmp_path}/set/Images, not from {tmp_path}/set" in source.notes
    make.put(tmp_path / "lists/t.csv", "image,caption\nset/Images/a.png,one\n")
    monkeypatch.chdir(tmp_path)
    source = read_source("lists/t.csv")
    assert len(source.manifest) == 1
    opened(source.manifest)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty, expected a header"),
        ("image,caption\n", "no usable row"),
        (
            "image,caption\ngone.png,x\n",
            r"1 rows and none is a sample \(1 missing-file\); 'image' was searched for images",
        ),
        ("colour,size\nred,3\n", "no column that looks like an image file .found: colour, size"),
        ("image,price\na.png,3\n", "no column that looks like a caption .found: image, price"),
        (
            "url,caption\nhttp://x.org/a.png,x\nhttp://x.org/b.png,y\n",
            "holds web addresses in 'url'.*download them first",
        ),
        (
            'image,caption\na.png,"open\n' + "x" * 5_000_000,
            r"no usable row \(1 open-quote, 1 wrong-columns\)",
        ),
    ],
)
def test_tables_that_cannot_be_used_say_what_was_expected(
    tmp_path: Path, make: SimpleNamespace, content: str, words: str
):
    make.images(tmp_path, "a.png")
    with pytest.raises(DataError, match=words):
        open_data(make.put(tmp_path / "t.csv", content))


def test_a_hundred_thousand_rows_are_read_in_seconds(tmp_path: Path):
    for number in range(1000):
        (tmp_path / f"{number}.jpg").touch()
    rows = (f"{i % 1000}.jpg,caption number {i},{i},{i / 7:.3f}\n" for i in range(100_000))
    (tmp_path / "t.csv").write_text("image,caption,n,score\n" + "".join(rows))
    start = time.process_time()
    source = read_source(tmp_path / "t.csv")
    assert time.process_time() - start < 10
    assert len(source.manifest) == 1000
    assert source.seen == 100_000


# JSON


def test_json_lines(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png", "b.png", "c.png", "d.png")
    rows = [
        {"image": "a.png", "caption": "one", "n": 1, "deep": {"x": [1]}, "tags": ["p", "q"], "mixed": 1},
        {"image": "b.png", "caption": ["two", "", "deux"], "n": 2.5, "mixed": "x"},
        {"image": "c.png", "caption": [{"raw": "three", "tokens": ["t"]}], "late": True},
        {"image": "d.png", "caption": None},
    ]
    text = make.json_lines(*rows) + '{"image": "a.png"\n[1]\n\n{"image": "a.png", "caption": "\\ud800"}\n'
    source = read_source(make.put(tmp_path / "t.jsonl", text))
    assert source.manifest.captions()[:2] == [["one"], ["two", "deux"]]
    assert source.manifest.field("n")[:2] == [1.0, 2.5]
    assert source.manifest.field("deep")[:2] == ['{"x": [1]}', None]
    assert source.manifest.field("tags")[:2] == [["p", "q"], None]
    assert source.manifest.field("mixed")[:2] == ["1", "x"]
    assert reasons(source)[:3] == [("line 5", "not-json"), ("line 6", "not-json"), ("line 8", "not-utf8")]
    assert ("d", "no-caption") in reasons(source)
    assert source.seen == 7


def test_json_captions_by_language_and_a_json_list(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png", "b.png")
    rows = [
        {"file_name": "a.png", "captions": {"en": "dog", "de": "Hund"}},
        {"file_name": "b.png", "captions": {"fr": "mer"}},
    ]
    for path in (
        make.put(tmp_path / "t.jsonl", make.json_lines(*rows)),
        make.put(tmp_path / "t.json", json.dumps(rows)),
    ):
        manifest = open_data(path)
        assert manifest.captions() == [["dog"], ["mer"]]
        assert manifest.captions(language="de") == [["Hund"], []]
        assert manifest.languages == ["de", "en", "fr"]


# Parquet


def test_parquet_with_bytes_inside(tmp_path: Path, make: SimpleNamespace):
    table = pa.table(
        {
            "jpg": [make.encoded((i, 0, 0)) for i in range(5)],
            "text": ["a b", "c", "", "e", None],
            "n": [1, 2, 3, 4, 5],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    source = read_source(tmp_path / "t.parquet")
    assert source.manifest.captions() == [["a b"], ["c"], ["e"]]
    assert source.manifest.field("n") == [1, 2, 4]
    assert reasons(source) == [("2", "no-caption"), ("4", "no-caption")]
    reader = ImageReader(source.manifest)
    assert [reader.image(row).getpixel((0, 0)) for row in (2, 0, 1)] == [(3, 0, 0), (0, 0, 0), (1, 0, 0)]


def test_parquet_as_hugging_face_writes_it(tmp_path: Path, make: SimpleNamespace):
    images = [{"bytes": make.encoded(), "path": "x.png"}, None, {"bytes": make.encoded(), "path": None}]
    features = {
        "info": {
            "features": {
                "image": {"_type": "Image"},
                "label": {"names": ["cat", "sea_gull"], "_type": "ClassLabel"},
            }
        }
    }
    table = pa.table({"image": images, "label": [0, 1, 1], "image_id": [7, 8, 9]}).replace_schema_metadata(
        {"huggingface": json.dumps(features)}
    )
    for split in ("train", "test"):
        pq.write_table(table, tmp_path / f"{split}-00000-of-00001.parquet")
    source = read_source(tmp_path / "train-00000-of-00001.parquet", columns={"caption": "label"})
    assert source.manifest.captions() == [["cat"], ["sea gull"]]
    assert source.manifest.field("label") == ["cat", "sea_gull"]
    assert source.manifest.field("split") == ["train", "train"]
    assert source.manifest.ids == ["7", "9"]
    assert reasons(source) == [("8", "no-image")]
    opened(source.manifest)
    both = read_source(tmp_path, columns={"caption": "label"})
    assert len(both.manifest) == 4
    assert both.manifest.field("split") == ["test", "test", "train", "train"]
    opened(both.manifest)


def test_parquet_with_paths(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "in/a.png", "in/b.png")
    table = pa.table(
        {
            "path": ["in/a.png", "in/b.png", "in/c.png"],
            "captions": [["one", "eins"], ["two"], ["x"]],
            "weight": [1.0, 2.0, 3.0],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    source = read_source(tmp_path / "t.parquet")
    assert source.manifest.captions() == [["one", "eins"], ["two"]]
    assert source.manifest.table["weight"].to_pylist() == [1.0, 2.0]
    assert source.manifest.field_names == []
    assert reasons(source) == [("in/c", "missing-file")]


def test_parquet_of_other_writers(tmp_path: Path, make: SimpleNamespace):
    """Large strings, categories and large lists of other libraries; a column without any value."""
    table = pa.table(
        {
            "image": pa.array([make.encoded(), make.encoded()], pa.large_binary()),
            "caption": pa.array([["a dog", "dog"], ["sea"]], pa.large_list(pa.large_string())),
            "kind": pa.array(["x", "y"]).dictionary_encode(),
            "word": pa.array(["p", None], pa.large_string()),
            "none": pa.nulls(2),
            "box": [{"left": 1}, None],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    manifest = open_data(tmp_path / "t.parquet")
    assert manifest.captions() == [["a dog", "dog"], ["sea"]]
    assert manifest.where("kind=y").ids == manifest.where("word=null").ids == ["1"]
    assert len(manifest.where("none=null")) == 2
    assert manifest.field("box") == [{"left": 1}, None]
    assert len(set(manifest.codes("kind").tolist())) == 2
    manifest.write(tmp_path / "m.parquet")
    assert open_data(tmp_path / "m.parquet").table.to_pylist() == manifest.table.to_pylist()
    opened(manifest)


def test_damaged_parquet_is_one_sentence(tmp_path: Path, make: SimpleNamespace):
    pq.write_table(pa.table({"image": [make.encoded()] * 50, "text": ["x"] * 50}), tmp_path / "t.parquet")
    data = (tmp_path / "t.parquet").read_bytes()
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        open_data(make.put(tmp_path / "cut.parquet", data[:-30]))


# Paths


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("goood", "does not exist; did you mean 'good'"),
        ("s3://bucket/data", "not on this machine; download it first"),
        ("pipe:cat x.tar", "not on this machine"),
        ("*.tar", "matches no file"),
        ("good/s-{0..2}.tar", r"s-1.tar does not exist \(and 1 more of 3\)"),
        ("good/a.png", "is one image"),
        ("go*", "matches the folder good, expected files"),
        ("good/*.t*", "matches files of several kinds .table, tar."),
        ("blob.bin", "unknown kind"),
        ("blob.zip", "unpack it first"),
    ],
)
def test_wrong_paths_say_what_to_do(
    tmp_path: Path, make: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, name: str, words: str
):
    make.images(tmp_path, "good/a.png")
    make.tar(tmp_path / "good/s-0.tar", {"a.png": make.encoded(), "a.txt": "x"})
    make.put(tmp_path / "good/t.tsv", "image\tcaption\n")
    make.put(tmp_path / "blob.bin", b"\0\1\2")
    make.put(tmp_path / "blob.zip", b"PK\3\4")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=words):
        open_data(name)


def test_the_same_data_in_every_form_is_the_same(tmp_path: Path, make: SimpleNamespace):
    """Folder, CSV, JSON lines, Parquet and tar of one data set agree in captions, fields and pixels."""
    make.images(tmp_path / "f", "a.png", "b.png", "c.png")
    images = {name: (tmp_path / f"f/{name}.png").read_bytes() for name in "abc"}
    captions = {"a": "a dog", "b": "two cats", "c": "the sea"}
    for number, name in enumerate("abc"):
        make.put(tmp_path / f"f/{name}.txt", captions[name])
        make.put(tmp_path / f"f/{name}.json", json.dumps({"n": number}))
    make.put(
        tmp_path / "f.csv",
        "image,caption,n\n" + "".join(f"f/{name}.png,{captions[name]},{n}\n" for n, name in enumerate("abc")),
    )
    make.put(
        tmp_path / "f.jsonl",
        make.json_lines(
            *({"image": f"f/{name}.png", "caption": captions[name], "n": n} for n, name in enumerate("abc"))
        ),
    )
    pq.write_table(
        pa.table({"image": list(images.values()), "caption": list(captions.values()), "n": [0, 1, 2]}),
        tmp_path / "f.parquet",
    )
    members = {
        f"{name}.{end}": content
        for name in "abc"
        for end, content in (("png", images[name]), ("txt", captions[name]))
    }
    members |= {f"{name}.json": json.dumps({"n": number}) for number, name in enumerate("abc")}
    make.tar(tmp_path / "f.tar", members)
    for form in ("f", "f.csv", "f.jsonl", "f.parquet", "f.tar"):
        manifest = open_data(tmp_path / form)
        assert manifest.captions() == [["a dog"], ["two cats"], ["the sea"]], form
        assert manifest.field("n") == [0, 1, 2], form
        assert [ImageReader(manifest).bytes(row) for row in range(3)] == list(images.values()), form
        manifest.write(tmp_path / "out" / f"{form}.parquet")
        assert [
            ImageReader(open_data(tmp_path / "out" / f"{form}.parquet")).bytes(row) for row in range(3)
        ] == list(images.values()), form


# The ledger


def test_the_ledger_adds_up(tmp_path: Path):
    ledger = Ledger(READING)
    ledger.drop("x", "no-caption", "expected x.txt")
    ledger.drop("y", "no-caption")
    ledger.merge("z", "same-image", "line 9")
    ledger.write(tmp_path / "l.parquet", kept=["a", "b"], seen=5)
    table = read_ledger(tmp_path / "l.parquet").to_pylist()
    assert [(row["id"], row["status"], row["reason"]) for row in table] == [
        ("a", "kept", None),
        ("b", "kept", None),
        ("x", "dropped", "no-caption"),
        ("y", "dropped", "no-caption"),
        ("z", "merged", "same-image"),
    ]
    assert ledger.counts() == {"no-caption": 2}
    with pytest.raises(AssertionError):
        ledger.write(tmp_path / "l.parquet", kept=["a"], seen=5)
    with pytest.raises(DataError, match="is not a ledger"):
        read_ledger(tmp_path / "none.parquet")
