"""Images and keys of shards: what is written, and what stays as it is."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from frugalclip.data.image_faults import BadImage
from frugalclip.sources.shards import ImageSettings, safe_key

IDS = ["a", "b/c.1", "../d", "e é", "f%2E", "g" * 300, "train/h", "i"]


def encoded(number: int, kind: str = "PNG", *, size: tuple[int, int] = (12, 8), **options: Any) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def test_images_shrink_and_never_grow():
    data = encoded(1, "JPEG", size=(64, 40))
    small, extension = ImageSettings(size=20).written(data)
    assert (Image.open(io.BytesIO(small)).size, extension) == ((32, 20), ".jpg")
    assert ImageSettings(size=40).written(data) == (data, ".jpg")
    assert ImageSettings(size=400, format="jpeg").written(data) == (data, ".jpg")
    assert ImageSettings(size=400, format="png").written(data)[1] == ".png"
    tall, _ = ImageSettings(size=10, format="webp").written(encoded(1, "GIF", size=(10, 5000)))
    assert Image.open(io.BytesIO(tall)).size == (10, 5000)
    gif, extension = ImageSettings(size=4).written(encoded(1, "GIF"))
    assert (Image.open(io.BytesIO(gif)).format, extension) == ("PNG", ".png")
    exact = Image.open(io.BytesIO(ImageSettings(format="png").written(encoded(3))[0]))
    assert np.array_equal(np.asarray(exact), np.asarray(Image.open(io.BytesIO(encoded(3)))))


def test_images_that_others_would_see_differently_are_written_anew():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(1, "JPEG", size=(30, 20), exif=exif)
    assert ImageSettings().written(turned) == (turned, ".jpg")  # keep is keep: our reader turns it
    upright, _ = ImageSettings(format="jpeg").written(turned)
    assert Image.open(io.BytesIO(upright)).size == (20, 30)
    buffer = io.BytesIO()
    Image.new("RGBA", (9, 9), (255, 0, 0, 0)).save(buffer, "PNG")
    white = Image.open(io.BytesIO(ImageSettings(format="png").written(buffer.getvalue())[0]))
    assert (white.mode, white.getpixel((0, 0))) == ("RGB", (255, 255, 255))


@pytest.mark.parametrize("size", [None, 4])
def test_a_image_that_ends_early_is_found_even_where_it_is_kept(size: int | None):
    data = encoded(1, "JPEG", size=(400, 300), quality=95)
    with pytest.raises(BadImage) as found:
        ImageSettings(size=size).written(data[: len(data) // 2])
    assert found.value.cause == "truncated"


def test_keys_are_safe_and_differ():
    ids = [*IDS, "a.b", "a%2Eb", "/a", "a//b", "a/b", ".", "..", "g" * 301, "a__MACOSX", "x" * 170 + "é" * 20]
    keys = [safe_key(id) for id in ids]
    assert len(set(keys)) == len(ids)
    for key in keys:
        assert not key.startswith("/")
        assert "." not in key
        assert len(key) <= 180
    assert safe_key("train/00001_a-b") == "train/00001_a-b"
