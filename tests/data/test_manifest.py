import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frugalclip.core.errors import DataError
from frugalclip.data.manifest import (
    CAPTIONS_BY_LANGUAGE,
    Manifest,
    concatenate,
    image_places,
    make_manifest,
    value_code,
)
from frugalclip.sources.open import open_data


def manifest(root: Path = Path("/data"), **changes: Any) -> Manifest:
    columns: dict[str, Any] = {
        "ids": ["a", "b", "c", "d"],
        "images": image_places(
            ["a.png", "in/b.png", "s.tar", "p.parquet"],
            offsets=[None, None, 512, None],
            lengths=[None, None, 99, None],
        ),
        "captions": [["a dog"], ["two cats", "cats"], ["a dog"], ["the sea"]],
        "fields": {
            "split": ["train", "train", "test", None],
            "size": [1, 2, None, 3],
            "is_flag": [True, False, None, False],
            "tags": [["x", "y"], [], ["y"], None],
            "score": [0.5, 1.0, 2.0, None],
        },
        "root": root,
        "name": "four",
    }
    return make_manifest(**{**columns, **changes})


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("split=train", "ab"),
        ("split!=train", "cd"),  # everything but train, so also what has no split
        ("split=test|train", "abc"),
        ("split=null", "d"),
        ("split!=null", "abc"),
        ("split=null|test", "cd"),
        ("split=train,is_flag=false", "b"),
        (" split = train , size != 1 ", "b"),
        ("is_flag=TRUE", "a"),
        ("size=3", "d"),
        ("score=1", "b"),
        ("score=5e-1", "a"),
        ("tags=y", "ac"),
        ("tags!=y", "bd"),
        ("tags=null", "bd"),
        ("id=a|d", "ad"),
        ('captions="a dog"', "ac"),
        ("", "abcd"),
        (None, "abcd"),
    ],
)
def test_where_keeps(condition: str | None, expected: str):
    assert "".join(manifest().where(condition).ids) == expected


def test_where_reads_quotes_literally():
    odd = manifest(fields={"name": ["null", "a, b", "x|y", None]})
    assert odd.where('name="null"').ids == ["a"]
    assert odd.where('name="a, b"').ids == ["b"]
    assert odd.where('name="x|y"|"null"').ids == ["a", "c"]
    assert odd.where("name=null").ids == ["d"]


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("splt=train", ["did you mean 'split'", "score"]),
        ("split=trian", ["leaves none of the 4", "train (2)", "Did you mean 'train'"]),
        ("split=train,size=3", ["after the clauses before it left 2", "1 (1), 2 (1)"]),
        ("size=big", ["a whole number"]),
        ("is_flag=maybe", ["true or false"]),
        ("split", ["write field=value"]),
        ('split="train', ["quote open"]),
    ],
)
def test_a_wrong_condition_says_what_exists(condition: str, words: list[str]):
    with pytest.raises(DataError) as error:
        manifest().where(condition)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_codes_are_equal_exactly_where_values_are():
    codes = manifest(fields={"split": ["x", "y", "x", "x"]}).codes("split")
    assert codes.dtype == np.int64
    assert codes[0] == codes[2] == codes[3]
    assert codes[0] != codes[1]
    assert manifest().codes("captions")[0] == manifest().codes("captions")[2]
    assert len(set(manifest().codes("captions").tolist())) == 3


def test_codes_of_nulls_are_unlike_everything_also_each_other():
    one = manifest(fields={"f": [None, None, "v", None]})
    assert len(set(one.codes("f").tolist())) == 4
    lists = manifest(fields={"f": pa.array([None, None, ["v"], ["v"]])})
    assert len(set(lists.codes("f").tolist())) == 3


def test_a_code_is_the_hash_written_down():  # so that it is the same on every machine and in every version
    expected = (
        int.from_bytes(hashlib.blake2b(json.dumps("train").encode(), digest_size=8).digest(), "little") >> 1
    )
    assert manifest().codes("split")[0] == expected == value_code("train")
    assert value_code(1) == value_code(1.0) != value_code(True)
    assert value_code(["a", 2.0]) == value_code(["a", 2]) != value_code(["a", "2"])


def test_codes_do_not_depend_on_the_rows_around():
    whole = manifest()
    part = whole.take([3, 1])
    for name in ("split", "size", "tags", "captions"):
        assert part.codes(name).tolist() == whole.codes(name)[[3, 1]].tolist()


def test_fields_are_given_and_missing_ones_named():
    assert manifest().field("size") == [1, 2, None, 3]
    assert manifest().field_names == ["split", "size", "is_flag", "tags", "score"]
    with pytest.raises(DataError, match="did you mean 'score'"):
        manifest().field("scroe")


def test_captions_by_language():
    pairs = pa.array(
        [[("en", ["a dog"]), ("de", ["ein Hund", "Hund"])], [("en", ["cats"])], None, []],
        CAPTIONS_BY_LANGUAGE,
    )
    spoken = manifest(captions_by_language=pairs)
    assert spoken.languages == ["de", "en"]
    assert spoken.captions(language="de") == [["ein Hund", "Hund"], [], [], []]
    assert spoken.captions() == [["a dog"], ["two cats", "cats"], ["a dog"], ["the sea"]]
    assert spoken.take([1]).languages == ["en"]  # rows that are gone do not count
    with pytest.raises(DataError, match=r"no captions in 'dee'; did you mean 'de'\? Known: de, en"):
        spoken.captions(language="dee")
    with pytest.raises(DataError, match="no captions in 'de'"):
        manifest().captions(language="de")


def test_written_and_read_back_it_is_the_same(tmp_path: Path):
    before = manifest(root=tmp_path, weights=[1.0, 2.0, 0.5, 1.0])
    before.write(tmp_path / "m.parquet")
    after = Manifest.read(tmp_path / "m.parquet")
    assert after.table.to_pylist() == before.table.to_pylist()
    assert after.fingerprint() == before.fingerprint()
    assert pq.read_schema(tmp_path / "m.parquet").metadata[b"frugalclip.manifest"] == b"1"
    assert open_data(tmp_path / "m.parquet").ids == before.ids


def test_paths_follow_the_file_that_holds_them(tmp_path: Path):
    manifest(root=tmp_path / "data").write(tmp_path / "m.parquet")  # above the pictures: relative
    assert Manifest.read(tmp_path / "m.parquet").table["image"].to_pylist()[1]["path"] == "data/in/b.png"
    manifest(root=tmp_path / "data").write(tmp_path / "elsewhere" / "m.parquet")  # beside them: absolute
    paths = [
        place["path"]
        for place in Manifest.read(tmp_path / "elsewhere" / "m.parquet").table["image"].to_pylist()
    ]
    assert paths[1] == str(tmp_path / "data/in/b.png")


def test_fingerprint_sees_ids_captions_places_and_order_but_not_the_folder():
    reference = manifest().fingerprint()
    assert len(reference) == 16
    assert int(reference, 16) >= 0
    assert manifest(root=Path("/elsewhere")).fingerprint() == reference
    assert manifest(fields={}).fingerprint() == reference
    changed = [
        manifest(ids=["a", "b", "c", "e"]),
        manifest(
            captions=[["a dog"], ["two cats"], ["cats", "a dog"], ["the sea"]]
        ),  # the same texts, divided otherwise
        manifest(captions=[["a dogt"], ["wo cats", "cats"], ["a dog"], ["the sea"]]),
        manifest(
            images=image_places(
                ["a.png", "in/b.png", "s.tar", "p.parquet"],
                offsets=[None, None, 1024, None],
                lengths=[None, None, 99, None],
            )
        ),
        manifest().take([1, 0, 2, 3]),
    ]
    assert len({reference, *(one.fingerprint() for one in changed)}) == 6


def test_concatenation_keeps_fields_and_tells_ids_apart():
    other = manifest(
        ids=["a", "x", "y", "z"],
        fields={"size": [0.5, 1, 2, 3], "tags": ["p", "q", None, "r"]},
        name="runs/other.csv",
    )
    both = concatenate([manifest(), other])
    assert both.ids == ["four/a", "four/b", "four/c", "four/d", "other/a", "other/x", "other/y", "other/z"]
    assert both.field("size") == [1.0, 2.0, None, 3.0, 0.5, 1.0, 2.0, 3.0]
    assert both.field("tags") == [["x", "y"], [], ["y"], None, ["p"], ["q"], None, ["r"]]
    assert both.field("split") == ["train", "train", "test", None, None, None, None, None]
    assert concatenate([manifest(), manifest(ids=["e", "f", "g", "h"])]).ids == list("abcdefgh")


def test_concatenation_of_kinds_that_do_not_mix_gives_text():
    assert concatenate(
        [
            manifest(fields={"f": [1, 2, 3, None]}),
            manifest(ids=list("efgh"), fields={"f": ["x", "1", None, "y"]}),
        ]
    ).field("f") == [
        "1",
        "2",
        "3",
        None,
        "x",
        "1",
        None,
        "y",
    ]


def test_an_id_leads_to_the_file_that_holds_its_image(tmp_path: Path):
    found = manifest(root=tmp_path)
    assert found.image_files(["c", "a"]) == [tmp_path / "s.tar", tmp_path / "a.png"]
    assert found.image_files([]) == []
    with pytest.raises(DataError, match=r"'x' \(1 of 2 ids\) is not in four; give ids of this data set"):
        found.image_files(["a", "x"])


def test_concatenation_of_folders_points_at_the_same_files(tmp_path: Path):
    both = concatenate([manifest(root=tmp_path / "one"), manifest(root=tmp_path / "two")])
    paths = [str(both.root / place["path"]) for place in both.table["image"].to_pylist()]
    assert paths[0] == str(tmp_path / "one/a.png")
    assert paths[5] == str(tmp_path / "two/in/b.png")


def test_a_field_with_a_reserved_name_steps_aside():
    assert manifest(fields={"captions": ["p", "q", "r", "s"]}).field("captions_") == ["p", "q", "r", "s"]


def test_what_is_not_a_manifest_is_refused(tmp_path: Path):
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(DataError, match="frugalclip data manifest PATH --out FILE"):
        Manifest.read(tmp_path / "text.parquet")
    good = manifest(root=tmp_path)
    pq.write_table(
        good.table.replace_schema_metadata({b"frugalclip.manifest": b"9"}), tmp_path / "new.parquet"
    )
    with pytest.raises(DataError, match="of version 9 as a manifest, expected 1"):
        Manifest.read(tmp_path / "new.parquet")
    pq.write_table(good.table.drop_columns(["captions"]), tmp_path / "less.parquet")
    with pytest.raises(DataError, match="without the column 'captions'"):
        Manifest.read(tmp_path / "less.parquet")
    pq.write_table(pa.concat_tables([good.table, good.table]), tmp_path / "twice.parquet")
    with pytest.raises(DataError, match="ids must be unique"):
        Manifest.read(tmp_path / "twice.parquet")


def test_a_manifest_of_paths_alone_is_read(tmp_path: Path):  # as another tool may write it
    image = pa.StructArray.from_arrays([pa.array(["a.png"])], ["path"])
    table = pa.table({"id": ["a"], "image": image, "captions": [["x"]]}).replace_schema_metadata(
        {b"frugalclip.manifest": b"1"}
    )
    pq.write_table(table, tmp_path / "m.parquet")
    assert Manifest.read(tmp_path / "m.parquet").table["image"].to_pylist()[0]["offset"] is None
