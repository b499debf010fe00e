"""Remarks on a validation set: what is repeated, shared with training, or blank, counted by hand."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frugalclip.data import repeats
from frugalclip.data.manifest import Manifest, image_places, make_manifest
from frugalclip.data.repeats import validation_remarks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(8):
        Image.fromarray(rng.integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    Image.new("RGB", (9, 9), "white").save(tmp_path / "white.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return tmp_path


def rows(folder: Path, files: list[str], captions: list[str] | None = None) -> Manifest:
    ids = [f"{file}-{place}" for place, file in enumerate(files)]
    captions = captions or [f"caption {id}" for id in ids]
    return make_manifest(
        ids=ids,
        images=image_places([f"{file}.png" for file in files]),
        captions=[[text] for text in captions],
        root=folder,
        name="m",
    )


def test_a_clean_set_gets_no_remark(folder: Path):
    assert list(validation_remarks(rows(folder, ["0", "1", "2"]), rows(folder, ["3", "4", "broken"]))) == []


def test_repeated_shared_and_blank_images_are_counted(folder: Path):
    training = rows(folder, ["0", "1", "2", "broken"])
    validation = rows(folder, ["1", "1", "3", "white", "white", "broken"])
    repeated, shared, blank = validation_remarks(training, validation)
    assert repeated == "2 of 6 validation images repeat another one byte for byte"
    assert shared.startswith("3 of 6 validation images are trained on too (such as 1-0, which is 1-1); ")
    assert blank.startswith("2 of 6 validation images are of one colour (such as white-3); ")


def test_a_caption_of_most_rows_is_named(folder: Path):
    captions = ["nothing to see"] * 6 + ["a", "b", "c", "d"]
    validation = rows(folder, ["3"] * 10, captions)
    first = next(iter(validation_remarks(rows(folder, ["0"]), validation)))
    assert first == (
        "6 of 10 validation rows have the caption 'nothing to see': a model that always gives it "
        "names 60 % right"
    )


def test_classes_of_equal_size_are_no_repetition(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(repeats, "ROWS_READ", 0)
    captions = [f"class {place % 3}" for place in range(30)]
    assert list(validation_remarks(rows(folder, ["0"]), rows(folder, ["1"] * 30, captions))) == []
