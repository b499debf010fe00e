"""Small images as bytes, for pages: WebP, or PNG where Pillow has no WebP."""

import io
from typing import Any

from PIL import Image, features

KIND = "webp" if features.check("webp") else "png"
_OPTIONS: dict[str, Any] = {"quality": 82, "method": 4} if KIND == "webp" else {"optimize": True}


def encoded_thumbnail(small: Image.Image) -> bytes:
    """The bytes of an image that is small already."""
    buffer = io.BytesIO()
    small.save(buffer, KIND.upper(), **_OPTIONS)
    return buffer.getvalue()
