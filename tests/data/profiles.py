"""Colour profiles and files around them, made by hand."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

ADOBE_GAMMA = 563 / 256  # 2.19921875
ADOBE = (  # of red, green and blue: XYZ under D50, as Adobe RGB (1998) has them
    (0.60974, 0.31111, 0.01947),
    (0.20528, 0.62567, 0.06087),
    (0.14919, 0.06322, 0.74457),
)
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
_D50 = (0.9642, 1.0, 0.8249)


def _numbers(values: Sequence[float]) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of a display, version 2."""
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": b"XYZ " + bytes(4) + _numbers(_D50),
        **tags,
    }
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        table += name + struct.pack(">II", start + len(body), len(padded))
        body += padded
    head = bytearray(128)
    head[:4] = struct.pack(">I", start + len(body))
    head[8:24] = b"\x02\x40\0\0mntr" + space + b"XYZ "
    head[36:40], head[68:80] = b"acsp", _numbers(_D50)
    return bytes(head) + table + body


def _curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def matrix_profile(primaries: Sequence[Sequence[float]] = ADOBE, *, gamma: float = ADOBE_GAMMA) -> bytes:
    """A profile of RGB by its primaries (XYZ under D50) and one exponent; Adobe RGB by default."""
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    colours = {name: b"XYZ " + bytes(4) + _numbers(xyz) for name, xyz in zip(names, primaries, strict=True)}
    return _profile(b"RGB ", colours | {name[:1] + b"TRC": _curve(gamma) for name in names})


def grey_profile(gamma: float) -> bytes:
    """A profile of grey by one exponent."""
    return _profile(b"GRAY", {b"kTRC": _curve(gamma)})


def ink_profile() -> bytes:
    """A profile of CMYK by a table of two levels an ink: each ink alone leaves a third of the lightness."""
    steps = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    # Lab of 16 bits as profiles of version 2 write it: 0xFF00 is L = 100, 0x8000 is a = b = 0
    grid = b"".join(struct.pack(">3H", round(0xFF00 / 3 ** sum(step)), 0x8000, 0x8000) for step in steps)
    straight = struct.pack(">2H", 0, 65535)
    table = b"mft2" + bytes(4) + bytes([4, 3, 2, 0])
    table += (
        _numbers((1, 0, 0, 0, 1, 0, 0, 0, 1)) + struct.pack(">2H", 2, 2) + straight * 4 + grid + straight * 3
    )
    profile = bytearray(_profile(b"CMYK", {b"A2B0": table}))
    profile[12:24] = b"prtrCMYKLab "
    return bytes(profile)


def as_srgb(colour: Sequence[int], primaries: Sequence[Sequence[float]] = ADOBE) -> np.ndarray:
    """The colour of a matrix profile in sRGB, by the formulas in float64; (3,) of 255."""
    linear = np.linalg.solve(
        np.array(SRGB).T, np.array(primaries).T @ (np.array(colour) / 255) ** ADOBE_GAMMA
    )
    return 255 * encoded(linear)


def encoded(linear: np.ndarray) -> np.ndarray:
    """Amounts of light as sRGB writes them, 0 to 1."""
    return np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    )


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png(
    rows: Sequence[bytes], *, width: int, bits: int, kind: int, transparent: bytes = b"", before: bytes = b""
) -> bytes:
    """A PNG by its bytes: `kind` 0 is grey, 2 RGB; `transparent` is its tRNS, `before` further chunks."""
    header = struct.pack(">2I5B", width, len(rows), bits, kind, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [chunk(b"IHDR", header), before, chunk(b"tRNS", transparent) if transparent else b""]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
