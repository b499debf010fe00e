"""Annotation files as they are downloaded, given by name and by their folder: captions, splits, fields."""

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from frugalclip.core.errors import DataError
from frugalclip.data.image_reader import ImageReader
from frugalclip.sources.base import Source
from frugalclip.sources.open import open_data, read_source


def pairs(source: Source) -> dict[str, list[str]]:
    """Name of the image's file -> captions; every image can be read."""
    reader = ImageReader(source.manifest)
    for row in range(len(source.manifest)):
        reader.image(row)
    names = [reader.path(row).name for row in range(len(source.manifest))]
    return dict(zip(names, source.manifest.captions(), strict=True))


def coco(*names: str, first: int = 1) -> str:
    """COCO's captions of files: two for each, not in order, and one of an image that is not listed."""
    images = [{"id": first + i, "file_name": name, "height": 6, "width": 8} for i, name in enumerate(names)]
    annotations = [
        {"image_id": image["id"], "id": 10 * n + image["id"], "caption": f"{which} of {image['file_name']}"}
        for n, which in enumerate(("one", "two"))
        for image in reversed(images)
    ]
    return json.dumps({"info": {}, "licenses": [], "images": images, "annotations": annotations})


@pytest.fixture
def coco_folder(tmp_path: Path, make: SimpleNamespace) -> Path:
    make.images(tmp_path, "train2014/t1.jpg", "train2014/t2.jpg", "val2014/v1.jpg")
    make.put(tmp_path / "annotations/captions_train2014.json", coco("t1.jpg", "t2.jpg", "gone.jpg"))
    make.put(tmp_path / "annotations/captions_val2014.json", coco("v1.jpg", first=7))
    make.put(tmp_path / "annotations/instances_val2014.json", "{}" * 10)
    return tmp_path


def test_coco_captions_by_folder(coco_folder: Path):
    source = read_source(coco_folder)
    assert pairs(source) == {
        name: [f"one of {name}", f"two of {name}"] for name in ("t1.jpg", "t2.jpg", "v1.jpg")
    }
    assert source.manifest.field("split") == ["train", "train", "val"]
    assert source.manifest.field("image_id") == [1, 2, 7]
    assert source.ledger.counts() == {"missing-file": 1}
    assert source.kind == "a folder with 2 files, each COCO captions"
    assert len(open_data(coco_folder, where="split=train")) == 2


@pytest.mark.parametrize("name", ["annotations/captions_val2014.json", "annotations/captions_*.json"])
def test_coco_captions_by_name(coco_folder: Path, name: str):
    source = read_source(coco_folder / name)
    assert pairs(source)["v1.jpg"] == ["one of v1.jpg", "two of v1.jpg"]
    assert open_data(coco_folder / name, where="split=val").field("image_id") == [7]


def test_coco_annotations_win_over_the_folder_name(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "val2014/v1.jpg", "val2014/v2.jpg")
    make.put(tmp_path / "captions_val2014.json", coco("v1.jpg", "v2.jpg"))
    make.put(tmp_path / "captions_train2014.json", coco("t1.jpg"))  # whose pictures were not downloaded
    source = read_source(tmp_path)
    assert set(pairs(source)) == {"v1.jpg", "v2.jpg"}
    assert source.seen == 2
    assert any(note.startswith("left out: ") and "captions_train2014.json" in note for note in source.notes)


def test_coco_instances_alone_give_categories(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "val2017/a.jpg", "val2017/b.jpg")
    record = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [{"image_id": 1, "category_id": c, "bbox": [0, 0, 1, 1]} for c in (3, 5, 3)],
        "categories": [{"id": 3, "name": "traffic light"}, {"id": 5, "name": "dog"}],
    }
    make.put(tmp_path / "annotations/instances_val2017.json", json.dumps(record))
    source = read_source(tmp_path)
    assert pairs(source) == {"a.jpg": ["traffic light", "dog"]}
    assert source.manifest.field("categories") == [["traffic light", "dog"]]
    assert source.manifest.where("categories=dog").field("split") == ["val"]
    assert source.ledger.counts() == {"no-caption": 1}


def test_coco_that_contradicts_itself(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.jpg")
    record = json.loads(coco("a.jpg"))
    record["annotations"].append({"image_id": 99, "caption": "of nothing"})
    source = read_source(make.put(tmp_path / "captions.json", json.dumps(record)))
    assert source.ledger.counts() == {"no-image": 1}
    record["images"].append({"file_name": 3})
    with pytest.raises(DataError, match=r"images\[1\] is not"):
        read_source(make.put(tmp_path / "captions.json", json.dumps(record)))


def karpathy(path: str | None) -> str:
    images: list[dict[str, Any]] = [
        {
            **({"filepath": path} if path else {}),
            "filename": f"{split}.jpg",
            "split": split,
            "imgid": number,
            "sentences": [{"raw": f"{word} {split} .", "tokens": [word, split]} for word in ("a", "the")],
        }
        for number, split in enumerate(("train", "restval", "test"))
    ]
    return json.dumps({"images": images, "dataset": "coco"})


@pytest.mark.parametrize("path", ["val2014", None])
@pytest.mark.parametrize("place", ["", "annotations/"])
def test_karpathy(tmp_path: Path, make: SimpleNamespace, path: str | None, place: str):
    make.images(tmp_path / (path or "images"), "train.jpg", "restval.jpg", "test.jpg")
    file = make.put(tmp_path / f"{place}dataset_coco.json", karpathy(path))
    for given in (file, tmp_path):
        source = read_source(given)
        assert pairs(source)["restval.jpg"] == ["a restval .", "the restval ."]
        assert source.manifest.field("split") == ["train", "restval", "test"]
        assert source.manifest.field("imgid") == [0, 1, 2]
        assert len(open_data(given, where="split=train|restval")) == 2
        assert any("split=train|restval" in note for note in source.notes)


def test_flickr_tokens_with_lists_of_splits(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path / "Flicker8k_Dataset", "a.jpg", "b.jpg")
    rows = ["a.jpg#0\tA dog .", "a.jpg#1\tA hound runs .", "b.jpg#0\tThe sea .", "c.jpg#0\tGone .", "no tab"]
    token = make.put(tmp_path / "Flickr8k.token.txt", "\n".join(rows) + "\n")
    make.put(tmp_path / "Flickr8k.lemma.token.txt", "a.jpg#0\tlemma dog\n")
    make.put(tmp_path / "Flickr_8k.trainImages.txt", "a.jpg\nc.jpg\n")
    make.put(tmp_path / "Flickr_8k.devImages.txt", "b.jpg\n")
    make.put(tmp_path / "ExpertAnnotations.txt", "x.jpg\ty.jpg#2\t1\t1\t1\n")
    for given in (token, tmp_path):
        source = read_source(given)
        assert pairs(source) == {"a.jpg": ["A dog .", "A hound runs ."], "b.jpg": ["The sea ."]}
        assert source.manifest.field("split") == ["train", "dev"]
        assert source.ledger.counts() == {"missing-file": 1, "wrong-columns": 1}


def test_flickr30k_as_published(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path / "flickr30k-images", "1000.jpg", "2000.jpg")
    make.put(
        tmp_path / "results_20130124.token", "1000.jpg#0\tTwo men .\n1000.jpg#1\tMen .\n2000.jpg#0\tSea .\n"
    )
    make.put(tmp_path / "readme.txt", "about\n")
    assert pairs(read_source(tmp_path)) == {"1000.jpg": ["Two men .", "Men ."], "2000.jpg": ["Sea ."]}


def test_flickr30k_as_kaggle_packs_it(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path / "flickr30k_images", "1000.jpg", "2000.jpg")
    rows = "1000.jpg| 0| Two men .\n1000.jpg| 1| Men .\n2000.jpg| 0| Sea .\n"
    rows = f"image_name| comment_number| comment\n{rows}"
    make.put(tmp_path / "results.csv", rows)
    source = read_source(tmp_path)
    assert pairs(source) == {"1000.jpg": ["Two men .", "Men ."], "2000.jpg": ["Sea ."]}
    assert "label" not in source.manifest.field_names


def test_flickr8k_as_kaggle_packs_it(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path / "Images", "1.jpg", "2.jpg")
    make.put(
        tmp_path / "captions.txt", 'image,caption\n1.jpg,"A dog , running ."\n1.jpg,Dog .\n2.jpg,Sea .\n'
    )
    for given in (tmp_path, tmp_path / "captions.txt"):
        assert pairs(read_source(given)) == {"1.jpg": ["A dog , running .", "Dog ."], "2.jpg": ["Sea ."]}


MAPPINGS: dict[str, Any] = {
    "captions": {"in/a.jpg": ["a dog", "a hound"], "in/b.jpg": ["the sea"]},
    "text": {"in/a.jpg": "a dog", "in/b.jpg": "the sea"},
    "languages": {"in/a.jpg": {"en": "a dog", "de": "Hund"}, "in/b.jpg": {"en": "the sea"}},
    "records": {"in/a.jpg": {"caption": "a dog", "split": "train"}, "in/b.jpg": {"caption": "the sea"}},
    "rows": {
        "info": {"x": 1},
        "data": [{"image": "in/a.jpg", "caption": "a dog"}, {"image": "in/b.jpg", "caption": "the sea"}],
    },
    "splits": {
        "train": [{"image": "in/a.jpg", "caption": "a dog"}],
        "test": [{"image": "in/b.jpg", "caption": "the sea"}],
    },
}


@pytest.mark.parametrize("form", MAPPINGS)
@pytest.mark.parametrize("indent", [None, 2])
def test_json_objects(tmp_path: Path, make: SimpleNamespace, form: str, indent: int | None):
    make.images(tmp_path, "in/a.jpg", "in/b.jpg")
    file = make.put(tmp_path / "captions.json", json.dumps(MAPPINGS[form], indent=indent))
    for given in (file, tmp_path):
        source = read_source(given)
        found = pairs(source)
        assert found["b.jpg"] == ["the sea"]
        assert found["a.jpg"] == (["a dog", "a hound"] if form == "captions" else ["a dog"])
        if form == "languages":
            assert source.manifest.captions(language="de") == [["Hund"], []]
        if form in ("records", "splits"):
            assert source.manifest.where("split=train").ids == ["in/a"]


def test_llava_json_by_folder(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "images/00453/a.jpg", "images/00454/b.jpg")
    turns = [{"from": "human", "value": "<image>\nDescribe."}, {"from": "gpt", "value": "a red bus"}]
    rows = [{"id": f"{n}", "image": f"0045{n}/{'ab'[n - 3]}.jpg", "conversations": turns} for n in (3, 4)]
    make.put(tmp_path / "blip_laion_cc_sbu_558k.json", json.dumps(rows))
    source = read_source(tmp_path)
    assert pairs(source) == {"a.jpg": ["a red bus"], "b.jpg": ["a red bus"]}
    assert source.kind == "a folder with a JSON list"
    assert source.manifest.field_names == []


def test_a_mapping_with_half_of_a_character_loses_that_row(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "a.jpg", "b.jpg")
    path = make.put(tmp_path / "m.json", '{"a.jpg": ["fine"], "b.jpg": ["\\ud800"]}')
    source = read_source(path)
    assert pairs(source) == {"a.jpg": ["fine"]}
    assert source.ledger.counts() == {"not-utf8": 1}


def test_json_beside_each_image_is_no_annotation_file(tmp_path: Path, make: SimpleNamespace):
    for name in "abc":
        make.images(tmp_path, f"{name}.jpg")
        make.put(tmp_path / f"{name}.json", json.dumps({"caption": name * 3, "other.jpg": ["x"]}))
    assert read_source(tmp_path).manifest.captions() == [["aaa"], ["bbb"], ["ccc"]]


HOSTILE: list[Any] = [
    None,
    0,
    True,
    "",
    "\ud800",
    [],
    {},
    [None],
    {"a": 1},
    10**30,
    "[1,2]",
    float("nan"),
    "\0",
]
HOSTILE += ["../x.png", "file://", "E:\\x", {"en": "q"}, [[["deep"]]], ["a.jpg", "b.jpg"]]


def mutated(value: Any, generator: random.Random) -> Any:
    """JSON with one value replaced or taken away."""
    value = node = json.loads(json.dumps(value))
    while True:
        key = generator.choice(list(node)) if isinstance(node, dict) else generator.randrange(len(node))
        if not (isinstance(node[key], (dict, list)) and node[key]) or generator.random() < 0.2:
            break
        node = node[key]
    if generator.random() < 0.8:
        node[key] = generator.choice(HOSTILE)
    else:
        del node[key]
    return value


def test_damaged_annotations_give_samples_or_a_sentence(tmp_path: Path, make: SimpleNamespace):
    generator = random.Random(0)
    make.images(tmp_path, "in/a.jpg", "in/b.jpg")
    coco_instances = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [{"image_id": 1, "category_id": 3}, {"image_id": 2, "category_id": 3}],
        "categories": [{"id": 3, "name": "dog"}],
    }
    turns = [{"from": "human", "value": "?"}, {"from": "gpt", "value": "a bus"}]
    whole = [json.loads(coco("a.jpg", "b.jpg")), coco_instances, json.loads(karpathy("in"))]
    whole += [*MAPPINGS.values(), [{"image": "in/a.jpg", "conversations": turns}] * 2]
    for turn in range(60):
        path = tmp_path / f"{turn}/captions.json"
        make.put(path, json.dumps(mutated(whole[turn % len(whole)], generator)))
        (path.parent / "in").symlink_to(tmp_path / "in")
        for given in (path, path.parent):
            try:
                source = read_source(given)
            except DataError:
                continue
            assert source.seen == len(source.manifest) + len(source.ledger.entries)
            assert all(caption for captions in source.manifest.captions() for caption in captions)


def test_a_folder_that_an_archive_was_unpacked_into(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path / "coco", "val2017/a.jpg")
    make.put(tmp_path / "coco/annotations/captions_val2017.json", coco("a.jpg"))
    source = read_source(tmp_path)
    assert pairs(source) == {"a.jpg": ["one of a.jpg", "two of a.jpg"]}
    assert source.manifest.name == str(tmp_path)


def test_coco_with_other_spellings(tmp_path: Path, make: SimpleNamespace):
    make.images(tmp_path, "images/a.jpg")
    record = {
        "images": [{"id": "7", "filename": "a.jpg"}],
        "annotations": [{"image_id": "7", "caption": "x"}],
    }
    make.put(tmp_path / "captions.json", json.dumps(record))
    assert pairs(read_source(tmp_path)) == {"a.jpg": ["x"]}
