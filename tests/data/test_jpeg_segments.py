"""What lies behind a JPEG's end, or inside its header, is no scan."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from frugalclip.data import jpeg
from frugalclip.data.image_faults import BadImage
from frugalclip.data.images import decode
from frugalclip.data.jpeg_segments import header_info, most_scans

LARGE = (4000, 3000)  # 85 scans are the most that decoding such an image may need
MANY = b"\xff\xda" * 200


@pytest.fixture(params=["simplejpeg", "Pillow"])
def _either_decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "Pillow":
        monkeypatch.setattr(jpeg, "_library", lambda: None)


def photo(kind: str = "JPEG", size: tuple[int, int] = LARGE, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (120, 200, 60)).save(file, kind, **options)
    return file.getvalue()


def with_segment(data: bytes, marker: int, content: bytes) -> bytes:
    return data[:2] + bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content + data[2:]


@pytest.mark.usefixtures("_either_decoder")
@pytest.mark.parametrize(
    "behind",
    [b"\0\0\0\x18ftypmp42" + MANY, MANY, photo(size=(8, 8)) * 200, b"\xff\xd8\xff" + MANY],
    ids=["video", "rubbish", "pictures", "a damaged picture"],
)
def test_what_follows_the_end_is_left_alone(behind: bytes):
    data = photo(progressive=True)
    assert decode(data + behind, at_least=64).size == decode(data, at_least=64).size
    assert most_scans(data + behind, limit=86) == most_scans(data, limit=86) < 20


@pytest.mark.usefixtures("_either_decoder")
@pytest.mark.parametrize("marker", [0xE1, 0xE2, 0xFE])
def test_previews_inside_a_segment_are_no_scans(marker: int):
    data = with_segment(photo(), marker, b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + photo(size=(8, 8)) + MANY)
    assert most_scans(data, limit=86) == 1
    assert decode(data, at_least=64).size == (500, 375)


@pytest.mark.usefixtures("_either_decoder")
def test_a_phones_two_pictures_in_one_file():
    further = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    data = photo("MPO", save_all=True, append_images=further)
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert decode(data + MANY, at_least=64).getpixel((9, 9)) == decode(photo(), at_least=64).getpixel((9, 9))


@pytest.mark.usefixtures("_either_decoder")
def test_scans_before_the_end_count():
    data = photo(progressive=True)
    last = data.rindex(b"\xff\xda")
    hostile = data[:-2] + data[last:-2] * 100 + data[-2:]
    with pytest.raises(BadImage) as error:
        decode(hostile)
    assert error.value.cause == "too-much-work" and "86 scans or more" in str(error.value)


def test_a_tiff_of_many_tiles_is_one_pass():
    data = photo("TIFF", size=(2600, 2600), compression="jpeg", strip_size=2600 * 3 * 8)
    assert data.count(b"\xff\xda") > 300
    assert decode(data).size == (2600, 2600)


def test_tiles_that_lie_over_each_other_do_not_keep_it_busy():
    data = photo(size=(8, 8)) + MANY
    spans = [(0, len(data))] * 3
    assert most_scans(data, limit=150, spans=spans) == 150
    assert most_scans(data, limit=150, spans=spans[:1]) == 1
    assert most_scans(data, limit=150, spans=[]) == 150
    assert most_scans(data, limit=900, spans=[]) == 201


def test_the_header_is_as_pillow_reads_it():
    exif = Image.Exif()
    exif[0x0112] = 3
    rng = np.random.default_rng(0)
    profile = rng.integers(0, 256, 150_000, dtype=np.uint8).tobytes()  # in three pieces
    data = photo(size=(16, 16), exif=exif.tobytes(), xmp=b"<xmp/>", icc_profile=profile, comment="a comment")
    theirs = Image.open(io.BytesIO(data)).info
    assert header_info(data) == {name: theirs[name] for name in ("exif", "xmp", "icc_profile")}
    assert header_info(photo(size=(8, 8)) + data) == {}
    assert header_info(b"\xff\xd8") == header_info(data[:10]) == {}
