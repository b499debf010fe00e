"""Every kind of bad or odd input we know of, as data: what it is called, what it is, and what must become of
it.

`cause` is the reason that the ledger must name, or None where the input is odd but fine. The builders at the
end put all kinds, among good pairs, into a folder, a table, a Parquet file or a tar, and say what each sample
must come to.
"""

import csv
import gzip
import io
import json
import os
import struct
import tarfile
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


@dataclass(frozen=True)
class HostileImage:
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


def png(
    width: int,
    height: int,
    *,
    depth: int = 8,
    colour: int = 2,
    rows: bytes = b"\0" * 64,
    before: bytes = b"",
    bad_check: bool = False,
) -> bytes:
    """A PNG written by hand, so that its header may lie."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = (
        chunk(b"IHDR", header),
        before,
        chunk(b"IDAT", zlib.compress(rows, 1), is_damaged=bad_check),
        chunk(b"IEND", b""),
    )
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
    data = saved(Image.new("RGB", (2000, 2000)), "JPEG", progressive=True)
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


_HALF: dict[str, dict[str, object]] = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WEBP": {"lossless": True},
    "GIF": {},
    "BMP": {},
    "TIFF": {},
}


@cache
def hostile_images() -> tuple[HostileImage, ...]:
    """Every kind of picture, bad ones first."""
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100
    bad = [
        HostileImage("zero-bytes", b"", "empty-file"),
        *(
            HostileImage(
                f"cut-{kind.lower()}", saved(noise(64, 64), kind, **o)[:-600], "truncated", f".{kind.lower()}"
            )
            for kind, o in _HALF.items()
        ),
        HostileImage("header-only-jpeg", saved(noise(), "JPEG")[:20], "broken-image", ".jpg"),
        HostileImage("text", b"a dog on the beach\n", "not-an-image", ".jpg"),
        HostileImage(
            "error-page", b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "web-page", ".jpg"
        ),
        HostileImage(
            "error-page-with-mark", b"\xef\xbb\xbf\n <HTML><body>403</body></html>", "web-page", ".jpg"
        ),
        HostileImage("json-error", b'{"error": "access denied"}', "not-an-image", ".jpg"),
        HostileImage(
            "svg",
            b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
            "svg",
        ),
        HostileImage("packed-svg", gzip.compress(b"<svg/>"), "unsupported-format"),
        HostileImage("heic", heic, "heic", ".jpg"),
        HostileImage("pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "unsupported-format", ".jpg"),
        HostileImage(
            "postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported-format"
        ),
        HostileImage("photoshop", b"8BPS\0\1" + b"\0" * 40, "unsupported-format"),
        HostileImage("icon", saved(Image.new("RGB", (16, 16)), "ICO"), "unsupported-format"),
        HostileImage("jpeg-xl", b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0" * 40, "unsupported-format"),
        HostileImage("jpeg-2000", b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 40, "unsupported-format"),
        HostileImage(
            "video", b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + b"\0" * 40, "unsupported-format", ".gif"
        ),
        HostileImage("archive", b"PK\3\4" + b"\0" * 60, "unsupported-format"),
        HostileImage("zeros", b"\0" * 4000, "not-an-image", ".jpg"),
        HostileImage("bomb-of-pixels", _real_bomb(), "too-many-pixels"),
        HostileImage("bomb-of-claims", png(25_000, 25_000), "too-many-pixels"),
        HostileImage("bomb-beyond-all", png(2**31 - 1, 2**31 - 1), "too-many-pixels"),
        HostileImage("bomb-just-too-large", png(9_000, 8_000), "too-many-pixels"),
        HostileImage("bomb-jpeg", _giant_jpeg(), "too-many-pixels", ".jpg"),
        HostileImage("bomb-webp", _webp_claiming(16_000, 16_000), "too-many-pixels", ".webp"),
        HostileImage("bomb-gif", _gif_claiming(60_000, 60_000), "too-many-pixels", ".gif"),
        HostileImage("bomb-tiff", _tiff_claiming(40_000, 40_000), "too-many-pixels", ".tif"),
        HostileImage("bomb-of-scans", _jpeg_of_many_scans(2_000), "too-much-work", ".jpg"),
        HostileImage(
            "bomb-of-text",
            png(24, 24, before=chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 3_000_000, 9))),
            "broken-image",
        ),
        HostileImage("no-end-mark", saved(noise(64, 64), "JPEG")[:-2], "truncated", ".jpg"),
        HostileImage(
            "avif-header", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + b"\0" * 90, "broken-image", ".avif"
        ),
        HostileImage(
            "wrong-check-sum-in-header",
            png(24, 24).replace(struct.pack(">II", 24, 24), struct.pack(">II", 24, 25), 1),
            "broken-image",
        ),
        HostileImage("cut-in-header", saved(noise(), "PNG")[:30], "broken-image"),
        HostileImage("no-pixels", png(0, 24), "broken-image"),
        HostileImage("claims-more-than-it-has", png(64, 64), "truncated"),
        HostileImage(
            "wrong-check-sum",
            png(
                24,
                24,
                rows=b"".join(b"\0" + noise(1, 24, seed=i).tobytes() for i in range(24)),
                bad_check=True,
            ),
            None,
        ),
        HostileImage("unknown-bit-depth", png(24, 24, depth=5), "broken-image"),
    ]
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff\xff\xff\xff\xff"
    fine = [
        HostileImage("png-named-jpg", saved(noise(), "PNG"), extension=".jpg"),
        HostileImage("jpeg-named-png", saved(noise(), "JPEG")),
        HostileImage(
            "jpeg-with-garbage", _jpeg_with_garbage(), extension=".jpg"
        ),  # every decoder shows such a file, with a torn part
        HostileImage("cmyk", saved(Image.new("CMYK", (24, 24), (0, 255, 255, 0)), "JPEG"), extension=".jpg"),
        HostileImage("grey-16", saved(noise(channels=1).astype(np.uint16) * 257, "PNG")),
        HostileImage("rgb-16", _rgb16()),
        HostileImage("one-bit", saved(Image.fromarray(noise(channels=1)).convert("1"), "PNG")),
        HostileImage("palette-transparent", _palette_with_transparency()),
        HostileImage("grey-alpha", saved(Image.fromarray(noise(channels=4)).convert("LA"), "PNG")),
        HostileImage("rgba", saved(noise(channels=4), "PNG")),
        HostileImage("animated-gif", _frames("GIF"), extension=".gif"),
        HostileImage("animated-webp", _frames("WEBP"), extension=".webp"),
        HostileImage("animated-png", _frames("PNG")),
        HostileImage("pages-tiff", _frames("TIFF"), extension=".tif"),
        HostileImage("mpo", _frames("MPO"), extension=".jpg"),
        *(
            HostileImage(f"turned-{orientation}", _turned(orientation), extension=".jpg")
            for orientation in range(1, 9)
        ),
        HostileImage("turned-nonsense", _turned(77), extension=".jpg"),
        HostileImage("broken-exif", saved(noise(), "JPEG", exif=exif), extension=".jpg"),
        HostileImage("broken-exif-png", saved(noise(), "PNG", exif=exif)),
        HostileImage("broken-profile-jpeg", _icc("JPEG"), extension=".jpg"),
        HostileImage("broken-profile-png", _icc("PNG")),
        HostileImage("huge-metadata", png_with(before=chunk(b"prVt", b"x" * 3_000_000))),
        HostileImage("garbage-behind", saved(noise(), "PNG") + b"x" * 5000),
        HostileImage("float-tiff", _float_tiff(), extension=".tif"),
        HostileImage("not-a-number-tiff", _not_a_number_tiff(), extension=".tif"),
        HostileImage("one-pixel", saved(Image.new("RGB", (1, 1), "red"), "PNG")),
        HostileImage("strip", saved(Image.new("RGB", (1, 5000), "red"), "PNG")),
        HostileImage("wide-strip", saved(Image.new("RGB", (5000, 1), "red"), "PNG")),
        HostileImage("run-length-bmp", _bmp_rle(), extension=".bmp"),
        HostileImage("upper-case", saved(noise(), "JPEG"), extension=".JPG"),
    ]
    return (*bad, *fine)


def png_with(before: bytes) -> bytes:
    """A good PNG with something before its pixels."""
    return png(
        24, 24, rows=b"".join(b"\0" + noise(1, 24, seed=i).tobytes() for i in range(24)), before=before
    )


def make_pipe(path: Path) -> None:
    """A named pipe that nobody writes to: opening it the plain way waits for ever."""
    os.mkfifo(path)


@dataclass(frozen=True)
class Caption:
    """Bytes in place of a caption, beside an image; `text` is the same in a table, where it can be."""

    name: str
    data: bytes | None
    cause: str | None = None
    text: str | None = None


def captions() -> tuple[Caption, ...]:
    """Every kind of caption, bad ones first."""
    return (
        Caption("missing", None, "no-caption"),
        Caption("empty", b"", "no-caption", ""),
        Caption("blank", b" \n\t \r\n", "no-caption", " \t "),
        Caption("invisible", "\u200b\u2060\u00ad".encode(), "no-caption", "\u200b\u2060\u00ad"),
        Caption("only-a-mark", b"\xef\xbb\xbf", "no-caption", "\ufeff"),
        Caption("one-megabyte", b"word " * 200_000, "caption-too-long", "word " * 200_000),
        Caption("beyond-a-megabyte", b"word " * 250_000, "caption-too-long"),
        Caption("latin-1", "ein Bär im Café".encode("latin-1"), "not-utf8"),
        Caption("cut-inside-a-character", "ein Bär".encode()[:6], "not-utf8"),
        Caption("zero-inside", b"a\0dog", "not-text", "a\0dog"),
        Caption("wide-without-mark", "a red bird".encode("utf-16-le"), "not-text", "a\0 \0r\0e\0d\0"),
        Caption("half-of-wide", b"\xff\xfea", "not-utf8"),
        Caption("wide", "a red bird".encode("utf-16"), None, "a red bird"),
        Caption("with-mark", b"\xef\xbb\xbfa red bird", None, "\ufeffa red bird"),
        Caption("markup", b"[bold]<b>$(rm -rf /)</b>%s{}", None, "[bold]<b>$(rm -rf /)</b>%s{}"),
        Caption("pictographs", "🐶🏽‍🦰".encode(), None, "🐶🏽‍🦰"),
        Caption("right-to-left", "\u202eكلب".encode(), None, "\u202eكلب"),
        Caption("long", b"word " * 2_000, None, "word " * 2_000),
    )


GOOD = 12  # good pairs among the rest
Expected = dict[str, str | None]  # id, or the name of a fault in the ledger -> cause; None is kept


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@cache
def _good(number: int) -> bytes:
    return saved(noise(seed=number), "PNG")


def images_into(root: Path) -> dict[str, tuple[str, str | None]]:
    """Write every image, and paths that are none; gives id -> (path, cause), as found on decoding."""
    found: dict[str, tuple[str, str | None]] = {}
    for number in range(GOOD):
        _put(root / f"good-{number:02}.png", _good(number))
        found[f"good-{number:02}"] = f"good-{number:02}.png", None
    for kind in hostile_images():
        _put(root / f"{kind.name}{kind.extension}", kind.data)
        found[kind.name] = f"{kind.name}{kind.extension}", kind.cause
    return found


def paths_into(root: Path) -> dict[str, tuple[str, str]]:
    """Things with an image's name that are none; gives id -> (path, cause), known without decoding."""
    outside = root.parent / "outside.png"
    _put(outside, _good(0))
    make_pipe(root / "pipe.png")
    (root / "folder.png").mkdir()
    (root / "dangling.png").symlink_to("nowhere.png")
    (root / "circle.png").symlink_to("circle.png")
    (root / "device.png").symlink_to("/dev/zero")
    return {
        "pipe": ("pipe.png", "not-a-file"),
        "folder": ("folder.png", "not-a-file"),
        "dangling": ("dangling.png", "missing-file"),
        "circle": ("circle.png", "missing-file"),
        "device": ("device.png", "not-a-file"),
        "gone": ("gone.png", "missing-file"),
        "../outside": ("../outside.png", "outside-folder"),
        "../../../etc/passwd": ("../../../etc/passwd", "outside-folder"),
        "etc/shadow-not-there": ("/etc/shadow-not-there.png", "missing-file"),
        "http://x.org/a": ("http://x.org/a.png", "is-url"),
        "zero\ufffdinside": ("zero\0inside.png", "not-a-path"),
        "n" * 117 + "...": ("n" * 300 + ".png", "not-a-path"),
        "m/" * 58 + "m...": ("m/" * 3000 + "m.png", "not-a-path"),
        "drawing": ("drawing.svg", "unsupported-format"),
        "photo": ("photo.heic", "unsupported-format"),
    }


def folder_into(root: Path) -> Expected:
    """A folder of pictures with text beside them."""
    expected: Expected = {}
    for name, (path, cause) in images_into(root).items():
        _put((root / path).with_suffix(".txt"), f"a caption of {name}".encode())
        expected[name] = cause
    for kind in captions():
        _put(root / f"caption-{kind.name}.png", _good(0))
        if kind.data is not None:
            _put(root / f"caption-{kind.name}.txt", kind.data)
        expected[f"caption-{kind.name}"] = kind.cause
    for name, record in {
        "broken": b'{"caption": "a',
        "list": b"[1]",
        "deep": b"[" * 100_000,
        "latin": b'{"caption": "caf\xe9"}',
    }.items():
        _put(root / f"record-{name}.png", _good(0))
        _put(root / f"record-{name}.json", record)
        expected[f"record-{name}"] = "not-utf8" if name == "latin" else "not-json"
    for path, cause in paths_into(root).values():
        if cause in ("not-a-file", "missing-file") and os.path.lexists(root / path):
            expected[path] = "symlink-loop" if path == "circle.png" else cause
    (root / "loop").symlink_to(root)
    make_pipe(root / "pipe-beside.txt")
    _put(root / "alone.txt", b"no image")
    _put(root / "drawing.svg", b"<svg/>")
    _put(root / "linked/inside.txt", b"a picture through a link that leaves the folder")
    (root / "linked/inside.png").symlink_to(root.parent / "outside.png")
    with open(os.fsencode(root) + b"/not-\xff-text.png", "wb") as file:
        file.write(_good(0))
    for hidden in (".hidden.png", "__MACOSX/._good.png", "Thumbs.db", "._good-00.png"):
        _put(root / hidden, b"x")
    return expected | {
        "loop": "symlink-loop",
        "pipe-beside.txt": "not-a-file",
        "alone.txt": "no-image",
        "drawing.svg": "unsupported-format",
        "not-\ufffd-text.png".replace("\ufffd", "?"): "not-utf8",
        "linked/inside": None,
    }


def table_rows(root: Path) -> tuple[list[dict[str, str]], Expected]:
    """Rows with `image` and `caption` for every picture, path and caption that a table can hold."""
    rows: list[dict[str, str]] = []
    expected: Expected = {}
    for name, (path, cause) in images_into(root).items():
        rows.append({"image": path, "caption": f"a caption of {name}"})
        expected[name] = cause
    for name, (path, cause) in paths_into(root).items():
        rows.append({"image": path, "caption": "a path that is no picture"})
        expected[name] = cause
    for kind in captions():
        if kind.text is not None:
            _put(root / f"caption-{kind.name}.png", _good(0))
            rows.append({"image": f"caption-{kind.name}.png", "caption": kind.text})
            expected[f"caption-{kind.name}"] = kind.cause
    return rows, expected


def csv_into(root: Path) -> tuple[Path, Expected]:
    """A table with a mark at its beginning, semicolons, and every kind of row."""
    rows, expected = table_rows(root)
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, ["image", "caption"], delimiter=";")
    writer.writeheader()
    writer.writerows(rows)
    for name in ("two", "lines", "before", "open", "behind"):
        _put(root / f"{name}.png", _good(1))
    tail = [
        *[
            "two.png;too;many",
            "lonely",
            "",
            'lines.png;"two\nlines"',
            "before.png;a row before",
            'open.png;"a quote that opens',
        ],
        *["behind.png;a row behind", ";no image", "lines.png;a second caption of the same image"],
    ]
    text = ("\ufeff" + stream.getvalue()).encode() + "\n".join(tail).encode() + b"\nbefore.png;caf\xe9 \xff\n"
    (root / "pairs.csv").write_bytes(text)
    first = stream.getvalue().count("\n")  # lines before the tail, of which one row has two lines
    return root / "pairs.csv", expected | {
        f"line {first + 1}": "wrong-columns",
        f"line {first + 2}": "wrong-columns",
        f"line {first + 7}": "open-quote",
        f"line {first + 9}": "no-image",
        f"line {first + 11}": "not-utf8",
        "lines": None,
        "before": None,
        "behind": None,
    }


def jsonl_into(root: Path) -> tuple[Path, Expected]:
    """Objects a line, with lines that are none."""
    rows, expected = table_rows(root)
    good = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
    for name in ("listed", "odd", "surrogate"):
        _put(root / f"{name}.png", _good(2))
    bad = {
        b'{"image": "good-00.png", "caption": "cut': "not-json",
        b"[1, 2]": "not-json",
        b'"text"': "not-json",
        b"null": "not-json",
        b"[" * 5000: "not-json",
        b'{"image": "good-00.png", "caption": ' + b"9" * 5000 + b"}": "not-json",
        b'{"image": "good-00.png", "caption": "caf\xe9"}': "not-utf8",
        b'{"image": "surrogate.png", "caption": "\\ud800"}': "not-utf8",
    }
    odd = [
        b'{"image": ["listed.png"], "caption": "one path in a list"}',
        b'{"image": "odd.png", "caption": ["two", "captions"], "extra": {"deep": [1]}}',
        b'{"image": {"path": "odd.png"}, "caption": "a path in a record"}',
        b'{"caption": "no image"}',
        b'{"image": null, "caption": "no image"}',
        b'{"image": 7, "caption": "a number"}',
    ]
    (root / "pairs.jsonl").write_bytes(b"\n".join([*good, *bad, b"", *odd]) + b"\n")
    behind = len(good) + len(bad) + 1
    faults = {f"line {len(good) + number}": cause for number, cause in enumerate(bad.values(), start=1)}
    extra: Expected = {
        "listed": None,
        "odd": None,
        f"line {behind + 4}": "no-image",
        f"line {behind + 5}": "no-image",
        "7": "missing-file",
    }
    return root / "pairs.jsonl", expected | faults | extra


def parquet_paths_into(root: Path) -> tuple[Path, Expected]:
    """A Parquet file that names image files."""
    rows, expected = table_rows(root)
    columns = {name: [row[name].encode() for row in rows] for name in ("image", "caption")}
    _put(root / "spoiled.png", _good(1))
    columns["image"] += [b"spoiled.png", None]
    columns["caption"] += [b"caf\xe9", b"no image"]
    as_bytes = {name: pa.array(values, pa.binary()) for name, values in columns.items()}
    table = pa.table(
        {
            name: pa.Array.from_buffers(pa.string(), len(values), values.buffers())
            for name, values in as_bytes.items()
        }
    )
    pq.write_table(table, root / "pairs.parquet")
    return root / "pairs.parquet", expected | {"spoiled": "not-utf8", f"line {len(rows) + 2}": "no-image"}


def parquet_bytes_into(root: Path) -> tuple[Path, Expected]:
    """A Parquet file that holds images, in several row groups."""
    rows: list[tuple[str, bytes | None, str | None, str | None]] = [
        (f"good-{n:02}", _good(n), "a good pair", None) for n in range(GOOD)
    ]
    rows += [(kind.name, kind.data, f"a caption of {kind.name}", kind.cause) for kind in hostile_images()]
    rows += [
        (f"caption-{kind.name}", _good(0), kind.text, kind.cause)
        for kind in captions()
        if kind.text is not None or kind.data is None
    ]
    rows += [("null-image", None, "no image", "no-image")]
    names, images, texts, causes = zip(*rows, strict=True)
    root.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.table({"id": names, "image": pa.array(images, pa.binary()), "caption": texts}),
        root / "held.parquet",
        row_group_size=20,
    )
    return root / "held.parquet", dict(zip(names, causes, strict=True))


def tar_into(path: Path, *, cut: bool = True) -> Expected:
    """A tar of all images and captions, links, odd names; `cut` ends it inside its last sample."""
    path.parent.mkdir(parents=True, exist_ok=True)
    expected: Expected = {}
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as file:

        def add(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "") -> None:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, target, len(data)
            file.addfile(member, io.BytesIO(data))

        def pair(key: str, image: bytes, text: bytes | None = b"a caption", extension: str = ".png") -> None:
            add(key + extension, image)
            if text is not None:
                add(f"{key}.txt", text)

        for number in range(GOOD):
            pair(f"good-{number:02}", _good(number))
            expected[f"good-{number:02}"] = None
        for kind in hostile_images():
            pair(kind.name, kind.data, extension=kind.extension)
            expected[kind.name] = kind.cause
        for kind in captions():
            pair(f"caption-{kind.name}", _good(0), kind.data)
            expected[f"caption-{kind.name}"] = kind.cause
        pair("good-00", _good(1))  # the key again
        pair("../escape", _good(1))
        pair("/absolute", _good(1))
        pair("n" * 150, _good(1))
        add("soft.png", kind=tarfile.SYMTYPE, target="good-00.png")
        add("device.png", kind=tarfile.CHRTYPE)
        add("hard.png", kind=tarfile.LNKTYPE, target="good-01.png")
        add("hard.txt", b"a picture that is a hard link")
        add("alone.txt", b"no image")
        add("record.png", _good(1))
        add("record.json", b"{")
        add("vector.svg", b"<svg/>")
        add("vector.txt", b"a drawing")
        add("__MACOSX/._good-00.png", b"x")
        pair("last", hostile_tail())
    expected |= {
        f"{path.name}/good-00": "duplicate-key",
        "../escape": "outside-folder",
        "/absolute": "outside-folder",
        "n" * 150: None,
        "soft.png": "not-a-file",
        "device.png": "not-a-file",
        "hard": None,
        "alone": "no-image",
        "record": "not-json",
        "vector": "unsupported-format",
    }
    if not cut:
        return expected | {"last": None}
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"last.png") + 512 + 700])
    return expected | {path.name: "truncated-shard"}


def hostile_tail() -> bytes:
    """The last picture of a tar, large enough to be cut inside."""
    return saved(noise(64, 64), "PNG")
