"""The structure of a JPEG: what its header carries, and how often decoding passes over the pixels."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from typing import Any

_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])", re.DOTALL)  # restarts belong to the coded data
_START, _END, _SCAN, _TEMPORARY, _EXIF, _PROFILE = 0xD8, 0xD9, 0xDA, 0x01, 0xE1, 0xE2
_EXIF_NAME = b"Exif\0\0"
_XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"
_PROFILE_NAME = b"ICC_PROFILE\0"
_TINY = 16_384  # bytes of a file in which searching for three names is quicker than following its segments
_MOST_WALKS = 2  # over all bytes of a file


def header_info(data: bytes) -> dict[str, Any]:
    """What a JPEG's header carries, under Pillow's names: `exif`, `xmp` and `icc_profile`.

    Args:
        data: a JPEG, which may have anything behind its end.
    """
    if len(data) < _TINY and not any(name in data for name in (_EXIF_NAME, _XMP_NAME, _PROFILE_NAME)):
        return {}
    info: dict[str, Any] = {}
    profile: list[bytes] = []
    for marker, start, end in _header(data):
        if marker == _EXIF and data.startswith(_EXIF_NAME, start):
            first = "exif" not in info
            info["exif"] = info.get("exif", b"") + data[start if first else start + 6 : end]
        elif marker == _EXIF and data.startswith(_XMP_NAME, start):
            info["xmp"] = data[start + len(_XMP_NAME) : end]
        elif marker == _PROFILE and data.startswith(_PROFILE_NAME, start):
            profile.append(data[start + len(_PROFILE_NAME) : end])
    if profile and len(profile[0]) > 1 and min(profile)[1] == len(profile):  # each has number, count, bytes
        info["icc_profile"] = b"".join(piece[2:] for piece in sorted(profile))
    return info


def profile_segments(data: bytes) -> list[tuple[int, int]]:
    """Where the segments with a colour profile begin and end, marks included."""
    return [
        (start - 4, end)
        for marker, start, end in _header(data)
        if marker == _PROFILE and data.startswith(_PROFILE_NAME, start)
    ]


def most_scans(data: bytes, *, limit: int, spans: Sequence[tuple[int, int]] | None = None) -> int:
    """Passes over the pixels that decoding needs: at most so many, or `limit` where there are as many.

    What follows the end mark does not count: a phone's video, a second picture, rubbish. Neither do previews
    inside a segment.

    Args:
        data: a JPEG, or a file that holds some.
        limit: from so many on, counting stops.
        spans: where each JPEG begins and ends: a TIFF has one for every tile. None: all of the file is one;
            where there are none, every mark counts.
    """
    marks = data.count(b"\xff\xda")  # never fewer than the scans, and quick to count
    spans = [(0, len(data))] if spans is None else spans
    if marks < limit or not spans:
        return min(marks, limit)
    if sum(stop - start for start, stop in spans) > _MOST_WALKS * len(data):
        return limit  # tiles that lie over each other would keep the counting busy
    return max(_scans(data, start, stop, limit=limit) for start, stop in spans)


def _scans(data: bytes, start: int, stop: int, *, limit: int) -> int:
    """Scans of one JPEG, counted up to a limit."""
    marks = (marker for marker, _, _ in _segments(data, start + 2, stop) if marker == _SCAN)
    return sum(1 for _ in islice(marks, limit))


def _header(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The segments before the first scan."""
    return takewhile(lambda segment: segment[0] != _SCAN, _segments(data, 2, len(data)))


def _segments(data: bytes, position: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of the content of each segment up to the end mark, as a decoder finds them."""
    while found := _MARKER.search(data, position, stop):
        marker, position = data[found.end() - 1], found.end()
        if marker in (_START, _END):
            return
        if marker == _TEMPORARY:
            continue
        end = position + int.from_bytes(data[position : position + 2], "big")
        yield marker, position + 2, end
        position = max(end, position + 2)
