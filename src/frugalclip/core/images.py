"""PIL images as every encoder takes them: sRGB on white, upright."""

import os
import threading
import warnings

import numpy as np
from PIL import Image

from frugalclip.core.colours import to_srgb
from frugalclip.core.errors import DataError

UPRIGHT = {  # EXIF orientation -> how to turn the image
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
_SCALED = "transparency scaled"
_GREY_STEPS = {"L;2": 85, "L;4": 17}  # Pillow's name of a PNG's pixels -> what one level is of 255


class _SharedSilence:
    """Silences Pillow's warnings about files that are odd but readable.

    `warnings.catch_warnings` alone may restore the filters of another thread, so overlapping threads
    share one.
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


quiet = _SharedSilence()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=quiet.__init__)  # a lock that another thread held would stay held


def upright_rgb(image: Image.Image) -> Image.Image:
    """A new image in sRGB on white, turned upright by its EXIF tag, without metadata that could do so twice.

    Raises:
        DataError: if its mode cannot be made RGB.
    """
    scale_transparency(image)
    orientation = orientation_of(image)
    try:
        with quiet:
            opened = _rgb_on_white(image)
        if orientation in UPRIGHT:
            opened = opened.transpose(UPRIGHT[orientation])
        elif opened is image:
            opened = image.copy()
    except Exception as error:
        raise DataError(
            f"the image of mode {image.mode} cannot be made RGB ({error}); save it as PNG."
        ) from None
    opened.info = {}
    return opened


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 is upright."""
    try:
        with quiet:
            return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a broken EXIF block tells nothing about the image
        return 1


def scale_transparency(image: Image.Image) -> None:
    """Bring the transparent colour of a PNG to the scale of its pixels, once, before those are decoded.

    The file gives it in the file's own bits, and Pillow keeps it so: of 4 bits, 5 means a grey of 85.
    """
    colour, tiles = image.info.get("transparency"), getattr(image, "tile", None)
    if colour is None or not tiles or _SCALED in image.info:
        return
    stored = tiles[0][3]
    if isinstance(colour, int) and stored in _GREY_STEPS:
        image.info |= {"transparency": colour * _GREY_STEPS[stored], _SCALED: True}
    elif isinstance(colour, tuple) and stored == "RGB;16B":  # of which Pillow decodes the upper byte
        image.info |= {"transparency": tuple(value >> 8 for value in colour), _SCALED: True}


def srgb_with_opacity(image: Image.Image) -> Image.Image:
    """RGBA of an image, its colours in sRGB; not turned."""
    if image.mode.startswith(("I", "F")):
        image = _grey(image)
    layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    if profile := image.info.get("icc_profile"):
        is_grey = image.mode in ("1", "L", "La", "LA")
        colours = to_srgb(layer.convert("L" if is_grey else "RGB"), profile)
        layer = Image.merge("RGBA", (*colours.split(), layer.getchannel("A")))
    return layer


def _rgb_on_white(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.has_transparency_data:
        layer = srgb_with_opacity(image)
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    if image.mode == "RGB" and not profile:
        return image.copy() if image.__class__ is not Image.Image else image
    return to_srgb(_grey(image) if image.mode.startswith(("I", "F")) else image, profile)


def _grey(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, 32 bits or float as 8 bits, with opacity where one value is transparent."""
    values, transparent = np.asarray(image), image.info.get("transparency")
    grey = Image.fromarray(_eight_bit(values))
    if transparent is not None:
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    grey.info = {name: value for name, value in image.info.items() if name == "icc_profile"}
    return grey


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
