"""Images whose colour profile keeps Pillow from opening them: the same bytes without it."""

from frugalclip.data.jpeg_segments import profile_segments

_PNG = b"\x89PNG\r\n\x1a\n"
_AROUND = 12  # bytes of a PNG's chunk beside its content: length, name, checksum


def without_profile(data: bytes) -> bytes | None:
    """A JPEG or PNG without the colour profile in it; None where there is none to leave out."""
    if data.startswith(b"\xff\xd8\xff"):
        spans = profile_segments(data)
    elif data.startswith(_PNG):
        spans = _profile_chunks(data)
    else:
        return None
    if not spans:
        return None
    edges = [0, *(edge for span in spans for edge in span), len(data)]
    return b"".join(data[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True))


def _profile_chunks(data: bytes) -> list[tuple[int, int]]:
    """Where the chunks with a profile begin and end; they stand before the pixels."""
    spans, position = [], len(_PNG)
    while position + _AROUND <= len(data):
        end = position + _AROUND + int.from_bytes(data[position : position + 4], "big")
        name = data[position + 4 : position + 8]
        if name == b"IDAT":
            break
        if name == b"iCCP":
            spans.append((position, min(end, len(data))))
        position = end
    return spans
