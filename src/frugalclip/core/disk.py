"""Files that appear whole or not at all: after a crash, after a kill, and on a full disk."""

import contextlib
import errno
import hashlib
import os
import platform
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from frugalclip.core.errors import FrugalclipError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MACHINE = hashlib.blake2b(platform.node().encode(), digest_size=4).hexdigest()
_TEMPORARY = re.compile(rf"\..*\.{_MACHINE}-(\d+)\.\w+")  # names of the process and of this machine
_cleaned: set[Path] = set()  # folders whose leftovers this process has deleted


class DiskFullError(FrugalclipError):
    """There is no room for what is written."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part.

    What killed processes left in its folder is deleted.

    Args:
        path: the file.

    Yields:
        A path beside it to write to, which takes the file's name at the end.

    Raises:
        DiskFullError: when there is no room; the old content stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _delete_leftovers(path.parent)
    kept = "what was there before is as it was"
    with full_disk_explained(path, kept=kept, go_on="run the same command again"):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.{_MACHINE}-{os.getpid()}.")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)  # mkstemp gives 600, which would make shared runs unreadable
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def full_disk_explained(place: object, *, kept: str, go_on: str) -> Iterator[None]:
    """Turn the error of a full disk into what was kept and what to do.

    Args:
        place: what was written.
        kept: what is there all the same.
        go_on: what to do once there is room.

    Raises:
        DiskFullError: in place of the system's error, and of one that knew less about what was kept.
    """
    try:
        yield
    except (OSError, DiskFullError) as error:
        if isinstance(error, OSError) and error.errno not in _FULL:
            raise
        raise DiskFullError(
            f"the disk is full, so {place} could not be written; {kept}. Free some space, then {go_on}."
        ) from error


def _delete_leftovers(folder: Path) -> None:
    """Delete temporary files of processes of this machine that are no more, once a folder."""
    if folder in _cleaned:
        return
    _cleaned.add(folder)
    for file in folder.glob(f".*.{_MACHINE}-*"):
        match = _TEMPORARY.fullmatch(file.name)
        if match and not _is_alive(int(match[1])):
            file.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True
