"""Why an image cannot be decoded: the error, and the reasons that the ledger gives for it."""

from typing import Any

from frugalclip.core.errors import DataError
from frugalclip.data.ledger import LedgerStage

DECODING = LedgerStage(
    "decode",
    {
        "missing-file": "the image file is gone; check the data again",
        "not-a-file": "the image's path is a folder or another thing that is not a file",
        "not-a-path": "the path cannot be a file's name: it is too long, or holds a NUL",
        "no-permission": "the image file may not be read; check its permissions",
        "empty-file": "the image file has no bytes",
        "truncated": "the image ends early; copy it again",
        "truncated-shard": "the shard ends before the image does; copy it again",
        "broken-shard": "the file that holds the image is damaged; copy it again",
        "not-an-image": "the bytes are not an image",
        "unsupported-format": "the image format cannot be read; convert it to JPEG, PNG or WebP",
        "too-many-pixels": "the image has more pixels than is safe to decode",
        "too-many-bytes": "the file is larger than any image should be",
        "too-much-work": "the image is written so that decoding takes minutes; save it again",
        "web-page": "the bytes are a web page, usually an error page saved by a downloader",
        "svg": "the bytes are an SVG drawing; render it to PNG first",
        "heic": "the bytes are a HEIC photo; convert it to JPEG first",
        "broken-image": "the image cannot be decoded",
    },
)


class BadImage(DataError):
    """An image that cannot be decoded; `cause` is a reason of `DECODING`."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause

    def __reduce__(self) -> tuple[Any, ...]:  # so that it crosses process borders
        return type(self), (self.cause, str(self))


_FOREIGN = {  # first bytes of files that are often found under an image's name
    b"%PDF": "a PDF document",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"8BPS": "a Photoshop file",
    b"\0\0\1\0": "an icon",
    b"\0\0\0\x0cJXL ": "a JPEG XL image",
    b"\xff\x0a": "a JPEG XL image",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    b"\xff\x4f\xff\x51": "a JPEG 2000 image",
    b"PK\3\4": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x1aE\xdf\xa3": "a video",
    b"qoif": "a QOI image",
}
_DAMAGED = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")


def recognised(data: bytes) -> tuple[str, str]:
    """What bytes are that no decoder accepts: a reason of `DECODING`, and words."""
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in data[:4096].lower():
        return "svg", "the bytes are an SVG drawing"
    if head.startswith((b"<!doctype html", b"<html", b"<head")):
        return "web-page", "the bytes are a web page"
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        if brand in (b"heic", b"heix", b"hevc", b"mif1", b"heim"):
            return "heic", "the bytes are a HEIC photo"
        if brand in (b"avif", b"avis"):
            return "broken-image", "the AVIF image is damaged"
        return "unsupported-format", "the bytes are a video"
    if found := next((what for magic, what in _FOREIGN.items() if data.startswith(magic)), None):
        return "unsupported-format", f"the bytes are {found}"
    if data[:4] == b"RIFF" and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        return "truncated", "the image ends early"
    if data.startswith(_DAMAGED):
        return "broken-image", "the image's header is damaged"
    return "not-an-image", "the bytes are not an image"
