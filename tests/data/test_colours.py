"""Colour profiles: an image comes out in sRGB, whatever the file and the decoder."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from frugalclip.core.colours import conversion_of, to_srgb
from frugalclip.core.images import upright_rgb
from frugalclip.core.preprocess import Preprocess
from frugalclip.data import images, jpeg
from frugalclip.data.images import decode, decode_squashed

from .profiles import ADOBE, as_srgb, chunk, encoded, grey_profile, ink_profile, matrix_profile, png

ADOBE_RGB = matrix_profile()
EXACT: dict[str, dict[str, Any]] = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}}
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def plain(colour: Any, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (24, 16), colour)


def pixel(data: bytes) -> tuple[int, ...]:
    found = decode(data)
    squashed, _ = decode_squashed(data, 8)
    assert found.mode == "RGB" and not found.info
    assert squashed[:, 4, 4].tolist() == list(found.getpixel((12, 8)))  # pyright: ignore[reportArgumentType]
    return found.getpixel((12, 8))  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize(
    "colour", [(120, 200, 60), (250, 20, 90), (10, 10, 10), (255, 255, 255), (90, 130, 250)]
)
@pytest.mark.parametrize("kind", EXACT)
def test_adobe_rgb_becomes_srgb(kind: str, colour: tuple[int, int, int]):
    data = saved(plain(colour), kind, icc_profile=ADOBE_RGB, **EXACT[kind])
    assert np.abs(np.array(pixel(data)) - np.clip(as_srgb(colour), 0, 255)).max() <= 1


@pytest.mark.parametrize("by_pillow", [False, True])
def test_a_jpeg_in_adobe_rgb_is_the_same_by_either_decoder(by_pillow: bool, monkeypatch: pytest.MonkeyPatch):
    if by_pillow:
        monkeypatch.setattr(jpeg, "_library", lambda: None)
    data = saved(plain((120, 200, 60)), "JPEG", quality=100, subsampling=0, icc_profile=ADOBE_RGB)
    assert pixel(data) == (47, 201, 35), "the file itself holds (119, 200, 59)"


def test_a_profile_of_srgb_changes_nothing_and_the_fast_pixels_serve():
    data = saved(plain((120, 200, 60)), "JPEG", icc_profile=SRGB)
    fast = jpeg.fast_jpeg(data, max_pixels=10**6, max_scanned=10**7)
    assert fast is not None and fast.is_ready
    assert pixel(data) == pixel(saved(plain((120, 200, 60)), "JPEG"))
    assert conversion_of(SRGB, "RGB") is None


def test_opacity_stays_and_colours_lie_on_white_in_srgb():
    half = saved(plain((120, 200, 60, 128), "RGBA"), icc_profile=ADOBE_RGB)
    expected = as_srgb((120, 200, 60)) * 128 / 255 + 127
    assert np.abs(np.array(pixel(half)) - expected).max() <= 2
    assert pixel(saved(plain((120, 200, 60, 0), "RGBA"), icc_profile=ADOBE_RGB)) == (255, 255, 255)
    palette = Image.new("P", (24, 16), 1)
    palette.putpalette([0, 0, 0, 120, 200, 60])
    assert np.abs(np.array(pixel(saved(palette, icc_profile=ADOBE_RGB))) - as_srgb((120, 200, 60))).max() <= 1
    assert pixel(saved(palette, icc_profile=ADOBE_RGB, transparency=1)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_with_a_profile(mode: str):
    profile, level = grey_profile(1.0), 64
    if mode == "I;16":
        data = saved(Image.fromarray(np.full((16, 24), 257 * level, np.uint16)), icc_profile=profile)
    else:
        data = saved(plain(level if mode == "L" else (level, 255), mode), icc_profile=profile)
    expected = 255 * encoded(np.array(level / 255))  # the profile counts light itself
    found = pixel(data)
    assert len(set(found)) == 1 and abs(found[0] - expected) <= 1


@pytest.mark.parametrize("by_pillow", [False, True])
def test_a_grey_jpeg_is_the_same_by_either_decoder(by_pillow: bool, monkeypatch: pytest.MonkeyPatch):
    if by_pillow:
        monkeypatch.setattr(jpeg, "_library", lambda: None)
    light = pixel(saved(plain(64, "L"), "JPEG", icc_profile=grey_profile(1.0)))
    assert len(set(light)) == 1 and abs(light[0] - 255 * encoded(np.array(64 / 255))) <= 1
    under_rgb = pixel(saved(plain(64, "L"), "JPEG", icc_profile=matrix_profile(gamma=1.0)))
    assert np.abs(np.array(under_rgb) - light).max() <= 1, "equal amounts of red, green and blue"


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_by_their_profile(kind: str):
    options = {"quality": 100} if kind == "JPEG" else {}
    profile = ink_profile()
    white, black = (
        pixel(saved(plain(inks, "CMYK"), kind, icc_profile=profile, **options))
        for inks in ((0, 0, 0, 0), (255, 0, 0, 0))
    )
    assert min(white) >= 254
    lightness = ((100 / 3 + 16) / 116) ** 3  # of L = 33.3: light of one ink of this profile
    assert np.abs(np.array(black) - 255 * encoded(np.array(lightness))).max() <= 4
    assert pixel(saved(plain((255, 0, 0, 0), "CMYK"), kind, **options))[0] <= 2, "without it: plain cyan"


BROKEN = {
    "no profile": b"no profile at all",
    "cut": ADOBE_RGB[:150],
    "of another kind": grey_profile(1.0),
    "of inks": ink_profile(),
    "zeros": bytes(3000),
    "damaged": ADOBE_RGB[:132] + bytes(reversed(ADOBE_RGB[132:])),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_a_profile_that_is_broken_or_of_another_kind_is_ignored(kind: str, name: str):
    options = EXACT.get(kind, {})
    assert pixel(saved(plain((120, 200, 60)), kind, icc_profile=BROKEN[name], **options)) == pixel(
        saved(plain((120, 200, 60)), kind, **options)
    )


@pytest.mark.parametrize("content", [b"", b"x", b"x\0", b"x\0\0no zlib", b"x\0\7no zlib", b"\0" * 90])
def test_a_png_whose_profile_cannot_be_unpacked_opens(content: bytes):
    data = png([bytes([1, 2, 3] * 24)] * 16, width=24, bits=8, kind=2, before=chunk(b"iCCP", content))
    assert pixel(data) == (1, 2, 3)


@pytest.mark.parametrize("content", [b"", b"\1", b"\1\2" + ADOBE_RGB, b"\7\1" + ADOBE_RGB])
@pytest.mark.parametrize("by_pillow", [False, True])
def test_a_jpeg_whose_profile_lacks_pieces_opens(
    by_pillow: bool, content: bytes, monkeypatch: pytest.MonkeyPatch
):
    if by_pillow:
        monkeypatch.setattr(jpeg, "_library", lambda: None)
    data = saved(plain((120, 200, 60)), "JPEG", quality=100)
    segment = b"ICC_PROFILE\0" + content
    held = data[:2] + b"\xff\xe2" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    expected = decode(saved(plain((120, 200, 60)), "JPEG", quality=100, icc_profile=ADOBE_RGB)).getpixel(
        (0, 0)
    )
    is_whole = content[:2] == b"\7\1"  # one piece, as it says; its number does not matter
    assert decode(held).getpixel((0, 0)) == (expected if is_whole else decode(data).getpixel((0, 0)))


def test_images_of_pillow_are_converted_too():
    image = Image.open(io.BytesIO(saved(plain((120, 200, 60)), icc_profile=ADOBE_RGB)))
    ready = upright_rgb(image)
    assert np.abs(np.array(ready.getpixel((0, 0))) - as_srgb((120, 200, 60))).max() <= 1
    assert upright_rgb(ready).getpixel((0, 0)) == ready.getpixel((0, 0)), "once, not twice"
    preprocess = Preprocess(size=8)
    assert np.abs((preprocess(image) - preprocess(ready)).numpy()).max() < 1e-6


def test_lab_needs_no_profile():
    lab = ImageCms.profileToProfile(
        plain((120, 200, 60)), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert isinstance(lab, Image.Image)
    assert np.abs(np.array(to_srgb(lab, None).getpixel((0, 0))) - (120, 200, 60)).max() <= 3


def test_a_profile_is_read_once(monkeypatch: pytest.MonkeyPatch):
    made: list[str] = []
    monkeypatch.setattr(ImageCms, "buildTransform", lambda *given, **_: made.append("") or 1 / 0)
    profile = matrix_profile(ADOBE, gamma=1.875)  # that no other test reads
    for _ in range(3):
        assert conversion_of(profile, "RGB") is None
    assert len(made) == 1


def test_without_a_profile_littlecms_is_not_loaded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("frugalclip.core.colours.conversion_of", lambda *_: 1 / 0)
    monkeypatch.setattr("frugalclip.data.jpeg.conversion_of", lambda *_: 1 / 0)
    for kind in ("PNG", "JPEG", "TIFF"):
        assert pixel(saved(plain((255, 255, 255)), kind)) == (255, 255, 255)
    assert images.size_of(saved(plain((1, 2, 3)))) == (16, 24)
