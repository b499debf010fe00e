"""Captions of all sources: bytes to text, and whether the text can be a caption.

A caption is visible text without NUL, of at most 50,000 characters.
"""

import codecs
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from frugalclip.core.errors import DataError

LONGEST = 50_000  # characters; the longest captions written by people or models have a tenth of it
# white space, controls, and marks without a picture of their own: zero width, direction, variation, fillers,
# blank Braille
_UNSEEN = (
    r"\s\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    r"\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff"
)
_SEEN = re.compile(f"[^{_UNSEEN}]")
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# western, central European, Turkish: where they agree there is one reading
_CODE_PAGES = ("cp1252", "cp1250", "cp1254")


def readable(texts: Sequence[str]) -> tuple[list[str], str | None]:
    """The captions that can be read, and why another one cannot; None where it is only empty."""
    kept: list[str] = []
    cause = None
    for text in texts:
        if not _encodes(text):
            cause = "not-utf8"
        elif "\0" in text:
            cause = "not-text"
        elif len(text) > LONGEST:
            cause = "caption-too-long"
        elif _SEEN.search(text):
            kept.append(text)
    return kept, cause


def _encodes(text: str) -> bool:
    """False for text with half of a character, which JSON can write."""
    try:
        return text.isascii() or text.encode() is not None
    except UnicodeEncodeError:
        return False


def readable_by_language(by_language: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The same for captions in several languages; a language without any is left out."""
    found = {language: readable(texts)[0] for language, texts in by_language.items()}
    return {language: texts for language, texts in found.items() if texts}


def read_all(captions: Iterable[Sequence[str]]) -> tuple[list[list[str]], dict[int, str]]:
    """Readable captions of every row, and row -> reason where something was left out."""
    rows, causes = [], dict[int, str]()
    for row, texts in enumerate(captions):
        kept, cause = readable(texts)
        rows.append(kept)
        if cause:
            causes[row] = cause
    return rows, causes


def decoded(data: bytes) -> str:
    """Text of UTF-8, or of UTF-16 and UTF-32 that begin with their mark.

    Raises:
        UnicodeDecodeError: when it is neither.
    """
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8-sig")
    return data.decode(encoding)


def read_text(path: Path) -> str:
    """The text of a small file: UTF-8, or UTF-16 and UTF-32 that begin with their mark.

    Raises:
        DataError: when it is neither.
    """
    try:
        return decoded(path.read_bytes())
    except UnicodeError:
        raise DataError(
            f"{path} is not UTF-8; convert it, for example with: iconv -f latin1 -t utf-8"
        ) from None


def mended(data: bytes) -> tuple[str, str] | None:
    """Text in an unknown encoding and the encoding's name, where there is one sensible reading; else None.

    UTF-16 without its mark shows by a zero in every second byte. A text of single bytes is read where the
    code pages of western and central Europe and Turkey agree on every letter, and most letters are plain:
    other alphabets would have hardly a plain one.
    """
    if b"\0" in data:
        return _wide(data)
    try:
        readings = {data.decode(page) for page in _CODE_PAGES}
    except UnicodeDecodeError:
        return None
    text = readings.pop()
    letters = [character for character in text if character.isalpha()]
    odd = [character for character in text if ord(character) > 127]
    is_plain = len(odd) <= 0.3 * max(len(letters), 1) and not any(
        character.isspace() or ord(character) < 0xA0 for character in odd
    )
    return (text, "Windows-1252") if not readings and is_plain else None


def _wide(data: bytes) -> tuple[str, str] | None:
    if len(data) % 2:
        return None
    first, second = data[::2].count(0), data[1::2].count(0)
    encoding = (
        "utf-16-le"
        if second > 0.6 * len(data) / 2 and not first
        else "utf-16-be"
        if first > 0.6 * len(data) / 2 and not second
        else None
    )
    if encoding is None:
        return None
    try:
        return data.decode(encoding), encoding.upper()
    except UnicodeDecodeError:
        return None
