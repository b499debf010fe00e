"""Every kind of bad or odd input we know of, as data: what it is called, what it is, and what must become of it.

`cause` is the reason that the ledger must name, or None where the input is odd but fine. The builders at the end put all kinds, among good
pairs, into a folder, a table, a Parquet file or a tar, and say what each sample must come to.
"""

import gzip
import io
import os
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Picture:
    """Bytes that stand where an image should."""

    name: str
    data: bytes
    cause: str | None = None
    extension: str = ".png"


def noise(height: int = 24, width: int = 24, channels: int = 3, *, seed: int = 0) -> np.ndarray:
    """A picture that does not compress, so that cutting it cuts pixels."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


def saved(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    """An image as a file of one format."""
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes, *, is_damaged: bool = False) -> bytes:
    """One chunk of a PNG."""
    check = zlib.crc32(kind + content) ^ (0xFFFF if is_damaged else 0)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, rows: bytes = b"\0" * 64, before: bytes = b"", bad_check: bool = False) -> bytes:
    """A PNG written by hand, so that its header may lie."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header), before, chunk(b"IDAT", zlib.compress(rows, 9), is_damaged=bad_check), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _real_bomb() -> bytes:
    """25,000 x 25,000 pixels that are really there, 1 bit each: 80 MB unpacked, 80 kB packed, 2 GB as RGB."""
    return png(25_000, 25_000, depth=1, colour=0, rows=b"\0" * (3126 * 25_000))


def _giant_jpeg() -> bytes:
    """A JPEG whose frame header claims 65,500 x 65,500 pixels."""
    data = bytearray(saved(noise(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 65_500, 65_500)
    return bytes(data)


def _jpeg_with_garbage() -> bytes:
    """Zeros with restart marks where the entropy-coded data was."""
    data = bytearray(saved(noise(200, 200), "JPEG", quality=95))
    middle = len(data) // 2
    data[middle : middle + 400] = np.random.default_rng(5).integers(0, 255, 400, dtype=np.uint8).tobytes()
    return bytes(data)


def _jpeg_of_many_scans(scans: int) -> bytes:
    """A progressive JPEG that repeats its last scan: each costs a pass over all pixels."""
    data = saved(Image.new("RGB", (4000, 4000)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + b"\xff\xd9"


def _turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(noise(16, 24), "JPEG", exif=exif.tobytes())


def _frames(kind: str, **options: object) -> bytes:
    frames = [Image.fromarray(noise(seed=i)) for i in range(3)]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)


def _float_tiff() -> bytes:
    return saved(Image.fromarray(np.linspace(0, 1, 24 * 24, dtype=np.float32).reshape(24, 24)), "TIFF")


def _not_a_number_tiff() -> bytes:
    values = np.full((8, 8), np.nan, dtype=np.float32)
    values[0, 0] = np.inf
    return saved(Image.fromarray(values), "TIFF")


def _bmp_rle() -> bytes:
    """A 4 x 2 picture of 8 bits, run-length encoded."""
    pixels = bytes([4, 1, 0, 0, 4, 0, 0, 0, 0, 1])
    palette = bytes([0, 0, 0, 0, 255, 255, 255, 0])
    start = 14 + 40 + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, 4, 2, 1, 8, 1, len(pixels), 0, 0, 2, 0)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + info + palette + pixels


def _rgb16() -> bytes:
    rows = b"".join(b"\0" + noise(1, 24, seed=i).astype(">u2").tobytes() for i in range(24))
    return png(24, 24, depth=16, rows=rows)


def _icc(kind: str) -> bytes:
    return saved(noise(), kind, icc_profile=b"\xff" * 200)


def _tiff_claiming(width: int, height: int) -> bytes:
    """A TIFF whose entries for width and height (tags 256 and 257, written as long numbers) lie."""
    data = bytearray(saved(noise(), "TIFF"))
    for tag, value in ((256, width), (257, height)):
        entry = next(place for kind in (3, 4) if (place := data.find(struct.pack("<HHI", tag, kind, 1))) >= 0)
        data[entry : entry + 12] = struct.pack("<HHII", tag, 4, 1, value)
    return bytes(data)


def _webp_claiming(width: int, height: int) -> bytes:
    """An extended WebP header of this canvas, with a small picture behind it."""
    inner = saved(noise(), "WEBP", lossless=True)[12:]
    canvas = struct.pack("<I", 0) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + canvas + inner
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _gif_claiming(width: int, height: int) -> bytes:
    data = bytearray(saved(noise(), "GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def _palette_with_transparency() -> bytes:
    image = Image.fromarray(noise()).quantize(8)
    return saved(image, "PNG", transparency=bytes([0, 128, 255]))


_HALF: dict[str, dict[str, object]] = {"JPEG": {"quality": 95}, "PNG": {}, "WEBP": {"lossless": True}, "GIF": {}, "BMP": {}, "TIFF": {}}


@cache
def pictures() -> tuple[Picture, ...]:
    """Every kind of picture, bad ones first."""
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100
    bad = [
        Picture("zero-bytes", b"", "empty-file"),
        *(Picture(f"cut-{kind.lower()}", saved(noise(64, 64), kind, **o)[:-600], "truncated", f".{kind.lower()}") for kind, o in _HALF.items()),
        Picture("header-only-jpeg", saved(noise(), "JPEG")[:20], "broken-image", ".jpg"),
        Picture("text", b"a dog on the beach\n", "not-an-image", ".jpg"),
        Picture("error-page", b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "web-page", ".jpg"),
        Picture("error-page-with-mark", b"\xef\xbb\xbf\n <HTML><body>403</body></html>", "web-page", ".jpg"),
        Picture("json-error", b'{"error": "access denied"}', "not-an-image", ".jpg"),
        Picture("svg", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "svg"),
        Picture("packed-svg", gzip.compress(b"<svg/>"), "unsupported-format"),
        Picture("heic", heic, "heic", ".jpg"),
        Picture("pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "unsupported-format", ".jpg"),
        Picture("postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported-format"),
        Picture("photoshop", b"8BPS\0\1" + b"\0" * 40, "unsupported-format"),
        Picture("icon", saved(Image.new("RGB", (16, 16)), "ICO"), "unsupported-format"),
        Picture("jpeg-xl", b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0" * 40, "unsupported-format"),
        Picture("jpeg-2000", b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 40, "unsupported-format"),
        Picture("video", b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + b"\0" * 40, "unsupported-format", ".gif"),
        Picture("archive", b"PK\3\4" + b"\0" * 60, "unsupported-format"),
        Picture("zeros", b"\0" * 4000, "not-an-image", ".jpg"),
        Picture("bomb-of-pixels", _real_bomb(), "too-many-pixels"),
        Picture("bomb-of-claims", png(25_000, 25_000), "too-many-pixels"),
        Picture("bomb-beyond-all", png(2**31 - 1, 2**31 - 1), "too-many-pixels"),
        Picture("bomb-just-too-large", png(9_000, 8_000), "too-many-pixels"),
        Picture("bomb-jpeg", _giant_jpeg(), "too-many-pixels", ".jpg"),
        Picture("bomb-webp", _webp_claiming(16_000, 16_000), "too-many-pixels", ".webp"),
        Picture("bomb-gif", _gif_claiming(60_000, 60_000), "too-many-pixels", ".gif"),
        Picture("bomb-tiff", _tiff_claiming(40_000, 40_000), "too-many-pixels", ".tif"),
        Picture("bomb-of-scans", _jpeg_of_many_scans(2_000), "too-much-work", ".jpg"),
        Picture("bomb-of-text", png(24, 24, before=chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 30_000_000, 9))), "broken-image"),
        Picture("no-end-mark", saved(noise(64, 64), "JPEG")[:-2], "truncated", ".jpg"),
        Picture("avif-header", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + b"\0" * 90, "broken-image", ".avif"),
        Picture("wrong-check-sum-in-header", png(24, 24).replace(struct.pack(">II", 24, 24), struct.pack(">II", 24, 25), 1), "broken-image"),
        Picture("cut-in-header", saved(noise(), "PNG")[:30], "broken-image"),
        Picture("no-pixels", png(0, 24), "broken-image"),
        Picture("claims-more-than-it-has", png(64, 64), "truncated"),
        Picture("wrong-check-sum", png(24, 24, rows=b"".join(b"\0" + noise(1, 24, seed=i).tobytes() for i in range(24)), bad_check=True), None),
        Picture("unknown-bit-depth", png(24, 24, depth=5), "broken-image"),
    ]
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff\xff\xff\xff\xff"
    fine = [
        Picture("png-named-jpg", saved(noise(), "PNG"), extension=".jpg"),
        Picture("jpeg-named-png", saved(noise(), "JPEG")),
        Picture("jpeg-with-garbage", _jpeg_with_garbage(), extension=".jpg"),  # every decoder shows such a file, with a torn part
        Picture("cmyk", saved(Image.new("CMYK", (24, 24), (0, 255, 255, 0)), "JPEG"), extension=".jpg"),
        Picture("grey-16", saved(noise(channels=1).astype(np.uint16) * 257, "PNG")),
        Picture("rgb-16", _rgb16()),
        Picture("one-bit", saved(Image.fromarray(noise(channels=1)).convert("1"), "PNG")),
        Picture("palette-transparent", _palette_with_transparency()),
        Picture("grey-alpha", saved(Image.fromarray(noise(channels=4)).convert("LA"), "PNG")),
        Picture("rgba", saved(noise(channels=4), "PNG")),
        Picture("animated-gif", _frames("GIF"), extension=".gif"),
        Picture("animated-webp", _frames("WEBP"), extension=".webp"),
        Picture("animated-png", _frames("PNG")),
        Picture("pages-tiff", _frames("TIFF"), extension=".tif"),
        Picture("mpo", _frames("MPO"), extension=".jpg"),
        *(Picture(f"turned-{orientation}", _turned(orientation), extension=".jpg") for orientation in range(1, 9)),
        Picture("turned-nonsense", _turned(77), extension=".jpg"),
        Picture("broken-exif", saved(noise(), "JPEG", exif=exif), extension=".jpg"),
        Picture("broken-exif-png", saved(noise(), "PNG", exif=exif)),
        Picture("broken-profile-jpeg", _icc("JPEG"), extension=".jpg"),
        Picture("broken-profile-png", _icc("PNG")),
        Picture("huge-metadata", png_with(before=chunk(b"prVt", b"x" * 3_000_000))),
        Picture("garbage-behind", saved(noise(), "PNG") + b"x" * 5000),
        Picture("float-tiff", _float_tiff(), extension=".tif"),
        Picture("not-a-number-tiff", _not_a_number_tiff(), extension=".tif"),
        Picture("one-pixel", saved(Image.new("RGB", (1, 1), "red"), "PNG")),
        Picture("strip", saved(Image.new("RGB", (1, 5000), "red"), "PNG")),
        Picture("wide-strip", saved(Image.new("RGB", (5000, 1), "red"), "PNG")),
        Picture("run-length-bmp", _bmp_rle(), extension=".bmp"),
        Picture("upper-case", saved(noise(), "JPEG"), extension=".JPG"),
    ]
    return (*bad, *fine)


def png_with(before: bytes) -> bytes:
    """A good PNG with something before its pixels."""
    return png(24, 24, rows=b"".join(b"\0" + noise(1, 24, seed=i).tobytes() for i in range(24)), before=before)


def make_pipe(path: Path) -> None:
    """A named pipe that nobody writes to: opening it the plain way waits for ever."""
    os.mkfifo(path)
