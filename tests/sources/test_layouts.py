"""Folders as they are downloaded: splits in tars, tables in each split, Tiny-ImageNet, img2dataset."""

import json
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frugalclip.core.errors import DataError
from frugalclip.data.image_reader import ImageReader
from frugalclip.sources.base import Source
from frugalclip.sources.open import open_data, read_source


def rows(source: Source, *fields: str) -> dict[str, tuple[object, ...]]:
    """Last part of the id -> captions and fields; every image can be read."""
    manifest = source.manifest
    reader = ImageReader(manifest)
    assert all(reader.image(row).mode == "RGB" for row in range(len(manifest)))
    names = [id.rpartition("/")[2] for id in manifest.ids]
    columns = [manifest.captions(), *(manifest.field(name) for name in fields)]
    return dict(zip(names, zip(*columns, strict=True), strict=True))


# CLIP_benchmark


@pytest.fixture
def benchmark(tmp_path: Path, make: SimpleNamespace) -> Path:
    for split, start in (("train", 0), ("test", 1)):
        members: dict[str, bytes | str] = {}
        for number in range(2):
            members[f"s{number:07}.jpg"] = make.encoded((start * 90, number * 90, 0), kind="JPEG")
            members[f"s{number:07}.cls"] = str((start + number) % 2)
        make.tar(tmp_path / split / "0.tar", members)
        make.put(tmp_path / split / "nshards.txt", "1")
    make.put(tmp_path / "classnames.txt", "tabby cat\nsea_gull\n")
    make.put(tmp_path / "zeroshot_classification_templates.txt", "a photo of a {c}.\nart of the {c}.\n")
    return tmp_path


def test_split_tars_with_class_numbers(benchmark: Path):
    source = read_source(benchmark)
    manifest = source.manifest
    assert manifest.field("split") == ["train", "train", "test", "test"][::-1]
    assert manifest.where("split=test").field("label") == ["sea gull", "tabby cat"]
    assert manifest.where("split=train").captions() == [["tabby cat"], ["sea gull"]]
    assert manifest.field("cls") == [1, 0, 0, 1]
    assert ImageReader(manifest).image(0).size == (8, 6)
    assert any("--prompts" in note for note in source.notes)
    assert open_data(benchmark / "test/0.tar").field("label") == ["sea gull", "tabby cat"]


def test_split_tars_with_captions_of_several_lines(tmp_path: Path, make: SimpleNamespace):
    for split in ("train", "val"):
        members = {"0.png": make.encoded(), "0.txt": "a dog\na hound\n"}
        make.tar(tmp_path / f"data/{split}/0.tar", members)
    source = read_source(tmp_path / "data")
    assert source.manifest.captions() == [["a dog", "a hound"]] * 2
    assert source.manifest.ids == ["train/0", "val/0"]
    assert len(source.manifest.where("split=val")) == 1


# Keys of tars


def test_keys_with_dots_of_their_own(tmp_path: Path, make: SimpleNamespace):
    members: dict[str, bytes | str] = {}
    for number in range(8):
        members |= {
            f"22.{number:02}.png": make.encoded((number, 0, 0)),
            f"22.{number:02}.txt": f"row {number}",
        }
    source = read_source(make.tar(tmp_path / "t.tar", members))
    assert source.manifest.ids == [f"22.{number:02}" for number in range(8)]
    assert source.manifest.captions() == [[f"row {number}"] for number in range(8)]
    assert source.ledger.entries == []
    assert ImageReader(source.manifest).bytes(3) == members["22.03.png"]


def test_every_image_without_a_caption_counts(tmp_path: Path, make: SimpleNamespace):
    members = {f"22.{number:02}.png": make.encoded() for number in range(8)} | {
        "good.png": make.encoded(),
        "good.txt": "x",
    }
    source = read_source(make.tar(tmp_path / "t.tar", members))
    assert source.manifest.ids == ["good"]
    assert source.ledger.counts() == {"no-caption": 8}
    assert len(source.ledger.bad) == 8
    assert source.seen == 9


def test_names_that_share_the_key_only(tmp_path: Path, make: SimpleNamespace):
    members = {
        "a.image.png": make.encoded(),
        "a.caption.txt": "one",
        "b.png": make.encoded(),
        "b.depth.png": make.encoded(),
        "b.txt": "two",
        "c.v1.png": make.encoded(),
        "c.v1.txt": "three",
        "c.png": make.encoded(),
        "c.txt": "four",
    }
    source = read_source(make.tar(tmp_path / "t.tar", members))
    assert {name: texts for name, (texts,) in rows(source).items()} == {
        "a": ["one"],
        "b": ["two"],
        "c.v1": ["three"],
        "c": ["four"],
    }
    assert [(entry.id, entry.reason) for entry in source.ledger.entries] == [
        ("t.tar/b.depth.png", "another-image")
    ]
    assert source.ledger.bad == []


# Tables in each split


@pytest.mark.parametrize("above", ["", "data/"])
def test_a_table_in_each_split_wins_over_class_folders(tmp_path: Path, make: SimpleNamespace, above: str):
    root = tmp_path / above
    make.images(root, "train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "test/cat/4.png", "more/5.png")
    make.put(root / "train/metadata.csv", "file_name,text\ncat/1.png,my cat\ndog/2.png,my dog\n")
    make.put(root / "test/metadata.jsonl", make.json_lines({"file_name": "cat/3.png", "text": "her cat"}))
    source = read_source(tmp_path)
    assert rows(source, "split") == {
        "1": (["my cat"], "train"),
        "2": (["my dog"], "train"),
        "3": (["her cat"], "test"),
    }
    assert source.manifest.where("split=train").field("label") == ["cat", "dog"]
    assert [note for note in source.notes if "without a table" in note] == [
        f"folders without a table are not read: {above}more"
    ]


def test_tables_called_after_splits(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "images/1.png", "images/2.png")
    make.put(tmp_path / "train.csv", "image,caption\n1.png,one\n")
    make.put(tmp_path / "captions_val.csv", "image,caption\n2.png,two\n")
    make.put(tmp_path / "scores.csv", "model,score\na,1\n")
    source = read_source(tmp_path)
    assert rows(source, "split") == {"1": (["one"], "train"), "2": (["two"], "val")}


def test_labels_of_folders_stay_beside_the_captions_of_a_table(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "train/tabby_cat/1.png", "train/dog/images/2.png", "val/dog/3.png")
    table = "image,caption\ntrain/tabby_cat/1.png,mine\ntrain/dog/images/2.png,yours\nval/dog/3.png,hers\n"
    make.put(tmp_path / "captions.csv", table)
    for given in (tmp_path, tmp_path / "captions.csv"):
        manifest = open_data(given)
        assert manifest.field("label") == ["tabby cat", "dog", "dog"]
        assert manifest.field("split") == ["train", "train", "val"]
        assert manifest.captions() == [["mine"], ["yours"], ["hers"]]


def test_labels_of_the_table_win_over_folders(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a/1.png", "b/2.png")
    make.put(tmp_path / "t.csv", "image,caption,label\na/1.png,one,x\nb/2.png,two,y\n")
    assert open_data(tmp_path / "t.csv").field("label") == ["x", "y"]


# One class over everything


@pytest.mark.parametrize("folder", ["flickr30k images", "shop/2024"])
def test_a_single_class_over_everything_is_refused(tmp_path: Path, make: SimpleNamespace, folder: str):
    make.images(tmp_path, f"{folder}/1.png", f"{folder}/2.png")
    with pytest.raises(
        DataError, match=r"all in one folder '(flickr30k images|2024)', and no text: a single class"
    ):
        read_source(tmp_path)
    make.put(tmp_path / f"{folder}/1.txt", "one")
    source = read_source(tmp_path)
    assert source.manifest.captions() == [["one"]]
    assert source.ledger.counts() == {"no-caption": 1}


def test_folders_of_splits_with_a_year_are_no_classes(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "train2014/1.png", "val2014/2.png")
    with pytest.raises(DataError, match="2 images and no caption"):
        read_source(tmp_path)


def test_a_refused_folder_names_the_file_that_would_open(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "1.png", "2.png")
    for name in ("first", "second"):
        make.put(tmp_path / f"{name}.csv", "image,caption\n1.png,one\n")
    with pytest.raises(
        DataError, match=r"first.csv, second.csv in it may be.*frugalclip data check \S+first.csv"
    ):
        read_source(tmp_path)


# Tiny-ImageNet


@pytest.fixture
def tiny(tmp_path: Path, make: SimpleNamespace) -> Path:
    make.images(
        tmp_path, "train/n01443537/images/n01443537_0.JPEG", "train/n02124075/images/n02124075_0.JPEG"
    )
    make.images(tmp_path, "val/images/val_0.JPEG", "val/images/val_1.JPEG", "test/images/test_0.JPEG")
    make.put(tmp_path / "train/n01443537/n01443537_boxes.txt", "n01443537_0.JPEG\t0\t10\t63\t58\n")
    make.put(
        tmp_path / "val/val_annotations.txt",
        "val_0.JPEG\tn02124075\t0\t32\t44\t62\nval_1.JPEG\tn01443537\t5\n",
    )
    make.put(tmp_path / "wnids.txt", "n02124075\nn01443537\n")
    words = "n01443537\tgoldfish, Carassius auratus\nn02124075\tEgyptian cat\nn00000001\tother\n"
    make.put(tmp_path / "words.txt", words)
    return tmp_path


def test_tiny_imagenet(tiny: Path):
    goldfish = ["goldfish", "Carassius auratus"]
    source = read_source(tiny)
    assert rows(source, "label", "split", "wnid") == {
        "n01443537_0": (goldfish, "goldfish", "train", "n01443537"),
        "n02124075_0": (["Egyptian cat"], "Egyptian cat", "train", "n02124075"),
        "val_0": (["Egyptian cat"], "Egyptian cat", "val", "n02124075"),
        "val_1": (goldfish, "goldfish", "val", "n01443537"),
    }
    assert source.ledger.entries == []
    assert "test has no labels and is not read" in source.notes
    only = read_source(tiny / "val/val_annotations.txt")
    assert rows(only, "split") == {"val_0": (["Egyptian cat"], "val"), "val_1": (goldfish, "val")}


# img2dataset


@pytest.fixture
def download(tmp_path: Path, make: SimpleNamespace) -> Path:
    for shard in ("00000", "00001"):
        status = ["success", "failed_to_download"]
        keys = [f"{shard}{number:04}" for number in range(2)]
        listed = {
            "url": ["http://x.org/a.jpg"] * 2,
            "caption": ["a dog", "gone"],
            "key": keys,
            "status": status,
        }
        pq.write_table(pa.table(listed), tmp_path / f"{shard}.parquet")
        make.put(tmp_path / f"{shard}_stats.json", json.dumps({"count": 2, "successes": 1}))
        make.images(tmp_path, f"{shard}/{keys[0]}.jpg")
        make.put(tmp_path / f"{shard}/{keys[0]}.txt", "a dog")
        make.put(
            tmp_path / f"{shard}/{keys[0]}.json", json.dumps({"url": "http://x.org/a.jpg", "key": keys[0]})
        )
    return tmp_path


def test_files_of_img2dataset(download: Path):
    source = read_source(download)
    assert source.kind == "files of img2dataset"
    assert rows(source, "key") == {f"{n}0000": (["a dog"], f"{n}0000") for n in ("00000", "00001")}
    assert any("2 of 4 addresses could not be downloaded" in note for note in source.notes)
    one = read_source(download / "00001.parquet")
    assert one.manifest.field("url") == ["http://x.org/a.jpg"]
    assert one.manifest.captions() == [["a dog"]]


def test_an_image_of_img2dataset_without_caption_gets_no_class(download: Path):
    (download / "00000/000000000.txt").unlink()
    source = read_source(download)
    assert source.manifest.captions() == [["a dog"]]
    assert source.ledger.counts() == {"no-caption": 1}


def test_other_outputs_of_img2dataset(download: Path, make: SimpleNamespace):
    tars = download.parent / f"{download.name}-tars"
    make.tar(tars / "00000.tar", {"000000000.jpg": make.encoded(), "000000000.txt": "a dog"})
    (tars / "00000.parquet").write_bytes((download / "00000.parquet").read_bytes())
    make.put(tars / "00000_stats.json", "{}")
    assert open_data(tars).captions() == [["a dog"]]
    inside = download.parent / f"{download.name}-inside"
    table = pa.table(
        {"jpg": [make.encoded(), None], "caption": ["a dog", "gone"], "status": ["success", "failed"]}
    )
    inside.mkdir()
    pq.write_table(table, inside / "00000.parquet")
    make.put(inside / "00000_stats.json", "{}")
    assert open_data(inside).captions() == [["a dog"]]


# Given by name


@pytest.mark.parametrize("name", ["train/metadata.csv", "captions_train.csv", "train.csv"])
def test_a_table_by_name_has_its_split(tmp_path: Path, make: SimpleNamespace, name: str):
    make.images(tmp_path, "train/1.png", "1.png")
    make.put(tmp_path / name, "image,caption\n1.png,one\n")
    assert open_data(tmp_path / name, where="split=train").captions() == [["one"]]


def test_an_unknown_json_object_says_what_is_expected(tmp_path: Path, make: SimpleNamespace):
    path = make.put(tmp_path / "t.json", json.dumps({"model": {"layers": 3}, "note": "x"}, indent=1))
    with pytest.raises(DataError, match="one JSON object with the keys model, note; expected COCO's"):
        read_source(path)
    make.images(tmp_path, "a.png")
    one_line = make.put(tmp_path / "one.json", json.dumps({"image": "a.png", "caption": "a dog"}) + "\n")
    assert open_data(one_line).captions() == [["a dog"]]


def test_a_refused_folder_says_why_its_table_is_none(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png")
    make.put(tmp_path / "t.csv", "colour,size\nred,3\n")
    with pytest.raises(
        DataError, match=r"t.csv in it is no table of them: t.csv has no column that looks like"
    ):
        read_source(tmp_path)
