"""Bytes to pixels, safely: one place that opens images.

Every picture comes out as RGB on white, upright by its EXIF tag, first frame only. Whatever cannot be decoded raises `BadImage` with a short
cause (a reason of the ledger), and the number of pixels is known before any is decoded.
"""

import errno
import importlib
import io
import os
import stat
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from PIL import Image

from frugalclip.core.errors import DataError
from frugalclip.data.jpeg import fast_jpeg
from frugalclip.data.manifest import Manifest
from frugalclip.data.parquet_images import MEMORY_BYTES, ParquetImages

if TYPE_CHECKING:  # looking at data does not wait two seconds for torch
    from torch import Tensor

MAX_PIXELS = (
    64_000_000  # 8000 x 8000: below Pillow's own warning, above any photo worth training on undivided
)
MAX_BYTES = 2**29  # of one encoded picture: MAX_PIXELS of four 16-bit channels, not compressed at all
_AT_A_TIME = (
    32  # pictures that a thread decodes before it asks for more; small ones take less time than asking does
)
_MAX_SCANNED = (
    16 * MAX_PIXELS
)  # pixels times scans of a JPEG; each scan is a pass over the picture, and a few bytes can ask for thousands
EXTENSIONS = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".avif")
UNREADABLE_EXTENSIONS = (
    ".svg",
    ".heic",
    ".heif",
    ".jxl",
    ".jp2",
    ".psd",
    ".eps",
    ".ai",
    ".raw",
    ".cr2",
    ".nef",
    ".dng",
    ".ico",
)
_FORMATS = (
    "JPEG",
    "MPO",
    "PNG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
    "PPM",
    "AVIF",
)  # no EPS (runs Ghostscript), no exotic parsers
_PLUGINS = ("Jpeg", "Mpo", "Png", "WebP", "Gif", "Bmp", "Tiff", "Ppm", "Avif")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
Bytes = bytes  # for the class that has a method of this name


class BadImage(DataError):
    """An image that cannot be decoded; `cause` is a reason of the ledger."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause

    def __reduce__(self) -> tuple[Any, ...]:  # so that it crosses process borders
        return type(self), (self.cause, str(self))


class _Quiet:
    """Silences Pillow's warnings about files that are odd but readable; what cannot be read raises.

    `warnings.catch_warnings` alone may restore another thread's filters, so threads that overlap share one.
    """

    def __init__(self) -> None:
        self._lock, self._users = threading.Lock(), 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._filters.__exit__(None, None, None)


_quiet = _Quiet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_quiet.__init__)  # a lock that another thread held would stay held


@cache
def _formats() -> tuple[str, ...]:
    """The formats this Pillow can read, of those we let it try."""
    for plugin in _PLUGINS:
        try:
            importlib.import_module(f"PIL.{plugin}ImagePlugin")
        except ImportError:
            continue
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def open_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read the header: format and size are known, no pixel is decoded.

    Raises:
        BadImage: when the bytes are not an image of a readable format, or it has too many pixels.
    """
    if not data:
        raise BadImage("empty-file", "the image file has no bytes; copy it again or delete it.")
    try:
        with _quiet:
            image = Image.open(io.BytesIO(data), formats=_formats())
    except Image.DecompressionBombError as error:
        raise BadImage(
            "too-many-pixels", f"the image is larger than {max_pixels:,} pixels ({error}); make it smaller."
        ) from None
    except Exception as error:  # parsers raise anything on hostile bytes: struct.error, ValueError, SyntaxError, OverflowError
        cause, what = _not_an_image(data)
        raise BadImage(
            cause, f"{what} ({type(error).__name__}); expected JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF."
        ) from None
    if image.width * image.height > max_pixels:
        raise BadImage(
            "too-many-pixels",
            f"the image is {image.width:,} x {image.height:,}, expected at most {max_pixels:,} pixels; make it smaller.",
        )
    if (scans := _scans(image, data)) * image.width * image.height > _MAX_SCANNED:
        raise BadImage(
            "too-much-work",
            f"the image of {image.width:,} x {image.height:,} pixels is written in {scans:,} scans; save it again.",
        )
    if not image.width or not image.height:
        raise BadImage(
            "broken-image", f"the image is {image.width} x {image.height} pixels; copy it again or delete it."
        )
    return image


def _scans(image: Image.Image, data: bytes) -> int:
    """Passes over the pixels that a JPEG asks for: its start-of-scan marks, which cannot occur inside coded data."""
    is_jpeg = image.format in ("JPEG", "MPO") or (
        image.format == "TIFF" and "jpeg" in str(image.info.get("compression"))
    )
    return data.count(b"\xff\xda") if is_jpeg else 1


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, at_least: int | None = None) -> Image.Image:
    """An encoded image as upright RGB on white.

    Args:
        data: a whole encoded file.
        max_pixels: height times width that is refused before decoding.
        at_least: when given, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, as long as both sides keep this many pixels. Faster.

    Raises:
        BadImage: with `.cause`, a reason of the ledger.
    """
    return _opened(data, at_least=at_least, max_pixels=max_pixels)[0]


def decode_squashed(data: bytes, size: int) -> tuple[np.ndarray, tuple[int, int]]:
    """A picture as training keeps it: every side `size` pixels, by an antialiased bicubic filter.

    A JPEG is decoded at the smallest of its sizes that is at least twice as large. The filter is torch's, which gives Pillow's numbers to within
    2 of 255 in a third of the time.

    Returns:
        (3, size, size) uint8, and (height, width) of the whole picture, upright.

    Raises:
        BadImage: as `decode`.
    """
    import torch

    fast = fast_jpeg(data, max_pixels=MAX_PIXELS, max_scanned=_MAX_SCANNED, at_least=2 * size)
    if fast is not None and fast[2] == 1:
        pixels, whole = fast[0], fast[1]
    else:
        opened, whole = _opened(data, at_least=2 * size)
        pixels = np.array(opened)  # (height, width, 3)
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]  # (1, 3, height, width)
    if planes.shape[2:] == (size, size):  # the filter would give the same numbers
        return planes[0].contiguous().numpy(), whole
    square = torch.nn.functional.interpolate(planes, size=(size, size), mode="bicubic", antialias=True)
    return square[0].contiguous().numpy(), whole


def _opened(
    data: bytes, *, at_least: int | None, max_pixels: int = MAX_PIXELS
) -> tuple[Image.Image, tuple[int, int]]:
    """The decoded picture, and (height, width) of the whole one, upright."""
    with _quiet:
        found = fast_jpeg(data, max_pixels=max_pixels, max_scanned=_MAX_SCANNED, at_least=at_least)
    if found is not None:
        pixels, (height, width), orientation = found
        opened = Image.fromarray(pixels)
        turned = opened.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else opened
        return turned, (width, height) if 5 <= orientation <= 8 else (height, width)
    image = open_image(data, max_pixels=max_pixels)
    size = upright_size(image)
    return _decoded(image, at_least), size


def _decoded(image: Image.Image, at_least: int | None) -> Image.Image:
    try:
        with _quiet:
            if at_least is not None:
                image.draft(None, (at_least, at_least))  # pyright: ignore[reportArgumentType]  (None keeps the mode)
            image.load()
    except Exception as error:  # decoders raise anything on hostile bytes
        text = str(error)
        truncated = "truncated" in text.lower() or isinstance(error, EOFError) or "not enough" in text.lower()
        cause, what = (
            ("truncated", "the image ends early")
            if truncated
            else ("broken-image", "the image cannot be decoded")
        )
        raise BadImage(
            cause, f"{what} ({type(error).__name__}: {text or 'no detail'}); copy it again or delete it."
        ) from None
    return upright_rgb(image)


def upright_rgb(image: Image.Image) -> Image.Image:
    """RGB on white, turned upright by its EXIF tag; metadata stays behind, so that nothing turns the picture twice.

    Raises:
        BadImage: when its mode cannot be made RGB.
    """
    orientation = _orientation(image)
    try:
        with _quiet:
            opened = _rgb_on_white(image)
        if orientation in _UPRIGHT:
            opened = opened.transpose(_UPRIGHT[orientation])
        elif opened is image:
            opened = image.copy()
    except Exception as error:
        raise BadImage(
            "broken-image", f"the image of mode {image.mode} cannot be made RGB ({error}); save it as PNG."
        ) from None
    opened.info = {}
    return opened


def size_of(data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) of the upright picture, from the header alone.

    Raises:
        BadImage: as `open_image`.
    """
    return upright_size(open_image(data, max_pixels=max_pixels))


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of an opened image after its EXIF rotation."""
    return (image.width, image.height) if 5 <= _orientation(image) <= 8 else (image.height, image.width)


def _orientation(image: Image.Image) -> int:
    try:
        with _quiet:
            return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a broken EXIF block says nothing about the picture
        return 1


def _rgb_on_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.copy() if image.__class__ is not Image.Image else image
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bit(np.asarray(image))).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _eight_bit(values: np.ndarray) -> np.ndarray:
    """Grey values of 16 bit, 32 bit or float as uint8; Pillow's own conversion clips instead of scaling."""
    if (
        values.dtype.itemsize == 2 and values.dtype.kind == "u"
    ):  # a table: whole pictures of 64-bit numbers would need 8 bytes a pixel, several times
        return np.rint(np.arange(65536) * (255 / 65535)).astype(np.uint8)[values]
    is_float = values.dtype.kind == "f"
    top = float(np.nanmax(values, initial=0, where=np.isfinite(values)))
    full = 1.0 if is_float and top <= 1 else 255.0 if is_float and top <= 255 else max(65535.0, top)
    result = np.empty(values.shape, dtype=np.uint8)
    for row, line in enumerate(values):
        numbers = np.nan_to_num(line.astype(np.float64), posinf=full, neginf=0)
        result[row] = np.clip(np.rint(numbers * (255.0 / full)), 0, 255)
    return result


_FOREIGN = {  # first bytes of files that are often found under an image's name
    b"%PDF": "a PDF document",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"8BPS": "a Photoshop file",
    b"\0\0\1\0": "an icon",
    b"\0\0\0\x0cJXL ": "a JPEG XL picture",
    b"\xff\x0a": "a JPEG XL picture",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 picture",
    b"\xff\x4f\xff\x51": "a JPEG 2000 picture",
    b"PK\3\4": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x1aE\xdf\xa3": "a video",
    b"qoif": "a QOI picture",
}
_DAMAGED = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")


def _not_an_image(data: bytes) -> tuple[str, str]:
    """Cause and words for bytes that no decoder takes."""
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in data[:4096].lower():
        return "svg", "the bytes are an SVG drawing"
    if head.startswith((b"<!doctype html", b"<html", b"<head")):
        return "web-page", "the bytes are a web page"
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        if brand in (b"heic", b"heix", b"hevc", b"mif1", b"heim"):
            return "heic", "the bytes are a HEIC photo"
        return (
            ("broken-image", "the AVIF picture is damaged")
            if brand in (b"avif", b"avis")
            else ("unsupported-format", "the bytes are a video")
        )
    if found := next((what for magic, what in _FOREIGN.items() if data.startswith(magic)), None):
        return "unsupported-format", f"the bytes are {found}"
    if data[:4] == b"RIFF" and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        return "truncated", "the image ends early"
    if data.startswith(_DAMAGED):
        return "broken-image", "the image's header is damaged"
    return "not-an-image", "the bytes are not an image"


class _Handle:
    """An open regular file that closes when its last user lets go of it; a pipe or device, which might never answer, is not opened."""

    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        status = os.fstat(self.number)
        if not stat.S_ISREG(status.st_mode):
            raise BadImage(
                "not-a-file",
                f"{path} is {'a folder' if stat.S_ISDIR(status.st_mode) else 'a pipe or device'}, expected an image file.",
            )
        self.size = status.st_size

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


class ImageReader:
    """Random access to the encoded images of a manifest.

    Files open when first needed and reads give their position, so that a reader may be used after a fork and by several threads; a pickled
    reader travels without its open files.
    """

    open_files = 64
    cached_bytes = MEMORY_BYTES  # of Parquet row groups; more are unpacked to disk

    def __init__(self, manifest: Manifest) -> None:
        image: Any = manifest.table["image"].combine_chunks()
        self.root = manifest.root.absolute()
        self._paths: pa.Array = image.field("path")
        self._columns: pa.Array = image.field("column")
        self._offsets, self._lengths, self._rows = (
            _numbers(image.field(name)) for name in ("offset", "length", "row")
        )
        self._forget()

    def __len__(self) -> int:
        return len(self._paths)

    def __getstate__(self) -> dict[str, Any]:
        hidden = ("_handles", "_parquet", "_seen_parquet", "_process", "_lock")
        return {key: value for key, value in self.__dict__.items() if key not in hidden}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def _forget(self) -> None:
        self._handles: OrderedDict[str, _Handle] = OrderedDict()
        self._parquet = ParquetImages(memory_bytes=self.cached_bytes, open_files=self.open_files)
        self._seen_parquet: set[str] = set()
        self._lock = threading.Lock()  # a Parquet file's reader serves one thread at a time
        self._process = os.getpid()

    def path(self, row: int) -> Path:
        """The file that holds the image."""
        return self.root / self._paths[row].as_py()

    def bytes(self, row: int) -> Bytes:
        """The encoded image.

        Raises:
            BadImage: when the file is gone, may not be read, or ends before the image does.
        """
        if self._process != os.getpid():  # Parquet readers hold threads that a fork does not copy
            self._forget()
        path = os.path.join(self.root, self._paths[row].as_py() or "")
        try:
            if self._rows[row] >= 0:
                with self._lock:
                    return self._from_parquet(path, self._columns[row].as_py(), int(self._rows[row]))
            if self._offsets[row] >= 0:
                return self._from_range(path, int(self._offsets[row]), int(self._lengths[row]))
            return self._whole(path)
        except BadImage:
            raise
        except FileNotFoundError:
            raise BadImage("missing-file", f"{path} is gone; run 'frugalclip data check' again.") from None
        except PermissionError:
            raise BadImage("no-permission", f"{path} may not be read; check its permissions.") from None
        except (
            OSError,
            pa.ArrowException,
            ValueError,
            LookupError,
        ) as error:  # a place that is not in the file
            raise _unreadable(path, error) from None

    def image(self, row: int, *, at_least: int | None = None) -> Image.Image:
        """The decoded image, upright RGB on white.

        Raises:
            BadImage: as `bytes` and `decode`.
        """
        return decode(self.bytes(row), at_least=at_least)

    def _whole(self, path: str) -> Bytes:
        handle = _Handle(path)
        _refuse_large(path, handle.size)
        with os.fdopen(os.dup(handle.number), "rb", buffering=0) as file:
            return file.read()

    def _from_range(self, path: str, offset: int, length: int) -> Bytes:
        handle = self._handles.get(path)
        if handle is None:
            handle = self._handles[path] = _Handle(path)
            while len(self._handles) > self.open_files:
                self._handles.popitem(last=False)
        _refuse_large(path, length)
        data = os.pread(
            handle.number, length, offset
        )  # gives the position, so that forks and threads do not disturb each other
        if len(data) < length:
            raise BadImage(
                "truncated-shard",
                f"{path} ends inside an image; copy it again, or run 'frugalclip data verify' with --repair.",
            )
        return data

    def _from_parquet(self, path: str, column: str, row: int) -> Bytes:
        if path not in self._seen_parquet:
            _Handle(path)  # refuses a pipe, which would never answer
            self._seen_parquet.add(path)
        data = self._parquet.value(path, column, row)
        if data is None:
            raise BadImage("empty-file", f"row {row:,} of {path} holds no image in the column '{column}'.")
        return data


def _refuse_large(path: str, size: int) -> None:
    if size > MAX_BYTES:
        raise BadImage(
            "too-many-bytes",
            f"{path} has {size:,} bytes, expected at most {MAX_BYTES:,} for one image; leave it out.",
        )


def _unreadable(path: str, error: Exception) -> BadImage:
    """The cause of a read that failed for none of the common reasons."""
    number = getattr(error, "errno", None)
    if number == errno.ELOOP:
        return BadImage("missing-file", f"{path} is a link that leads back to itself; remove it.")
    if number in (errno.ENAMETOOLONG, errno.EINVAL) or (
        isinstance(error, ValueError) and "null" in str(error)
    ):
        return BadImage("not-a-path", f"{path[:200]!r} cannot be a file's name ({error}); correct the path.")
    if number in (errno.ENOTDIR, errno.ENXIO):
        return BadImage(
            "missing-file" if number == errno.ENOTDIR else "not-a-file",
            f"{path} is not a file ({error}); correct the path.",
        )
    return BadImage("broken-shard", f"{path} cannot be read ({error}); copy it again.")


def _numbers(values: pa.Array) -> np.ndarray:
    return values.fill_null(-1).to_numpy(zero_copy_only=False)


@dataclass(frozen=True)
class Decoded:
    """A small data set in memory; rows that failed are black and have size 0 x 0."""

    pixels: "Tensor"  # (samples, 3, size, size) uint8, each picture squashed to a square
    sizes: "Tensor"  # (samples, 2) int64 height and width of the original
    faults: list[tuple[int, str]]  # (row, cause)


def decode_all(
    manifest: Manifest,
    size: int,
    workers: int | None = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> Decoded:
    """Decode every image of a manifest to one square size.

    Args:
        manifest: the data set.
        size: pixels of a side; see `decode_squashed`.
        workers: threads, Pillow lets others run while it decodes; None gives one for each core, at most 8.
        progress: called with the number of images finished since the last call.
    """
    import torch

    pixels = np.zeros((len(manifest), 3, size, size), dtype=np.uint8)
    sizes = np.zeros((len(manifest), 2), dtype=np.int64)
    reader = ImageReader(manifest)

    def one(row: int) -> str | None:
        try:
            pixels[row], sizes[row] = decode_squashed(reader.bytes(row), size)
            return None
        except BadImage as error:
            sizes[row] = 0
            return error.cause

    causes: list[str | None] = []
    with ThreadPoolExecutor(workers or min(os.cpu_count() or 1, 8)) as pool:
        for start in range(
            0, len(manifest), 1024
        ):  # in turns, so that reads stay near each other and a stop is quick
            rows = range(start, min(start + 1024, len(manifest)))
            few = [rows[i : i + _AT_A_TIME] for i in range(0, len(rows), _AT_A_TIME)]
            causes += chain.from_iterable(pool.map(lambda some: [one(row) for row in some], few))
            if progress:
                progress(len(rows))
    faults = [(row, cause) for row, cause in enumerate(causes) if cause]
    return Decoded(torch.from_numpy(pixels), torch.from_numpy(sizes), faults)
