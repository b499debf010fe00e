"""Checksums of the files of a folder: written with them, verified whenever they are used.

They are of whole files, so that they cost one read, and `sha256sum` agrees with them.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field

from frugalclip.core.errors import ModelError
from frugalclip.core.records import write_json
from frugalclip.core.stored import StoredRecord, read_record

NAME = "checksums.json"
FORMAT = 1
RESTORE = "restore it from a copy, or use another checkpoint"


class FileChecksum(StoredRecord):
    """Length and hash of one file."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Checksums(StoredRecord):
    """The content of `checksums.json`."""

    format: Literal[1] = FORMAT
    files: dict[str, FileChecksum] = Field(description="name within the folder -> length and hash")


def checksum(path: Path) -> FileChecksum:
    """Of a file, read once."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        return FileChecksum(bytes=file.tell(), sha256=found)


def write_checksums(folder: Path, names: Iterable[str]) -> None:
    """Write the checksums of files of a folder beside them, and keep those of its other files.

    Args:
        folder: holds the files.
        names: of the files that were written; one that is not there loses its checksum.
    """
    path = folder / NAME
    files = dict(read_record(path, Checksums).files) if path.is_file() else {}
    for name in names:
        files.pop(name, None)
        if (folder / name).is_file():
            files[name] = checksum(folder / name)
    write_json(path, Checksums(files=files).model_dump())


def verify_checksums(folder: Path, names: Iterable[str]) -> dict[str, FileChecksum]:
    """Refuse files that are not those that were written.

    Args:
        folder: with `checksums.json`.
        names: of the files that will be read; one that is neither there nor listed is none of the folder.

    Returns:
        Those of the files that are there.

    Raises:
        ModelError: naming the first file that is missing, cut, changed, or was not written with the others.
    """
    if not (folder / NAME).is_file():
        raise ModelError(f"{folder} holds no {NAME}, which every model of this version has; {RESTORE}.")
    files = read_record(folder / NAME, Checksums, advice=RESTORE).files
    for name in names:
        if name in files:
            _verify(folder / name, files[name])
        elif (folder / name).exists():
            raise ModelError(f"{folder / name} was not written with its folder ({NAME} lacks it); {RESTORE}.")
    return {name: files[name] for name in names if name in files}


def _verify(path: Path, written: FileChecksum) -> None:
    if not path.is_file():
        raise ModelError(f"{path} is not there; {RESTORE}.")
    size = path.stat().st_size
    if size != written.bytes:
        raise ModelError(f"{path} has {size:,} bytes, expected {written.bytes:,}; {RESTORE}.")
    if checksum(path) != written:
        raise ModelError(
            f"{path} has changed since it was written (its SHA-256 is not that of {NAME}); {RESTORE}."
        )
