"""Class numbers and WordNet ids get their names from a list that lies near."""

import json
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frugalclip.core.errors import DataError
from frugalclip.sources.class_lists import class_names
from frugalclip.sources.open import open_data, read_source

LISTS = {
    "classnames.txt": "tabby cat\nsea_gull\n",
    "classes.txt": "0 tabby cat\n1 sea_gull\n",
    "labels.json": json.dumps(["tabby cat", "sea gull"]),
    "class_names.json": json.dumps({"0": "tabby cat", "1": "sea gull"}),
    "label_names.json": json.dumps({"sea gull": 1, "tabby cat": 0}),
    "labels_map.csv": "ClassId,Name\n0,tabby cat\n1,sea gull\n",
    "class_to_idx.json": json.dumps({"sea gull": 1, "tabby cat": 0}),
    "my_id2label.json": json.dumps({"0": "tabby cat", "1": "sea gull"}),
    "set.names": "tabby cat\nsea gull\n",
    "imagenet_class_index.json": json.dumps({"0": ["n0212", "tabby cat"], "1": ["n0213", "sea gull"]}),
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_integer_labels(tmp_path: Path, make: SimpleNamespace, name: str, form: str):
    make.images(tmp_path, "a.png", "b.png")
    make.put(tmp_path / name, LISTS[name])
    rows = [{"image": "a.png", "label": 1}, {"image": "b.png", "label": 0}]
    path = tmp_path / f"t.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif form == "jsonl":
        make.put(path, make.json_lines(*rows))
    else:
        make.put(path, "image,label\na.png,1\nb.png,0\n")
    manifest = open_data(path)
    assert manifest.captions() == [["sea gull"], ["tabby cat"]]
    assert manifest.field("label") == ["sea gull", "tabby cat"]
    assert manifest.where("label=sea gull").ids == ["a"]


def test_labels_beside_captions_and_other_names_of_the_column(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png", "b.png")
    make.put(tmp_path / "classes.txt", "cat\ndog\n")
    make.put(tmp_path / "lists/t.csv", "image,caption,class_id\na.png,my cat,0\nb.png,my dog,1\n")
    manifest = open_data(tmp_path / "lists/t.csv")
    assert manifest.captions() == [["my cat"], ["my dog"]]
    assert manifest.field("class_id") == ["cat", "dog"]


def test_numbers_without_names_are_no_captions(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.png", "b.png")
    path = make.put(tmp_path / "t.csv", "image,label\na.png,1\nb.png,2\n")
    with pytest.raises(DataError, match=r"class numbers in 'label' and no names; put classes.txt beside it"):
        open_data(path)
    make.put(tmp_path / "classes.txt", "cat\ndog\n")  # has no number 2: it is another data set's
    with pytest.raises(DataError, match="no names"):
        open_data(path)


@pytest.mark.parametrize("content", ["a.png 0\nb.png 1\nc.png 1\n", "0\n1\n1\n", "cat\ncat\ncat\n"])
def test_lists_of_other_things_name_no_class(tmp_path: Path, make: SimpleNamespace, content: str):
    make.put(tmp_path / "val_labels.txt", content)
    assert class_names(tmp_path, ["0", "1"]) == {}


def test_wordnet_ids_and_equal_first_names(tmp_path: Path, make: SimpleNamespace):
    words = "n02012849\tcrane, bird\nn03126707\tcrane, machine\nn01443537\tgoldfish, Carassius auratus\n"
    make.put(tmp_path / "words.txt", words)
    assert class_names(tmp_path / "train", ["n01443537", "n02012849"]) == {
        "n01443537": ["goldfish", "Carassius auratus"],
        "n02012849": ["crane", "bird"],
    }
    both = class_names(tmp_path, ["n03126707", "n02012849"])
    assert [names[0] for names in both.values()] == ["crane, machine", "crane, bird"]
    assert class_names(tmp_path, ["n09999999"]) == class_names(tmp_path, ["cat"]) == {}
    make.images(tmp_path, "train/n01443537/a.JPEG", "train/n02012849/b.JPEG")
    source = read_source(tmp_path)
    assert source.manifest.field("label") == ["goldfish", "crane"]
    assert source.manifest.captions() == [["goldfish", "Carassius auratus"], ["crane", "bird"]]
    assert source.manifest.field("split") == ["train", "train"]


def test_folders_with_the_numbers_of_classes(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "0/a.png", "1/b.png")
    assert open_data(tmp_path).field("label") == ["0", "1"]
    make.put(tmp_path / "classnames.txt", "cat\ndog\n")
    assert open_data(tmp_path).field("label") == ["cat", "dog"]
