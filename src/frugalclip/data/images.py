"""Bytes to pixels, safely: the one place that opens images.

Every image comes out as RGB on white, upright by its EXIF tag, first frame only. What cannot be decoded
raises `BadImage` with a reason of the ledger. The number of pixels is known before any is decoded.
"""

import importlib
import io
import os
import threading
import warnings
from functools import cache

import numpy as np
from PIL import Image

from frugalclip.data.image_faults import BadImage, recognised
from frugalclip.data.jpeg import fast_jpeg

MAX_PIXELS = 64_000_000  # 8000 x 8000: below Pillow's own warning, above any photo worth training on whole
MAX_BYTES = 2**29  # of one encoded image: MAX_PIXELS of four 16-bit channels without compression
_MAX_SCANNED = 16 * MAX_PIXELS  # pixels times scans of a JPEG; a few bytes can demand thousands of passes
EXTENSIONS = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".avif")
UNREADABLE_EXTENSIONS = (
    *(
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
    ),
)
# no EPS, which runs Ghostscript, and no exotic parsers
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
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


class _SharedSilence:
    """Silences Pillow's warnings about files that are odd but readable.

    `warnings.catch_warnings` alone may restore the filters of another thread, so threads that overlap share
    one.
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


_quiet = _SharedSilence()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_quiet.__init__)  # a lock that another thread held would stay held


@cache
def _formats() -> tuple[str, ...]:
    """The formats that this Pillow can read, of those it may try."""
    for plugin in _PLUGINS:
        try:
            importlib.import_module(f"PIL.{plugin}ImagePlugin")
        except ImportError:
            continue
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def open_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read the header: format and size, no pixel.

    Raises:
        BadImage: when the bytes are no image of a readable format, or the image has too many pixels.
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
    except Exception as error:  # parsers raise anything on hostile bytes, even SyntaxError
        cause, what = recognised(data)
        raise BadImage(
            cause, f"{what} ({type(error).__name__}); expected JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF."
        ) from None
    if image.width * image.height > max_pixels:
        raise BadImage(
            "too-many-pixels",
            f"the image is {image.width:,} x {image.height:,}, expected at most {max_pixels:,} pixels; "
            "make it smaller.",
        )
    if (scans := _scans(image, data)) * image.width * image.height > _MAX_SCANNED:
        raise BadImage(
            "too-much-work",
            f"the image of {image.width:,} x {image.height:,} pixels is written in {scans:,} scans; "
            "save it again.",
        )
    if not image.width or not image.height:
        raise BadImage(
            "broken-image", f"the image is {image.width} x {image.height} pixels; copy it again or delete it."
        )
    return image


def _scans(image: Image.Image, data: bytes) -> int:
    """Passes over the pixels that a JPEG needs: its start-of-scan marks, which do not occur in coded data."""
    is_jpeg = image.format in ("JPEG", "MPO") or (
        image.format == "TIFF" and "jpeg" in str(image.info.get("compression"))
    )
    return data.count(b"\xff\xda") if is_jpeg else 1


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, at_least: int | None = None) -> Image.Image:
    """An encoded image as upright RGB on white.

    Args:
        data: a whole encoded file.
        max_pixels: height times width that is refused before decoding.
        at_least: a JPEG may be decoded, faster, at 1/2, 1/4 or 1/8 of its size if both sides keep so many
            pixels.

    Raises:
        BadImage: with `.cause`, a reason of the ledger.
    """
    return _opened(data, at_least=at_least, max_pixels=max_pixels)[0]


def decode_squashed(data: bytes, size: int) -> tuple[np.ndarray, tuple[int, int]]:
    """An image as training keeps it: every side `size` pixels, by an antialiased bicubic filter.

    A JPEG is decoded at the smallest of its sizes that is at least twice as large. The filter is torch's: it
    gives Pillow's numbers to within 2 of 255 in a third of the time.

    Returns:
        (3, size, size) uint8, and (height, width) of the whole image, upright.

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
    """The decoded image, and (height, width) of the whole one, upright."""
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
    """RGB on white, turned upright by its EXIF tag.

    Metadata is dropped, so that nothing turns the image twice.

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
    """(height, width) of the upright image, from the header alone.

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
    except Exception:  # a broken EXIF block tells nothing about the image
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
    if values.dtype.itemsize == 2 and values.dtype.kind == "u":
        # by a table: whole images of 64-bit numbers would need 8 bytes a pixel, several times over
        return np.rint(np.arange(65536) * (255 / 65535)).astype(np.uint8)[values]
    is_float = values.dtype.kind == "f"
    top = float(np.nanmax(values, initial=0, where=np.isfinite(values)))
    full = 1.0 if is_float and top <= 1 else 255.0 if is_float and top <= 255 else max(65535.0, top)
    result = np.empty(values.shape, dtype=np.uint8)
    for row, line in enumerate(values):
        numbers = np.nan_to_num(line.astype(np.float64), posinf=full, neginf=0)
        result[row] = np.clip(np.rint(numbers * (255.0 / full)), 0, 255)
    return result
