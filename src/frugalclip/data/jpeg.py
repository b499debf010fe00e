"""JPEG through simplejpeg, where the `[fast]` extra is installed: Pillow's pixels in about half the time.

Both use libjpeg-turbo. simplejpeg writes straight into an array, Pillow first into its own four-byte rows.
Unusual files (CMYK, damaged, truncated, too large, grey with a colour profile) are left to Pillow, which
names causes. Speed: `benchmarks/decoding.py`.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, final

import numpy as np
from PIL import Image

from frugalclip.core.colours import conversion_of
from frugalclip.core.images import orientation_of, upright_rgb
from frugalclip.data.jpeg_segments import header_info, most_scans

_SCALES = (8, 4, 2)  # by which Pillow divides; simplejpeg has 3/8, 5/8, 6/8 and 7/8 besides
_SMALLEST = 8  # pixels on a side from which each scale has a size of its own


@final
@dataclass(frozen=True)
class FastJpeg:
    """A decoded JPEG with what its header carries."""

    pixels: np.ndarray  # (height, width, 3) uint8 as stored
    size: tuple[int, int]  # (height, width) of the whole image as stored
    info: dict[str, Any]  # as Pillow's `image.info`

    @property
    def orientation(self) -> int:
        """Its EXIF orientation, 1 to 8."""
        return orientation_of(_with_info(Image.new("1", (1, 1)), self.info)) if self.info else 1

    @property
    def is_ready(self) -> bool:
        """Whether the pixels are upright sRGB already."""
        profile = self.info.get("icc_profile")
        return self.orientation == 1 and (not profile or conversion_of(profile, "RGB") is None)

    @property
    def image(self) -> Image.Image:
        """The image, upright and in sRGB."""
        image = Image.fromarray(self.pixels)
        return image if self.is_ready else upright_rgb(_with_info(image, self.info))


def _with_info(image: Image.Image, info: dict[str, Any]) -> Image.Image:
    image.info.update(info)
    return image


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
) -> FastJpeg | None:
    """Decode an ordinary JPEG.

    Args:
        data: an encoded file of any format.
        max_pixels: height times width that is left to the caller to refuse.
        max_scanned: pixels times scans that is left to the caller to refuse.
        at_least: decode at 1/2, 1/4 or 1/8 of the size if both sides keep this many pixels, as Pillow does.

    Returns:
        The image as stored; or None, when it is no JPEG, an unusual or damaged one, or simplejpeg is not
        installed.
    """
    library = _library() if data[:3] == b"\xff\xd8\xff" else None
    if library is None:
        return None
    try:
        height, width, colours, _ = library.decode_jpeg_header(data)
        if colours not in ("YCbCr", "Gray", "RGB") or not 0 < height * width <= max_pixels:
            return None
        if most_scans(data, limit=max_scanned // (height * width) + 1) * height * width > max_scanned:
            return None
        info = header_info(data)
        if colours == "Gray" and "icc_profile" in info:
            return None
        scale = _scale(height, width, at_least)
        if scale > 1 and min(height, width) < _SMALLEST:
            return None
        least = {"min_height": -(-height // scale), "min_width": -(-width // scale)}
        pixels = library.decode_jpeg(data, colorspace="RGB", **(least if scale > 1 else {}))
    except ValueError:  # damaged: Pillow finds out how
        return None
    return FastJpeg(pixels, (height, width), info)


def _scale(height: int, width: int, at_least: int | None) -> int:
    """The largest of Pillow's scales that keeps enough pixels."""
    if not at_least:
        return 1
    return next((scale for scale in _SCALES if min(height, width) // at_least >= scale), 1)
