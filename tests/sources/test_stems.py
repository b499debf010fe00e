"""Tables that name images without the ending of their files."""

import json
from pathlib import Path

import pytest
from PIL import Image

from frugalclip.core.errors import DataError
from frugalclip.data.statistics import image_statistics
from frugalclip.sources.open import open_data

COUNT = 4


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four images in a folder beside where tables are written."""
    (tmp_path / "photos").mkdir()
    for i in range(COUNT):
        Image.new("RGB", (8, 8), (60 * i, 9, 9)).save(tmp_path / "photos" / f"10{i}.jpg")
    return tmp_path


@pytest.mark.parametrize("column", ["image", "image_id", "img_id", "filename"])
@pytest.mark.parametrize("folder", ["", "photos/"])
def test_images_are_found_by_names_without_endings(photos: Path, column: str, folder: str):
    rows = "".join(f"{folder}10{i},a dog {i}\n" for i in range(COUNT))
    (photos / "captions.csv").write_text(f"{column},caption\n{rows}")
    found = open_data(photos / "captions.csv")
    assert [row[0] for row in found.captions()] == [f"a dog {i}" for i in range(COUNT)]
    assert not image_statistics(found, range(COUNT), decoded=True).faults


def test_numbers_of_images_are_names_too(photos: Path):
    rows = [{"image_id": 100 + i, "caption": f"a dog {i}"} for i in range(COUNT)]
    (photos / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert len(open_data(photos / "captions.jsonl")) == COUNT


def test_a_name_that_two_images_share_and_one_that_none_has_are_missing(photos: Path):
    Image.new("RGB", (8, 8)).save(photos / "photos" / "100.png")
    rows = "".join(f"{name},a dog\n" for name in ("100", "101", "999"))
    (photos / "captions.csv").write_text(f"image,caption\n{rows}")
    assert open_data(photos / "captions.csv").ids == ["101"]


def test_files_without_endings_stay_what_they_are(photos: Path):
    (photos / "photos" / "101.jpg").rename(photos / "photos" / "101")
    (photos / "captions.csv").write_text("image,caption\nphotos/101,a dog\nphotos/102,a cat\n")
    assert len(open_data(photos / "captions.csv")) == 2


RECORDS = [
    {"question": "what is it?", "answer": "dog"},
    {"question": "what is it?", "answers": ["dog", "a dog"]},
    {"question": "what is it?", "answers": [{"answer": "dog", "answer_id": 1}]},
    {"question": "what is it?", "multiple_choice_answer": "dog", "question_id": 7},
    {"questions": "what is it?", "answers": "it is a brown dog on a lawn"},
]


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("ending", ["jsonl", "json", "csv"])
def test_questions_are_refused_with_the_columns_named(photos: Path, record: dict, ending: str):
    rows = [{"image": f"photos/10{i}.jpg", **record} for i in range(COUNT)]
    table, (question, answers, *_) = photos / f"pairs.{ending}", record
    if ending == "csv":
        lines = [",".join(f'"{value}"' for value in row.values()) for row in rows]
        table.write_text("\n".join([",".join(rows[0]), *lines]))
    else:
        table.write_text("\n".join(map(json.dumps, rows)) if ending == "jsonl" else json.dumps(rows))
    with pytest.raises(DataError, match=rf"has questions in '{question}' and answers in '{answers}'"):
        open_data(table)
    named = open_data(table, columns={"caption": question})
    assert named.captions()[0] == ["what is it?"]


def test_captions_beside_questions_win(photos: Path):
    rows = [{"image": f"photos/10{i}.jpg", **RECORDS[0], "caption": "a dog"} for i in range(COUNT)]
    (photos / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert open_data(photos / "pairs.jsonl").captions()[0] == ["a dog"]
