"""Locked folders and files: one process at a time.

`writing` is for commands: it refuses a folder that another command writes into, and names that command. The
lock is a file in the folder that the operating system releases when its process ends, however it ends.
`scratch_folder` is for jobs, whose processes share their work without a word.
"""

import contextlib
import functools
import inspect
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar, final

from frugalclip.core.errors import DataError, InUseError
from frugalclip.core.paths import user_path
from frugalclip.core.processes import launched_rank
from frugalclip.core.users_text import started_by

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None

LOCK = ".lock"
_LONGEST = 200  # characters of a command in a message
_POLL = 0.2  # seconds between attempts to take a turn

P = ParamSpec("P")
R = TypeVar("R")
_handles: set[int] = set()  # open locks of this process


def writes_into(argument: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function hold the folder that an argument names while it runs, see `writing`."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def locked(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            with writing(user_path(bound.arguments[argument])):
                return function(*args, **kwargs)

        return locked

    return decorate


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Let no other command write into a folder until the end of the block or of the process.

    The folder is made where it is missing, and removed again if the block leaves nothing in it. Of several
    processes that torchrun started, the main one holds the folder for all.

    Raises:
        InUseError: while another command writes into it, naming that one.
        DataError: if it cannot be written to.
    """
    if launched_rank() or (folder.exists() and not folder.is_dir()):  # what is no folder is refused elsewhere
        yield
        return
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        with _locked(folder.resolve() / LOCK, folder):
            yield
    finally:
        with contextlib.suppress(OSError):  # not empty any more
            for place in missing:
                place.rmdir()


@contextmanager
def taking_turns(folder: Path, note: Callable[[str], None]) -> Iterator[None]:
    """As `writing`, but wait while another command writes into the folder: what it makes is wanted here too.

    Args:
        folder: see `writing`.
        note: called once with whom this process waits for, if it does.
    """
    with contextlib.ExitStack() as stack:
        is_first = True
        while True:
            try:
                stack.enter_context(writing(folder))
                break
            except InUseError:
                if is_first:
                    note(f"waiting for {_named(_Holder.read(folder / LOCK))}, which writes into {folder}")
                is_first = False
                time.sleep(_POLL)
        yield


@contextmanager
def writing_file(path: Path) -> Iterator[None]:
    """Let no other command write a file, and what belongs to it, until the end of the block."""
    with _locked(path.parent.resolve() / f".{path.name}{LOCK}", path):
        yield


def contents(folder: Path) -> list[Path]:
    """What a folder holds, its lock aside; empty if it does not exist."""
    return sorted(entry for entry in folder.iterdir() if entry.name != LOCK) if folder.is_dir() else []


@final
@dataclass(frozen=True)
class _Holder:
    """Who holds a lock, as its file tells."""

    pid: int
    host: str
    since: float  # seconds since 1970
    command: str

    @classmethod
    def this_process(cls) -> "_Holder":
        return cls(os.getpid(), socket.gethostname(), time.time(), _command())

    @classmethod
    def read(cls, path: Path) -> "_Holder | None":
        """None where it is not written yet."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(int(found["pid"]), str(found["host"]), float(found["since"]), str(found["command"]))
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine."""
        return self.host == socket.gethostname()

    def is_alive(self) -> bool:
        """True as well where that cannot be known."""
        if not self.is_here:
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:  # another user's
            return True
        return True


@contextmanager
def _locked(path: Path, place: Path) -> Iterator[None]:
    handle = _open_locked(path)
    if handle is None:
        raise _refusal(place, _Holder.read(path))
    _handles.add(handle)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(asdict(_Holder.this_process())).encode("utf-8", "replace"))
        yield
    finally:
        if handle in _handles:  # not in a process forked meanwhile
            with contextlib.suppress(OSError):  # the folder may be gone
                path.unlink()  # still locked, so that it is this process's own
            _handles.discard(handle)
            os.close(handle)


def _close_all() -> None:
    """Give up, in a process just forked, what its parent holds: it must end with the parent."""
    for handle in _handles:
        os.close(handle)
    _handles.clear()


if fcntl is not None:
    os.register_at_fork(after_in_child=_close_all)


def _open_locked(path: Path) -> int | None:
    """An open lock that nobody else has; None while somebody has it."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise DataError(
                f"{path.parent} cannot be written to ({error.strerror}); name another place with --out."
            ) from None
        if not _lock_file(handle, path):
            os.close(handle)
            return None
        if _is_still(handle, path):
            return handle
        os.close(handle)  # its holder has just deleted it


def _lock_file(handle: int, path: Path) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        holder = _Holder.read(path)
        return holder is None or not holder.is_alive()
    return True


def _refusal(place: Path, holder: _Holder | None) -> InUseError:
    if holder is None:
        return InUseError(
            f"{place} is in use: another process writes into it; wait until that has ended, or give --out "
            "another place."
        )
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.since))
    machine = "" if holder.is_here else f" on {holder.host}"
    return InUseError(
        f"{place} is in use: {_named(holder)} has been writing into it since {since}; wait until it "
        f"has ended, stop it with 'kill {holder.pid}'{machine}, or give --out "
        "another place."
    )


def _named(holder: _Holder | None) -> str:
    """The command and the process of a holder."""
    if holder is None:
        return "another process"
    machine = "" if holder.is_here else f" on {holder.host}"
    return f"'{holder.command}' (process {holder.pid}{machine})"


def _command() -> str:
    """The command line of this process, as a user wrote it."""
    words = started_by()
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"


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
    """Whether a process has locked a scratch folder; False if it does not exist."""
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


def _is_still(handle: int, path: Path) -> bool:
    """Whether an open folder or file is still the one at its path."""
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(handle)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
