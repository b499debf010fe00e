"""Bytes to pixels, safely: the one place that opens images.

Every image comes out in sRGB by its colour profile, on white, upright by its EXIF tag, first frame only.
What cannot be decoded raises `BadImage` with a reason of the ledger. The number of pixels is known before
any is decoded.
"""

import importlib
import io
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from frugalclip.core.errors import DataError
from frugalclip.core.images import orientation_of, quiet, scale_transparency, upright_rgb
from frugalclip.data.damaged_profiles import without_profile
from frugalclip.data.image_faults import BadImage, recognised
from frugalclip.data.jpeg import fast_jpeg
from frugalclip.data.jpeg_segments import most_scans

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
        with quiet:
            image = _parsed(data)
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
    if not image.width or not image.height:
        raise BadImage(
            "broken-image", f"the image is {image.width} x {image.height} pixels; copy it again or delete it."
        )
    scans = _scans(image, data)
    if scans * image.width * image.height > _MAX_SCANNED:
        raise BadImage(
            "too-much-work",
            f"the image of {image.width:,} x {image.height:,} pixels is written in {scans:,} scans or more; "
            "save it again.",
        )
    scale_transparency(image)
    return image


def _parsed(data: bytes) -> Image.Image:
    """The header as Pillow reads it; a colour profile that stops it is left out."""
    try:
        return Image.open(io.BytesIO(data), formats=_formats())
    except Image.DecompressionBombError:
        raise
    except Exception:
        if (rest := without_profile(data)) is None:
            raise
        return Image.open(io.BytesIO(rest), formats=_formats())


def _scans(image: Image.Image, data: bytes) -> int:
    """Passes over the pixels that decoding needs; counting stops where they are too many."""
    limit = _MAX_SCANNED // (image.width * image.height) + 1
    if image.format in ("JPEG", "MPO"):
        return most_scans(data, limit=limit)
    if image.format == "TIFF" and "jpeg" in str(image.info.get("compression")):
        return most_scans(data, limit=limit, spans=_tiles(image, data))
    return 1


def _tiles(image: Image.Image, data: bytes) -> list[tuple[int, int]]:
    """Where the JPEG of each tile or strip of a TIFF lies; none in the old layout, which splits one JPEG."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    for offsets, lengths in ((324, 325), (273, 279)):  # of tiles, of strips
        starts, counts = (np.atleast_1d(np.asarray(tags.get(tag, ()))) for tag in (offsets, lengths))
        if not starts.dtype.kind == counts.dtype.kind == "i":  # damaged, or not there
            continue
        pairs = zip(starts.tolist(), counts.tolist(), strict=False)
        spans = [(start, start + count) for start, count in pairs]
        if spans and all(data[start : start + 2] == b"\xff\xd8" for start, _ in spans):
            return spans
    return []


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
    if fast is not None and fast.is_ready:
        pixels, whole = fast.pixels, fast.size
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
    with quiet:
        found = fast_jpeg(data, max_pixels=max_pixels, max_scanned=_MAX_SCANNED, at_least=at_least)
    if found is not None:
        height, width = found.size
        return found.image, (width, height) if found.orientation >= 5 else (height, width)
    image = open_image(data, max_pixels=max_pixels)
    size = upright_size(image)
    return _decoded(image, at_least), size


def _decoded(image: Image.Image, at_least: int | None) -> Image.Image:
    try:
        with quiet:
            if at_least is not None:
                # None keeps the mode
                image.draft(None, (at_least, at_least))  # pyright: ignore[reportArgumentType]
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
    try:
        return upright_rgb(image)
    except DataError as error:
        raise BadImage("broken-image", str(error)) from None


def size_of(data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) of the upright image, from the header alone.

    Raises:
        BadImage: as `open_image`.
    """
    return upright_size(open_image(data, max_pixels=max_pixels))


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of an opened image after its EXIF rotation."""
    return (image.width, image.height) if 5 <= orientation_of(image) <= 8 else (image.height, image.width)
