"""Near duplicates: the pairs that loops find, whatever the order of images and however they are stored."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frugalclip.data import duplicates
from frugalclip.data.duplicates import near_duplicates, near_pairs, thumbnails
from frugalclip.data.manifest import image_places, make_manifest


def test_near_pairs_are_those_that_loops_find():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, (4, 768))
    thumbnails = np.concatenate(
        [np.clip(base + rng.normal(0, spread, base.shape), 0, 255) for spread in (0, 3, 6, 40)]
    ).astype(np.int16)
    expected = {
        (i, j)
        for j in range(16)
        for i in range(j)
        if sum(abs(int(a) - int(b)) for a, b in zip(thumbnails[i], thumbnails[j], strict=True)) / 768 < 4
    }
    first, second, distances = near_pairs(thumbnails)
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == expected
    assert 4 <= len(expected) < 30
    assert (distances < 4).all()
    assert len(near_pairs(thumbnails[:0])[0]) == 0


def test_near_pairs_across_blocks(monkeypatch: pytest.MonkeyPatch):
    thumbnails = np.random.default_rng(1).integers(0, 255, (20, 768)).astype(np.int16)
    thumbnails[17] = thumbnails[2]
    thumbnails[3] = thumbnails[2]
    whole = [part.tolist() for part in near_pairs(thumbnails)]
    monkeypatch.setattr(duplicates, "_BLOCK", 4)
    parts = [part.tolist() for part in near_pairs(thumbnails)]
    assert (
        sorted(zip(*whole, strict=True))
        == sorted(zip(*parts, strict=True))
        == [(2, 3, 0.0), (2, 17, 0.0), (3, 17, 0.0)]
    )


def test_copies_in_another_size_and_format_are_found(tmp_path: Path):
    rng = np.random.default_rng(2)
    for number in range(4):
        small = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8))
        small.resize((64, 64), Image.Resampling.BICUBIC).save(tmp_path / f"{number}.png")
    Image.open(tmp_path / "2.png").resize((40, 40)).save(tmp_path / "4.webp", quality=95)
    (tmp_path / "5.png").write_bytes(b"no image")
    names = ["0.png", "1.png", "2.png", "3.png", "4.webp", "5.png"]
    manifest = make_manifest(
        ids=names, images=image_places(names), captions=[["x"]] * 6, root=tmp_path, name="m"
    )
    pixels, kept = thumbnails(manifest)
    assert (tuple(pixels.shape), kept.tolist()) == ((5, 768), [0, 1, 2, 3, 4])
    found = near_duplicates(manifest, range(6))
    assert (found.rows, found.alike, found.pairs) == (5, 2, [("2.png", "4.webp")])
    assert near_duplicates(manifest, [3, 4]).alike == 0


def test_blank_pictures_are_counted(tmp_path: Path):
    for name, colour in (("white", 255), ("grey", 128)):
        Image.new("RGB", (50, 40), (colour,) * 3).save(tmp_path / f"{name}.png")
    Image.effect_noise((50, 40), 90).save(tmp_path / "noise.png")
    names = ["grey.png", "white.png", "noise.png"]
    manifest = make_manifest(
        ids=names, images=image_places(names), captions=[["x"]] * 3, root=tmp_path, name="m"
    )
    found = near_duplicates(manifest, range(3))
    assert (found.blank, found.first_blank) == (2, ["grey.png", "white.png"])
