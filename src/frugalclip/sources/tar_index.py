"""Tar shards, indexed for random access.

The headers are parsed here and not by a library: a shard that ends early or is damaged in the middle must
still give the members before, with place and cause of the damage. Layout: POSIX.1-1988 (ustar), with the GNU
and pax extensions for long names.
"""

import glob
import mmap
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from frugalclip.core.errors import DataError

_BLOCK = 512
_LARGEST_HEADER = 2**20  # bytes of a long name or of pax records
_REGULAR = (b"0", b"\0", b"7")
_BODILESS = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes
_COMPRESSIONS = {
    b"\x1f\x8b": ("gzip", "gunzip -k"),
    b"BZh": ("bzip2", "bunzip2 -k"),
    b"\xfd7zXZ": ("xz", "unxz -k"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
}


class Member(NamedTuple):
    """A regular file inside a tar: its bytes are file[offset : offset + length]."""

    name: str
    offset: int
    length: int


@dataclass
class ShardIndex:
    """What a tar holds, as far as it could be read."""

    path: Path
    members: list[Member] = field(default_factory=list)
    links: list[str] = field(
        default_factory=list
    )  # names that hold no bytes of their own: links, devices, files with holes
    fault: str | None = None  # a reason of the ledger
    detail: str = ""


def expand(pattern: str) -> list[Path]:
    """Paths that a pattern with braces and globs stands for, sorted; `{00..12}` keeps its zeros.

    A name without any of these stands for itself, whether it exists or not.
    """
    found: list[Path] = []
    for name in _braces(pattern):
        is_glob = bool(re.search(r"[*?\[]", name)) and not os.path.exists(name)
        found += (
            [Path(match) for match in sorted(glob.glob(name, recursive=True))] if is_glob else [Path(name)]
        )
    return list(dict.fromkeys(found))


def has_pattern(path: str) -> bool:
    """True when a path means several files."""
    return not os.path.exists(path) and bool(re.search(r"[*?\[]|\{[^{}]*(,|\.\.)[^{}]*\}", path))


def _braces(pattern: str) -> Iterator[str]:
    found = re.search(r"\{([^{}]*(?:,|\.\.)[^{}]*)\}", pattern)
    if not found:
        yield pattern
        return
    for option in _options(found[1], pattern):
        yield from _braces(pattern[: found.start()] + option + pattern[found.end() :])


def _options(text: str, pattern: str) -> list[str]:
    bounds = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    if not bounds:
        if ".." in text and "," not in text:
            raise DataError(
                f"'{{{text}}}' in {pattern} is not a range; write numbers, such as {{00000..00012}}, "
                f"or a list, such as {{a,b}}."
            )
        return text.split(",")
    first, last = int(bounds[1]), int(bounds[2])
    width = len(bounds[1]) if bounds[1].startswith("0") else 0
    if last < first:
        raise DataError(f"the range '{{{text}}}' in {pattern} is empty; write the smaller number first.")
    return [str(number).zfill(width) for number in range(first, last + 1)]


def refuse_compressed(path: Path) -> None:
    """Raise for a tar that cannot be read at random.

    Raises:
        DataError: with the command that unpacks it.
    """
    with path.open("rb") as file:
        head = file.read(6)
    for magic, (name, command) in _COMPRESSIONS.items():
        if head.startswith(magic):
            suffix = " -S .tgz" if path.suffix == ".tgz" and name == "gzip" else ""
            raise DataError(
                f"{path} is compressed with {name}, so that samples cannot be read at random; "
                f"unpack it with: {command}{suffix} {path}"
            )


def index(path: Path) -> ShardIndex:
    """Every regular file of a tar, in order.

    Damage does not raise: the members before it are given, with the cause in `fault`.

    Raises:
        DataError: when the file is compressed, or is no tar at all.
    """
    refuse_compressed(path)
    result = ShardIndex(path)
    size = path.stat().st_size
    if size == 0:
        result.fault, result.detail = "truncated-shard", "the file is empty"
        return result
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if any(data[:_BLOCK]) and (size < _BLOCK or not _checksum_holds(data[:_BLOCK])):
            raise DataError(
                f"{path} is not a tar; run 'file {path}' to see what it is, and give tars, "
                "a table or a folder of images."
            )
        _walk(data, size, result)
    return result


def _walk(data: mmap.mmap, size: int, result: ShardIndex) -> None:
    """Fill the result with the members of the mapped file."""
    position, extra = 0, _Extra()
    by_name: dict[str, Member] = {}
    while position + _BLOCK <= size:
        header = data[position : position + _BLOCK]
        if not header[0] and not any(header):
            return  # the end mark, a block of zeros
        if not _checksum_holds(header):
            result.fault, result.detail = (
                "broken-shard",
                f"no file header at byte {position:,} of {size:,}, after {len(result.members):,} files",
            )
            return
        kind, start = header[156:157], position + _BLOCK
        name = extra.name or _name(header)
        length = extra.size if extra.size is not None and kind in _REGULAR else _number(header[124:136])
        if kind == b"S":
            start = _behind_sparse_map(data, header, start)
        if kind in _BODILESS:
            length = 0  # some writers state the size of what a link points to
        if length is None or length < 0 or start + length > size:
            result.fault, result.detail = (
                "truncated-shard",
                f"the tar ends inside {name}, after {len(result.members):,} whole files",
            )
            return
        if kind in (b"L", b"x"):
            extra.read(kind, data[start : start + min(length, _LARGEST_HEADER)])
        else:
            _sort_member(kind, name, Member(name, start, length), extra, header, by_name, result)
            extra = _Extra()
        position = start + -(-length // _BLOCK) * _BLOCK
    if position != size or not result.members:  # without an end mark a tar may still be whole
        result.fault, result.detail = (
            "truncated-shard",
            f"the tar ends inside a file header, after {len(result.members):,} whole files",
        )


@dataclass
class _Extra:
    """Name, size and kind of a member from the headers before it."""

    name: str | None = None
    size: int | None = None
    is_sparse: bool = False

    def read(self, kind: bytes, content: bytes) -> None:
        if kind == b"L":
            self.name = _text(content)
            return
        records = _pax(content)
        self.name = records.get("path", self.name)
        digits = records.get("size", "")
        self.size = int(digits) if digits.isdecimal() and len(digits) < 20 else self.size
        self.is_sparse |= any(key.startswith("GNU.sparse.") for key in records)


def _sort_member(
    kind: bytes,
    name: str,
    member: Member,
    extra: _Extra,
    header: bytes,
    by_name: dict[str, Member],
    result: ShardIndex,
) -> None:
    """Add a member: a file, or a hard link to one in the tar. Other entries are listed apart."""
    if kind in _REGULAR and not extra.is_sparse:
        by_name[name] = member
        result.members.append(member)
    elif kind == b"1" and (target := by_name.get(_text(header[157:257]))):
        result.members.append(Member(name, target.offset, target.length))
    elif kind not in (b"5", b"g", b"K"):
        result.links.append(name)


def _behind_sparse_map(data: mmap.mmap, header: bytes, start: int) -> int:
    """Where the bytes of a file with holes begin: behind the blocks that go on listing its holes."""
    is_extended = header[482] != 0
    while is_extended and start + _BLOCK <= len(data):
        is_extended = data[start + 504] != 0
        start += _BLOCK
    return start


def _checksum_holds(header: bytes) -> bool:
    """Whether the sum of the header's bytes is right, its own field as blanks; old tars sum signed bytes."""
    stated = _number(header[148:156])
    if stated is None:
        return False
    unsigned = sum(header) - sum(header[148:156]) + 8 * 32
    if stated == unsigned:
        return True
    return stated == unsigned - 256 * (
        sum(byte > 127 for byte in header) - sum(byte > 127 for byte in header[148:156])
    )


def _number(text: bytes) -> int | None:
    """Octal digits, or GNU's form of large numbers: a byte 0x80, then a big-endian number."""
    if text[0] == 0x80:
        return int.from_bytes(text[1:], "big")
    digits = text.split(b"\0", 1)[0].strip()
    return int(digits or b"0", 8) if re.fullmatch(rb"[0-7]*", digits) else None


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _name(header: bytes) -> str:
    name = _text(header[:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _pax(raw: bytes) -> dict[str, str]:
    """Records of a pax header, each `length key=value` and a line feed."""
    records: dict[str, str] = {}
    while raw:
        digits, _, _ = raw.partition(b" ")
        if not digits.isdigit() or not (len(digits) + 1 < int(digits) <= len(raw)):
            break
        key, _, value = raw[len(digits) + 1 : int(digits) - 1].partition(b"=")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        raw = raw[int(digits) :]
    return records


def split_name(name: str) -> tuple[str, str]:
    """(key, extension) of a member. As in WebDataset, the extension starts at the first dot. Lower case."""
    folder, slash, last = name.removeprefix("./").rpartition("/")
    stem, dot, extension = last.partition(".")
    return f"{folder}{slash}{stem}", f"{dot}{extension}".lower()
