"""JPEG through simplejpeg, where the `[fast]` extra is installed: Pillow's pixels in about half the time.

Both use libjpeg-turbo. simplejpeg writes straight into an array, Pillow first into its own four-byte rows.
Unusual files (CMYK, damaged, truncated, too large) are left to Pillow, which names causes. Speed:
`benchmarks/decoding.py`.
"""

from functools import cache
from typing import Any

import numpy as np
from PIL import Image

_HEAD = 65_536 + 64  # an EXIF block is one segment of at most 64 KiB near the start
_EXIF = b"Exif\0\0"
_START_OF_SCAN = b"\xff\xda"
_ORIENTATION = 0x0112


@cache
def _library() -> Any:
    """simplejpeg, or None where it is not installed or does not load."""
    try:
        import simplejpeg
    except (ImportError, OSError, ValueError):  # a wheel built for another numpy raises ValueError
        return None
    return simplejpeg


def fast_jpeg(
    data: bytes, *, max_pixels: int, max_scanned: int, at_least: int | None = None
) -> tuple[np.ndarray, tuple[int, int], int] | None:
    """Decode an ordinary JPEG.

    Args:
        data: an encoded file of any format.
        max_pixels: height times width that is left to the caller to refuse.
        max_scanned: pixels times scans that is left to the caller to refuse.
        at_least: decode at the smallest of 1/1, 7/8, …, 1/8 of the size whose both sides keep this many
            pixels.

    Returns:
        (height, width, 3) uint8 as stored, (height, width) of the whole picture as stored, and its EXIF
        orientation from 1 to 8; or None, when it is no JPEG, an unusual or damaged one, or simplejpeg is not
        installed.
    """
    library = _library() if data[:3] == b"\xff\xd8\xff" else None
    if library is None:
        return None
    try:
        height, width, colours, _ = library.decode_jpeg_header(data)
        if colours not in ("YCbCr", "Gray", "RGB") or not 0 < height * width <= max_pixels:
            return None
        if data.count(_START_OF_SCAN) * height * width > max_scanned:
            return None
        least = 0 if at_least is None else at_least
        pixels = library.decode_jpeg(data, colorspace="RGB", min_height=least, min_width=least)
    except ValueError:  # damaged: Pillow finds out how
        return None
    return pixels, (height, width), _orientation(data)


def _orientation(data: bytes) -> int:
    start = data.find(_EXIF, 0, _HEAD)
    if start < 0:
        return 1
    try:
        exif = Image.Exif()
        exif.load(data[start : start + 65_536])
        return int(exif.get(_ORIENTATION, 1))
    except Exception:  # a broken EXIF block tells nothing about the image
        return 1
