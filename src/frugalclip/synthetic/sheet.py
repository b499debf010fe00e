"""A contact sheet: scenes with their captions, for the eye."""

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

# pixels of a cell, between cells, of a line of text, of its letters
_WIDTH, _GAP, _LINE, _FONT = (272, 14, 15, 12)
_LETTERS = 46  # of a line
_LINES = 11  # of a cell, at most


def contact_sheet(
    images: Sequence[Image.Image], captions: Sequence[Sequence[str]], *, columns: int = 5
) -> Image.Image:
    """Pictures in rows, each with its captions below.

    Args:
        pictures: any sizes.
        captions: of each picture; what does not fit is cut.
        columns: cells of a row.
    """
    font = ImageFont.load_default(_FONT)
    texts = [_lines(one) for one in captions]
    heights = [
        _WIDTH + 6 + _LINE * max(map(len, texts[start : start + columns])) + _GAP
        for start in range(0, len(texts), columns)
    ]
    sheet = Image.new("RGB", (columns * (_WIDTH + _GAP) + _GAP, sum(heights) + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (image, lines) in enumerate(zip(images, texts, strict=True)):
        left, top = _GAP + (place % columns) * (_WIDTH + _GAP), _GAP + sum(heights[: place // columns])
        sheet.paste(image.convert("RGB").resize((_WIDTH, _WIDTH), Image.Resampling.LANCZOS), (left, top))
        draw.rectangle((left - 1, top - 1, left + _WIDTH, top + _WIDTH), outline=(205, 205, 205))
        for number, line in enumerate(lines):
            draw.text((left, top + _WIDTH + 5 + number * _LINE), line, fill=(30, 30, 30), font=font)
    return sheet


def _lines(captions: Sequence[str]) -> list[str]:
    lines = [
        line
        for text in captions
        for line in textwrap.wrap(text, _LETTERS, initial_indent="- ", subsequent_indent="  ")
    ]
    return lines if len(lines) <= _LINES else [*lines[: _LINES - 1], f"{lines[_LINES - 1][: _LETTERS - 2]} …"]
