import io
import multiprocessing
import pickle
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from frugalclip.core.images import upright_rgb
from frugalclip.data.decoding import decode_all
from frugalclip.data.image_faults import DECODING, BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.images import decode, open_image, size_of
from frugalclip.data.manifest import Manifest, image_places, make_manifest

from .profiles import chunk, png


def of_array(array: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def outcome(data: bytes) -> str:
    """The mode of the decoded picture, or the cause why there is none."""
    try:
        return decode(data).mode
    except BadImage as error:
        return error.cause


def pixel(data: bytes) -> tuple[int, ...]:
    image = decode(data)
    assert image.mode == "RGB"
    return tuple(np.asarray(image)[0, 0].tolist())


def huge_png(width: int, height: int) -> bytes:
    """A PNG header that claims a size, with next to no pixels."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 64))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "GIF", "TIFF", "JPEG"])
def test_formats_come_out_as_rgb(kind: str, make: SimpleNamespace):
    assert np.allclose(pixel(make.encoded((200, 30, 90), kind=kind)), (200, 30, 90), atol=12)


def test_transparency_becomes_white(make: SimpleNamespace):
    assert pixel(make.encoded((255, 0, 0, 0), mode="RGBA")) == (255, 255, 255)
    assert pixel(make.encoded((0, 0, 0, 128), mode="RGBA")) == (127, 127, 127)
    assert pixel(make.encoded((0, 0), mode="LA")) == (255, 255, 255)
    assert pixel(make.encoded((9, 8, 7), transparency=(9, 8, 7))) == (255, 255, 255)


def test_a_palette_with_transparency_becomes_white(make: SimpleNamespace):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 250, 10, 20])
    for transparency, expected in [
        (1, (255, 255, 255)),
        (bytes([255, 0]), (255, 255, 255)),
        (0, (250, 10, 20)),
    ]:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", transparency=transparency)
        assert pixel(buffer.getvalue()) == expected


@pytest.mark.parametrize(
    ("bits", "row", "transparent", "expected"),  # of two grey pixels, of which the first is transparent
    [
        (16, (5000).to_bytes(2, "big") + (5001).to_bytes(2, "big"), 5000, 19),
        (8, bytes([9, 10]), 9, 10),
        (4, bytes([0x56]), 5, 6 * 17),
        (2, bytes([0b01100000]), 1, 2 * 85),
        (1, bytes([0b10000000]), 1, 0),
    ],
)
def test_a_transparent_grey_becomes_white_whatever_its_bits(
    bits: int, row: bytes, transparent: int, expected: int
):
    data = png([row], width=2, bits=bits, kind=0, transparent=transparent.to_bytes(2, "big"))
    assert np.asarray(decode(data))[0, :, 0].tolist() == [255, expected]
    opened = upright_rgb(Image.open(io.BytesIO(data)))
    assert np.asarray(opened)[0, :, 0].tolist() == [255, expected]


def test_a_transparent_colour_of_16_bits_becomes_white():
    numbers = [5000, 6000, 7000, 5000, 6000, 60_000]
    row = b"".join(number.to_bytes(2, "big") for number in numbers)
    data = png([row], width=2, bits=16, kind=2, transparent=row[:6])
    assert np.asarray(decode(data))[0].tolist() == [[255, 255, 255], [19, 23, 234]]


@pytest.mark.parametrize("mode", ["LA", "La", "RGBA", "RGBa", "PA"])
def test_every_mode_with_opacity_lies_on_white(mode: str):
    assert upright_rgb(Image.new(mode, (2, 2))).getpixel((0, 0)) == (255, 255, 255)


def test_grey_and_opacity_of_16_bits_lie_on_white():
    for kind, row in {
        4: bytes([80, 0, 0, 0, 80, 0, 255, 255]),
        6: bytes([9] * 6 + [0, 0] + [9] * 6 + [255, 255]),
    }.items():
        found = np.asarray(decode(png([row], width=2, bits=16, kind=kind)))[0, :, 0].tolist()
        assert found == [255, row[-4]]


def test_cmyk_and_grey(make: SimpleNamespace):
    assert np.allclose(pixel(make.encoded((0, 255, 255, 0), mode="CMYK", kind="JPEG")), (254, 0, 0), atol=6)
    assert pixel(make.encoded(77, mode="L")) == (77, 77, 77)
    assert pixel(make.encoded(1, mode="1")) == (255, 255, 255)


def test_sixteen_bits_are_scaled_not_clipped():
    assert pixel(of_array(np.full((3, 3), 32768, dtype=np.uint16))) == (128, 128, 128)
    assert pixel(of_array(np.full((3, 3), 65535, dtype=np.uint16))) == (255, 255, 255)
    assert pixel(of_array(np.full((3, 3), 0.5, dtype=np.float32), "TIFF")) == (128, 128, 128)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_image_upright(orientation: int):
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :16] = 255  # the upper left quarter
    stored = {  # what a camera held that way stores
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = of_array(np.ascontiguousarray(stored), "PNG", exif=exif.tobytes())
    assert np.array_equal(np.asarray(decode(data)), upright)
    assert size_of(data) == (16, 32)


def test_a_broken_exif_block_does_not_matter(make: SimpleNamespace):
    assert decode(make.encoded(kind="JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")).size == (8, 6)


def test_the_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    assert pixel(buffer.getvalue()) == (255, 0, 0)


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "empty-file"),
        (b"hello, this is no picture", "not-an-image"),
        (b"\0" * 500, "not-an-image"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "svg"),
        (b"<!DOCTYPE html><html>404</html>", "web-page"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heic"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 8, "broken-image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported-format"),
        (huge_png(25_000, 25_000), "too-many-pixels"),
        (huge_png(9_000, 8_000), "too-many-pixels"),
        (huge_png(64, 64), "truncated"),
    ],
)
def test_hostile_bytes_have_a_cause(data: bytes, cause: str):
    with pytest.raises(BadImage) as error:
        decode(data)
    assert error.value.cause == cause
    assert cause in DECODING.reasons
    assert str(error.value).rstrip().endswith(".")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_image_cut_short_is_refused_at_any_length(kind: str):
    data = of_array(np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8), kind)
    for length in (4, 11, 60, len(data) // 2, len(data) - 64):
        with pytest.raises(BadImage) as error:
            decode(data[:length])
        assert error.value.cause in DECODING.reasons


def test_random_damage_never_escapes():
    generator = np.random.default_rng(3)
    whole = [
        of_array(generator.integers(0, 255, (20, 20, 3), dtype=np.uint8), kind)
        for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF")
    ]
    for data in whole * 30:
        damaged = bytearray(data)
        for place in generator.integers(0, len(data), 6):
            damaged[place] = generator.integers(256)
        assert outcome(bytes(damaged)) in ("RGB", *DECODING.reasons)


def test_the_size_is_known_before_pixels_are(make: SimpleNamespace):
    assert open_image(make.encoded(size=(30, 20))).size == (30, 20)
    with pytest.raises(BadImage, match="at most 100 pixels"):
        decode(make.encoded(size=(30, 20)), max_pixels=100)


def test_a_jpeg_may_be_decoded_smaller_but_not_too_small(make: SimpleNamespace):
    data = make.encoded(size=(400, 240), kind="JPEG")
    image = decode(data, at_least=50)
    assert image.size == (100, 60)
    assert decode(data).size == (400, 240)


def test_bad_image_crosses_process_borders():
    error = pickle.loads(pickle.dumps(BadImage("svg", "a drawing.")))  # noqa: S301
    assert (error.cause, str(error)) == ("svg", "a drawing.")


@pytest.fixture
def places(tmp_path: Path, make: SimpleNamespace) -> Manifest:
    """Four images (file, range of a file, Parquet bytes, Hugging Face struct), and four that fail."""
    data = [make.encoded((50 * i, 0, 0), size=(10 + i, 5)) for i in range(4)]
    make.put(tmp_path / "a.png", data[0])
    make.put(tmp_path / "shard.tar", b"x" * 100 + data[1])
    pq.write_table(pa.table({"photo": [None, data[2]]}), tmp_path / "p.parquet", row_group_size=1)
    pq.write_table(pa.table({"image": [{"bytes": data[3], "path": "z"}]}), tmp_path / "h.parquet")
    make.put(tmp_path / "bad.png", b"not a picture")
    (tmp_path / "folder.png").mkdir()
    images = pa.concat_arrays(
        [
            image_places(["a.png"]),
            image_places(["shard.tar"], offsets=[100], lengths=[len(data[1])]),
            image_places(["p.parquet"], rows=[1], column="photo"),
            image_places(["h.parquet"], rows=[0], column="image.bytes"),
            image_places(["gone.png", "bad.png", "folder.png"]),
            image_places(["shard.tar"], offsets=[100], lengths=[len(data[1]) + 50]),
            image_places(["p.parquet"], rows=[0], column="photo"),
        ]
    )
    ids = [f"id-{row}" for row in range(len(images))]
    return make_manifest(ids=ids, images=images, captions=[["x"]] * len(ids), root=tmp_path, name="places")


def test_the_reader_finds_bytes_wherever_they_are(places: Manifest):
    reader = ImageReader(places)
    assert [reader.image(row).size for row in range(4)] == [(10, 5), (11, 5), (12, 5), (13, 5)]
    assert [reader.image(row).getpixel((0, 0)) for row in (3, 0, 2, 1)] == [
        (150, 0, 0),
        (0, 0, 0),
        (100, 0, 0),
        (50, 0, 0),
    ]
    causes = []
    for row in range(4, 9):
        with pytest.raises(BadImage) as error:
            reader.image(row)
        causes.append(error.value.cause)
    assert causes == ["missing-file", "not-an-image", "not-a-file", "truncated-shard", "empty-file"]


def test_a_reader_travels_to_other_processes(places: Manifest):
    reader = ImageReader(places)
    sizes = [reader.image(row).size for row in range(4)]  # files are open now
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert [image.size for image in pool.map(reader.image, range(4))] == sizes


def test_few_files_stay_open(tmp_path: Path, make: SimpleNamespace):
    data = make.encoded()
    names = [make.put(tmp_path / f"{i}.tar", data).name for i in range(9)]
    images = image_places(names, offsets=[0] * 9, lengths=[len(data)] * 9)
    reader = ImageReader(
        make_manifest(ids=names, images=images, captions=[["x"]] * 9, root=tmp_path, name="many")
    )
    reader.open_files = 3
    assert all(reader.bytes(row) == data for row in [*range(9), *range(9)])
    assert len(reader._handles) == 3


def test_decode_all_gives_squares_sizes_and_faults(places: Manifest):
    done: list[int] = []
    decoded = decode_all(places, 4, 2, progress=done.append)
    assert decoded.pixels.shape == (9, 3, 4, 4)
    assert str(decoded.pixels.dtype) == "torch.uint8"
    assert decoded.sizes[:4].tolist() == [[5, 10], [5, 11], [5, 12], [5, 13]]
    assert decoded.pixels[:4, 0].flatten(1).unique(dim=1).squeeze(1).tolist() == [0, 50, 100, 150]
    assert decoded.faults == [
        (4, "missing-file"),
        (5, "not-an-image"),
        (6, "not-a-file"),
        (7, "truncated-shard"),
        (8, "empty-file"),
    ]
    assert decoded.pixels[4:].sum() == 0
    assert decoded.sizes[4:].sum() == 0
    assert sum(done) == 9


@pytest.mark.parametrize("workers", [1, 3])
def test_decode_all_keeps_pixels_that_have_the_size_and_the_order_of_many(
    workers: int, tmp_path: Path, make: SimpleNamespace
):
    images = np.random.default_rng(0).integers(0, 255, (75, 6, 6, 3), dtype=np.uint8)  # more than two bunches
    names = [f"{i}.png" for i in range(75)]
    for name, image in zip(names, images, strict=True):
        make.put(tmp_path / name, of_array(image))
    (tmp_path / names[40]).unlink()
    manifest = make_manifest(
        ids=names, images=image_places(names), captions=[["x"]] * 75, root=tmp_path, name="many"
    )
    decoded = decode_all(manifest, 6, workers)
    assert decoded.faults == [(40, "missing-file")]
    images[40] = 0
    assert np.array_equal(decoded.pixels.permute(0, 2, 3, 1).numpy(), images)


def test_decode_all_is_pillows_bicubic_with_antialiasing(tmp_path: Path, make: SimpleNamespace):
    image = np.random.default_rng(0).integers(0, 255, (30, 47, 3), dtype=np.uint8)
    make.put(tmp_path / "a.png", of_array(image))
    manifest = make_manifest(
        ids=["a"], images=image_places(["a.png"]), captions=[["x"]], root=tmp_path, name="one"
    )
    expected = np.asarray(Image.fromarray(image).resize((8, 8), Image.Resampling.BICUBIC))
    found = decode_all(manifest, 8, 1).pixels[0].permute(1, 2, 0).numpy()
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1, (
        "torch's filter is the same, its rounding is not"
    )
