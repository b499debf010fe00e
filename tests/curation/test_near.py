import io
import random
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageDraw

from frugalclip.curation import near
from frugalclip.curation.image_hashes import image_hashes, pairs_among
from frugalclip.curation.measures import measured
from frugalclip.curation.near import near_keepers, similarities


def drawing(seed: int) -> Image.Image:
    """A picture of random ellipses on white."""
    draw, image = random.Random(seed), Image.new("RGB", (96, 96), "white")
    for _ in range(8):
        x, y = draw.randrange(70), draw.randrange(70)
        colour = tuple(draw.randrange(256) for _ in range(3))
        ImageDraw.Draw(image).ellipse((x, y, x + draw.randrange(10, 50), y + draw.randrange(10, 50)), colour)
    return image


def saved(image: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def thumbnails(*images: bytes) -> np.ndarray:
    flat = [np.frombuffer(measured(data)["thumbnail"], np.uint8) for data in images]
    return np.stack(flat).reshape(-1, 3, 32, 32)


CHANGES = {
    "JPEG of quality 60": lambda image: saved(image, "JPEG", quality=60),
    "half the size": lambda image: saved(image.resize((48, 48))),
    "5 % cropped on two sides": lambda image: saved(image.crop((5, 5, 96, 96))),
    "5 % cropped on one side": lambda image: saved(image.crop((0, 0, 91, 96))),
    "5 % cropped in all": lambda image: saved(image.crop((2, 2, 94, 94))),
    "cropped and saved again": lambda image: saved(image.crop((2, 3, 94, 93)), "JPEG", quality=70),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_images_are_found_and_others_are_not(change: str):
    seeds = range(40)
    own = thumbnails(*(saved(drawing(seed)) for seed in seeds))
    changed = thumbnails(*(CHANGES[change](drawing(seed)) for seed in seeds))
    both = np.concatenate([own, changed])
    first, second = pairs_among(image_hashes(both))
    alike = similarities(both, both, first, second, least=0.95) >= 0.95
    found = set(zip(first[alike].tolist(), second[alike].tolist(), strict=True))
    right = {(seed, seed + 40) for seed in seeds}
    assert len(found & right) >= 38
    assert found <= right


def test_two_drawings_that_differ_in_one_place_or_colour_are_two():
    image = drawing(1)
    other, tinted = image.copy(), image.copy()
    ImageDraw.Draw(other).ellipse((40, 40, 56, 56), "black")
    pixels = np.asarray(tinted).copy()
    pixels[pixels.sum(2) < 700] = np.clip(pixels[pixels.sum(2) < 700].astype(int) - [0, 30, 60], 0, 255)
    both = thumbnails(saved(image), saved(other), saved(Image.fromarray(pixels)))
    first, second = np.array([0, 0]), np.array([1, 2])
    assert (similarities(both, both, first, second, least=0.95) < 0.95).all()


def test_an_object_that_stands_elsewhere_is_another_image():
    def disc(x: int) -> bytes:
        image = Image.new("RGB", (96, 96), "white")
        ImageDraw.Draw(image).ellipse((x, 30, x + 34, 64), "navy")
        return saved(image)

    both = thumbnails(disc(28), disc(32), disc(34))
    first, second = np.array([0, 0]), np.array([1, 2])
    assert (similarities(both, both, first, second, least=0.95) < 0.95).all()


def test_equal_images_are_alike_and_a_dense_group_keeps_one():
    same = thumbnails(*(saved(drawing(3), "JPEG", quality=60 + quality) for quality in range(30)))
    keepers, similarity = near_keepers(same, np.arange(30)[::-1], least=0.95)
    assert set(keepers.tolist()) == {29}
    assert np.isnan(similarity[29])
    assert (similarity[:29] >= 0.95).all()


def test_no_pair_is_compared_twice(monkeypatch: pytest.MonkeyPatch):
    compared: Counter[tuple[int, int]] = Counter()

    def counted(one: np.ndarray, other: np.ndarray, first: np.ndarray, second: np.ndarray, *, least: float):
        compared.update(zip(first.tolist(), second.tolist(), strict=True))
        return similarities(one, other, first, second, least=least)

    monkeypatch.setattr(near, "similarities", counted)
    copies = [saved(drawing(3), "JPEG", quality=60 + quality) for quality in range(20)]
    near_keepers(thumbnails(*copies, *map(saved, map(drawing, range(10, 30)))), np.arange(40), least=0.95)
    assert set(compared.values()) == {1}


def test_a_patch_that_differs_where_nothing_else_does_was_drawn_anew():
    image = drawing(2)
    other = image.copy()
    darker = np.asarray(image)[44, 44].astype(int) - 25
    ImageDraw.Draw(other).ellipse((40, 40, 47, 47), (int(darker[0]), int(darker[1]), int(darker[2])))
    plain, again, tone = thumbnails(saved(image), saved(image, "JPEG", quality=60), saved(other))
    both = np.stack([plain, again, tone])
    values = similarities(both, both, np.array([0, 0]), np.array([1, 2]), least=0.95)
    assert values[0] >= 0.95 > values[1]


def test_a_large_group_of_copies_is_thinned_before_each_is_compared_with_each():
    copies = np.repeat(thumbnails(saved(drawing(5))), 400, axis=0)
    keepers, _ = near_keepers(copies, np.arange(400), least=0.95)
    assert not keepers.any()


def test_pairs_that_no_crop_makes_alike_have_a_low_similarity():
    black, white = (np.full((1, 3, 32, 32), value, np.uint8) for value in (0, 255))
    assert similarities(black, white, np.zeros(1, int), np.zeros(1, int), least=0.95).tolist() == [0.0]


def test_nothing_and_one_image_have_no_pairs():
    nothing = np.zeros((0, 3, 32, 32), np.uint8)
    assert all(len(ends) == 0 for ends in pairs_among(image_hashes(nothing)))
    assert near_keepers(thumbnails(saved(drawing(0))), np.arange(1), least=0.9)[0].tolist() == [0]


def test_images_of_one_colour_compare_by_their_colour():
    flat = thumbnails(*(saved(Image.new("RGB", (40, 40), colour)) for colour in ("red", "#fa0000", "blue")))
    values = similarities(flat, flat, np.array([0, 0]), np.array([1, 2]), least=0.95)
    assert values[0] > 0.97
    assert values[1] < 0.5
