"""Random access to the encoded images of a manifest: files, byte ranges of tars, rows of Parquet files."""

import errno
import os
import stat
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from frugalclip.data.image_faults import BadImage
from frugalclip.data.images import MAX_BYTES, decode
from frugalclip.data.manifest import Manifest
from frugalclip.data.parquet_images import MEMORY_BYTES, ParquetImages

Bytes = bytes  # for the class that has a method of this name


class _FileHandle:
    """An open regular file that closes with its last user. Pipes and devices are refused: they may block."""

    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        status = os.fstat(self.number)
        if not stat.S_ISREG(status.st_mode):
            raise BadImage(
                "not-a-file",
                f"{path} is {_kind(status.st_mode)}, expected an image file.",
            )
        self.size = status.st_size

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


def _kind(mode: int) -> str:
    return "a folder" if stat.S_ISDIR(mode) else "a pipe or device"


class ImageReader:
    """Random access to the encoded images of a manifest.

    Files open when first needed, and reads give their position. So a reader may be used by several threads
    and after a fork; a pickled one travels without its open files.
    """

    open_files = 64
    cached_bytes = MEMORY_BYTES  # of Parquet row groups; more are unpacked to disk

    def __init__(self, manifest: Manifest) -> None:
        image: Any = manifest.table["image"].combine_chunks()
        self.root = manifest.root.absolute()
        self._paths: pa.Array = image.field("path")
        self._columns: pa.Array = image.field("column")
        self._offsets, self._lengths, self._rows = (
            _numbers(image.field(name)) for name in ("offset", "length", "row")
        )
        self._forget()

    def __len__(self) -> int:
        return len(self._paths)

    def __getstate__(self) -> dict[str, Any]:
        hidden = ("_handles", "_parquet", "_seen_parquet", "_process", "_lock")
        return {key: value for key, value in self.__dict__.items() if key not in hidden}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def _forget(self) -> None:
        self._handles: OrderedDict[str, _FileHandle] = OrderedDict()
        self._parquet = ParquetImages(memory_bytes=self.cached_bytes, open_files=self.open_files)
        self._seen_parquet: set[str] = set()
        self._lock = threading.Lock()  # a Parquet file's reader serves one thread at a time
        self._process = os.getpid()

    def path(self, row: int) -> Path:
        """The file that holds the image."""
        return self.root / self._paths[row].as_py()

    def bytes(self, row: int) -> Bytes:
        """The encoded image.

        Raises:
            BadImage: when the file is gone, may not be read, or ends before the image does.
        """
        if self._process != os.getpid():  # Parquet readers hold threads that a fork does not copy
            self._forget()
        path = os.path.join(self.root, self._paths[row].as_py() or "")
        try:
            if self._rows[row] >= 0:
                with self._lock:
                    return self._from_parquet(path, self._columns[row].as_py(), int(self._rows[row]))
            if self._offsets[row] >= 0:
                return self._from_range(path, int(self._offsets[row]), int(self._lengths[row]))
            return self._whole(path)
        except BadImage:
            raise
        except FileNotFoundError:
            raise BadImage("missing-file", f"{path} is gone; run 'frugalclip data check' again.") from None
        except PermissionError:
            raise BadImage("no-permission", f"{path} may not be read; check its permissions.") from None
        except (
            OSError,
            pa.ArrowException,
            ValueError,
            LookupError,
        ) as error:  # a place that is not in the file
            raise _unreadable(path, error) from None

    def image(self, row: int, *, at_least: int | None = None) -> Image.Image:
        """The decoded image, upright RGB on white.

        Raises:
            BadImage: as `bytes` and `decode`.
        """
        return decode(self.bytes(row), at_least=at_least)

    def _whole(self, path: str) -> Bytes:
        handle = _FileHandle(path)
        _refuse_large(path, handle.size)
        with os.fdopen(os.dup(handle.number), "rb", buffering=0) as file:
            return file.read()

    def _from_range(self, path: str, offset: int, length: int) -> Bytes:
        handle = self._handles.get(path)
        if handle is None:
            handle = self._handles[path] = _FileHandle(path)
            while len(self._handles) > self.open_files:
                self._handles.popitem(last=False)
        _refuse_large(path, length)
        data = os.pread(handle.number, length, offset)  # moves no position that other threads share
        if len(data) < length:
            raise BadImage(
                "truncated-shard",
                f"{path} ends inside an image; copy it again, or run 'frugalclip data verify' with --repair.",
            )
        return data

    def _from_parquet(self, path: str, column: str, row: int) -> Bytes:
        if path not in self._seen_parquet:
            _FileHandle(path)  # refuses a pipe, which would never answer
            self._seen_parquet.add(path)
        data = self._parquet.value(path, column, row)
        if data is None:
            raise BadImage("empty-file", f"row {row:,} of {path} holds no image in the column '{column}'.")
        return data


def _refuse_large(path: str, size: int) -> None:
    if size > MAX_BYTES:
        raise BadImage(
            "too-many-bytes",
            f"{path} has {size:,} bytes, expected at most {MAX_BYTES:,} for one image; leave it out.",
        )


def _unreadable(path: str, error: Exception) -> BadImage:
    """The error of a read that failed for none of the common reasons."""
    number = getattr(error, "errno", None)
    if number == errno.ELOOP:
        return BadImage("missing-file", f"{path} is a link that leads back to itself; remove it.")
    if number in (errno.ENAMETOOLONG, errno.EINVAL) or (
        isinstance(error, ValueError) and "null" in str(error)
    ):
        return BadImage("not-a-path", f"{path[:200]!r} cannot be a file's name ({error}); correct the path.")
    if number in (errno.ENOTDIR, errno.ENXIO):
        return BadImage(
            "missing-file" if number == errno.ENOTDIR else "not-a-file",
            f"{path} is not a file ({error}); correct the path.",
        )
    return BadImage("broken-shard", f"{path} cannot be read ({error}); copy it again.")


def _numbers(values: pa.Array) -> np.ndarray:
    return values.fill_null(-1).to_numpy(zero_copy_only=False)
