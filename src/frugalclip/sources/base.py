"""What every data format shares: the files it is recognised by, the source it gives, and its base class."""

import contextlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from frugalclip.core.errors import DataError
from frugalclip.data.conditions import SELECTION
from frugalclip.data.images import EXTENSIONS
from frugalclip.data.ledger import Ledger
from frugalclip.data.manifest import Manifest
from frugalclip.sources.captions import decoded
from frugalclip.sources.reading import CLEAN, LEDGER, READING

_HEAD = 2**16  # bytes by which a file's format is recognised
_MOST_FOLDERS = 256  # that are listed to find annotations in them
_MOST_ANNOTATIONS = 24  # more files of one kind belong to an image each


@dataclass
class Source:
    """A data set with what was learned while reading it."""

    manifest: Manifest
    kind: str  # in plain words
    ledger: Ledger = field(default_factory=lambda: Ledger(READING))
    notes: list[str] = field(default_factory=list)

    @property
    def seen(self) -> int:
        """Samples met: kept, merged or dropped."""
        return len(self.manifest) + len(self.ledger.entries)

    def where(self, condition: str | None) -> "Source":
        """The samples that meet a condition; the ledger names the others. See `Manifest.where`."""
        manifest = self.manifest.where(condition)
        ledger = Ledger(SELECTION)
        ledger.include(self.ledger)
        kept = set(manifest.ids)
        for id in self.manifest.ids:
            if id not in kept:
                ledger.drop(id, "filtered", condition or "")
        return replace(self, manifest=manifest, ledger=ledger)

    def named(self, name: str) -> "Source":
        """The same data under the name that the user wrote."""
        manifest = Manifest(self.manifest.table, self.manifest.root, name)
        return replace(self, manifest=manifest)


@dataclass(frozen=True)
class ReadOptions:
    """How a source is read: the caller's choices."""

    columns: Mapping[str, str] | None = None  # names of the columns `image`, `caption` and `id`
    mend: bool = False  # read captions that are not UTF-8 where there is one sensible way
    without_captions: bool = False  # keep images of folders that have no caption


@dataclass(frozen=True)
class DataFile:
    """A file that may hold data."""

    path: Path

    @property
    def suffix(self) -> str:
        """The last extension, in lower case."""
        return self.path.suffix.lower()

    def ends_with(self, *endings: str) -> bool:
        """Whether the file's name ends like this, in any case."""
        return self.path.name.lower().endswith(endings)

    @cached_property
    def document(self) -> Any:
        """The JSON value that the whole file is; None where it is none, or holds a value a line.

        Raises:
            DataError: when the file may not be read.
        """
        if self.suffix != ".json" or self.head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"["):
            return None
        try:
            return json.loads(decoded(self.path.read_bytes()))
        except (OSError, ValueError, RecursionError):
            return None

    def forget(self) -> None:
        """Free the content, which is read again where it is needed again."""
        for name in ("document", "record"):
            self.__dict__.pop(name, None)

    @cached_property
    def record(self) -> dict[str, Any]:
        """The JSON object that the whole file is; empty where it is none."""
        is_object = self.head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{"
        return self.document if is_object and isinstance(self.document, dict) else {}

    @cached_property
    def head(self) -> bytes:
        """The first bytes.

        Raises:
            DataError: when the file may not be read.
        """
        try:
            with self.path.open("rb") as file:
                return file.read(_HEAD)
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be read ({error.strerror}); check its permissions."
            ) from None


@dataclass(frozen=True)
class DataFolder:
    """A folder that may hold data, without hidden files and what frugalclip wrote beside others' data."""

    path: Path
    files: tuple[DataFile, ...]  # at its top, by name

    @staticmethod
    def listed(path: Path) -> "DataFolder":
        """The folder with the files at its top.

        Raises:
            DataError: when the folder may not be read.
        """
        try:
            with os.scandir(path) as entries:
                names = sorted(e.name for e in entries if is_foreign(e.name) and is_file(e))
        except OSError as error:
            raise DataError(f"{path} may not be read ({error.strerror}); check its permissions.") from None
        return DataFolder(path, tuple(DataFile(path / name) for name in names))

    @cached_property
    def has_images(self) -> bool:
        """Whether there are images at its top."""
        return any(file.ends_with(*EXTENSIONS) for file in self.files)

    @cached_property
    def folders(self) -> list["DataFolder"]:
        """Folders inside that may be listed, by name; of very many only the first."""
        try:
            inner = sorted(e for e in self.path.iterdir() if is_foreign(e.name) and e.is_dir())
        except OSError:
            return []
        found: list[DataFolder] = []
        for path in inner[:_MOST_FOLDERS]:
            with contextlib.suppress(DataError):
                found.append(DataFolder.listed(path))
        return found

    def ending(self, *endings: str) -> list[DataFile]:
        """Files at its top whose names end like this, in any case."""
        return [file for file in self.files if file.ends_with(*endings)]

    def annotations(self, *endings: str) -> list[DataFile]:
        """Files with these endings that may speak of the images in and below the folder.

        They lie at its top, or in a folder inside that holds no image. Files that belong to one image each
        are left out: those named after an image, and those that are too many.
        """
        images = {file.path.stem for file in self.files if file.ends_with(*EXTENSIONS)}
        top = [file for file in self.ending(*endings) if file.path.stem not in images]
        inner = [file for folder in self.folders if not folder.has_images for file in folder.ending(*endings)]
        return [file for group in (top, inner) if len(group) <= _MOST_ANNOTATIONS for file in group]


@dataclass(frozen=True)
class Found:
    """What a format reads: files, or a whole folder."""

    name: str  # as the user wrote it
    files: Sequence[DataFile] = ()
    folder: DataFolder | None = None  # where the user named a folder

    @property
    def paths(self) -> list[Path]:
        return [file.path for file in self.files]


class DataFormat(ABC):
    """A foreign data format. Abstract; every subclass is final and has a file of its own in `formats/`.

    Formats are tried by precedence, the lowest first, and the first that recognises what is there reads it.
    Below 100 are formats that mark their data by a file of a fixed name or content. From 100 on are
    containers (tars, Parquet), from 200 on tables, from 900 on what is left: images with or without text.
    """

    name: ClassVar[str]  # one word, for messages about files of several formats
    precedence: ClassVar[int]

    def recognises(self, file: DataFile) -> bool:
        """Whether a file that the user named is of this format."""
        return False

    def find(self, folder: DataFolder) -> Found | None:
        """What to read of a folder that the user named, or None where it is not of this format."""
        return None

    @abstractmethod
    def read(self, found: Found, options: ReadOptions) -> Source:
        """Read what was recognised.

        Raises:
            DataError: when it cannot be read, or no sample is left.
        """


def is_foreign(name: str) -> bool:
    """False for hidden files, for names that are no text, and for what frugalclip writes beside data."""
    return not name.startswith(".") and not name.endswith((LEDGER, CLEAN)) and is_text(name)


def is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of a folder is a file or leads to one."""
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself, or into a folder that may not be read
        return False


def is_text(text: str) -> bool:
    """Whether a path is text without NUL."""
    try:
        return "\0" not in text and text.encode() is not None
    except UnicodeEncodeError:
        return False
