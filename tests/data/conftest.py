"""Small images and the files around them: the fixture `make` gives the functions of this file."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image


def encoded(
    colour: Any = "red",
    *,
    size: tuple[int, int] = (8, 6),
    mode: str = "RGB",
    kind: str = "PNG",
    **options: Any,
) -> bytes:
    """An encoded picture of one colour; size is (width, height)."""
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, kind, **options)
    return buffer.getvalue()


def put(path: Path, content: bytes | str = b"") -> Path:
    """Write a file, and the folders it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def images(folder: Path, *names: str) -> Path:
    """Pictures that differ, by name."""
    for number, name in enumerate(names):
        kind = {"jpg": "JPEG", "jpeg": "JPEG"}.get(
            name.rpartition(".")[2].lower(), name.rpartition(".")[2].upper()
        )
        put(folder / name, encoded((40 * number % 256, 100, 200), kind=kind))
    return folder


def tar(
    path: Path,
    members: Mapping[str, bytes | str] | list[tuple[str, bytes | str]],
    *,
    format: int = tarfile.GNU_FORMAT,
) -> Path:
    """A tar of these members, in order; a list may repeat a name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as file:
        for name, content in members.items() if isinstance(members, Mapping) else members:
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def json_lines(*rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    return SimpleNamespace(encoded=encoded, put=put, images=images, tar=tar, json_lines=json_lines)
