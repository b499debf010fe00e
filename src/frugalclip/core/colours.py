"""Colours as sRGB, by the ICC profile that an image carries.

The conversion is littleCMS's, with perceptual intent, as Pillow offers it. A profile is ignored where it is
broken, belongs to another kind of image (CMYK inks for RGB pixels), or changes no colour by more than 1 of
255: most embedded profiles are sRGB itself.
"""

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, final

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

_FITTING = {"RGB": ("RGB", "L"), "GRAY": ("L",), "CMYK": ("CMYK",)}  # colour space -> modes of pixels
_STEPS = 17  # on each axis of the colours that show whether a profile has an effect


@final
@dataclass(frozen=True)
class Conversion:
    """From the colours of a profile to sRGB."""

    mode: str  # of the pixels that it takes: L, RGB, CMYK or LAB
    transform: "ImageCmsTransform"

    def __call__(self, image: Image.Image) -> Image.Image:
        """RGB of an image, whose own mode may be another one of the same colours."""
        return self.transform.apply(image if image.mode == self.mode else image.convert(self.mode))


def to_srgb(image: Image.Image, profile: object) -> Image.Image:
    """An opaque image of 8 bits as RGB.

    Args:
        image: of any such mode; without a profile Pillow's own conversion applies.
        profile: its ICC profile, as in `image.info.get("icc_profile")`; all but bytes counts as none.
    """
    if image.mode == "LAB":
        return _lab()(image)
    if not isinstance(profile, bytes) or not profile:
        return image.convert("RGB")
    grey = image.mode in ("1", "L")
    conversion = conversion_of(profile, "L" if grey else "CMYK" if image.mode == "CMYK" else "RGB")
    return image.convert("RGB") if conversion is None else conversion(image)


@lru_cache(maxsize=16)  # photos of one camera share their profile
def conversion_of(profile: bytes, mode: str) -> Conversion | None:
    """The conversion of a profile to sRGB; None where it is to be ignored.

    Args:
        profile: the ICC profile.
        mode: of the pixels: L, RGB or CMYK.
    """
    try:
        from PIL import ImageCms  # only images with a profile need littleCMS

        source: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if mode not in _FITTING.get(space, ()):
            return None
        takes = "RGB" if space == "RGB" else mode  # grey pixels under a profile of RGB: equal amounts
        found = Conversion(takes, _transform(source, takes))
        return found if takes == "CMYK" or _has_effect(found) else None
    except Exception:  # a broken profile tells nothing about the image
        return None


@lru_cache(maxsize=1)
def _lab() -> Conversion:
    from PIL import ImageCms

    return Conversion("LAB", _transform(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "LAB"))


def _transform(source: Any, mode: str) -> "ImageCmsTransform":
    from PIL import ImageCms

    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")


def _has_effect(conversion: Conversion) -> bool:
    if conversion.mode == "L":
        colours = np.arange(256, dtype=np.uint8)[None]  # (1, colours)
    else:
        levels = np.linspace(0, 255, _STEPS).astype(np.uint8)
        colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)  # (1, colours, 3)
    image = Image.fromarray(colours)
    change = np.asarray(conversion(image)).astype(int) - np.asarray(image.convert("RGB"))
    return bool(np.abs(change).max() > 1)
