"""Divisions: what belongs together stays together, in the stated shares, whatever the order of the rows."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frugalclip.core.errors import DataError
from frugalclip.data import divisions
from frugalclip.data.divisions import divide_rows
from frugalclip.data.manifest import Manifest, image_places, make_manifest

SHARES = {"val": 0.1, "test": 0.2}


def of_families(rows: int = 200, **fields: list) -> Manifest:
    ids = [f"{row:04}" for row in range(rows)]
    fields = {"family": [f"f{row // 2}" for row in range(rows)], **fields}
    return make_manifest(
        ids=ids, images=image_places(ids), captions=[[id] for id in ids], fields=fields, root=Path(), name="m"
    )


def splits(manifest: Manifest, **options) -> dict[str, str]:
    divided = divide_rows(manifest, SHARES, **options).manifest
    return dict(zip(divided.ids, divided.field("split"), strict=True))


def test_families_stay_together_in_the_stated_shares():
    manifest = of_families()
    division = divide_rows(manifest, SHARES)
    assert division.rows == {"train": 140, "val": 20, "test": 40}
    assert (division.groups, division.by) == (100, "field family")
    names = division.manifest.field("split")
    assert names[::2] == names[1::2]


def test_order_does_not_matter_and_the_seed_does():
    manifest = of_families()
    order = np.random.default_rng(1).permutation(len(manifest))
    assert splits(manifest) == splits(manifest.take(order))
    assert splits(manifest) != splits(manifest, seed=1)


def test_a_field_is_named_and_an_old_split_replaced():
    style = [f"s{row % 20}" for row in range(200)]
    division = divide_rows(of_families(style=style, split=["x"] * 200), SHARES, by="style")
    assert division.manifest.field_names.count("split") == 1
    by_style = {}
    for one, name in zip(style, division.manifest.field("split"), strict=True):
        by_style.setdefault(one, set()).add(name)
    assert all(len(names) == 1 for names in by_style.values())
    assert set(division.manifest.field("split")) == {"train", "val", "test"}


def test_a_large_family_stays_in_training():
    family = ["large"] * 60 + [f"f{row}" for row in range(140)]
    found = splits(of_families(family=family))
    assert {found[f"{row:04}"] for row in range(60)} == {"train"}
    assert sum(name == "test" for name in found.values()) == 40


def test_pictures_that_look_alike_and_equal_captions_stay_together(tmp_path: Path):
    rng = np.random.default_rng(0)
    names, captions = [], []
    for number in range(60):
        small = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8))
        for size in (64, 40):  # the same drawing twice
            names.append(f"{number:02}-{size}.png")
            captions.append([f"drawing {number}" if size == 64 else f"another {number % 58}"])
            small.resize((size, size), Image.Resampling.BICUBIC).save(tmp_path / names[-1])
    manifest = make_manifest(
        ids=names, images=image_places(names), captions=captions, root=tmp_path, name="m"
    )
    division = divide_rows(manifest, SHARES)
    assert division.groups == 58  # 0 and 58, 1 and 59 share a caption
    found = dict(zip(names, division.manifest.field("split"), strict=True))
    component = dict(zip(names, division.manifest.field("component"), strict=True))
    for number in range(60):
        assert found[f"{number:02}-64.png"] == found[f"{number:02}-40.png"]
    assert found["00-64.png"] == found["58-40.png"]
    assert component["58-40.png"] == component["00-64.png"] == "00-40.png"
    assert "120 images look like another one" in division.notes


def test_class_names_do_not_keep_rows_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(divisions, "COMPARED", 10)  # no picture is read
    ids = [f"{row:03}" for row in range(200)]
    captions = [[f"class {row % 4}"] for row in range(200)]
    manifest = make_manifest(ids=ids, images=image_places(ids), captions=captions, root=tmp_path, name="m")
    division = divide_rows(manifest, SHARES)
    assert division.rows == {"train": 140, "val": 20, "test": 40}
    names = division.manifest.field("split")
    for one in range(4):  # every class has its share of every split
        own = [name for row, name in enumerate(names) if row % 4 == one]
        assert (own.count("val"), own.count("test")) == (5, 10)
    assert any("as class names do" in note for note in division.notes)
    assert any("more than the 10 that are compared" in note for note in division.notes)


@pytest.mark.parametrize(
    "shares", [{}, {"val": 0.0}, {"val": 0.5, "test": 0.5}, {"test": 1.5}, {"val": -0.1}]
)
def test_shares_that_leave_nothing_are_refused(shares: dict[str, float]):
    with pytest.raises(DataError, match="write --val"):
        divide_rows(of_families(), shares)


def test_too_few_groups_are_refused():
    with pytest.raises(DataError, match=r"1 groups \(field family\), too few for 3 splits"):
        divide_rows(of_families(family=["one"] * 200), SHARES)
