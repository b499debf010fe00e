"""Images of one colour."""

from PIL import Image


def photo(colour: str, size: tuple[int, int] = (30, 20)) -> Image.Image:
    return Image.new("RGB", size, colour)
