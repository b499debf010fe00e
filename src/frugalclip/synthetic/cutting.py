"""Single objects out of pictures: which pixels are the object, softly at its edge.

A picture that has transparency keeps it. On a plain background the outside is what can be reached from the
border without leaving the background, so that white inside an object stays. A pixel at the edge mixes object
and background; its opacity is read off against the strongest colour beside it, and what is stored is the
object's part alone, so that no halo is left on another background.
"""

import numpy as np
from PIL import Image

from frugalclip.core.images import srgb_with_opacity, upright_rgb
from frugalclip.data.images import open_image

_WHITE = 243  # least channel of a background pixel; packs are compressed, and white comes out a little off
# least share of the border that must be background: a button with round corners has a little, a photo none
_BORDER = 0.04
_LEAST_INK = 0.02  # share of the picture that must be object
_REACH = 2  # pixels in which an edge looks for the object's own colour
_PALE = 48  # an edge whose surroundings are no further from white than this tells nothing about its opacity


class NotACutout(Exception):
    """An image that is no single object on a plain background; the message gives the reason."""


def cut_out(data: bytes, *, side: int) -> np.ndarray:
    """The object of an encoded picture.

    Args:
        data: a whole encoded file.
        side: pixels; larger pictures are made smaller first.

    Returns:
        (height, width, 4) uint8, colours multiplied by opacity, cut to the object's own box.

    Raises:
        BadImage: when it cannot be decoded.
        NotACutout: when there is no object, or no plain background around it.
    """
    image = open_image(data)
    has_alpha = image.has_transparency_data
    source = srgb_with_opacity(image) if has_alpha else upright_rgb(image)
    if max(source.size) > side:
        source.thumbnail((side, side), Image.Resampling.LANCZOS)
    pixels = np.asarray(source)
    layer = _multiplied(pixels) if has_alpha and pixels[..., 3].min() < 128 else _off_white(pixels[..., :3])
    return _tight(layer)


def _multiplied(pixels: np.ndarray) -> np.ndarray:
    """Colours times opacity, of a picture with transparency."""
    alpha = pixels[..., 3:].astype(np.uint16)
    return np.concatenate([(pixels[..., :3] * alpha + 127) // 255, alpha], axis=-1).astype(np.uint8)


def _off_white(pixels: np.ndarray) -> np.ndarray:
    """(height, width, 4) the object on white, with opacity."""
    lightest = pixels.min(axis=-1)  # (height, width)
    outside = outside_of(lightest >= _WHITE)
    border = np.concatenate([outside[0], outside[-1], outside[:, 0], outside[:, -1]])
    if border.mean() < _BORDER:
        raise NotACutout(
            f"{100 * border.mean():.0f} % of the border is white, expected {100 * _BORDER:.0f} % or more"
        )
    alpha = _opacity(255 - lightest, outside)[..., None]
    through = 255 - alpha  # of the white behind
    return np.concatenate([np.maximum(pixels, through) - through, alpha], axis=-1)


def _opacity(ink: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """(height, width) uint8: 0 outside, 255 inside, at the edge the share of the strongest ink in reach.

    Args:
        ink: (height, width) uint8, what a pixel takes from white at most in one channel; a mix with white
            takes its share of it.
        outside: (height, width) bool.
    """
    rows, columns = np.nonzero(_largest(outside, 1) & ~outside)  # the edge, a few of all pixels
    strongest = _largest(ink, _REACH)[rows, columns]
    share = np.rint(255.0 * ink[rows, columns] / np.maximum(strongest, 1))
    opacity = np.where(outside, 0, 255).astype(np.uint8)
    opacity[rows, columns] = np.where(
        strongest < _PALE, 0, share
    )  # pale all around: the noise of compression
    return opacity


def _largest(values: np.ndarray, steps: int) -> np.ndarray:
    """(height, width) the largest value within so many pixels, in rows and columns."""
    result = values.copy()
    for step in range(1, steps + 1):
        np.maximum(result[:, step:], values[:, :-step], out=result[:, step:])
        np.maximum(result[:, :-step], values[:, step:], out=result[:, :-step])
    across = result.copy()
    for step in range(1, steps + 1):
        np.maximum(result[step:], across[:-step], out=result[step:])
        np.maximum(result[:-step], across[step:], out=result[:-step])
    return result


def outside_of(background: np.ndarray) -> np.ndarray:
    """Background that is connected to the border.

    Args:
        background: (height, width) bool.

    Returns:
        (height, width) bool. Runs of background are filled whole, along rows and columns in turn, which takes
        a few turns where a queue of pixels takes thousands.
    """
    reached = np.zeros_like(background)
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        reached[edge] = background[edge]
    rows, columns = _runs(background), _runs(background.T).T
    while True:
        before = np.count_nonzero(reached)
        for runs in (rows, columns):
            is_reached = np.zeros(runs.max() + 1, dtype=bool)
            is_reached[runs[reached]] = True
            reached = background & is_reached[runs]
        if np.count_nonzero(reached) == before:
            return reached


def _runs(background: np.ndarray) -> np.ndarray:
    """(height, width) number of the run of equal pixels along its row that a pixel is in."""
    starts = np.ones(background.shape, dtype=np.int64)
    starts[:, 1:] = background[:, 1:] != background[:, :-1]
    return np.cumsum(starts.ravel()).reshape(background.shape)


def _tight(layer: np.ndarray) -> np.ndarray:
    """The box of what can be seen."""
    seen = layer[..., 3] >= 32
    if seen.mean() < _LEAST_INK:
        raise NotACutout(
            f"{100 * seen.mean():.1f} % of it is object, expected {100 * _LEAST_INK:.0f} % or more"
        )
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    return np.ascontiguousarray(layer[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
