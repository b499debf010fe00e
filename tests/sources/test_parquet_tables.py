"""Parquet as other programs write it: lists of one image, and times in nanoseconds."""

import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frugalclip.data.image_reader import ImageReader
from frugalclip.data.parquet_images import ParquetImages
from frugalclip.sources.open import open_data, read_source
from frugalclip.sources.parquet_tables import valid_text

HUB_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.mark.parametrize("kind", [HUB_IMAGE, pa.struct([("bytes", pa.binary())]), pa.binary()])
def test_a_list_of_one_image(tmp_path: Path, make: SimpleNamespace, kind: pa.DataType):
    colours = [(0, 0, 0), (50, 0, 0), (100, 0, 0), (150, 0, 0), (200, 0, 0)]
    encoded = [make.encoded(colour) for colour in colours]

    def item(data: bytes) -> Any:
        return data if kind == pa.binary() else {"bytes": data, "path": "x.png"}

    images = [[item(encoded[0])], [], [item(encoded[2]), item(encoded[3])], None, [item(encoded[4])]]
    table = pa.table(
        {"images": pa.array(images, pa.list_(kind)), "caption": ["one", "two", "three", "four", "five"]}
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    source = read_source(tmp_path / "t.parquet")
    assert source.manifest.captions() == [["one"], ["five"]]
    assert source.ledger.counts() == {"no-image": 2, "several-images": 1}
    reader = ImageReader(source.manifest)
    assert [reader.bytes(row) for row in (1, 0)] == [encoded[4], encoded[0]]
    source.manifest.write(tmp_path / "m.parquet")
    assert ImageReader(open_data(tmp_path / "m.parquet")).bytes(1) == encoded[4]


def test_whole_groups_of_lists_are_read_by_their_paths(tmp_path: Path, make: SimpleNamespace):
    rows = [[{"bytes": make.encoded((n, 0, 0)), "path": f"{n}.png"}] for n in range(4)]
    table = pa.table({"images": pa.array(rows, pa.list_(HUB_IMAGE)), "caption": ["a", "b", "c", "d"]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    manifest = open_data(tmp_path / "t.parquet")
    assert [ImageReader(manifest).image(row).getpixel((0, 0)) for row in range(4)] == [
        (n, 0, 0) for n in range(4)
    ]
    column = manifest.table["image"][0]["column"].as_py()
    assert ParquetImages().value(str(tmp_path / "t.parquet"), column, 3) == rows[3][0]["bytes"]


def test_a_list_of_one_path(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png", "b.png")
    table = pa.table({"images": [["a.png"], ["a.png", "b.png"], []], "caption": ["one", "two", "three"]})
    pq.write_table(table, tmp_path / "t.parquet")
    source = read_source(tmp_path / "t.parquet")
    assert source.manifest.captions() == [["one"]]
    assert source.ledger.counts() == {"no-image": 1, "several-images": 1}


def test_times_in_nanoseconds(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png")
    moment = 1_700_000_000_123_456_789
    table = pa.table(
        {
            "image": ["a.png"],
            "caption": ["one"],
            "taken": pa.array([moment], pa.timestamp("ns")),
            "zone": pa.array([moment], pa.timestamp("ns", "UTC")),
            "took": pa.array([1_500], pa.duration("ns")),
            "clock": pa.array([1_500], pa.time64("ns")),
            "inside": pa.array([{"taken": moment}], pa.struct([("taken", pa.timestamp("ns"))])),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    manifest = open_data(tmp_path / "t.parquet")
    taken = datetime.datetime(2023, 11, 14, 22, 13, 20, 123456)
    assert manifest.field("taken") == [taken]
    assert manifest.field("inside") == [{"taken": taken}]
    assert manifest.field("took") == [datetime.timedelta(microseconds=1)]
    assert len(manifest.codes("taken")) == 1
    manifest.write(tmp_path / "m.parquet")
    assert open_data(tmp_path / "m.parquet").field("taken") == [taken]


def test_a_table_of_paths_beside_the_images_is_read(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png", "b.png")
    pq.write_table(pa.table({"id": ["x"], "score": [1.0]}), tmp_path / "a_scores.parquet")
    table = pa.table({"file_name": ["a.png", "b.png"], "text": ["one", "two"]})
    pq.write_table(table, tmp_path / "metadata.parquet")
    source = read_source(tmp_path)
    assert source.manifest.captions() == [["one"], ["two"]]
    assert source.kind == "a folder with a Parquet table"


def test_damaged_offsets_are_refused_and_not_followed():
    offsets = np.array([0, 99_999_999, 3], dtype=np.int32)
    column = pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(offsets), pa.py_buffer(b"a b")])
    nested = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), column)
    for damaged in (column, nested):
        with pytest.raises(pa.ArrowInvalid, match=r"out of bounds|ffset"):
            valid_text(pa.table({"caption": damaged}))
