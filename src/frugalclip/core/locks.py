"""Locked folders: one process at a time."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from frugalclip.core.errors import FrugalclipError

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None


@contextmanager
def held(folder: Path, refusal: FrugalclipError) -> Iterator[None]:
    """Lock an existing folder until the end of the block or of the process. Nothing is written into it.

    Raises:
        FrugalclipError: `refusal`, while another process holds it.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        if not _lock(handle):
            raise refusal
        yield
    finally:
        os.close(handle)


@contextmanager
def scratch_folder(folder: Path) -> Iterator[bool]:
    """Make a folder, lock it, and delete it at the end of the block.

    What a killed process left in it is deleted first. The operating system releases the locks of
    a dead process.

    Yields:
        False while another process holds it; then nothing is made or deleted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        _empty(folder)
        try:
            yield True
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # another process has just deleted it
        yield False
        return
    try:
        if not (_lock(handle) and _is_still(handle, folder)):
            yield False
            return
        _empty(folder)
        try:
            yield True
        finally:
            shutil.rmtree(folder)  # still locked, so that no other process starts in it
    finally:
        os.close(handle)


def is_held(folder: Path) -> bool:
    """Whether a process has locked a folder; False if it does not exist."""
    if fcntl is None or not folder.is_dir():
        return False
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    assert fcntl is not None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


def _is_still(handle: int, folder: Path) -> bool:
    """Whether an open folder is still the one at its path."""
    try:
        there = os.stat(folder)
    except FileNotFoundError:
        return False
    here = os.fstat(handle)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
