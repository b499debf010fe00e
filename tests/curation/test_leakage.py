"""Leaks of every kind are found, with the right kind, and clean rows are not."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from frugalclip.curation.leakage import caption_leaks, image_leaks, measured_images, summary_of
from frugalclip.curation.measures import ImageMeasures
from frugalclip.data.manifest import Manifest
from frugalclip.sources.open import open_data

from .test_near import drawing, saved

CHANGES = {
    "exact": lambda image: saved(image),
    "jpeg": lambda image: saved(image, "JPEG", quality=60),
    "half": lambda image: saved(image.resize((48, 48))),
    "cropped": lambda image: saved(image.crop((5, 5, 96, 96))),
    "turned": lambda image: saved(image.transpose(Image.Transpose.ROTATE_90)),
    "mirrored": lambda image: saved(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
}
KINDS = {"jpeg": "near", "half": "near"}
SEEDS = range(6)


def written(folder: Path, images: dict[str, bytes]) -> Manifest:
    folder.mkdir()
    for name, data in images.items():
        (folder / f"{name}.png").write_bytes(data)
        (folder / f"{name}.txt").write_text(name)
    return open_data(folder)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Manifest, ImageMeasures]]:
    folder = tmp_path_factory.mktemp("leaks")
    changed = {f"{kind}-{s}": make(drawing(s)) for kind, make in CHANGES.items() for s in SEEDS}
    clean = {f"clean-{s}": saved(drawing(s + 100)) for s in range(10)}
    train = written(folder / "train", {f"t-{s}": saved(drawing(s)) for s in SEEDS})
    test = written(folder / "test", {**changed, **clean, "broken": b"no image"})
    return [(one, measured_images(one, folder / "measures")) for one in (train, test)]


def test_every_kind_is_found_and_clean_rows_are_not(sides: list[tuple[Manifest, ImageMeasures]]):
    (train, own), (test, others) = sides
    leaks = image_leaks(own, others)
    found = {(train.ids[leak.train], test.ids[leak.test]): leak.kind for leak in leaks}
    assert set(found) == {(f"t-{s}", f"{change}-{s}") for change in CHANGES for s in SEEDS}
    kinds = {id.partition("-")[0]: kind for (_, id), kind in found.items()}
    assert kinds == {change: KINDS.get(change, change) for change in CHANGES}
    assert summary_of(leaks) == {"exact": 6, "near": 12, "cropped": 6, "turned": 6, "mirrored": 6}
    assert all(leak.similarity >= 0.95 for leak in leaks)


def test_a_picture_that_many_rows_repeat_is_in_few_pairs_and_in_all_rows(tmp_path: Path):
    copies = written(tmp_path / "copies", {f"c{i:03}": saved(drawing(0)) for i in range(40)})
    measures = measured_images(copies, tmp_path / "m")
    leaks = image_leaks(measures, measures)
    assert len(leaks) == 40
    assert {leak.train for leak in leaks} == {leak.test for leak in leaks} == set(range(40))


def test_measures_are_made_once_and_anew_where_a_file_changed(tmp_path: Path):
    data = written(tmp_path / "data", {"a": saved(drawing(0))})
    first = measured_images(data, tmp_path / "m")
    assert measured_images(data, tmp_path / "m").table.equals(first.table)
    assert len(list((tmp_path / "m").iterdir())) == 1
    (tmp_path / "data" / "a.png").write_bytes(saved(drawing(1)))
    assert not measured_images(data, tmp_path / "m").table.equals(first.table)


def test_no_rows_have_no_leaks(sides: list[tuple[Manifest, ImageMeasures]]):
    _, others = sides[1]
    assert image_leaks(others.take(others.column("width")[:0].astype(int)), others) == []


def test_specific_captions_leak_and_names_of_classes_do_not():
    train = [["a red fox jumps over the old stone wall", "other"], ["fox"], ["a  cat"], []]
    test = [
        ["A red fox jumps over the old stone wall"],
        ["a red fox jumps over the old stone walls"],
        ["fox"],
    ]
    found = caption_leaks(train, test)
    assert Counter((leak.train, leak.test, leak.kind) for leak in found.leaks) == {
        (0, 0, "caption"): 1,
        (0, 1, "near_caption"): 1,
    }
    assert found.common == 1
    assert len(caption_leaks(train, test, least=1).leaks) == 1


def test_a_caption_of_many_rows_is_no_leak():
    many = [["a photo of a cat"]] * 5
    found = caption_leaks(many, many[:1])
    assert (found.leaks, found.common) == ([], 1)
