"""Saved data sets: `saved_by_datasets` was written by `datasets` 5.2.0, the others are made in its form."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frugalclip.core.errors import DataError
from frugalclip.data.image_reader import ImageReader
from frugalclip.sources.open import open_data, read_source

REAL = Path(__file__).parent / "saved_by_datasets"


def colours(manifest: Any) -> list[int]:
    """The red of every picture: `saved` gives picture i the red 10 * i."""
    reader = ImageReader(manifest)
    pixels = [reader.image(row).getpixel((0, 0)) for row in range(len(manifest))]
    return [pixel[0] for pixel in pixels]  # pyright: ignore[reportIndexIssue, reportOptionalSubscript]


def saved(
    folder: Path,
    make: SimpleNamespace,
    *,
    rows: int = 7,
    shards: int = 2,
    indices: list[int] | None = None,
    **columns: list[Any],
) -> Path:
    """A folder as `save_to_disk` writes it: streams with two rows a batch."""
    folder.mkdir(parents=True)
    images = [{"bytes": make.encoded((10 * row, 0, 0)), "path": None} for row in range(rows)]
    columns = {"image": images, "caption": [f"picture {row}" for row in range(rows)]} | columns
    features = {"label": {"_type": "ClassLabel", "names": ["cat", "sea_gull"]}} if "label" in columns else {}
    table = pa.table(columns).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    names = [f"data-{shard:05d}-of-{shards:05d}.arrow" for shard in range(shards)]
    for name, part in zip(names, np.array_split(np.arange(rows), shards), strict=True):
        stream(folder / name, table.slice(part[0], len(part)))
    state: dict[str, Any] = {"_data_files": [{"filename": name} for name in names]}
    if indices is not None:
        stream(folder / "indices.arrow", pa.table({"indices": pa.array(indices, pa.uint64())}))
        state["_indices_data_files"] = [{"filename": "/somewhere/else/indices.arrow"}]
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def stream(path: Path, table: pa.Table, **options: Any) -> None:
    with path.open("wb") as file, pa.ipc.new_stream(file, table.schema, **options) as writer:
        writer.write_table(table, max_chunksize=2)


def test_what_the_library_itself_wrote():
    source = read_source(REAL)
    assert source.kind == "a saved Hugging Face dataset"
    manifest = source.manifest
    assert manifest.ids == ["train/0", "train/1", "train/2", "test/0"]
    assert manifest.captions() == [[f"one {row}", f"two {row}"] for row in range(4)]
    assert manifest.field("label") == ["cat", "sea_gull", "sea_gull", None]
    assert manifest.field("kinds") == [[], ["a"], ["b", "a"], None]
    assert manifest.field("split") == ["train", "train", "train", "test"]
    assert manifest.weights().tolist() == [1, 0.5, 0, 2]
    assert [ImageReader(manifest).image(row).size for row in (3, 0, 2, 1)] == [
        (11, 6),
        (8, 6),
        (10, 6),
        (9, 6),
    ]
    assert open_data(REAL / "train").ids == ["0", "1", "2"]


def test_images_are_ranges_of_the_files_in_any_order(tmp_path: Path, make: SimpleNamespace):
    manifest = open_data(saved(tmp_path / "d", make, n=list(range(7))))
    assert manifest.field("n") == list(range(7))
    places = manifest.table["image"].to_pylist()
    assert {place["path"] for place in places} == {"data-00000-of-00002.arrow", "data-00001-of-00002.arrow"}
    assert all(place["offset"] > 0 and place["row"] is None for place in places)
    assert colours(manifest) == [0, 10, 20, 30, 40, 50, 60]
    assert colours(manifest.take([5, 0, 3])) == [50, 0, 30]
    manifest.write(tmp_path / "elsewhere/m.parquet")
    assert colours(open_data(tmp_path / "elsewhere/m.parquet")) == [0, 10, 20, 30, 40, 50, 60]


def test_a_selection_of_rows_is_honoured(tmp_path: Path, make: SimpleNamespace):
    source = read_source(saved(tmp_path / "d", make, indices=[6, 0, 3, 3]))
    assert source.manifest.captions() == [["picture 6"], ["picture 0"], ["picture 3"], ["picture 3"]]
    assert source.manifest.ids == ["0", "1", "2", "3"]
    assert colours(source.manifest) == [60, 0, 30, 30]
    assert source.notes == ["the data set selects 4 of 7 rows, in an order of its own"]
    with pytest.raises(DataError, match="selects row 7 of 7; its indices belong to other files"):
        open_data(saved(tmp_path / "e", make, indices=[0, 7]))


def test_rows_without_image_or_caption_are_in_the_ledger(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path / "d/in", "far.png")
    (tmp_path / "d").rename(tmp_path / "parts")
    images = [
        {"bytes": make.encoded((70, 0, 0)), "path": "x.png"},
        None,
        {"bytes": None, "path": None},
        {"bytes": None, "path": "in/far.png"},
    ]
    images += [
        {"bytes": None, "path": "in/gone.png"},
        {"bytes": None, "path": "../x.png"},
        {"bytes": make.encoded((90, 0, 0)), "path": None},
    ]
    folder = saved(tmp_path / "d", make, image=images, caption=["a", "b", "c", "d", "e", "f", " "])
    (tmp_path / "parts/in").rename(folder / "in")
    source = read_source(folder)
    assert source.manifest.captions() == [["a"], ["d"]]
    assert ImageReader(source.manifest).image(1).size == (8, 6)
    found = [(fault.id, fault.reason) for fault in source.ledger.entries]
    assert found == [
        ("1", "no-image"),
        ("2", "no-image"),
        ("4", "missing-file"),
        ("5", "outside-folder"),
        ("6", "no-caption"),
    ]
    assert source.seen == 7


def test_classes_caption_a_data_set_that_has_nothing_else(tmp_path: Path, make: SimpleNamespace):
    manifest = open_data(
        saved(tmp_path / "d", make, caption=[None] * 7, label=[0, 1, 1, 0, 1, 0, 1]),
        columns={"caption": "label"},
    )
    assert manifest.captions()[:2] == [["cat"], ["sea gull"]]
    folder = saved(tmp_path / "e", make, rows=2, shards=1, label=[1, 0], fine=[3, 4])
    table = (
        pa.ipc.open_stream((folder / "data-00000-of-00001.arrow").read_bytes()).read_all().drop(["caption"])
    )
    stream(folder / "data-00000-of-00001.arrow", table)
    manifest = open_data(folder)
    assert manifest.captions() == [["sea gull"], ["cat"]]
    assert manifest.field("label") == ["sea_gull", "cat"]
    assert manifest.field("fine") == [3, 4]


def test_the_librarys_cache_and_single_files(tmp_path: Path, make: SimpleNamespace):
    folder = saved(tmp_path / "d", make, rows=4)
    (folder / "state.json").unlink()
    (folder / "data-00000-of-00002.arrow").rename(folder / "pets-train.arrow")
    (folder / "data-00001-of-00002.arrow").rename(folder / "pets-test-00000-of-00001.arrow")
    stream(folder / "cache-1234.arrow", pa.table({"image": ["of", "map"]}))
    manifest = open_data(folder)
    assert sorted(zip(manifest.field("split"), (texts[0] for texts in manifest.captions()), strict=True)) == [
        ("test", "picture 2"),
        ("test", "picture 3"),
        ("train", "picture 0"),
        ("train", "picture 1"),
    ]
    assert colours(open_data(folder / "pets-train.arrow")) == [0, 10]
    table = pa.ipc.open_stream((folder / "pets-train.arrow").read_bytes()).read_all()
    with pa.OSFile(str(folder / "whole.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    assert colours(open_data(folder / "whole.arrow")) == [0, 10]


def test_images_as_paths_beside_the_data_set(tmp_path: Path, make: SimpleNamespace):
    folder = saved(tmp_path / "d", make, rows=3, image=["a.png", "b.png", "c.png"])
    make.images(folder, "a.png", "b.png")
    source = read_source(folder)
    assert source.manifest.ids == ["a", "b"]
    assert [fault.reason for fault in source.ledger.entries] == ["missing-file"]


def test_damaged_data_sets_say_what_to_do(tmp_path: Path, make: SimpleNamespace):
    folder = saved(tmp_path / "d", make)
    whole = (folder / "data-00001-of-00002.arrow").read_bytes()
    (folder / "data-00001-of-00002.arrow").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        DataError, match=r"data-00001-of-00002.arrow cannot be read as Arrow .*copy the data set again"
    ):
        open_data(folder)
    (folder / "data-00001-of-00002.arrow").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read as Arrow"):
        open_data(folder)
    (folder / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(
        DataError,
        match=r"data-00001-of-00002.arrow is not there, which state.json names \(1 of 2 are missing\)",
    ):
        open_data(folder)
    (folder / "state.json").write_text("{")
    with pytest.raises(DataError, match=r"state.json cannot be read"):
        open_data(folder)
    table = pa.table({"image": [make.encoded()] * 20, "caption": ["x"] * 20})
    stream(tmp_path / "packed.arrow", table, options=pa.ipc.IpcWriteOptions(compression="zstd"))
    with pytest.raises(
        DataError, match=r"packed.arrow is compressed, .* write it with: dataset.save_to_disk"
    ):
        open_data(tmp_path / "packed.arrow")
    (tmp_path / "dict").mkdir()
    (tmp_path / "dict/dataset_dict.json").write_text('{"splits": ["train"]}')
    with pytest.raises(DataError, match="has no folder 'train'"):
        open_data(tmp_path / "dict")
    (tmp_path / "dict/dataset_dict.json").write_text('{"splits": ["../d"]}')
    with pytest.raises(DataError, match="names no splits"):
        open_data(tmp_path / "dict")


def hub(folder: Path, make: SimpleNamespace, *names: str) -> Path:
    for number, name in enumerate(names):
        table = pa.table(
            {
                "image": [{"bytes": make.encoded((10 * number, 0, 0)), "path": None}] * 2,
                "text": [f"{name} {i}" for i in range(2)],
            }
        )
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / name)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / ".gitattributes").write_text("*.parquet filter=lfs\n")
    return folder


def test_folders_of_the_hub(tmp_path: Path, make: SimpleNamespace):
    names = [f"data/train-{i:05d}-of-00003.parquet" for i in range(3)] + [
        "data/validation-00000-of-00001.parquet"
    ]
    source = read_source(hub(tmp_path / "pets", make, *names))
    assert source.kind == "a folder with 4 files, each a Parquet table"
    assert source.manifest.field("split") == ["train"] * 6 + ["validation"] * 2
    assert source.manifest.captions()[0] == ["data/train-00000-of-00003.parquet 0"]
    assert colours(source.manifest) == [0, 0, 10, 10, 20, 20, 30, 30]
    manifest = open_data(
        hub(tmp_path / "converted", make, "default/test/0000.parquet", "default/train/0000.parquet")
    )
    assert manifest.field("split") == ["test", "test", "train", "train"]
    assert len(set(manifest.ids)) == 4


def test_several_configurations_of_the_hub_ask_which(tmp_path: Path, make: SimpleNamespace):
    folder = hub(
        tmp_path / "pets", make, "cats/train-00000-of-00001.parquet", "dogs/train-00000-of-00001.parquet"
    )
    with pytest.raises(DataError, match=r"holds 2 configurations \(.*cats, .*dogs\); give the one meant"):
        open_data(folder)
    assert len(open_data(folder / "cats")) == 2


def test_a_folder_of_images_stays_one(tmp_path: Path, make: SimpleNamespace):
    hub(tmp_path / "pets", make, "tables/x.parquet")
    make.images(tmp_path / "pets", "cat/a.png", "dog/b.png")
    assert read_source(tmp_path / "pets").kind == "class folders"
