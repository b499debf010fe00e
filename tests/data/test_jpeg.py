"""The fast way to decode JPEG gives what Pillow gives, and leaves the rest to it."""

import io

import numpy as np
import pytest
from PIL import Image

from frugalclip.data import images, jpeg
from frugalclip.data.image_faults import BadImage
from frugalclip.data.images import decode

LIMITS = {"max_pixels": 10**6, "max_scanned": 10**7}


def image(mode: str = "RGB", height: int = 40, width: int = 56) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([4 * x, 5 * y, 2 * (x + y)], axis=2).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, **settings: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **settings)  # pyright: ignore
    return file.getvalue()


def by_pillow(monkeypatch: pytest.MonkeyPatch, data: bytes, **given: int) -> np.ndarray:
    with monkeypatch.context() as patch:
        patch.setattr(images, "fast_jpeg", lambda *_, **__: None)
        return np.asarray(decode(data, **given))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"quality": 60, "subsampling": 2}, {"progressive": True}, {"quality": 100, "subsampling": 0}],
)
def test_pixels_are_those_of_pillow(mode: str, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch):
    data = encoded(image(mode), **settings)
    assert jpeg.fast_jpeg(data, **LIMITS) is not None, "this is the fast way"
    difference = np.asarray(decode(data)).astype(int) - by_pillow(monkeypatch, data).astype(int)
    assert np.abs(difference).max() <= 2, "two builds of libjpeg-turbo may round differently"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_tag_turns_it_as_pillow_would(orientation: int, monkeypatch: pytest.MonkeyPatch):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image(), exif=exif.tobytes())
    ours, theirs = np.asarray(decode(data)), by_pillow(monkeypatch, data)
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 2
    assert images._opened(data, at_least=None)[1] == ours.shape[:2]


def test_a_smaller_decoding_keeps_the_wanted_size_and_tells_the_whole_one():
    data = encoded(image(height=400, width=320))
    found = jpeg.fast_jpeg(data, **LIMITS, at_least=64)
    assert found is not None and found.size == (400, 320) and found.is_ready
    assert found.pixels.shape == (100, 80, 3), "a quarter: an eighth has fewer than 64 rows"


@pytest.mark.parametrize("at_least", [8, 20, 28, 70, 90])
@pytest.mark.parametrize(("height", "width"), [(300, 220), (57, 83), (9, 40), (5, 6)])
def test_either_decoder_makes_an_image_smaller_alike(
    height: int, width: int, at_least: int, monkeypatch: pytest.MonkeyPatch
):
    data = encoded(image(height=height, width=width))
    ours, theirs = (
        np.asarray(decode(data, at_least=at_least)),
        by_pillow(monkeypatch, data, at_least=at_least),
    )
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 2


@pytest.mark.parametrize("is_far", [False, True])
@pytest.mark.parametrize("tag", ["exif", "xmp"])
def test_either_decoder_finds_the_orientation(tag: str, is_far: bool, monkeypatch: pytest.MonkeyPatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    data = encoded(image(), **({"exif": exif.tobytes()} if tag == "exif" else {"xmp": xmp}))
    if is_far:  # behind 130 kB of something else, such as a panorama's description
        filler = b"\xff\xef\xff\xff" + bytes(65533)
        data = data[:2] + 2 * filler + data[2:]
    assert decode(data).size == (40, 56) and by_pillow(monkeypatch, data).shape == (56, 40, 3)
    fast = jpeg.fast_jpeg(data, **LIMITS)
    assert fast is not None and fast.orientation == 6 and not fast.is_ready


def test_an_orientation_inside_a_comment_or_a_preview_is_none():
    exif = Image.Exif()
    exif[0x0112] = 6
    for marker in (b"\xff\xfe", b"\xff\xec"):
        content = exif.tobytes()
        data = encoded(image())
        data = data[:2] + marker + (len(content) + 2).to_bytes(2, "big") + content + data[2:]
        assert decode(data).size == (56, 40)


def test_what_is_unusual_damaged_or_too_large_is_left_to_pillow():
    good = encoded(image())
    png = io.BytesIO()
    image().save(png, "PNG")
    for data in (
        b"",
        png.getvalue(),
        encoded(image("CMYK")),
        good[: len(good) // 2],
        good[:4] + b"\0" * 300,
    ):
        assert jpeg.fast_jpeg(data, **LIMITS) is None
    assert jpeg.fast_jpeg(good, max_pixels=100, max_scanned=10**7) is None
    assert jpeg.fast_jpeg(good, max_pixels=10**6, max_scanned=100) is None
    long = encoded(image(height=400, width=400))
    with pytest.raises(BadImage) as error:
        decode(long[: len(long) // 2])
    assert error.value.cause == "truncated"


def test_without_simplejpeg_pillow_decodes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jpeg, "_library", lambda: None)
    data = encoded(image())
    assert jpeg.fast_jpeg(data, **LIMITS) is None
    assert decode(data).size == (56, 40)


@pytest.mark.parametrize(("height", "width"), [(40, 56), (7, 3), (1, 90), (300, 280)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_squashed_image_is_pillows_to_within_two(kind: str, height: int, width: int):
    file = io.BytesIO()
    image(height=height, width=width).save(file, kind)
    pixels, whole = images.decode_squashed(file.getvalue(), 16)
    expected = np.asarray(
        decode(file.getvalue(), at_least=32).resize((16, 16), Image.Resampling.BICUBIC)
    ).transpose(2, 0, 1)
    assert pixels.shape == (3, 16, 16) and pixels.dtype == np.uint8 and whole == (height, width)
    assert np.abs(pixels.astype(int) - expected.astype(int)).max() <= 2
